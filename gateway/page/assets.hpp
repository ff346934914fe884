#pragma once

#include <span>
#include <string_view>

namespace coppice::gateway {

/// A file that is part of the program.
struct asset {
  std::string_view path; ///< its address
  std::string_view content_type;
  std::string_view content;
};

/// The description of the API and the page that shows it. A build without the page
/// (COPPICE_API_PAGE) has the description alone.
std::span<const asset> assets();

} // namespace coppice::gateway
