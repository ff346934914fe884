#include "storage/disk/nbd_handshake.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

// Whatever an NBD client sends: a handshake, then requests. The first byte says in which pieces the
// bytes come; the oracle beside the sanitizers is that they give the same as all at once.

namespace {

namespace n = coppice::storage::nbd;

constexpr std::uint64_t disk_bytes = 1u << 20;

struct outcome {
  std::size_t taken = 0;
  bool has_failed = false;
  bool is_done = false;
  n::agreement agreed;
  std::vector<std::byte> out;
};

outcome shake_hands(std::span<const std::byte> in, std::size_t piece_max) {
  n::handshake server{disk_bytes, "disk"};
  outcome o;
  while (o.taken < in.size() && !server.is_done()) {
    auto piece = in.subspan(o.taken, std::min(piece_max, in.size() - o.taken));
    auto before = o.out.size();
    auto taken = server.take(piece, o.out);
    if (o.out.size() - before > 1024) {
      std::abort(); // replies are bounded
    }
    if (!taken) {
      o.has_failed = true;
      if (taken.error().text.empty()) {
        std::abort();
      }
      break;
    }
    if (*taken == 0 || *taken > piece.size()) {
      std::abort(); // it must go on, and not beyond what is there
    }
    o.taken += *taken;
  }
  o.is_done = server.is_done();
  o.agreed = server.agreed();
  return o;
}

void check_request(std::span<const std::byte> in, const n::agreement& agreed) {
  auto r = n::parse_request(in);
  if (!r) {
    return;
  }
  auto what = n::objection_to(*r, disk_bytes, agreed);
  auto carries_range = !r->is(n::command::flush) && !r->is(n::command::disc);
  if (what == n::error::none && carries_range &&
      (r->length == 0 || r->offset + r->length > disk_bytes || r->offset % 4096 != 0)) {
    std::abort();
  }
  std::array<std::byte, n::short_reply_bytes_max> reply{};
  if (n::encode_reply(*r, n::error::io, agreed, reply) > reply.size()) {
    std::abort();
  }
  std::array<std::byte, n::read_header_bytes_max> head{};
  if (n::encode_read_header(*r, agreed, head) != n::read_header_bytes(agreed)) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  auto in = std::as_bytes(std::span{data, size}).subspan(1);
  auto whole = shake_hands(in, in.size());
  auto pieces = shake_hands(in, 1u + data[0]);
  if (whole.has_failed != pieces.has_failed || whole.is_done != pieces.is_done ||
      whole.out != pieces.out || (!whole.has_failed && whole.taken != pieces.taken)) {
    std::abort();
  }
  // Requests, whatever the handshake came to.
  auto rest = whole.is_done ? in.subspan(whole.taken) : in;
  for (; rest.size() >= n::request_bytes; rest = rest.subspan(n::request_bytes)) {
    check_request(rest, whole.agreed);
    check_request(rest, {true, true});
  }
  return 0;
}
