#pragma once

#include "gateway/http/message.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace coppice::gateway {

/// Which web pages may use the API from a browser.
///
/// Off unless the operator names origins. Credentials of the browser (cookies) are never asked for:
/// a page needs a token of its own, so `*` gives no page what its user has.
class cors_policy {
public:
  /// Exact origins, or one `*`.
  explicit cors_policy(std::vector<std::string> origins) : origins_{std::move(origins)} {}

  bool is_on() const {
    return !origins_.empty();
  }

  /// The header lines that let the page of `origin` read a reply, if it may.
  std::string header_lines(std::string_view origin) const;

  /// The answer to the question that a browser asks before a request: `methods` as in Allow.
  static reply preflight(std::string_view methods);

private:
  bool allows(std::string_view origin) const;

  std::vector<std::string> origins_;
};

} // namespace coppice::gateway
