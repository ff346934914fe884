#pragma once

#include "gateway/http/ask.hpp"
#include "gateway/http/context.hpp"
#include "protocol/records.capnp.h"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <string>
#include <string_view>

/// Who asks, and what he may do.
namespace coppice::gateway {

/// Rights, as bits: a route names those of which it needs any.
enum permission : unsigned {
  may_import = 1,
  may_spawn = 2,
  may_spawn_disposable = 4,
  may_list = 8,
  may_cancel = 16,
  may_set_image_tag = 32,
  may_delete_image = 64,
};
inline constexpr unsigned may_everything = 127;

struct caller {
  std::string project;
  uuid token; ///< nil on the admin socket
  std::int64_t expires_at_unix_ns = 0;
  unsigned permissions = 0;

  bool may(unsigned any_of) const {
    return any_of == 0 || (permissions & any_of) != 0;
  }
};

/// The names of rights, "import" first; `names[i]` is bit i.
inline constexpr std::string_view permission_names[] = {
    "import", "spawn", "spawn_disposable", "list", "cancel", "set_image_tag", "delete_image"};

/// 403, naming the rights of which any would do.
refusal insufficient(unsigned any_of);

/// The owner of the token in an Authorization header. 401: missing, malformed, unknown, expired.
asio::awaitable<answer<caller>> identify_token(context& server, std::string_view authorization);

/// The operator on the admin socket, acting in `project`. 400: no such name can be.
answer<caller> identify_operator(std::string_view project);

} // namespace coppice::gateway
