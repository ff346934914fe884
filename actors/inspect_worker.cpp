#include "actors/inspect_worker.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"
#include "vmm/error.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace coppice {

namespace {

constexpr int worker_socket = 3; ///< descriptor numbers that the worker expects
constexpr int first_disk_socket = 4;

using storage::ec;

failure died() {
  return fail(ec::gone, "the reader of the image died: it met something in the image that it could "
                        "not cope with, or was killed");
}

} // namespace

result<std::unique_ptr<inspect_worker>>
inspect_worker::start(vmm::event_loop& loop, const std::string& program,
                      std::vector<vmm::unique_fd> disks, std::chrono::milliseconds answer_timeout) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(vmm::ec::spawn, std::string{"socketpair: "} + std::strerror(errno));
  }
  auto out = over(vmm::unique_fd{ends[0]}, answer_timeout);
  vmm::unique_fd theirs{ends[1]};
  vmm::child_options options;
  options.kind = vmm::child_kind::inspect_worker;
  options.argv = {program, "inspect-worker"};
  options.descriptors = {{theirs.get(), worker_socket}};
  for (int i = 0; i < static_cast<int>(disks.size()); ++i) {
    options.descriptors.push_back(
        {disks[static_cast<std::size_t>(i)].get(), first_disk_socket + i});
  }
  auto child = vmm::child_process::start(loop, std::move(options), [](const vmm::child_exit&) {
    // its end is seen on the socket
  });
  if (child.has_error()) {
    return child.error();
  }
  out->process_ = std::move(*child);
  return out;
}

std::unique_ptr<inspect_worker> inspect_worker::over(vmm::unique_fd socket,
                                                     std::chrono::milliseconds answer_timeout) {
  std::unique_ptr<inspect_worker> out{new inspect_worker};
  out->socket_ = std::move(socket);
  out->answer_timeout_ = answer_timeout;
  return out;
}

/// What is wrong with a worker with which an exchange failed.
failure inspect_worker::failed(const failure& why) const {
  if (why.code != ec::busy) {
    return died();
  }
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(answer_timeout_).count();
  return fail(ec::io, "the reader of the image did not answer within " + std::to_string(seconds) +
                          " seconds and was ended; try again");
}

result<frame<proto::InspectAnswer>>
inspect_worker::exchange(const frame<proto::InspectOrder>& order) {
  const auto deadline = std::chrono::steady_clock::now() + answer_timeout_;
  if (auto sent = storage::write_frame(socket_.get(), order, deadline); sent.has_error()) {
    return failed(sent.error());
  }
  auto bytes = storage::read_frame(socket_.get(), deadline);
  if (bytes.has_error()) {
    return failed(bytes.error());
  }
  if (!*bytes) {
    return died();
  }
  auto answer = checked<proto::InspectAnswer>(**bytes, limits::channel_frame_bytes_max);
  if (!answer) {
    return fail(ec::damaged, "the reader of the image broke its protocol");
  }
  return *answer;
}

} // namespace coppice
