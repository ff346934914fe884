#pragma once

#include "vmm/qmp_message.hpp"
#include "vmm/unique_fd.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <string>

namespace coppice::vmm {

/// QEMU's control socket: greets, negotiates, then takes orders, one after the other.
/// Owner: one machine; every call on the event loop's thread.
class qmp_client : public std::enable_shared_from_this<qmp_client> {
public:
  /// They may close the client. They must not own it.
  struct handlers {
    std::function<void(const qmp_message&)> on_event;
    std::function<void(std::string)> on_trouble; ///< a refused command, or no QMP at all
    std::function<void()> on_closed;             ///< the other end is gone
  };

  qmp_client(boost::asio::io_context& context, unique_fd socket, handlers on);

  void start();

  /// Sends a command (a whole JSON object); `done` comes when QEMU has carried it out. A refused
  /// one is `on_trouble`. `attachment` goes with it, for getfd. Given before the negotiation is
  /// over it waits for that. Commands are carried out in their order.
  void order(std::string command, std::function<void()> done, unique_fd attachment = {});

  /// Orders QEMU to close the disk and end. Given before the negotiation is over it waits for that.
  void quit();

  /// Takes what QEMU has said so far; for use after it has ended.
  void drain();

  void close();

private:
  enum class phase {
    greeting,    ///< waiting for QEMU's first line
    negotiating, ///< qmp_capabilities is sent
    ready,       ///< commands are taken
  };

  void read();
  bool take_some();
  void take(const qmp_message& message);
  struct command {
    std::string text;
    unique_fd attachment;
  };

  void send(command what);
  void write();
  void write_attached();
  void write_rest();
  void negotiated();
  void trouble(std::string why);
  void end();

  boost::asio::local::stream_protocol::socket socket_;
  handlers on_;
  phase phase_ = phase::greeting;
  bool quit_wanted_ = false;
  bool closed_ = false;
  line_buffer lines_;
  std::deque<command> early_; // given before the negotiation was over
  std::deque<command> queue_; // of our own few commands
  std::deque<std::function<void()>> unanswered_;
};

} // namespace coppice::vmm
