#pragma once

#include "storage/disk/buffer_pool.hpp"
#include "storage/disk/nbd_connection.hpp"
#include "storage/disk/nbd_handshake.hpp"

#include <array>
#include <span>
#include <string>
#include <vector>

namespace coppice::storage {

/// The state machine of a connection. Each change (bytes came, bytes went, the device has done
/// something) leads to go_on(), which parses, sends and receives as far as it can. It keeps itself
/// alive from begin() until on_closed.
struct nbd_connection::impl : std::enable_shared_from_this<impl> {
  /// So several requests, and small writes with their data, come by one receive.
  static constexpr std::size_t receive_bytes = 64u << 10;
  /// What is missing of a write from this size on is received where it belongs; less is copied,
  /// which costs less than a receive for it alone.
  static constexpr std::size_t direct_bytes_min = 16u << 10;
  /// Replies up to this size are copied together when several are ready: 16 reads of 4 KiB, the
  /// most that QEMU's client has in the air, in one send.
  static constexpr std::size_t gathered_reply_bytes_max = 16u << 10;
  static constexpr std::size_t gathered_bytes_max = 128u << 10;
  /// Four requests of the greatest size that Linux usually makes (256 KiB).
  static constexpr std::size_t pool_bytes_kept_max = 2u << 20;
  static constexpr int socket_bytes = 1 << 20;

  /// A request between its coming and its reply's going. First its payload comes (a write's), then
  /// the device has it, then it is in `ready_`, then it is `sending_`.
  struct call {
    nbd::request request;
    std::size_t payload_bytes = 0; ///< counted against the limit
    buffer_pool::buffer data;
    std::array<std::byte, nbd::short_reply_bytes_max> head{};
    std::span<const std::byte> reply; ///< in `head` or around `data`
    call* next = nullptr;
  };

  /// First in, first out.
  class call_list {
  public:
    bool is_empty() const {
      return first_ == nullptr;
    }
    call* front() const {
      return first_;
    }
    void push(call& c) {
      c.next = nullptr;
      (first_ == nullptr ? first_ : last_->next) = &c;
      last_ = &c;
    }
    void push_front(call& c) {
      c.next = first_;
      last_ = first_ == nullptr ? &c : last_;
      first_ = &c;
    }
    call* pop() {
      auto* out = first_;
      first_ = out == nullptr ? nullptr : out->next;
      return out;
    }

  private:
    call* first_ = nullptr;
    call* last_ = nullptr;
  };

  struct operation : io_request {
    impl* owner = nullptr;
    bool is_in_air = false;
  };

  impl(ring& on, int fd, settings chosen, block_device* device,
       std::function<void(const std::string&)> on_closed);
  ~impl();

  void begin();
  void go_on();
  bool is_over() const;
  void end(std::string reason);
  void leave(std::string reason);

  void parse();
  bool parse_handshake();
  bool skip_payload();
  bool fill_payload();
  bool parse_request();
  void receive_more();
  void on_received(std::int64_t result);
  std::span<const std::byte> received() const {
    return {in_.data() + in_begin_, in_end_ - in_begin_};
  }

  void give_to_device(call& c);
  void answer_status(call& c);
  void answer(call& c, nbd::error what);
  void push(call& c);
  void send_ready();
  void send_now(std::span<const std::byte> data);
  void on_sent(std::int64_t result);

  static std::size_t payload_bytes(const nbd::request& r);
  call& take_call(const nbd::request& r, std::size_t payload);
  void give_back_payload(call& c);
  void release(call& c);

  ring& ring_;
  int fd_;
  std::uint64_t disk_bytes_;
  block_device* device_;
  std::function<void(const std::string&)> on_closed_;
  std::function<void()> drained_;
  std::shared_ptr<impl> self_;

  nbd::handshake handshake_;
  std::vector<std::byte> handshake_out_; ///< not empty: is being sent, or is next

  std::vector<call> calls_;
  call_list free_;
  call_list ready_;
  std::size_t calls_in_use_ = 0;
  std::size_t payload_bytes_ = 0;
  std::size_t in_device_ = 0;
  buffer_pool pool_;

  buffer_pool::buffer in_; ///< what was received and not parsed: [in_begin_, in_end_)
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  call* filling_ = nullptr; ///< the write whose payload comes in
  std::size_t filled_bytes_ = 0;
  std::size_t skip_bytes_ = 0; ///< the rest of the payload of a write that was refused
  bool wants_bytes_ = false;
  operation receive_;
  bool receives_payload_ = false; ///< directly into that of `filling_`

  operation send_;
  call* sending_ = nullptr;      ///< whose reply is being sent
  buffer_pool::buffer gathered_; ///< or several copied together

  bool is_busy_ = false;    ///< in go_on()
  bool is_changed_ = false; ///< since its last round began
  bool is_leaving_ = false; ///< sends what it owes, then ends
  bool is_ended_ = false;   ///< only waits for what is in the air
  std::string leaving_reason_;
  std::string reason_;
  counters counts_;
};

} // namespace coppice::storage
