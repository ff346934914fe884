#include "storage/inspector.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"

#include <kj/exception.h>

#include <optional>

namespace coppice::storage {

namespace {

/// Entries of one answer: a listing of a usual directory is one round trip.
constexpr std::size_t answer_entries_max = 512;

using answer = frame<proto::InspectAnswer>;

struct work {
  proto::InspectVerb verb;
  std::string path;
};

/// Absent: the peer has closed.
result<std::optional<work>> read_work(int socket) {
  auto bytes = read_frame(socket);
  if (!bytes) {
    return bytes.error();
  }
  if (!*bytes) {
    return std::optional<work>{};
  }
  auto message = checked<proto::InspectWork>(**bytes, limits::channel_frame_bytes_max);
  if (!message) {
    return fail(ec::damaged, "malformed inspect order");
  }
  try {
    auto view = message->view();
    auto path = view->getPath();
    return std::optional{work{view->getVerb(), std::string{path.begin(), path.size()}}};
  } catch (const kj::Exception&) {
    return fail(ec::damaged, "malformed inspect order");
  }
}

answer failed(const failure& why) {
  return make_frame<proto::InspectAnswer>([&](auto root) {
    auto out = root.initFailed();
    out.setText(why.text);
    if (why.code == ec::not_found) {
      out.setReason(proto::InspectAnswer::Reason::NOT_FOUND);
    } else if (why.code == ec::wrong_type) {
      out.setReason(proto::InspectAnswer::Reason::WRONG_TYPE);
    } else {
      out.setReason(proto::InspectAnswer::Reason::DAMAGED);
    }
  });
}

answer end() {
  return make_frame<proto::InspectAnswer>([](auto root) { root.setEnd(); });
}

result<answer> next_answer(inspector& image, proto::InspectVerb verb) {
  if (verb == proto::InspectVerb::LIST) {
    auto entries = image.next_entries(answer_entries_max);
    return entries && entries->view()->getEntries().size() == 0 ? end() : entries;
  }
  auto bytes = image.next_bytes(limits::transfer_chunk_bytes);
  if (!bytes) {
    return bytes.error();
  }
  if (bytes->empty()) {
    return end();
  }
  return make_frame<proto::InspectAnswer>([&](auto root) {
    root.setData({reinterpret_cast<const kj::byte*>(bytes->data()), bytes->size()});
  });
}

result<std::uint64_t> open_path(inspector& image, const work& order) {
  switch (order.verb) {
  case proto::InspectVerb::LIST: {
    auto opened = image.open_directory(order.path);
    return opened ? result<std::uint64_t>{std::uint64_t{0}} : opened.error();
  }
  case proto::InspectVerb::DOWNLOAD:
  case proto::InspectVerb::STAT:
    return image.open_file(order.path);
  }
  return fail(ec::unsupported, "unknown inspect verb");
}

} // namespace

result<void> serve_inspect(int socket, std::unique_ptr<block_source> source) {
  auto order = read_work(socket);
  if (!order) {
    return order.error();
  }
  if (!*order) {
    return {};
  }
  auto image = inspector::open(std::move(source));
  if (!image) {
    return write_frame(socket, failed(image.error()));
  }
  auto opened = open_path(**image, **order);
  if (!opened) {
    return write_frame(socket, failed(opened.error()));
  }
  auto first = make_frame<proto::InspectAnswer>([&](auto root) { root.setOpened(*opened); });
  if (auto written = write_frame(socket, first); !written) {
    return written;
  }
  while ((*order)->verb != proto::InspectVerb::STAT) {
    auto more = read_frame(socket);
    if (!more) {
      return more.error();
    }
    if (!*more) {
      break;
    }
    auto next = next_answer(**image, (*order)->verb);
    if (!next) {
      return write_frame(socket, failed(next.error()));
    }
    if (auto written = write_frame(socket, *next); !written) {
      return written;
    }
    if (next->view()->isEnd()) {
      break;
    }
  }
  return {};
}

} // namespace coppice::storage
