#include "tests/storage/crash/store_at_work.hpp"

#include "protocol/limits.hpp"
#include "storage/blobs.hpp"
#include "storage/file.hpp"
#include "tests/storage/crash/recording_ring.hpp"
#include "tests/storage/engine_calls.hpp"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace coppice::storage::test::crash {

namespace fs = std::filesystem;

namespace {

const char* const project = "default";

template <class T>
void require(const result<T>& done) {
  BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().text));
}

frame<proto::OperationRecord> operation_record(const uuid& id, proto::OperationStatus status,
                                               const uuid& image, std::int64_t now) {
  return make_frame<proto::OperationRecord>([&](proto::OperationRecord::Builder to) {
    id.to(to.initId());
    to.setProject(project);
    to.setKind(proto::OperationKind::INSTANCE);
    to.setStatus(status);
    to.setCreatedAtUnixNs(now);
    to.getRequest().initInstance().initProcess().setCommand("true");
    if (image) {
      image.to(to.initResultImage());
    }
  });
}

} // namespace

content image_content::cluster(cluster_number guest) const {
  if (guest == 0 && has_superblock) {
    return clean_superblock(1, superblock_writes);
  }
  auto found = disk.find(guest);
  return cluster_of(found == disk.end() ? 0 : found->second);
}

store_at_work::store_at_work(const fs::path& root) : root_{root} {}

void store_at_work::open() {
  auto files = store::open(root_);
  require(files);
  files_ = std::move(*files);
  auto records = catalog::open(root_ / "catalog");
  require(records);
  records_ = std::move(*records);
  indexes_ = std::make_unique<index_cache>(
      [this](const uuid& image) { return records_->get_index(image); }, 64u << 20);
  auto recorded = [this](std::unique_ptr<ring> made) -> std::unique_ptr<ring> {
    if (trace_ == nullptr) {
      return made;
    }
    return std::make_unique<recording_ring>(std::move(made), *trace_);
  };
  ring_ = recorded(disk_fixture::default_ring());
  auto how = options_in(root_);
  how.wrap_ring = recorded;
  auto disks = engine::start(
      root_ / "images", [this](const uuid& image) { return records_->get_index(image); }, how);
  require(disks);
  disks_ = std::move(*disks);
  space_ = std::make_unique<reclaimer>(records_, disks_);
  sealed_ = std::make_unique<sealed_files>(*ring_, root_ / "images", 16);
  names_ = std::make_unique<directory_sync>(*ring_, (root_ / "images").string());
}

void store_at_work::close() {
  space_.reset();
  disks_.reset();
  names_.reset();
  sealed_.reset();
  ring_.reset();
  indexes_.reset();
  records_.reset();
  files_.reset();
}

void store_at_work::record(trace& into) {
  trace_ = &into;
}

void store_at_work::told(const std::string& what, claim check) {
  notes_.emplace_back(what, std::move(check));
  if (trace_ != nullptr) {
    trace_->note(notes_.size());
  }
}

// -- runs ----------------------------------------------------------------------------------------

uuid store_at_work::begin_operation() {
  auto id = uuid::random();
  auto t = records_->begin();
  require(t);
  require(
      t->put_operation(*operation_record(id, proto::OperationStatus::PENDING, {}, ++now_).view()));
  require(t->commit());
  told_operation(id, {proto::OperationStatus::PENDING, proto::OperationStatus::SUCCESS,
                      proto::OperationStatus::FAILED});
  return id;
}

