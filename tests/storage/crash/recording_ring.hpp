#pragma once

#include "storage/ring/ring.hpp"
#include "tests/storage/crash/trace.hpp"

#include <cstddef>
#include <memory>

namespace coppice::storage::test::crash {

/// Tells a trace what goes through the ring that it wraps: when each request begins and when it has
/// ended. Links are kept by itself. What is outside the trace's folder passes unseen.
class recording_ring final : public ring {
public:
  recording_ring(std::unique_ptr<ring> wrapped, trace& into);
  ~recording_ring() override;

  void submit(io_request& request) override;
  void submit_linked(io_request& first, io_request& second) override;
  void turn() override;
  std::size_t pending() const override {
    return pending_;
  }

private:
  struct flight;

  std::unique_ptr<flight> take(io_request& request);
  void begin(std::unique_ptr<flight> next);
  void end(std::unique_ptr<flight> which);

  std::unique_ptr<ring> wrapped_;
  trace& trace_;
  std::size_t pending_ = 0;
};

} // namespace coppice::storage::test::crash
