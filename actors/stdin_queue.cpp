#include "actors/stdin_queue.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

void stdin_queue::add(std::uint32_t spid, frame_base keep, capnp::Data::Reader data, bool close) {
  if (data.size() > 0 || close) {
    waiting_bytes_ += cost_bytes(keep);
    waiting_.push_back({spid, std::move(keep), data, close});
  }
}

std::optional<frame<proto::ToGuest>> stdin_queue::next(std::uint64_t run) {
  if (is_under_way_ || waiting_.empty()) {
    return std::nullopt;
  }
  is_under_way_ = true;
  auto& first = waiting_.front();
  const auto size = std::min(limits::transfer_chunk_bytes, first.data.size());
  const auto is_last = size == first.data.size();
  auto message = make_frame<proto::ToGuest>([&](auto m) {
    m.setRun(run);
    auto s = m.initStdin();
    s.setSpid(first.spid);
    s.setData(first.data.slice(0, size));
    s.setClose(is_last && first.close);
  });
  if (is_last) {
    waiting_bytes_ -= cost_bytes(first.keep);
    waiting_.pop_front();
  } else {
    first.data = first.data.slice(size, first.data.size());
  }
  return message;
}

void stdin_queue::drop(std::uint32_t spid) {
  std::erase_if(waiting_, [&](const input& each) {
    const bool is_its = each.spid == spid;
    waiting_bytes_ -= is_its ? cost_bytes(each.keep) : 0;
    return is_its;
  });
}

} // namespace coppice
