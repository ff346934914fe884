#pragma once

#include "storage/disk/nbd_handshake.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What an NBD client says, byte by byte, and how the server's bytes are read again.
namespace coppice::storage::test {

namespace n = coppice::storage::nbd;
using bytes = std::vector<std::byte>;

template <class T>
void put(bytes& out, T value) {
  out.resize(out.size() + sizeof(T));
  store_be(out, out.size() - sizeof(T), value);
}

inline void put_text(bytes& out, std::string_view text) {
  auto raw = std::as_bytes(std::span{text});
  out.insert(out.end(), raw.begin(), raw.end());
}

inline void put_string(bytes& out, std::string_view text) {
  put(out, static_cast<std::uint32_t>(text.size()));
  put_text(out, text);
}

inline bytes operator+(bytes left, const bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline bytes client_flags(std::uint32_t flags = 3) {
  bytes out;
  put(out, flags);
  return out;
}

inline bytes option_of(std::uint32_t number, const bytes& data = {}) {
  bytes out;
  put(out, n::option_magic);
  put(out, number);
  put(out, static_cast<std::uint32_t>(data.size()));
  return out + data;
}

inline bytes option_of(n::option which, const bytes& data = {}) {
  return option_of(static_cast<std::uint32_t>(which), data);
}

inline bytes go_data(std::string_view name, const std::vector<std::uint16_t>& wishes = {3}) {
  bytes out;
  put_string(out, name);
  put(out, static_cast<std::uint16_t>(wishes.size()));
  for (auto wish : wishes) {
    put(out, wish);
  }
  return out;
}

inline bytes context_data(std::string_view name, const std::vector<std::string>& queries) {
  bytes out;
  put_string(out, name);
  put(out, static_cast<std::uint32_t>(queries.size()));
  for (const auto& query : queries) {
    put_string(out, query);
  }
  return out;
}

/// What QEMU 7.2 sends until it may send requests.
inline bytes qemu_handshake() {
  return client_flags() + option_of(n::option::structured_reply) +
         option_of(n::option::set_meta_context, context_data("disk", {"base:allocation"})) +
         option_of(n::option::go, go_data("disk"));
}

inline bytes request_of(n::command c, std::uint64_t cookie, std::uint64_t offset,
                        std::uint32_t length, std::uint16_t flags = 0) {
  bytes out;
  put(out, n::request_magic);
  put(out, flags);
  put(out, static_cast<std::uint16_t>(c));
  put(out, cookie);
  put(out, offset);
  put(out, length);
  return out;
}

/// One reply to an option.
struct option_answer {
  std::uint32_t option = 0;
  n::option_reply type{};
  bytes data;
};

inline std::vector<option_answer> answers_in(std::span<const std::byte> in) {
  std::vector<option_answer> out;
  while (in.size() >= 20 && load_be<std::uint64_t>(in, 0) == n::option_reply_magic) {
    auto length = load_be<std::uint32_t>(in, 16);
    auto data = in.subspan(20, length);
    out.push_back({load_be<std::uint32_t>(in, 8),
                   static_cast<n::option_reply>(load_be<std::uint32_t>(in, 12)),
                   {data.begin(), data.end()}});
    in = in.subspan(20 + length);
  }
  return out;
}

} // namespace coppice::storage::test
