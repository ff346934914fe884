#pragma once

#include "storage/big_endian.hpp"
#include "storage/disk/extent.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

/// The NBD protocol (doc/proto.md of NetworkBlockDevice/nbd; sections are cited by name): what both
/// phases share, and the messages of the transmission phase. Every number is big-endian.
///
/// Problem: the client is a QEMU that may be hostile, and it speaks before anything is checked.
///
/// Guarantee: pure functions over bytes. A request that `objection_to` accepts lies inside the
/// disk, in whole clusters, with flags that its command knows.
namespace coppice::storage::nbd {

// -- sections "Request message", "Simple reply message", "Structured reply chunk message"

inline constexpr std::uint32_t request_magic = 0x25609513;
inline constexpr std::uint32_t simple_reply_magic = 0x67446698;
inline constexpr std::uint32_t structured_reply_magic = 0x668e33ef;

inline constexpr std::size_t request_bytes = 28;
inline constexpr std::size_t simple_reply_bytes = 16;
inline constexpr std::size_t chunk_header_bytes = 20;

// -- section "Command flags"

inline constexpr std::uint16_t flag_fua = 1u << 0;
inline constexpr std::uint16_t flag_no_hole = 1u << 1;
inline constexpr std::uint16_t flag_df = 1u << 2;
inline constexpr std::uint16_t flag_req_one = 1u << 3;
inline constexpr std::uint16_t flag_fast_zero = 1u << 4;

// -- section "Request types"

enum class command : std::uint16_t {
  read = 0,
  write = 1,
  disc = 2,
  flush = 3,
  trim = 4,
  write_zeroes = 6,
  block_status = 7,
};

// -- section "Structured reply types"

inline constexpr std::uint16_t reply_flag_done = 1u << 0;

enum class chunk : std::uint16_t {
  none = 0,
  offset_data = 1,
  block_status = 5,
  error = (1u << 15) + 1,
};

// -- section "Error values"

enum class error : std::uint32_t {
  none = 0,
  perm = 1,
  io = 5,
  nomem = 12,
  inval = 22,
  nospc = 28,
  notsup = 95,
  shutdown = 108,
};

/// The wire's word for a positive errno of a device; 0: none.
error error_of(int error_number);

// -- section "`base:allocation` metadata context"

inline constexpr std::uint32_t allocation_context_id = 1;
inline constexpr std::uint32_t state_hole = 1u << 0;
inline constexpr std::uint32_t state_zero = 1u << 1;

// -- our limits

/// Section "Block size constraints": "any length less than 2^25 bytes SHOULD NOT be considered a
/// denial of service attack". QEMU's client has the same limit.
inline constexpr std::uint32_t payload_bytes_max = 32u << 20;
static_assert(payload_bytes_max % cluster_bytes == 0);

/// Descriptors of one block status reply. A client comes back for the rest.
inline constexpr std::size_t status_runs_max = 256;

// -- what the client sends

struct request {
  std::uint16_t flags = 0;
  std::uint16_t type = 0; ///< a `command`, if objection_to does not object
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;

  bool is(command c) const {
    return type == static_cast<std::uint16_t>(c);
  }
  /// Bytes that follow the request.
  std::uint32_t payload_bytes() const {
    return is(command::write) ? length : 0;
  }
};

/// What both sides agreed on in the handshake.
struct agreement {
  bool structured_replies = false;
  bool allocation_context = false;
};

/// Reads a request; `bytes` has at least request_bytes. Nothing where the magic is wrong: there is
/// no way to find the next one.
std::optional<request> parse_request(std::span<const std::byte> bytes);

/// Why the request cannot be carried out on a disk of that size: what to answer; none: it can.
/// A write behind the end is `inval`, not `nospc` as the section "Error values" proposes: QEMU
/// would stop the VM for an administrator to add space. A request of no length is refused too.
error objection_to(const request& r, std::uint64_t disk_bytes, const agreement& agreed);

/// Whether no sane client sends this: the payload would keep the connection busy for nothing.
bool is_hostile(const request& r);

// -- what the server sends: each returns how many bytes it has written to the front of `out`

/// No reply without data is longer.
inline constexpr std::size_t short_reply_bytes_max = chunk_header_bytes + 6;

/// What precedes the data of a read.
inline constexpr std::size_t read_header_bytes_max = chunk_header_bytes + 8;

/// The reply to everything that gives no data: an error, or success of all but read and block
/// status. `out` has short_reply_bytes_max.
std::size_t encode_reply(const request& r, error what, const agreement& agreed,
                         std::span<std::byte> out);

/// How long the header of a successful read is; the data follow it.
std::size_t read_header_bytes(const agreement& agreed);
std::size_t encode_read_header(const request& r, const agreement& agreed, std::span<std::byte> out);

/// The reply to block status, built descriptor by descriptor into `out`, which has
/// status_reply_bytes(runs).
constexpr std::size_t status_reply_bytes(std::size_t runs) {
  return chunk_header_bytes + 4 + 8 * runs;
}
std::size_t encode_status_header(const request& r, std::size_t runs, std::span<std::byte> out);
void encode_status_run(std::size_t index, std::uint32_t length_bytes, std::uint32_t state,
                       std::span<std::byte> out);

} // namespace coppice::storage::nbd
