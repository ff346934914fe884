#pragma once

#include "gateway/http/refusal.hpp"
#include "protocol/uuid.hpp"

#include <string>
#include <string_view>
#include <variant>

/// What names may look like at the door.
namespace coppice::gateway {

/// 1..256 of letters, digits and `_-.:/@`, not ending in a separator. Upper case and `@` are more
/// than the contract asks for and do no harm.
bool is_tag(std::string_view text);

/// 1..64 of `a-z 0-9 . _ -`.
bool is_project(std::string_view text);

/// `docker://HOST/NAME:TAG` from what clients write: the scheme may be missing or `oci://`.
/// Everything that is not a registry reference is refused, folders of this machine above all.
answer<std::string> registry_reference(std::string_view url);

/// How a run names its image: a UUID, `tag:NAME` or a bare NAME.
std::variant<uuid, std::string> parse_image_reference(std::string_view text);

} // namespace coppice::gateway
