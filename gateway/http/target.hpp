#pragma once

#include "gateway/http/refusal.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The address of a request. Clients encode it in more ways than the standard has: the query is
/// read leniently.
namespace coppice::gateway {

/// Parameters after the `?`, decoded, in order.
class query_map {
public:
  void add(std::string name, std::string value) {
    entries_.emplace_back(std::move(name), std::move(value));
  }

  /// The first value of that name; none when it is absent.
  std::optional<std::string_view> find(std::string_view name) const;

  /// All values of that name, in order.
  std::vector<std::string> all(std::string_view name) const;

  /// A flag: present and empty, `1` or `true` switch it on; absent, `0` or `false` do not.
  /// Anything else is refused.
  answer<bool> flag(std::string_view name) const;

private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

/// The address of a request, split and decoded.
struct request_target {
  std::vector<std::string> segments; ///< "/a/b/" -> "a", "b", ""
  query_map query;
  std::string raw_query; ///< as sent, without the `?`
};

/// Understands origin form (`/path?query`) and absolute form (`http://host/path?query`).
/// Undecodable percent signs are refused in the path and taken literally in the query.
answer<request_target> parse_target(std::string_view target);

} // namespace coppice::gateway
