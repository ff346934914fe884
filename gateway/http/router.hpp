#pragma once

#include "gateway/http/exchange.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::gateway {

/// Answers one request. The exchange outlives the reply's body.
using handler = asio::awaitable<reply> (*)(exchange&);

/// Who is let through to a route before rights are looked at.
enum class audience {
  anyone,    ///< without a token
  callers,   ///< with a token, or on the admin socket
  observers, ///< as metrics.open_to says, without a token; elsewhere the address does not exist
  operators  ///< on the admin socket only; elsewhere the address does not exist
};

struct route {
  std::string_view method;  ///< GET routes answer HEAD as well
  std::string_view pattern; ///< segments; `{}` matches any one that is not empty
  handler run;
  unsigned needs = 0; ///< rights of which any one will do; 0: none
  audience open_to = audience::callers;
};

/// Every address of the server.
std::span<const route> routes();

struct route_match {
  const route* found = nullptr;
  std::vector<std::string> params;
  std::string allow; ///< the methods of the address, when it exists but not for this method
};

/// What a client may see beside what everybody may.
struct visitor {
  bool is_operator = false;
  bool is_observer = false;
};

route_match match_route(std::string_view method, const std::vector<std::string>& segments,
                        const visitor& from);

} // namespace coppice::gateway
