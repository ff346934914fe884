#include "actors/event_log.hpp"

#include <iterator>

namespace coppice {

void event_log::stamp(proto::Event::Builder e, std::uint32_t spid, std::int64_t at_unix_ns) {
  e.setId(next_id_);
  e.setSpid(spid);
  e.setAtUnixNs(at_unix_ns);
}

void event_log::push(frame<proto::Event> e) {
  ++next_id_;
  waiting_bytes_ += e.bytes().size();
  waiting_.push_back(std::move(e));
}

void event_log::close_output() {
  if (!output_) {
    return;
  }
  auto out = std::move(*output_);
  output_.reset();
  push(make_frame<proto::Event>([&](proto::Event::Builder e) {
    stamp(e, out.spid, out.at_unix_ns);
    capnp::Data::Reader data{reinterpret_cast<const capnp::byte*>(out.data.data()),
                             out.data.size()};
    if (out.is_stderr) {
      e.setStderr(data);
    } else {
      e.setStdout(data);
    }
  }));
}

bool event_log::add_output(std::uint32_t spid, bool is_stderr, std::span<const unsigned char> data,
                           std::int64_t at_unix_ns) {
  bool joins = output_ && output_->spid == spid && output_->is_stderr == is_stderr &&
               output_->data.size() + data.size() <= output_event_bytes_max;
  auto cost = data.size() + (joins ? 0 : event_cost_bytes);
  is_full_ = is_full_ || logged_bytes_ + cost > log_bytes_max;
  if (is_full_) {
    return false;
  }
  logged_bytes_ += cost;
  if (!joins) {
    close_output();
    output_ = open_output{spid, is_stderr, at_unix_ns, {}};
  }
  output_->data.append(reinterpret_cast<const char*>(data.data()), data.size());
  return true;
}

const std::vector<frame<proto::Event>>& event_log::take() {
  close_output();
  on_its_way_ = std::exchange(waiting_, {});
  waiting_bytes_ = 0;
  return on_its_way_;
}

void event_log::taken_is_durable() {
  durable_count_ += on_its_way_.size();
  on_its_way_.clear();
}

void event_log::taken_failed() {
  for (const auto& e : on_its_way_) {
    waiting_bytes_ += e.bytes().size();
  }
  on_its_way_.insert(on_its_way_.end(), std::make_move_iterator(waiting_.begin()),
                     std::make_move_iterator(waiting_.end()));
  waiting_ = std::exchange(on_its_way_, {});
}

} // namespace coppice
