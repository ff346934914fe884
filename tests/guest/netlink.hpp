#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// Netlink messages by hand, as far as the checks need them.
namespace features {

/// The attributes of a message.
class attributes {
public:
  attributes& add(std::uint16_t type, std::string_view value);
  attributes& add_text(std::uint16_t type, const std::string& value); ///< with its final zero
  attributes& add_u32(std::uint16_t type, std::uint32_t value);       ///< as the host has it
  attributes& add_big_u32(std::uint16_t type, std::uint32_t value);
  attributes& add_nested(std::uint16_t type, const attributes& inside);

  const std::string& bytes() const {
    return bytes_;
  }

private:
  std::string bytes_;
};

/// One message: type, flags beside the request and its acknowledgement, fixed header, attributes.
struct netlink_message {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::string head;
  attributes rest;
};

/// A socket of one protocol.
class netlink {
public:
  explicit netlink(int protocol);
  ~netlink();
  netlink(const netlink&) = delete;
  netlink& operator=(const netlink&) = delete;

  bool is_open() const {
    return fd_ >= 0;
  }

  /// The error that the kernel answers with, 0 for none.
  int ask(const netlink_message& message);
  /// The same for a message between the two that netfilter wants around a change.
  int ask_in_batch(const netlink_message& message);

private:
  std::string packed(const netlink_message& message, bool wants_answer);
  int answer(std::uint32_t sequence);

  int fd_;
  std::uint32_t sequence_ = 0;
};

} // namespace features
