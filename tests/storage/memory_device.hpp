#pragma once

#include "storage/disk/block_device.hpp"
#include "storage/disk/extent.hpp"
#include "storage/ring/io.hpp"

#include <cstring>
#include <random>
#include <utility>
#include <vector>

namespace coppice::storage::test {

/// A disk in memory whose calls end in any order: each takes a few turns of the ring, or waits
/// until it is let go.
class memory_device : public block_device {
public:
  memory_device(ring& on, int zero_fd, std::uint64_t size_bytes, unsigned turns_max)
      : ring_{on}, zero_fd_{zero_fd}, turns_max_{turns_max}, bytes_(size_bytes),
        is_data_(size_bytes / cluster_bytes) {}

  std::uint64_t size_bytes() const override {
    return bytes_.size();
  }

  task<int> read(std::uint64_t offset_bytes, std::span<std::byte> out) override {
    co_await wait();
    if (error_number == 0) {
      std::memcpy(out.data(), bytes_.data() + offset_bytes, out.size());
    }
    co_return error_number;
  }

  task<int> write(std::uint64_t offset_bytes, std::span<const std::byte> data) override {
    co_await wait();
    if (error_number == 0) {
      std::memcpy(bytes_.data() + offset_bytes, data.data(), data.size());
      mark(offset_bytes, data.size(), true);
    }
    co_return error_number;
  }

  task<int> zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) override {
    co_await wait();
    if (error_number == 0) {
      std::memset(bytes_.data() + offset_bytes, 0, length_bytes);
      mark(offset_bytes, length_bytes, false);
    }
    co_return error_number;
  }

  std::vector<status_run> status(std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                 std::size_t runs_max) override {
    std::vector<status_run> out;
    for (auto at = offset_bytes; at < offset_bytes + length_bytes; at += cluster_bytes) {
      auto is_zeros = !is_data_[at / cluster_bytes];
      if (out.empty() || out.back().is_zeros != is_zeros) {
        if (out.size() == runs_max) {
          break;
        }
        out.push_back({0, is_zeros});
      }
      out.back().length_bytes += cluster_bytes;
    }
    return out;
  }

  const std::vector<std::byte>& bytes() const {
    return bytes_;
  }

  bool holds = false;   ///< calls wait for let_go()
  int error_number = 0; ///< what every call ends with

  std::size_t held_count() const {
    return held_.size();
  }
  void let_go() {
    for (auto caller : std::exchange(held_, {})) {
      caller.resume();
    }
  }

private:
  struct holding {
    memory_device& device;
    bool await_ready() const {
      return !device.holds;
    }
    void await_suspend(std::coroutine_handle<> caller) {
      device.held_.push_back(caller);
    }
    void await_resume() {}
  };

  task<void> wait() {
    co_await holding{*this};
    auto turns = turns_max_ == 0 ? 0 : random_() % turns_max_;
    for (unsigned i = 0; i < turns; ++i) {
      char byte = 0;
      io_request request;
      request.what = io_request::call::read;
      request.fd = zero_fd_;
      request.buffer = &byte;
      request.length = 1;
      io::once one{ring_, request};
      co_await one;
    }
  }

  void mark(std::uint64_t offset_bytes, std::uint64_t length_bytes, bool is_data) {
    for (auto at = offset_bytes; at < offset_bytes + length_bytes; at += cluster_bytes) {
      is_data_[at / cluster_bytes] = is_data;
    }
  }

  ring& ring_;
  int zero_fd_;
  unsigned turns_max_;
  std::vector<std::byte> bytes_;
  std::vector<bool> is_data_;
  std::mt19937 random_{7};
  std::vector<std::coroutine_handle<>> held_;
};

} // namespace coppice::storage::test
