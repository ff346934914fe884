#include "actors/inspect_worker.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"
#include "vmm/error.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

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
  std::unique_ptr<inspect_worker> out{new inspect_worker};
  out->socket_ = vmm::unique_fd{ends[0]};
  vmm::unique_fd theirs{ends[1]};
  out->answer_timeout_ = answer_timeout;
  // An answer has begun when the first byte is there; the rest may take as long again.
  auto ms = answer_timeout.count();
  timeval limit{.tv_sec = static_cast<time_t>(ms / 1000),
                .tv_usec = static_cast<suseconds_t>(ms % 1000 * 1000)};
  ::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
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

result<frame<proto::InspectAnswer>>
inspect_worker::exchange(const frame<proto::InspectOrder>& order) {
  if (auto sent = storage::write_frame(socket_.get(), order); sent.has_error()) {
    return died();
  }
  pollfd waiting{socket_.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, static_cast<int>(answer_timeout_.count()));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(answer_timeout_).count();
    return fail(ec::io, "the reader of the image did not answer within " + std::to_string(seconds) +
                            " seconds and was ended; try again");
  }
  auto bytes = storage::read_frame(socket_.get());
  if (bytes.has_error() || !*bytes) {
    return died();
  }
  auto answer = checked<proto::InspectAnswer>(**bytes, limits::channel_frame_bytes_max);
  if (!answer) {
    return fail(ec::damaged, "the reader of the image broke its protocol");
  }
  return *answer;
}

} // namespace coppice
