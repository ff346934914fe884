#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

/// Compressing replies for clients that ask for it. Plain, so that it can be fuzzed.
namespace coppice::gateway {

/// Whether an Accept-Encoding header (empty when absent) allows gzip: named with a weight that is
/// not 0, or not named and `*` is. Malformed parts count as absent: not compressing is always
/// right.
bool accepts_gzip(std::string_view accept_encoding);

/// A gzip stream, made piece by piece.
///
/// Guarantee: what was added before a `flush` can be decoded from what was given out by then; the
/// stream is whole after `finish`. Memory does not grow with the stream.
/// Owner: the reply that is compressed.
class gzip_encoder {
public:
  /// Of one stream: an 8 KiB window and tables for it. Larger ones compress text a few percent
  /// better, and there may be one for each of thousands of followers.
  static constexpr std::size_t memory_bytes = 96u << 10;

  /// As much is compressed in one go; callers let others run in between.
  static constexpr std::size_t slice_bytes = 64u << 10;

  gzip_encoder();
  ~gzip_encoder();
  gzip_encoder(const gzip_encoder&) = delete;
  gzip_encoder& operator=(const gzip_encoder&) = delete;

  /// What can be given out after these bytes, maybe nothing yet.
  std::string add(std::string_view bytes);
  /// All that was held back.
  std::string flush();
  /// The rest with the trailer; the last call.
  std::string finish();

private:
  struct stream;
  std::string run(std::string_view bytes, int mode);

  std::unique_ptr<stream> stream_;
};

} // namespace coppice::gateway
