#include "storage/inspector.hpp"

#include "protocol/limits.hpp"
#include "storage/block_cache.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"
#include "storage/inspector_diff.hpp"
#include "storage/inspector_grep.hpp"

#include <kj/exception.h>

#include <new>
#include <optional>

namespace coppice::storage {

namespace {

/// Entries of one answer: a listing of a usual directory is one round trip.
constexpr std::size_t answer_entries_max = 512;

using answer = frame<proto::InspectAnswer>;

using order = frame<proto::InspectOrder>;

/// Absent: the peer has closed.
result<std::optional<order>> read_order(int socket) {
  auto bytes = read_frame(socket);
  if (!bytes) {
    return bytes.error();
  }
  if (!*bytes) {
    return std::optional<order>{};
  }
  auto message = checked<proto::InspectOrder>(**bytes, limits::channel_frame_bytes_max);
  if (!message) {
    return fail(ec::damaged, "malformed inspect order");
  }
  return std::optional<order>{std::move(*message)};
}

proto::InspectAnswer::Reason reason_of(const failure& why) {
  using reason = proto::InspectAnswer::Reason;
  if (why.code == ec::not_found) {
    return reason::NOT_FOUND;
  }
  if (why.code == ec::wrong_type) {
    return reason::WRONG_TYPE;
  }
  if (why.code == ec::unsupported) {
    return reason::INVALID;
  }
  return why.code == ec::too_large ? reason::TOO_LARGE : reason::DAMAGED;
}

answer failed(const failure& why) {
  return make_frame<proto::InspectAnswer>([&](auto root) {
    auto out = root.initFailed();
    out.setText(why.text);
    out.setReason(reason_of(why));
    root.setLast(true);
  });
}

/// The entries of the directory that the inspector has open.
class listing final : public answer_source {
public:
  explicit listing(inspector& image) : image_{image} {}
  result<answer> next(std::uint64_t) override {
    return image_.next_entries(answer_entries_max);
  }

private:
  inspector& image_;
};

/// What a piece of work has opened: no source where the first answer says all.
struct opened {
  std::uint64_t size_bytes = 0;
  std::unique_ptr<answer_source> source;
};

result<opened> with_source(result<std::unique_ptr<answer_source>> made) {
  if (!made) {
    return made.error();
  }
  return opened{0, std::move(*made)};
}

std::vector<std::string> texts(capnp::List<capnp::Text>::Reader list) {
  std::vector<std::string> out;
  for (auto text : list) {
    out.emplace_back(text.begin(), text.size());
  }
  return out;
}

grep_query query_of(proto::GrepQuery::Reader asked) {
  grep_query out;
  out.patterns = texts(asked.getPatterns());
  out.paths = texts(asked.getPaths());
  out.globs = texts(asked.getGlobs());
  out.max_count = asked.getMaxCount();
  out.max_total = asked.getMaxTotal();
  if (asked.getCaseMode() == proto::GrepQuery::CaseMode::INSENSITIVE) {
    out.how = grep_case::insensitive;
  } else if (asked.getCaseMode() == proto::GrepQuery::CaseMode::SMART) {
    out.how = grep_case::smart;
  }
  out.before = asked.getBefore();
  out.after = asked.getAfter();
  out.deadline = std::chrono::milliseconds{asked.getDeadlineMs()};
  return out;
}

disk_changes changes_of(proto::InspectWork::Reader work) {
  if (!work.getHasChanged()) {
    return std::nullopt;
  }
  std::vector<cluster_run> out;
  out.reserve(work.getChanged().size());
  for (auto run : work.getChanged()) {
    out.push_back({run.getFirst(), run.getCount()});
  }
  return out;
}

result<opened> open_comparison(inspector& older, inspector& newer,
                               proto::InspectWork::Reader work) {
  if (work.getVerb() == proto::InspectVerb::DIFF) {
    return with_source(inspection::make_diff(older.files(), newer.files(), changes_of(work)));
  }
  const std::string path{work.getPath().begin(), work.getPath().size()};
  return with_source(inspection::make_text_diff(older.files(), newer.files(), path));
}

result<opened> open_work(inspector& image, proto::InspectWork::Reader work) {
  const std::string path{work.getPath().begin(), work.getPath().size()};
  switch (work.getVerb()) {
  case proto::InspectVerb::LIST: {
    if (auto done = image.open_directory(path); !done) {
      return done.error();
    }
    return opened{0, std::make_unique<listing>(image)};
  }
  case proto::InspectVerb::STAT:
  case proto::InspectVerb::DOWNLOAD: {
    auto found = image.places(path, work.getOffset(), work.getBytes());
    if (!found) {
      return found.error();
    }
    const bool is_asked = work.getVerb() == proto::InspectVerb::DOWNLOAD;
    return opened{found->size_bytes, is_asked ? std::move(found->parts) : nullptr};
  }
  case proto::InspectVerb::ARCHIVE:
    return with_source(image.archive(path));
  case proto::InspectVerb::GREP:
    return with_source(image.grep(query_of(work.getGrep())));
  default:
    return fail(ec::unsupported, "unknown inspect verb");
  }
}

/// A disk's file system, opened when it is first needed.
class lazy_image {
public:
  explicit lazy_image(std::unique_ptr<block_source> disk)
      : disk_{disk ? std::make_unique<block_cache>(std::move(disk)) : nullptr} {}

