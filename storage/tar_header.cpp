#include "storage/tar_header.hpp"

#include "protocol/utf8.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>

namespace coppice::storage {

namespace {

/// Fields of a ustar header block: where, and how many bytes.
struct field {
  std::size_t offset;
  std::size_t bytes;
};
constexpr field name_field{0, 100};
constexpr field mode_field{100, 8};
constexpr field uid_field{108, 8};
constexpr field gid_field{116, 8};
constexpr field size_field{124, 12};
constexpr field mtime_field{136, 12};
constexpr field checksum_field{148, 8};
constexpr std::size_t type_offset = 156;
constexpr field link_field{157, 100};
constexpr field magic_field{257, 8};
constexpr field major_field{329, 8};
constexpr field minor_field{337, 8};
constexpr field prefix_field{345, 155};

using block = std::array<char, tar_block_bytes>;

/// The largest number of an octal field, which ends with a zero byte.
constexpr std::uint64_t octal_max(field where) {
  return (1ull << (3 * (where.bytes - 1))) - 1;
}

void put(block& out, field where, std::string_view text) {
  std::copy_n(text.begin(), std::min(text.size(), where.bytes), out.begin() + where.offset);
}

void put_octal(block& out, field where, std::uint64_t number) {
  for (auto at = where.offset + where.bytes - 1; at-- > where.offset;) {
    out[at] = static_cast<char>('0' + (number & 7u));
    number >>= 3u;
  }
}

/// Where to split a path into prefix and name; npos: it does not fit.
std::size_t split_of(std::string_view path) {
  if (path.size() > name_field.bytes + 1 + prefix_field.bytes) {
    return path.npos;
  }
  // The name may be a directory's, whose last slash is part of it.
  const auto slash = path.rfind('/', std::min(prefix_field.bytes, path.size() - 2));
  const bool fits = slash != path.npos && slash > 0 && path.size() - slash - 1 <= name_field.bytes;
  return fits ? slash : path.npos;
}

/// "LENGTH KEY=VALUE\n", where the length counts itself.
void add_record(std::string& out, std::string_view key, std::string_view value) {
  const auto rest = key.size() + value.size() + 3;
  auto length = rest + std::to_string(rest).size();
  length = rest + std::to_string(length).size();
  out += std::to_string(length);
  out += ' ';
  out += key;
  out += '=';
  out += value;
  out += '\n';
}

void seal(block& out) {
  std::fill_n(out.begin() + checksum_field.offset, checksum_field.bytes, ' ');
  std::uint64_t sum = 0;
  for (auto c : out) {
    sum += static_cast<unsigned char>(c);
  }
  put_octal(out, {checksum_field.offset, checksum_field.bytes - 1}, sum);
  out[checksum_field.offset + checksum_field.bytes - 2] = '\0';
}

block ustar_block(const tar_entry& entry, char type) {
  block out{};
  put(out, magic_field, {"ustar\00000", 8});
  put_octal(out, mode_field, entry.mode & 07777u);
  put_octal(out, uid_field, std::min<std::uint64_t>(entry.uid, octal_max(uid_field)));
  put_octal(out, gid_field, std::min<std::uint64_t>(entry.gid, octal_max(gid_field)));
  put_octal(out, size_field, std::min(entry.size_bytes, octal_max(size_field)));
  const auto mtime = static_cast<std::uint64_t>(std::max<std::int64_t>(entry.mtime_unix_s, 0));
  put_octal(out, mtime_field, std::min(mtime, octal_max(mtime_field)));
  put_octal(out, major_field, std::min<std::uint64_t>(entry.device_major, octal_max(major_field)));
  put_octal(out, minor_field, std::min<std::uint64_t>(entry.device_minor, octal_max(minor_field)));
  out[type_offset] = type;
  return out;
}

/// What the ustar block cannot say.
std::string extended_records(const tar_entry& entry, bool fits) {
  std::string out;
  const bool has_long_link = entry.link.size() > link_field.bytes;
  if ((!fits && !is_utf8(entry.path)) || (has_long_link && !is_utf8(entry.link))) {
    add_record(out, "hdrcharset", "BINARY");
  }
  if (!fits) {
    add_record(out, "path", entry.path);
  }
  if (has_long_link) {
    add_record(out, "linkpath", entry.link);
  }
  if (entry.uid > octal_max(uid_field)) {
    add_record(out, "uid", std::to_string(entry.uid));
  }
  if (entry.gid > octal_max(gid_field)) {
    add_record(out, "gid", std::to_string(entry.gid));
  }
  if (entry.size_bytes > octal_max(size_field)) {
    add_record(out, "size", std::to_string(entry.size_bytes));
  }
  if (entry.mtime_unix_s < 0 ||
      static_cast<std::uint64_t>(entry.mtime_unix_s) > octal_max(mtime_field)) {
    add_record(out, "mtime", std::to_string(entry.mtime_unix_s));
  }
  for (const auto& [name, value] : entry.xattrs) {
    add_record(out, "SCHILY.xattr." + name, value);
  }
  return out;
}

} // namespace

std::string tar_header(const tar_entry& entry) {
  const bool is_short = entry.path.size() <= name_field.bytes;
  const auto split = is_short ? std::string_view::npos : split_of(entry.path);
  const bool fits = is_short || split != std::string_view::npos;
  std::string out;
  if (auto records = extended_records(entry, fits); !records.empty()) {
    tar_entry before;
    before.mode = 0644;
    before.size_bytes = records.size();
    auto head = ustar_block(before, 'x');
    put(head, name_field, "PaxHeaders/" + entry.path.substr(0, 80));
    seal(head);
    out.append(head.data(), head.size());
    out += records;
    out += tar_padding(records.size());
  }
  auto head = ustar_block(entry, static_cast<char>(entry.kind));
  if (split != std::string_view::npos) {
    put(head, prefix_field, std::string_view{entry.path}.substr(0, split));
    put(head, name_field, std::string_view{entry.path}.substr(split + 1));
  } else {
    put(head, name_field, entry.path);
  }
  put(head, link_field, entry.link);
  seal(head);
  out.append(head.data(), head.size());
  return out;
}

std::string tar_end() {
  return std::string(2 * tar_block_bytes, '\0');
}

std::string tar_padding(std::uint64_t size_bytes) {
  const auto over = static_cast<std::size_t>(size_bytes % tar_block_bytes);
  return std::string(over == 0 ? 0 : tar_block_bytes - over, '\0');
}

} // namespace coppice::storage
