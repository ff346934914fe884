#pragma once

#include "protocol/frame.hpp"
#include "storage/catalog.hpp"
#include "storage/error.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

/// A catalog in a folder of its own, and short ways to ask it.
namespace coppice::storage {

struct temporary_folder {
  temporary_folder() {
    auto name = (std::filesystem::temp_directory_path() / "coppice-catalog-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }

  std::filesystem::path path;
};

inline uuid id_number(std::uint64_t n) {
  return {0xaaaa000000004000ull, 0x8000000000000000ull | n};
}

inline std::string text_of(capnp::Text::Reader text) {
  return {text.begin(), text.size()};
}

struct image_of {
  std::uint64_t id = 0;
  std::int64_t created = 0;
  const char* project = "default";
  const char* source = "";
  std::uint64_t parent = 0;

  frame<proto::ImageRecord> record() const {
    return make_frame<proto::ImageRecord>([&](proto::ImageRecord::Builder to) {
      id_number(id).to(to.initId());
      to.setProject(project);
      to.setCreatedAtUnixNs(created);
      to.setSourceDigest(source);
      to.setSizeBytes(4096);
      if (parent != 0) {
        id_number(parent).to(to.initParent());
      }
    });
  }
};

struct operation_of {
  std::uint64_t id = 0;
  std::int64_t created = 0;
  proto::OperationStatus status = proto::OperationStatus::PENDING;
  const char* project = "default";
  proto::OperationKind kind = proto::OperationKind::INSTANCE;
  std::uint64_t result_image = 0;

  void fill(proto::OperationRecord::Builder to) const {
    id_number(id).to(to.initId());
    to.setProject(project);
    to.setKind(kind);
    to.setStatus(status);
    to.setCreatedAtUnixNs(created);
    if (kind == proto::OperationKind::INSTANCE) {
      to.getRequest().initInstance().initProcess().setCommand("true");
    } else {
      auto request = to.getRequest().initImport();
      request.setUrl("docker://example.org/x:1");
      request.setUsername("someone");
      request.setPassword("correct horse");
    }
    if (result_image != 0) {
      id_number(result_image).to(to.initResultImage());
    }
  }

  frame<proto::OperationRecord> record() const {
    return make_frame<proto::OperationRecord>([&](auto to) { fill(to); });
  }
};

template <class T>
bool failed_with(const result<T>& answer, ec code) {
  return !answer && answer.error().code == make_error_code(code) && !answer.error().text.empty();
}

#define REQUIRE_OK(expression)                                                                     \
  do {                                                                                             \
    const auto& outcome_ = (expression);                                                           \
    BOOST_REQUIRE_MESSAGE(outcome_, #expression << ": " << outcome_.error().text);                 \
  } while (false)

struct catalog_fixture {
  temporary_folder folder;
  std::unique_ptr<catalog> c = open();

  std::unique_ptr<catalog> open() {
    auto opened = catalog::open(folder.path / "catalog");
    REQUIRE_OK(opened);
    return std::move(*opened);
  }

  void reopen() {
    c.reset();
    c = open();
  }

  /// One committed transaction around `body`.
  template <class Body>
  void write(Body&& body) {
    auto t = c->begin();
    REQUIRE_OK(t);
    body(*t);
    REQUIRE_OK(t->commit());
  }

  void put(const image_of& image) {
    write([&](catalog::transaction& t) { REQUIRE_OK(t.put_image(*image.record().view())); });
  }

  void put(const operation_of& operation) {
    write(
        [&](catalog::transaction& t) { REQUIRE_OK(t.put_operation(*operation.record().view())); });
  }

  static result<frame<proto::ImageRow>> tag_in(catalog::transaction& t, std::uint64_t image,
                                               const char* tag, const char* project = "default") {
    auto request = make_frame<proto::SetTag>([&](proto::SetTag::Builder to) {
      to.setProject(project);
      id_number(image).to(to.initImage());
      to.setTag(tag);
    });
    return t.set_tag(*request.view());
  }

  void tag(std::uint64_t image, const char* name, const char* project = "default") {
    write([&](catalog::transaction& t) { REQUIRE_OK(tag_in(t, image, name, project)); });
  }

  static result<void> untag_in(catalog::transaction& t, std::uint64_t image, const char* tag,
                               const char* project = "default") {
    auto request = make_frame<proto::RemoveTag>([&](proto::RemoveTag::Builder to) {
      to.setProject(project);
      id_number(image).to(to.initImage());
      to.setTag(tag);
    });
    return t.remove_tag(*request.view());
  }

  result<frame<proto::ImageRow>> resolve(const char* tag, const char* project = "default") const {
    auto request = make_frame<proto::ResolveTag>([&](proto::ResolveTag::Builder to) {
      to.setProject(project);
      to.setTag(tag);
    });
    return c->resolve_tag(*request.view());
  }

  /// The number of the image that has the tag, 0 for none.
  std::uint64_t tagged(const char* tag, const char* project = "default") const {
    auto row = resolve(tag, project);
    return row ? uuid::from(row->view()->getImage().getId()).lo & 0xffffffff : 0;
  }

  result<frame<proto::ImageRow>> image(std::uint64_t id, const char* project = "default") const {
    auto request = make_frame<proto::GetImage>([&](proto::GetImage::Builder to) {
      to.setProject(project);
      id_number(id).to(to.initId());
    });
    return c->get_image(*request.view());
  }

  result<frame<proto::OperationRecord>> operation(std::uint64_t id,
                                                  const char* project = "default") const {
    auto request = make_frame<proto::GetOperation>([&](proto::GetOperation::Builder to) {
      to.setProject(project);
      id_number(id).to(to.initId());
    });
    return c->get_operation(*request.view());
  }

  /// Rows as "number" or "number:tag".
  template <class Fill>
  std::vector<std::string> images(Fill&& fill) const {
    auto request = make_frame<proto::ListImages>([&](proto::ListImages::Builder to) {
      to.setProject("default");
      to.setLimit(1000);
      fill(to);
    });
    auto page = c->list_images(*request.view());
    REQUIRE_OK(page);
    std::vector<std::string> rows;
    auto v = page->view();
    for (auto row : v->getRows()) {
      auto text = std::to_string(uuid::from(row.getImage().getId()).lo & 0xffffffff);
      if (row.getTag().size() != 0) {
        text += ":" + text_of(row.getTag());
      }
      rows.push_back(text);
    }
    return rows;
  }

  template <class Fill>
  std::vector<std::uint64_t> operations(Fill&& fill) const {
    auto request = make_frame<proto::ListOperations>([&](proto::ListOperations::Builder to) {
      to.setProject("default");
      to.setLimit(1000);
      fill(to);
    });
    auto page = c->list_operations(*request.view());
    REQUIRE_OK(page);
    std::vector<std::uint64_t> rows;
    auto v = page->view();
    for (auto row : v->getRows()) {
      rows.push_back(uuid::from(row.getId()).lo & 0xffffffff);
    }
    return rows;
  }

  frame<proto::UnfinishedPage> unfinished_behind(std::int64_t created = INT64_MIN,
                                                 const uuid& id = {}) const {
    auto request = make_frame<proto::ListUnfinished>([&](proto::ListUnfinished::Builder to) {
      to.setAfterCreatedAtUnixNs(created);
      id.to(to.initAfterId());
    });
    auto page = c->list_unfinished(*request.view());
    REQUIRE_OK(page);
    return std::move(*page);
  }

  std::vector<std::uint64_t> unfinished() const {
    std::vector<std::uint64_t> rows;
    std::int64_t created = INT64_MIN;
    uuid after;
    for (bool more = true; more;) {
      auto page = unfinished_behind(created, after);
      auto v = page.view();
      for (auto row : v->getRows()) {
        after = uuid::from(row.getId());
        created = row.getCreatedAtUnixNs();
        rows.push_back(after.lo & 0xffffffff);
      }
      more = v->getMore();
      BOOST_REQUIRE(!more || v->getRows().size() > 0);
    }
    return rows;
  }

  /// instances * 1000 + imports
  unsigned active(const char* project = "default") const {
    auto request = make_frame<proto::CountActive>(
        [&](proto::CountActive::Builder to) { to.setProject(project); });
    auto counts = c->count_active(*request.view());
    REQUIRE_OK(counts);
    auto v = counts->view();
    return v->getInstances() * 1000 + v->getImports();
  }

  static result<void> append_in(catalog::transaction& t, std::uint64_t operation,
                                std::uint64_t first, unsigned count, std::size_t bytes = 10) {
    capnp::MallocMessageBuilder message;
    auto events = message.initRoot<proto::EventPage>().initEvents(count);
    const std::string output(bytes, 'x');
    for (unsigned i = 0; i < count; ++i) {
      events[i].setId(first + i);
      events[i].setStdout(
          capnp::Data::Reader{reinterpret_cast<const kj::byte*>(output.data()), output.size()});
    }
    return t.append_events(id_number(operation), events.asReader());
  }

  /// Ids of the events from `first` on.
  std::vector<std::uint64_t> events(std::uint64_t operation, std::uint64_t first = 0,
                                    std::uint32_t bytes_max = 1u << 20) const {
    auto request = make_frame<proto::ListEvents>([&](proto::ListEvents::Builder to) {
      id_number(operation).to(to.initOperation());
      to.setFirstId(first);
      to.setMaxBytes(bytes_max);
    });
    auto page = c->list_events(*request.view());
    REQUIRE_OK(page);
    std::vector<std::uint64_t> ids;
    auto v = page->view();
    for (auto event : v->getEvents()) {
      ids.push_back(event.getId());
    }
    return ids;
  }
};

using strings = std::vector<std::string>;
using numbers = std::vector<std::uint64_t>;

/// Boost.Test prints no vectors.
template <class T>
std::string shown(const std::vector<T>& values) {
  std::string text;
  for (const auto& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      text += value + " ";
    } else {
      text += std::to_string(value) + " ";
    }
  }
  return text;
}

#define CHECK_SAME(left, ...)                                                                      \
  BOOST_CHECK_EQUAL(coppice::storage::shown(left), coppice::storage::shown(__VA_ARGS__))

} // namespace coppice::storage
