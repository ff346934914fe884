#include "storage/inspector_steps.hpp"

namespace coppice::storage::inspection {

result<frame<proto::InspectAnswer>> stepped_source::next(std::uint64_t) {
  const auto begun = clock::now();
  while (!has_ended_ && found_bytes() < answer_bytes_max &&
         clock::now() - begun < answer_time_max) {
    if (auto done = step(); !done) {
      return done.error();
    }
    if (!has_ended_ && deadline_.count() > 0 && spent_ + (clock::now() - begun) >= deadline_) {
      end_at_limit();
    }
  }
  spent_ += clock::now() - begun;
  return tell();
}

} // namespace coppice::storage::inspection
