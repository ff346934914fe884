#include "vmm/qmp.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/write.hpp>

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace coppice::vmm {

namespace asio = boost::asio;

namespace {

// More than a socket holds; a QEMU that is gone writes nothing new.
constexpr int drain_pieces_max = 256;

} // namespace

qmp_client::qmp_client(asio::io_context& context, unique_fd socket, handlers on)
    : socket_{context, asio::local::stream_protocol{}, socket.release()}, on_{std::move(on)} {
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
}

void qmp_client::start() {
  read();
}

void qmp_client::read() {
  if (closed_) {
    return;
  }
  // Waits and then reads here, so that no bytes are in flight when drain() looks for the last ones.
  socket_.async_wait(asio::local::stream_protocol::socket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error) {
                         self->end();
                       } else {
                         self->take_some();
                         self->read();
                       }
                     });
}

bool qmp_client::take_some() {
  if (closed_) {
    return false;
  }
  std::array<char, 4096> piece;
  boost::system::error_code error;
  const auto n = socket_.read_some(asio::buffer(piece), error);
  if (error == asio::error::would_block) {
    return false;
  }
  if (error) {
    end();
    return false;
  }
  lines_.append({piece.data(), n});
  while (!closed_) {
    auto line = lines_.next();
    if (!line) {
      trouble(line.error().text);
      break;
    }
    if (!*line) {
      break;
    }
    auto message = parse_qmp(**line);
    if (!message) {
      trouble(message.error().text);
      break;
    }
    take(*message);
  }
  return !closed_;
}

void qmp_client::drain() {
  for (int pieces = 0; pieces < drain_pieces_max && take_some(); ++pieces) {
  }
}

void qmp_client::take(const qmp_message& message) {
  switch (message.kind) {
  case qmp_kind::greeting:
    if (phase_ == phase::greeting) {
      phase_ = phase::negotiating;
      send({R"({"execute":"qmp_capabilities"})", {}});
    }
    return;
  case qmp_kind::reply:
    if (phase_ == phase::negotiating) {
      negotiated();
    } else if (!unanswered_.empty()) {
      auto done = std::move(unanswered_.front());
      unanswered_.pop_front();
      done();
    }
    return;
  case qmp_kind::error:
    trouble("QEMU refused an order: " + message.name + ": " + message.detail);
    return;
  case qmp_kind::event:
    on_.on_event(message);
    return;
  }
}

void qmp_client::negotiated() {
  phase_ = phase::ready;
  for (auto& waiting : std::exchange(early_, {})) {
    send(std::move(waiting));
  }
}

void qmp_client::order(std::string text, std::function<void()> done, unique_fd attachment) {
  if (closed_) {
    return;
  }
  unanswered_.push_back(std::move(done));
  command what{std::move(text), std::move(attachment)};
  if (phase_ == phase::ready) {
    send(std::move(what));
  } else {
    early_.push_back(std::move(what));
  }
}

void qmp_client::quit() {
  if (!quit_wanted_) {
    quit_wanted_ = true;
    order(R"({"execute":"quit"})", [] {});
  }
}

void qmp_client::send(command what) {
  what.text += '\n';
  queue_.push_back(std::move(what));
  if (queue_.size() == 1) {
    write();
  }
}

void qmp_client::write() {
  if (closed_ || queue_.empty()) {
    return;
  }
  if (!queue_.front().attachment) {
    return write_rest();
  }
  socket_.async_wait(asio::local::stream_protocol::socket::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error) {
                         self->end();
                       } else if (!self->closed_) {
                         self->write_attached();
                       }
                     });
}

/// Descriptors travel with the first byte of their command.
void qmp_client::write_attached() {
  auto& first = queue_.front();
  iovec byte{first.text.data(), 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &byte;
  message.msg_iovlen = 1;
  message.msg_control = room;
  message.msg_controllen = sizeof(room);
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = first.attachment.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  if (::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
    if (errno == EAGAIN || errno == EINTR) {
      return write();
    }
    return trouble(std::string{"handing QEMU a descriptor: "} + std::strerror(errno));
  }
  first.attachment.reset();
  first.text.erase(0, 1);
  write_rest();
}

void qmp_client::write_rest() {
  asio::async_write(
      socket_, asio::buffer(queue_.front().text),
      [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
        if (error) {
          self->end();
          return;
        }
        self->queue_.pop_front();
        self->write();
      });
}

void qmp_client::trouble(std::string why) {
  if (!closed_) {
    close();
    on_.on_trouble(std::move(why));
  }
}

void qmp_client::end() {
  if (!closed_) {
    close();
    on_.on_closed();
  }
}

void qmp_client::close() {
  closed_ = true;
  early_.clear();
  unanswered_.clear(); // `queue_` may be in use by a write until that has ended
  boost::system::error_code ignored;
  socket_.close(ignored);
}

} // namespace coppice::vmm
