#include "gateway/http/gzip.hpp"

#include <zlib.h>

#include <algorithm>
#include <new>

namespace coppice::gateway {
namespace {

/// 16 for the gzip wrapper; 2^13 bytes of window take 32 KiB, memory level 6 another 32.
constexpr int window_bits = 13;
constexpr int memory_level = 6;

/// The gateway is one thread, and JSON and tar compress well at any level.
constexpr int level = 1;

std::string_view trim(std::string_view text) {
  auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string_view take(std::string_view& text, char separator) {
  auto end = std::min(text.find(separator), text.size());
  auto part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return trim(part);
}

bool is_name(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() &&
         std::equal(text.begin(), text.end(), lower_case.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
         });
}

/// A weight as RFC 9110 writes it: 0, 0.5, 1.000. False for 0 and for what is none.
bool is_positive_weight(std::string_view text) {
  constexpr std::size_t weight_bytes_max = 5;
  if (text.empty() || text.size() > weight_bytes_max || (text[0] != '0' && text[0] != '1') ||
      (text.size() > 1 && text[1] != '.')) {
    return false;
  }
  bool is_zero = text[0] == '0';
  for (char c : text.substr(std::min<std::size_t>(2, text.size()))) {
    if (c < '0' || c > (text[0] == '1' ? '0' : '9')) {
      return false;
    }
    is_zero = is_zero && c == '0';
  }
  return !is_zero;
}

} // namespace

bool accepts_gzip(std::string_view accept_encoding) {
  bool is_named = false;
  bool is_wanted = false;
  bool is_any_wanted = false;
  while (!accept_encoding.empty()) {
    auto item = take(accept_encoding, ',');
    auto coding = take(item, ';');
    bool is_positive = true;
    while (!item.empty()) {
      auto parameter = take(item, ';');
      auto name = take(parameter, '=');
      if (is_name(name, "q")) {
        is_positive = is_positive_weight(parameter);
      }
    }
    if (is_name(coding, "gzip") || is_name(coding, "x-gzip")) {
      is_named = true;
      is_wanted = is_wanted || is_positive;
    } else if (coding == "*") {
      is_any_wanted = is_positive;
    }
  }
  return is_named ? is_wanted : is_any_wanted;
}

struct gzip_encoder::stream {
  z_stream state{};
};

gzip_encoder::gzip_encoder() : stream_{std::make_unique<stream>()} {
  if (deflateInit2(&stream_->state, level, Z_DEFLATED, window_bits + 16, memory_level,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc{}; // the parameters are right, so nothing else can be wrong
  }
}

gzip_encoder::~gzip_encoder() {
  deflateEnd(&stream_->state);
}

std::string gzip_encoder::run(std::string_view bytes, int mode) {
  auto& state = stream_->state;
  // zlib does not write through it; its interface is older than const.
  state.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  state.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  std::size_t filled = 0;
  do {
    constexpr std::size_t room = 16u << 10;
    out.resize(filled + room);
    state.next_out = reinterpret_cast<Bytef*>(out.data()) + filled;
    state.avail_out = room;
    deflate(&state, mode);
    filled = out.size() - state.avail_out;
  } while (state.avail_out == 0);
  out.resize(filled);
  return out;
}

std::string gzip_encoder::add(std::string_view bytes) {
  std::string out;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), slice_bytes))) {
    out += run(bytes.substr(0, slice_bytes), Z_NO_FLUSH);
  }
  return out;
}

std::string gzip_encoder::flush() {
  return run({}, Z_SYNC_FLUSH);
}

std::string gzip_encoder::finish() {
  return run({}, Z_FINISH);
}

} // namespace coppice::gateway
