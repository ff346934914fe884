#include "storage/catalog_keys.hpp"

#include <algorithm>

namespace coppice::storage::keys {

namespace {

constexpr std::uint64_t sign_bit = 1ull << 63;

bool is_text(std::string_view text, std::size_t bytes_max) {
  return !text.empty() && text.size() <= bytes_max && text.find('\0') == std::string_view::npos;
}

} // namespace

bool is_project(std::string_view name) {
  return !name.empty() && name.size() <= project_bytes_max &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
         });
}

bool is_tag(std::string_view tag) {
  return is_text(tag, tag_bytes_max);
}

bool is_source_digest(std::string_view digest) {
  return is_text(digest, source_digest_bytes_max);
}

std::string project_key(std::string_view project) {
  std::string key{project};
  key += '\0';
  return key;
}

std::string big_endian(std::uint64_t number) {
  std::string key(8, '\0');
  for (std::size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<char>(number >> (56 - 8 * i));
  }
  return key;
}

std::uint64_t number_of(std::string_view big_endian) {
  std::uint64_t number = 0;
  for (char byte : big_endian.substr(0, 8)) {
    number = number << 8 | static_cast<unsigned char>(byte);
  }
  return number;
}

std::string oldest_first(std::int64_t unix_ns) {
  return big_endian(static_cast<std::uint64_t>(unix_ns) ^ sign_bit);
}

std::string newest_first(std::int64_t unix_ns) {
  return big_endian(~(static_cast<std::uint64_t>(unix_ns) ^ sign_bit));
}

std::int64_t time_of_newest_first(std::string_view key) {
  return static_cast<std::int64_t>(~number_of(key) ^ sign_bit);
}

std::int64_t time_of_oldest_first(std::string_view key) {
  return static_cast<std::int64_t>(number_of(key) ^ sign_bit);
}

std::string of(const uuid& id) {
  return big_endian(id.hi) + big_endian(id.lo);
}

uuid id_of(std::string_view key) {
  return {number_of(key), key.size() >= id_bytes ? number_of(key.substr(8)) : 0};
}

} // namespace coppice::storage::keys
