#pragma once

#include "protocol/frame.hpp"
#include "protocol/result.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

/// Frames on a connected stream socket: a 32-bit little-endian count of words, then that many words
/// of a flat Cap'n Proto message (as on the guest channel). Blocking; for workers and who waits for
/// them, which have nothing else to do. One thread at a time for each direction.
namespace coppice::storage {

/// When a frame must have been read or written as a whole, however its peer dribbles; nothing: it
/// may take for ever.
using frame_deadline = std::optional<std::chrono::steady_clock::time_point>;

/// The bytes of the next frame; nothing when the peer has closed between two frames.
/// too_large: beyond limits::channel_frame_bytes_max; damaged: closed inside a frame; busy: not
/// whole at the deadline; io.
result<std::optional<std::vector<std::byte>>> read_frame(int socket, frame_deadline deadline = {});

/// busy: not taken as a whole at the deadline; io: the peer is gone (no signal is raised), or any
/// other error. The socket is of no more use.
result<void> write_frame(int socket, const frame_base& message, frame_deadline deadline = {});

} // namespace coppice::storage
