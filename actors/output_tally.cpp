#include "actors/output_tally.hpp"

#include <algorithm>

namespace coppice {

namespace {

/// The api contract's rule for showing bytes as text.
bool is_plain(std::span<const unsigned char> data) {
  return std::all_of(data.begin(), data.end(), [](unsigned char c) {
    return (c >= 32 && c <= 126) || c == '\t' || c == '\n' || c == '\r';
  });
}

} // namespace

void output_tally::add(std::uint32_t spid, bool is_stderr, std::span<const unsigned char> data) {
  auto& s = of_[spid][is_stderr ? 1 : 0];
  s.kept_bytes += data.size();
  s.is_plain = s.is_plain && is_plain(data);
}

void output_tally::note(std::uint32_t spid, proto::RunResult::Builder result) const {
  auto found = of_.find(spid);
  auto streams = found == of_.end() ? std::array<stream, 2>{} : found->second;
  auto note_stream = [](proto::StreamSummary::Builder summary, const stream& s) {
    summary.setKeptBytes(s.kept_bytes);
    summary.setTotalBytes(std::max(summary.getTotalBytes(), s.kept_bytes));
    summary.setPlain(s.is_plain);
  };
  note_stream(result.getStdout(), streams[0]);
  note_stream(result.getStderr(), streams[1]);
}

} // namespace coppice
