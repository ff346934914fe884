#pragma once

#include <zlib.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace coppice::test {

/// Reads a gzip stream as it arrives, as clients do.
class gunzip {
public:
  gunzip() {
    if (inflateInit2(&state_, 15 + 16) != Z_OK) {
      throw std::runtime_error{"inflateInit2"};
    }
  }
  ~gunzip() {
    inflateEnd(&state_);
  }
  gunzip(const gunzip&) = delete;
  gunzip& operator=(const gunzip&) = delete;

  /// What these bytes give; throws when they are no part of a stream.
  std::string read(std::string_view bytes) {
    state_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
    state_.avail_in = static_cast<uInt>(bytes.size());
    std::string out;
    do {
      char room[16384];
      state_.next_out = reinterpret_cast<Bytef*>(room);
      state_.avail_out = sizeof room;
      auto code = inflate(&state_, Z_SYNC_FLUSH);
      if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
        throw std::runtime_error{"no gzip stream"};
      }
      out.append(room, sizeof room - state_.avail_out);
      is_ended_ = code == Z_STREAM_END;
    } while (!is_ended_ && (state_.avail_in > 0 || state_.avail_out == 0));
    if (state_.avail_in > 0) {
      throw std::runtime_error{"bytes after the end of the gzip stream"};
    }
    return out;
  }

  /// Whether its trailer was there, and was right.
  bool is_ended() const {
    return is_ended_;
  }

private:
  z_stream state_{};
  bool is_ended_ = false;
};

} // namespace coppice::test
