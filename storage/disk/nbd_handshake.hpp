#pragma once

#include "protocol/result.hpp"
#include "storage/disk/nbd_protocol.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace coppice::storage::nbd {

enum class ec {
  none = 0,
  broken,  ///< the client broke the protocol: nothing that it sends can be understood any more
  aborted, ///< the client ended the handshake, as it may
};

const std::error_category& nbd_category();

inline std::error_code make_error_code(ec code) {
  return {static_cast<int>(code), nbd_category()};
}

// -- section "Fixed newstyle negotiation"

inline constexpr std::uint64_t init_magic = 0x4e42444d41474943;
inline constexpr std::uint64_t option_magic = 0x49484156454f5054;
inline constexpr std::uint64_t option_reply_magic = 0x0003e889045565a9;

inline constexpr std::uint16_t flag_fixed_newstyle = 1u << 0;
inline constexpr std::uint16_t flag_no_zeroes = 1u << 1;

// -- section "Transmission flags"

inline constexpr std::uint16_t export_has_flags = 1u << 0;
inline constexpr std::uint16_t export_send_flush = 1u << 2;
inline constexpr std::uint16_t export_send_fua = 1u << 3;
inline constexpr std::uint16_t export_send_trim = 1u << 5;
inline constexpr std::uint16_t export_send_write_zeroes = 1u << 6;
inline constexpr std::uint16_t export_send_df = 1u << 7;
inline constexpr std::uint16_t export_send_fast_zero = 1u << 11;

// -- section "Option types"

enum class option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

// -- section "Option reply types"

enum class option_reply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  err_unsup = (1u << 31) + 1,
  err_invalid = (1u << 31) + 3,
  err_unknown = (1u << 31) + 6,
};

inline constexpr std::uint16_t info_export = 0;
inline constexpr std::uint16_t info_block_size = 3;

// -- our limits

/// The longest sane option is a context query: a name of 4,096 bytes at most ("Conventions") and a
/// few short queries.
inline constexpr std::size_t option_data_bytes_max = 8192;

/// QEMU needs four; a client that goes on for ever is not one.
inline constexpr std::size_t options_max = 64;

/// What goes out first.
inline constexpr std::size_t greeting_bytes = 18;
std::array<std::byte, greeting_bytes> greeting();

/// The server's side of the handshake, byte by byte.
///
/// Guarantee: bytes may come in any pieces and give the same replies. It keeps at most one option
/// (option_data_bytes_max), and replies to one take less than that and a few hundred bytes.
class handshake {
public:
  /// One disk, which the client may call `export_name` or nothing.
  handshake(std::uint64_t disk_bytes, std::string export_name);

  /// Takes bytes of the client up to the end of one option at most and appends the reply to `out`;
  /// gives how many it took. Takes none once is_done(). broken, aborted (after which `out` may
  /// still have a reply): take no more.
  result<std::size_t> take(std::span<const std::byte> in, std::vector<std::byte>& out);

  /// The transmission phase has begun (once `out` is sent).
  bool is_done() const {
    return is_done_;
  }
  agreement agreed() const;

private:
  result<void> take_client_flags();
  result<void> take_option(std::vector<std::byte>& out);
  void take_go(option which, std::span<const std::byte> data, std::vector<std::byte>& out);
  result<void> take_export_name(std::span<const std::byte> data, std::vector<std::byte>& out);
  void take_meta_context(option which, std::span<const std::byte> data,
                         std::vector<std::byte>& out);
  bool is_ours(std::span<const std::byte> name) const;
  std::uint16_t transmission_flags() const;

  std::uint64_t disk_bytes_;
  std::string export_name_;
  std::vector<std::byte> pending_; ///< of the client flags or of one option
  std::size_t wanted_bytes_ = 4;   ///< how long `pending_` must be to go on
  std::size_t options_count_ = 0;
  bool has_client_flags_ = false;
  bool is_fixed_ = false;
  bool sends_zeroes_ = true;
  bool is_done_ = false;
  agreement agreed_;
};

} // namespace coppice::storage::nbd

template <>
struct std::is_error_code_enum<coppice::storage::nbd::ec> : std::true_type {};
