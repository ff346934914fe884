#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace coppice::storage::inspection {

/// Names of users or groups by their number.
using owner_names = std::unordered_map<std::uint32_t, std::string>;

/// A passwd file of 1 MiB has some 15,000 users.
inline constexpr std::size_t owner_file_bytes_max = 1u << 20;

/// Parses the text of an image's /etc/passwd or /etc/group: name, something, number. Lines that
/// are not like that are skipped, as are names beyond 64 bytes or with anything but printable
/// ASCII; the first name of a number counts.
owner_names parse_owners(std::string_view text);

} // namespace coppice::storage::inspection
