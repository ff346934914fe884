#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"

#include <cstddef>
#include <span>
#include <string>

namespace coppice::vmm {

/// What a guest says, checked.
///
/// Problem: the other end of the channel is a guest with a hostile root and kernel. Each frame is
/// looked at here once, before anything else sees it: the size, Cap'n Proto's pointers (each one is
/// followed), that unions are known ones and numbers where they have a range are within it, that
/// texts are UTF-8 and bounded, and that pointers which share their target do not make a small
/// frame say more than it carries. What a struct has beside the fields of our schema is not looked
/// at: who keeps anything of a message copies fields, not structs. Pure: no clock, no socket; a
/// fuzz target covers it.

/// Bounds of what an honest agent has to say; frames as a whole are bounded in protocol/limits.hpp.
inline constexpr std::size_t guest_name_bytes_max = 4u << 10;   ///< versions, stages
inline constexpr std::size_t guest_error_bytes_max = 16u << 10; ///< error texts
inline constexpr std::uint32_t guest_spid_max = 65'535;         ///< processes of one run
inline constexpr std::uint32_t guest_pid_max = 4'194'304;       ///< Linux's PID_MAX_LIMIT
inline constexpr int guest_errno_max = 4095;                    ///< Linux's MAX_ERRNO

/// A frame on the wire: this many bytes with the number of words, little-endian, then the words.
inline constexpr std::size_t frame_header_bytes = 4;

enum class parse_status {
  complete,   ///< one message is there
  incomplete, ///< more bytes are needed; there is no reason to refuse what came so far
  refused,    ///< no honest agent sends this: the reason says what
};

struct parse_outcome {
  parse_status status = parse_status::incomplete;
  std::size_t bytes_taken = 0; ///< complete: to remove from the head of the stream
  frame<proto::FromGuest> message;
  std::string reason;
};

/// Looks at the head of the stream. A frame that is announced larger than allowed is refused before
/// its content comes.
parse_outcome parse_guest_frame(std::span<const std::byte> stream);

/// Why this message must not be let in; empty if it may. Never throws.
std::string objection_to(const frame<proto::FromGuest>& message);

} // namespace coppice::vmm
