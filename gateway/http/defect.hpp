#pragma once

#include "gateway/http/refusal.hpp"

#include <string_view>

namespace coppice::gateway {

/// What a client is told of an exception: our defect, of which the log says more. Only while one is
/// handled, in a `catch`.
refusal tell_defect(std::string_view request_id);

} // namespace coppice::gateway
