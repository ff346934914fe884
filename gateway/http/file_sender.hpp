#pragma once

#include "gateway/http/message.hpp"
#include "gateway/http/pace.hpp"

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/thread_pool.hpp>

#include <cstddef>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

namespace coppice::gateway {

/// Sends parts of the store's files to clients.
///
/// Problem: the content of an image is gigabytes, and every copy through a buffer of ours costs
/// processor time that the guests want. So it goes from the page cache to the socket by
/// sendfile(2). But that call waits for the disk where the page cache has nothing, and the thread
/// that serves all connections must not.
/// Guarantee: sendfile runs on a few threads of its own, for a bounded piece at a time; the
/// connection's coroutine waits for the socket meanwhile, never longer than its pace allows. A file
/// is open only while a piece of it is sent. Content is not compared with the checksums of its
/// clusters: guests read without that too, and `coppice fsck` is what finds a rotten disk. Owner:
/// the server's context. Callers: its thread. Coroutines that send must end before it.
class file_sender {
public:
  using socket = asio::generic::stream_protocol::socket;

  /// `images`: the folder of sealed files.
  explicit file_sender(std::filesystem::path images);
  ~file_sender();
  file_sender(const file_sender&) = delete;
  file_sender& operator=(const file_sender&) = delete;

  /// Sends the parts in their order. False: the client is gone or slower than the pace allows, or a
  /// file cannot be read. The parts and the pace must outlive the task.
  asio::awaitable<bool> send(socket& to, const std::vector<body_part>& parts, pace& pace_of_client);

  /// The bytes of the parts, for connections that have to change them before they are sent. 500: a
  /// file cannot be read. The parts must outlive the task.
  asio::awaitable<answer<std::string>> read(const std::vector<body_part>& parts);

private:
  std::filesystem::path images_;
  asio::thread_pool threads_;
};

/// A body that comes in parts, for any connection: as parts, or as bytes.
class parts_source : public body_source {
public:
  explicit parts_source(file_sender& sender) : sender_{sender} {}

  /// Takes from the parts what fits into a buffer.
  asio::awaitable<answer<std::string>> next() final;
  asio::awaitable<answer<body_piece>> next_piece() final;

protected:
  /// The next parts; none at the end.
  virtual asio::awaitable<answer<std::vector<body_part>>> next_parts() = 0;

private:
  file_sender& sender_;
  std::deque<body_part> waiting_; ///< told, not yet read
};

} // namespace coppice::gateway
