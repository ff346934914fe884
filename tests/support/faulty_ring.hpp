#pragma once

#include "storage/ring/ring.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage::test {

/// A ring that does what a test says instead of what was asked for.
///
/// Problem: what is promised after ENOSPC, EIO, a short write or an unlucky order must be seen at
/// every single step, and a real disk does none of that when it is asked to.
///
/// Guarantee: requests go to the ring that it wraps, in the order in which they were taken, but for
/// those that a fault was set for; what was taken is in `log()`. Links are kept by itself: the
/// second is handed on when the first has ended, so a fault of the first cancels the second as a
/// kernel would. Where several faults are due for a request, the one that was set first decides.
class faulty_ring final : public ring {
public:
  struct entry {
    io_request::call what = io_request::call::read;
    std::string name; ///< the path, or that of the descriptor when the request was taken
    int fd = -1;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool is_linked = false; ///< starts when the entry before it has done all
  };
  using predicate = std::function<bool(const entry&)>;

  static constexpr std::size_t for_ever = SIZE_MAX;

  explicit faulty_ring(std::unique_ptr<ring> wrapped);
  ~faulty_ring() override;

  /// The `nth` request from now on that is `which` (1: the next), and the `times - 1` behind it,
  /// end with this errno and do nothing.
  void fail(predicate which, std::size_t nth, int error_number, std::size_t times = 1);

  /// It reads or writes no more than `length_bytes`. At 0 it does nothing.
  void cut(predicate which, std::size_t nth, std::uint64_t length_bytes, std::size_t times = 1);

  /// It is carried out, but its end is told only after release().
  void hold(predicate which, std::size_t nth, std::size_t times = 1);

  /// No fault is set any more.
  void calm() {
    faults_.clear();
  }

  /// The ends that are held are told in the next turn(), in the order in which they came. Later
  /// ones of the same faults are held again.
  void release();

  /// Ends that are held now.
  std::size_t held() const {
    return held_.size();
  }

  /// Turns until all that is taken has ended or is held.
  void turn_until_held();

  /// What was taken, since the beginning or clear_log().
  const std::vector<entry>& log() const {
    return log_;
  }
  void clear_log() {
    log_.clear();
  }

  void submit(io_request& request) override;
  void submit_linked(io_request& first, io_request& second) override;
  /// Throws std::logic_error when nothing but held ends is left: nobody would ever go on.
  void turn() override;
  std::size_t pending() const override {
    return pending_;
  }

private:
  struct fault {
    enum class kind { fail, cut, hold };
    kind what;
    predicate which;
    std::size_t skip;  ///< matching requests before the first that it is for
    std::size_t times; ///< requests that it is still for
    int error_number = 0;
    std::uint64_t length_bytes = 0;
  };
  struct flight;

  const fault* next_fault(const entry& of);
  std::unique_ptr<flight> take(io_request& request, bool is_linked);
  void begin(std::unique_ptr<flight> next);
  void end(std::unique_ptr<flight> which);

  std::unique_ptr<ring> wrapped_;
  std::vector<fault> faults_;
  std::vector<entry> log_;
  std::vector<std::unique_ptr<flight>> held_;
  std::vector<std::unique_ptr<flight>> ended_; ///< told in the next turn
  std::size_t pending_ = 0;
};

/// Predicates: all requests; those of a kind, and of those the ones whose name contains
/// `name_part`.
faulty_ring::predicate any();
faulty_ring::predicate calls(io_request::call what, std::string name_part = "");

} // namespace coppice::storage::test
