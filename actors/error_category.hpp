#pragma once

#include <caf/atom.hpp>

namespace coppice {

/// The category of our codes in a caf::error.
inline constexpr auto error_category = caf::atom("coppice");

} // namespace coppice
