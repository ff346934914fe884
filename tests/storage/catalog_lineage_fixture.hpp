#pragma once

#include "catalog_fixture.hpp"

#include "storage/catalog_keys.hpp"
#include "storage/lmdb.hpp"

namespace coppice::storage {

inline frame<proto::ImageIndex> index_of(std::uint64_t checkpoint, const std::string& extents) {
  return make_frame<proto::ImageIndex>([&](proto::ImageIndex::Builder to) {
    if (checkpoint != 0) {
      id_number(checkpoint).to(to.initCheckpoint());
    }
    to.setExtents({reinterpret_cast<const kj::byte*>(extents.data()), extents.size()});
  });
}

struct lineage_fixture : catalog_fixture {
  /// An image with an index; `checkpoint` 0: it is one itself.
  static result<void> put_in(catalog::transaction& t, std::uint64_t id, std::uint64_t parent,
                             std::uint64_t checkpoint) {
    return t.put_image(*image_of{id, 100, "default", "sha256:aa", parent}.record().view(),
                       *index_of(checkpoint, "index " + std::to_string(id)).view());
  }

  void put(std::uint64_t id, std::uint64_t parent, std::uint64_t checkpoint) {
    write([&](catalog::transaction& t) { REQUIRE_OK(put_in(t, id, parent, checkpoint)); });
  }

  static frame<proto::OperationRecord> run_record(std::uint64_t id, std::uint64_t image,
                                                  proto::OperationStatus status) {
    return make_frame<proto::OperationRecord>([&](proto::OperationRecord::Builder to) {
      operation_of{.id = id, .created = 100, .status = status}.fill(to);
      id_number(image).to(to.getRequest().getInstance().initImage());
    });
  }

  void put_run(std::uint64_t id, std::uint64_t image, proto::OperationStatus status) {
    write([&](catalog::transaction& t) {
      REQUIRE_OK(t.put_operation(*run_record(id, image, status).view()));
    });
  }

  static frame<proto::FinishOperation> ended_run(std::uint64_t id, std::uint64_t image) {
    return make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      to.setRecord(*run_record(id, image, proto::OperationStatus::CANCELLED).view());
    });
  }

  void finish_run(std::uint64_t id, std::uint64_t image) {
    write([&](catalog::transaction& t) {
      REQUIRE_OK(t.finish_operation(*ended_run(id, image).view()));
    });
  }

  void remove(std::uint64_t id) {
    write([&](catalog::transaction& t) { REQUIRE_OK(t.delete_image("default", id_number(id))); });
  }

  /// Empty: there is none.
  std::string index(std::uint64_t id) const {
    auto stored = c->get_index(id_number(id));
    if (!stored) {
      BOOST_CHECK(failed_with(stored, ec::not_found));
      return {};
    }
    auto v = stored->view();
    return {reinterpret_cast<const char*>(v->getExtents().begin()), v->getExtents().size()};
  }

  static numbers numbers_of(const result<std::vector<uuid>>& ids) {
    REQUIRE_OK(ids);
    numbers out;
    for (const auto& id : *ids) {
      out.push_back(id.lo & 0xffffffff);
    }
    return out;
  }

  numbers dead() const {
    return numbers_of(c->list_dead_files());
  }
  numbers children(std::uint64_t id) const {
    return numbers_of(c->list_child_files(id_number(id)));
  }
  bool has_file(std::uint64_t id) const {
    return c->has_image_file(id_number(id));
  }
};

} // namespace coppice::storage
