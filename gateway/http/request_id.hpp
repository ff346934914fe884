#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// The name of a request in its reply and in the log. Plain, so that it can be fuzzed.
namespace coppice::gateway {

/// A new one: different in each process, and for each number in it.
std::string make_request_id(std::uint64_t number);

/// Whether a client's own id is kept: short, and of characters that can be written anywhere.
bool is_request_id(std::string_view text);

} // namespace coppice::gateway
