#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/result.hpp"
#include "vmm/child_process.hpp"
#include "vmm/unique_fd.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace coppice {

/// A process that reads the file system of an image, and the socket to it.
///
/// Guarantee: no exchange takes longer than the given time, from the first byte of the order to the
/// last of the answer; every pointer of an answer stays inside it. What it says is not to be
/// believed all the same, and a pointer may be of the wrong kind: reading one throws. Its end of
/// life kills the process.
/// Owner: one actor, whose thread waits.
class inspect_worker {
public:
  /// `disks`: the sockets of the served disks that it reads. vmm: it could not be started.
  static result<std::unique_ptr<inspect_worker>> start(vmm::event_loop& loop,
                                                       const std::string& program,
                                                       std::vector<vmm::unique_fd> disks,
                                                       std::chrono::milliseconds answer_timeout);

  /// One that somebody else has started, on the other end of a stream socket.
  static std::unique_ptr<inspect_worker> over(vmm::unique_fd socket,
                                              std::chrono::milliseconds answer_timeout);

  /// Sends an order and waits for its answer. gone: it has died; io: it did not answer in time;
  /// damaged: it answered nonsense.
  result<frame<proto::InspectAnswer>> exchange(const frame<proto::InspectOrder>& order);

  inspect_worker(const inspect_worker&) = delete;
  inspect_worker& operator=(const inspect_worker&) = delete;

private:
  inspect_worker() = default;
  failure failed(const failure& why) const;

  vmm::unique_fd socket_;
  std::shared_ptr<vmm::child_process> process_;
  std::chrono::milliseconds answer_timeout_{};
};

} // namespace coppice
