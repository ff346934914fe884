#pragma once

#include "gateway/http/inspect_session.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/message.hpp"

#include <memory>
#include <string>
#include <utility>

namespace coppice::gateway {

/// A JSON body that is made of what a session tells, chunk by chunk: one chunk is held at a time.
/// Who derives begins the JSON in its constructor.
class json_session_source : public body_source {
public:
  asio::awaitable<answer<std::string>> next() final {
    std::string out;
    while (out.empty() && !session_->has_ended()) {
      auto chunk = co_await session_->next();
      if (chunk.has_error()) {
        co_return chunk.error();
      }
      auto told = chunk->view();
      write(*told);
      if (session_->has_ended()) {
        end(*told);
      }
      out = json_.take();
    }
    co_return out;
  }

protected:
  explicit json_session_source(std::unique_ptr<inspect_session> session)
      : session_{std::move(session)} {}

  virtual void write(proto::InspectChunk::Reader told) = 0;
  /// Ends the JSON after the last chunk.
  virtual void end(proto::InspectChunk::Reader last) = 0;

  json_writer json_;

private:
  std::unique_ptr<inspect_session> session_;
};

} // namespace coppice::gateway