std::vector<store_at_work::sealed_run>
store_at_work::run(const std::vector<std::pair<uuid, change>>& runs) {
  std::vector<sealed_run> out;
  std::vector<std::unique_ptr<overlay>> disks;
  std::vector<content> buffers; // writes refer to them until they have ended
  std::size_t waiting = 0;
  auto wait = [&] {
    while (waiting > 0) {
      ring_->turn();
    }
  };
  auto write = [&](overlay& disk, cluster_number guest, const content& bytes) {
    ++waiting;
    start(disk.write(std::uint64_t{guest} * cluster_bytes, bytes), [&](int error) {
      BOOST_REQUIRE_EQUAL(error, 0);
      --waiting;
    });
  };
  std::size_t writes = 0;
  for (const auto& [parent, what] : runs) {
    writes += what.written.size() + what.written_twice.size() + 1;
  }
  buffers.reserve(writes);
  for (const auto& [parent, what] : runs) {
    auto id = uuid::random();
    std::shared_ptr<const block_index> below;
    if (parent) {
      auto index = indexes_->get(parent);
      require(index);
      below = *index;
    }
    out.push_back({id, parent, {}, {}});
    auto& made = images_[id];
    if (parent) {
      made = images_.at(parent);
    }
    disks.push_back(std::make_unique<overlay>(
        *ring_, *sealed_, below,
        overlay::place{id, files_->overlay_path(id), limits::disk_bytes, 1ull << 30}));
    auto& disk = *disks.back();
    for (auto guest : what.written_twice) {
      buffers.push_back(cluster_of(0xdd));
      write(disk, guest, buffers.back());
    }
    wait();
    made.superblock_writes += parent ? 1 : 0;
    buffers.push_back(made.cluster(0));
    write(disk, 0, buffers.back());
    for (auto [guest, value] : what.written) {
      made.disk[guest] = value;
      buffers.push_back(cluster_of(value));
      write(disk, guest, buffers.back()); // all in the air at once
    }
    wait();
    for (auto guest : what.trimmed) {
      made.disk.erase(guest);
      BOOST_REQUIRE_EQUAL(
          io::run(*ring_, disk.zero(std::uint64_t{guest} * cluster_bytes, cluster_bytes)), 0);
    }
    auto spots = what.spots;
    for (auto [guest, value] : what.written) {
      if (what.spots.empty()) {
        spots.push_back(guest);
      }
    }
    spots.insert(spots.end(), what.trimmed.begin(), what.trimmed.end());
    made.looked_at.insert(made.looked_at.end(), spots.begin(), spots.end());
  }
  for (std::size_t i = 0; i < disks.size(); ++i) {
    ++waiting;
    start(seal(*ring_, *disks[i], out[i].parent, files_->image_path(out[i].image), *names_),
          [&, i](result<sealed_image> done) {
            require(done);
            out[i].sealed = std::move(*done);
            --waiting;
          });
  }
  wait();
  for (auto& each : out) {
    indexes_->put(each.image, each.sealed.index);
  }
  return out;
}

void store_at_work::finish(const std::vector<sealed_run>& runs) {
  auto t = records_->begin();
  require(t);
  for (const auto& each : runs) {
    auto request = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      to.setRecord(
          *operation_record(each.operation, proto::OperationStatus::SUCCESS, each.image, ++now_)
               .view());
      auto image = to.initImage();
      each.image.to(image.initId());
      image.setProject(project);
      image.setCreatedAtUnixNs(now_);
      image.setSizeBytes(each.sealed.own_bytes);
      if (each.parent) {
        each.parent.to(image.initParent());
      }
      to.setHasImage(true);
      auto index = to.initIndex();
      each.sealed.index->checkpoint().to(index.initCheckpoint());
      auto extents = each.sealed.index->encode();
      index.setExtents({reinterpret_cast<const kj::byte*>(extents.data()), extents.size()});
    });
    require(t->finish_operation(*request.view()));
  }
  require(t->commit());
  for (const auto& each : runs) {
    told_operation(each.operation, {proto::OperationStatus::SUCCESS});
    told_image(each.image);
  }
}

uuid store_at_work::branch(const uuid& parent, const change& what) {
  auto operation = begin_operation();
  auto done = run({{parent, what}});
  done.front().operation = operation;
  finish(done);
  return done.front().image;
}

uuid store_at_work::import(const std::map<cluster_number, std::uint8_t>& clusters) {
  auto operation = begin_operation();
  // The worker's process writes without a sync: what it leaves is read from a file made elsewhere.
  scratch elsewhere;
  auto from = elsewhere / "image";
  {
    auto io = disk_fixture::default_ring();
    sealed_files none{*io, elsewhere.path(), 1};
    directory_sync names{*io, elsewhere.path().string()};
    overlay disk{
        *io, none, nullptr,
        overlay::place{uuid::random(), elsewhere / "overlay", limits::disk_bytes, 1ull << 30}};
    BOOST_REQUIRE_EQUAL(io::run(*io, disk.write(0, clean_superblock())), 0);
    for (auto [guest, value] : clusters) {
      auto bytes = cluster_of(value);
      BOOST_REQUIRE_EQUAL(io::run(*io, disk.write(std::uint64_t{guest} * cluster_bytes, bytes)), 0);
    }
    require(io::run(*io, seal(*io, disk, {}, from, names)));
  }
  auto id = uuid::random();
  images_[id].disk = clusters;
  for (auto [guest, value] : clusters) {
    images_[id].looked_at.push_back(guest);
  }
  auto bytes = read_file(from);
  {
    auto out = file::open(files_->overlay_path(id), O_RDWR | O_CREAT | O_EXCL, 0600);
    require(out);
    for (std::size_t at = 0; at < bytes.size(); at += cluster_bytes) {
      auto piece = std::span{bytes}.subspan(at, std::min(cluster_bytes, bytes.size() - at));
      if (std::any_of(piece.begin(), piece.end(), [](auto b) { return b != std::byte{}; })) {
        require(out->write_at(at, piece));
      }
    }
  }
  auto sealed = seal_import(*disks_, id);
  require(sealed);
  indexes_->put(id, sealed->index);
  finish({{id, {}, operation, *sealed}});
  return id;
}

bool store_at_work::is_checkpoint(const uuid& image) {
  auto index = indexes_->get(image);
  require(index);
  return !(*index)->checkpoint();
}

