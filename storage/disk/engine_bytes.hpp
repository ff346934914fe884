#pragma once

#include "storage/disk/engine.hpp"
#include "storage/qcow2/byte_source.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace coppice::storage {

/// Asks the engine and waits; never on a thread of its loops. `ask` gets the answer to hand over.
template <class T, class Ask>
result<T> wait_for(Ask&& ask) {
  auto told = std::make_shared<std::promise<result<T>>>();
  auto answer = told->get_future();
  ask(engine::answer<T>{[told](result<T> given) {
    told->set_value(std::move(given));
  }});
  return answer.get();
}

/// A file as the format code reads it, a piece at a time through the engine.
///
/// Guarantee: no more than a piece is in memory, and a read that comes after `is_stopped` was set
/// fails (conflict). Waits for the engine: not on a thread of its loops.
class engine_bytes final : public qcow2::byte_source {
public:
  /// Gives the bytes from an offset on, as engine::read_file does.
  using read_piece =
      std::function<void(std::uint64_t, std::size_t, engine::answer<engine::file_piece>)>;

  /// `name` is for texts of failures, `stopped` is what a read says then.
  static result<std::unique_ptr<engine_bytes>>
  open(std::string name, read_piece from, const std::atomic<bool>& is_stopped, std::string stopped);

  const std::string& name() const override {
    return name_;
  }
  std::uint64_t size_bytes() const override {
    return piece_.file_bytes;
  }
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override;

private:
  engine_bytes(std::string name, read_piece from, const std::atomic<bool>& is_stopped,
               std::string stopped);

  result<void> load(std::uint64_t begin) const;

  std::string name_;
  read_piece from_;
  const std::atomic<bool>& is_stopped_;
  std::string stopped_;
  mutable engine::file_piece piece_;
  mutable std::uint64_t begin_ = 0;
};

} // namespace coppice::storage
