#pragma once

#include "gateway/http/exchange.hpp"

#include <string>
#include <string_view>

/// What the routes that read images have in common.
namespace coppice::gateway {

/// A path as a client wrote it, made absolute. 400: it cannot be one; `name` is the parameter's.
answer<std::string> absolute_path(std::string_view path, std::string_view name);

/// The `path` parameter, or what it is by default. 400: there is none, or it cannot be one.
answer<std::string> parse_path(const exchange& x, std::string_view fallback);

} // namespace coppice::gateway
