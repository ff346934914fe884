#include "gateway/http/json_records.hpp"
#include "gateway/http/request_key.hpp"
#include "gateway/http/routes.hpp"
#include "protocol/limits.hpp"

namespace coppice::gateway {
namespace {

/// An upload under way; given up unless it was finished.
class upload {
public:
  upload(const store_actor& store, std::uint64_t number) : store_{store}, number_{number} {}
  upload(const upload&) = delete;
  upload& operator=(const upload&) = delete;

  ~upload() {
    if (!is_finished_) {
      door::tell(store_, make_frame<proto::AbortBlob>([&](auto root) { root.setUpload(number_); }));
    }
  }

  std::uint64_t number() const {
    return number_;
  }
  void finished() {
    is_finished_ = true;
  }

private:
  store_actor store_;
  std::uint64_t number_;
  bool is_finished_ = false;
};

/// The store knows every upload of a request until its end, but for one that had to give way.
refusal told_apart(refusal why) {
  if (why.status == 404) {
    return {429, "the upload rested while others waited for its place, and was dropped: send the "
                 "file again"};
  }
  return why;
}

/// The body into the store, one piece at a time: a slow store slows the client down.
asio::awaitable<answer<frame<proto::BlobStored>>> store_body(exchange& x) {
  auto bytes_max = x.config().http.upload_bytes_max;
  refusal too_large{413, "the file is larger than " + std::to_string(bytes_max) + " bytes"};
  auto announced = x.body.length().value_or(0);
  if (announced > bytes_max) {
    co_return too_large;
  }
  auto begin = make_frame<proto::BeginBlob>([&](auto root) { root.setExpectedBytes(announced); });
  auto begun = co_await x.write<proto::BlobUpload>(x.inside().store, std::move(begin));
  if (begun.has_error()) {
    co_return begun.error();
  }
  upload current{x.inside().store, begun->view()->getUpload()};
  std::uint64_t received = 0;
  for (;;) {
    auto piece = co_await x.body.next(limits::transfer_chunk_bytes);
    if (piece.has_error()) {
      co_return piece.error();
    }
    if (piece->empty()) {
      break;
    }
    received += piece->size();
    if (received > bytes_max) {
      co_return too_large;
    }
    auto append = make_frame<proto::AppendBlob>([&](auto root) {
      root.setUpload(current.number());
      root.setData(
          capnp::Data::Reader{reinterpret_cast<const kj::byte*>(piece->data()), piece->size()});
    });
    auto done = co_await x.write<proto::Done>(x.inside().store, std::move(append));
    if (done.has_error()) {
      co_return told_apart(done.error());
    }
  }
  auto finish = make_frame<proto::FinishBlob>([&](auto root) { root.setUpload(current.number()); });
  current.finished();
  auto stored = co_await x.write<proto::BlobStored>(x.inside().store, std::move(finish));
  if (stored.has_error()) {
    co_return told_apart(stored.error());
  }
  co_return std::move(*stored);
}

asio::awaitable<answer<frame<proto::FileRecord>>> find_file(exchange& x, std::string sha256,
                                                            uuid id) {
  auto request = make_frame<proto::GetFile>([&](auto root) {
    root.setProject(x.who.project);
    if (!sha256.empty()) {
      root.setSha256(
          capnp::Data::Reader{reinterpret_cast<const kj::byte*>(sha256.data()), sha256.size()});
    }
    id.to(root.initId());
  });
  return x.read<proto::FileRecord>(x.inside().catalog, std::move(request));
}

asio::awaitable<reply> file_reply(exchange& x, std::string sha256, uuid id) {
  if (sha256.empty() && !id) {
    co_return reply{not_found("no such file")};
  }
  auto found = co_await find_file(x, std::move(sha256), id);
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto file = found->view();
  json_writer json;
  write_file(json, *file);
  co_return reply{200, json.take()};
}

} // namespace

asio::awaitable<reply> post_file(exchange& x) {
  if (auto key = key_of(x, {}); key.has_error()) {
    co_return reply{key.error()}; // before the body is taken
  }
  auto stored = co_await store_body(x);
  if (stored.has_error()) {
    co_return reply{stored.error()};
  }
  auto blob = stored->view();
  // The bytes are kept by their digest: sent again they are the same file, whatever the key says.
  auto key = key_of(x, view(blob->getSha256()));
  if (key.has_error()) {
    co_return reply{key.error()};
  }
  auto put = make_frame<proto::PutFile>([&](auto root) {
    key->to(root.initKey());
    auto record = root.initRecord();
    uuid::random().to(record.initId());
    record.setProject(x.who.project);
    record.setSha256(blob->getSha256());
    record.setSizeBytes(blob->getSizeBytes());
    auto now = unix_now_ns();
    record.setCreatedAtUnixNs(now);
    record.setUpdatedAtUnixNs(now);
  });
  auto kept = co_await x.write<proto::FileRecord>(x.inside().catalog_writer, std::move(put));
  if (kept.has_error()) {
    co_return reply{kept.error()};
  }
  auto file = kept->view();
  json_writer json;
  write_upload(json, *file);
  co_return reply{201, json.take()};
}

asio::awaitable<reply> get_files(exchange& x) {
  // The older form of a look-up shares the address of the listing.
  if (auto digest = x.query().find("sha256")) {
    co_return co_await file_reply(x, parse_sha256(*digest).value_or(std::string{}), uuid{});
  }
  if (auto id = x.query().find("uuid")) {
    co_return co_await file_reply(x, {}, uuid::parse(*id).value_or(uuid{}));
  }
  auto page = parse_page(x.query());
  if (page.has_error()) {
    co_return reply{page.error()};
  }
  auto request =
      make_frame<proto::ListFiles>([&](auto root) { fill_page(root, *page, x.who.project); });
  auto found = co_await x.read<proto::FilePage>(x.inside().catalog, std::move(request));
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto rows = found->view();
  json_writer json;
  json.begin_object();
  json.key("files");
  json.begin_array();
  for (auto file : rows->getRows()) {
    write_file(json, file);
  }
  json.end_array();
  json.end_object();
  co_return reply{200, json.take()};
}

asio::awaitable<reply> get_file(exchange& x) {
  co_return co_await file_reply(x, parse_sha256(x.params[0]).value_or(std::string{}), uuid{});
}

} // namespace coppice::gateway