  result<inspector*> get() {
    if (!image_) {
      if (!disk_) {
        return fail(ec::damaged, "the file system could not be opened");
      }
      auto made = inspector::open(std::move(disk_));
      if (!made) {
        return made.error();
      }
      image_ = std::move(*made);
    }
    return image_.get();
  }

private:
  std::unique_ptr<block_source> disk_; ///< until the inspector has it
  std::unique_ptr<inspector> image_;
};

/// One worker's conversation.
class service {
public:
  service(int socket, std::unique_ptr<block_source> disk, std::unique_ptr<block_source> newer)
      : socket_{socket}, image_{std::move(disk)}, newer_{std::move(newer)} {}

  result<void> run() {
    for (;;) {
      auto got = read_order(socket_);
      if (!got) {
        return got.error();
      }
      if (!*got) {
        return {};
      }
      auto said = answer_to(**got);
      if (auto written = write_frame(socket_, said); !written) {
        return written;
      }
    }
  }

private:
  answer answer_to(const order& message) {
    try {
      auto view = message.view();
      auto made = view->isWork() ? begin(view->getWork()) : go_on(view->getMore());
      return made ? std::move(*made) : failed(made.error());
    } catch (const kj::Exception&) {
      return failed(fail(ec::damaged, "malformed inspect order"));
    } catch (const std::bad_alloc&) {
      source_.reset();
      return failed(fail(ec::damaged, "the image needs more memory than its reader may use"));
    }
  }

  result<answer> begin(proto::InspectWork::Reader work) {
    source_.reset();
    auto done = open(work);
    if (!done) {
      return done.error();
    }
    source_ = std::move(done->source);
    return make_frame<proto::InspectAnswer>([&](auto root) {
      root.setOpened(done->size_bytes);
      root.setLast(source_ == nullptr);
    });
  }

  result<opened> open(proto::InspectWork::Reader work) {
    auto image = image_.get();
    if (!image) {
      return image.error();
    }
    const auto verb = work.getVerb();
    if (verb != proto::InspectVerb::DIFF && verb != proto::InspectVerb::TEXT_DIFF) {
      return open_work(**image, work);
    }
    auto newer = newer_.get();
    if (!newer) {
      return newer.error();
    }
    return open_comparison(**image, **newer, work);
  }

  result<answer> go_on(proto::InspectMore::Reader more) {
    if (!source_) {
      return make_frame<proto::InspectAnswer>([](auto root) {
        root.setEnd();
        root.setLast(true);
      });
    }
    auto next = source_->next(more.getContentBytesMax());
    if (!next || next->view()->getLast()) {
      source_.reset();
    }
    return next;
  }

  int socket_;
  lazy_image image_;
  lazy_image newer_;
  std::unique_ptr<answer_source> source_; ///< of the work under way
};

} // namespace

result<void> serve_inspect(int socket, std::unique_ptr<block_source> source,
                           std::unique_ptr<block_source> newer) {
  return service{socket, std::move(source), std::move(newer)}.run();
}

} // namespace coppice::storage