// -- other work ----------------------------------------------------------------------------------

void store_at_work::upload(const std::string& bytes) {
  auto begun = begin_blob(*disks_);
  require(begun);
  for (std::size_t at = 0; at < bytes.size(); at += 1500) {
    require(append_blob(*disks_, *begun, std::string_view{bytes}.substr(at, 1500)));
  }
  auto stored = finish_blob(*disks_, *begun);
  require(stored);
  auto request = make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
    auto record = to.initRecord();
    uuid::random().to(record.initId());
    record.setProject(project);
    record.setSha256({stored->digest.data(), stored->digest.size()});
    record.setSizeBytes(bytes.size());
    record.setCreatedAtUnixNs(++now_);
    record.setUpdatedAtUnixNs(now_);
  });
  auto t = records_->begin();
  require(t);
  require(t->put_file(*request.view()));
  require(t->commit());
  told("file " + std::to_string(now_), [bytes, digest = stored->digest](const recovered& found) {
    auto wanted = make_frame<proto::GetFile>([&](proto::GetFile::Builder to) {
      to.setProject(project);
      to.setSha256({digest.data(), digest.size()});
    });
    if (auto record = found.records->get_file(*wanted.view()); !record) {
      return record.error().text;
    }
    // An engine for each of thousands of states would be slow: read from the file.
    auto stored_file = file::open(found.files->blobs_path() / blobs::name_of(digest), O_RDONLY);
    if (!stored_file) {
      return stored_file.error().text;
    }
    std::vector<std::byte> content(bytes.size() + 1);
    auto count = stored_file->read_at(0, content);
    if (!count) {
      return count.error().text;
    }
    auto expected = bytes_of(bytes);
    return std::equal(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(*count),
                      expected.begin(), expected.end())
               ? std::string{}
               : std::string{"its bytes are others"};
  });
}

void store_at_work::remove_image(const uuid& image) {
  told("image " + image.text(), {}); // from here on it may go
  auto t = records_->begin();
  require(t);
  auto deleted = t->delete_image(project, image, with_tags::no);
  require(deleted);
  require(t->commit());
  told("image " + image.text(), [image](const recovered& found) {
    return found.records->has_image(image) ? "it was deleted and is back" : std::string{};
  });
  for (const auto& gone : deleted->gone) {
    indexes_->forget(gone);
    sealed_->forget(gone);
    require(space_->remove(gone));
  }
}

void store_at_work::reclaim(const uuid& image) {
  auto freed = space_->punch(image);
  require(freed);
  BOOST_REQUIRE_GT(*freed, 0u);
}

void store_at_work::write_events(const uuid& operation, unsigned count) {
  capnp::MallocMessageBuilder message;
  auto events = message.initRoot<proto::EventPage>().initEvents(count);
  const std::string output(100, 'x');
  for (unsigned i = 0; i < count; ++i) {
    events[i].setId(i);
    events[i].setStdout({reinterpret_cast<const kj::byte*>(output.data()), output.size()});
  }
  auto t = records_->begin();
  require(t);
  require(t->append_events(operation, events.asReader()));
  require(t->commit());
  told("events of " + operation.text(), [operation, count](const recovered& found) {
    auto request = make_frame<proto::ListEvents>([&](proto::ListEvents::Builder to) {
      operation.to(to.initOperation());
      to.setMaxBytes(1u << 20);
    });
    auto page = found.records->list_events(*request.view());
    if (!page) {
      return page.error().text;
    }
    auto v = page->view();
    return v->getEvents().size() == count ? std::string{}
                                          : std::to_string(v->getEvents().size()) + " are there";
  });
}

void store_at_work::fail_operation(const uuid& operation) {
  auto request = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
    auto record = operation_record(operation, proto::OperationStatus::FAILED, {}, ++now_);
    to.setRecord(*record.view());
    to.getRecord().setError("no reason at all");
  });
  auto t = records_->begin();
  require(t);
  require(t->finish_operation(*request.view()));
  require(t->commit());
  told_operation(operation, {proto::OperationStatus::FAILED});
}

void store_at_work::tag(const uuid& image, const std::string& name) {
  auto request = make_frame<proto::SetTag>([&](proto::SetTag::Builder to) {
    to.setProject(project);
    image.to(to.initImage());
    to.setTag(name);
  });
  auto t = records_->begin();
  require(t);
  require(t->set_tag(*request.view()));
  require(t->commit());
  told("tag " + name, [image, name](const recovered& found) {
    auto wanted = make_frame<proto::ResolveTag>([&](proto::ResolveTag::Builder to) {
      to.setProject(project);
      to.setTag(name);
    });
    auto row = found.records->resolve_tag(*wanted.view());
    if (!row) {
      return row.error().text;
    }
    auto v = row->view();
    return uuid::from(v->getImage().getId()) == image ? std::string{} : "it is another image's";
  });
}

} // namespace coppice::storage::test::crash
