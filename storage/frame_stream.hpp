#pragma once

#include "protocol/frame.hpp"
#include "protocol/result.hpp"

#include <cstddef>
#include <optional>
#include <vector>

/// Frames on a connected stream socket: a 32-bit little-endian count of words, then that many words
/// of a flat Cap'n Proto message (as on the guest channel). Blocking; for workers, which have
/// nothing else to do. One thread at a time for each direction.
namespace coppice::storage {

/// The bytes of the next frame; nothing when the peer has closed between two frames.
/// too_large: beyond limits::channel_frame_bytes_max; damaged: closed inside a frame; io.
result<std::optional<std::vector<std::byte>>> read_frame(int socket);

/// io: the peer is gone (no signal is raised), or any other error.
result<void> write_frame(int socket, const frame_base& message);

} // namespace coppice::storage
