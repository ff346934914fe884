#include "protocol/limits.hpp"
#include "storage/blobs.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/reader.hpp"
#include "tests/storage/crash/store_at_work.hpp"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace coppice::storage::test::crash {

namespace fs = std::filesystem;

namespace {

const char* const project = "default";

/// As runtime.cpp opens a store.
result<recovered> recover(const fs::path& root) {
  recovered out;
  out.root = root;
  auto files = store::open(root);
  if (!files) {
    return files.error();
  }
  out.files = std::move(*files);
  auto records = catalog::open(root / "catalog");
  if (!records) {
    return records.error();
  }
  out.records = std::move(*records);
  auto* known = out.records.get();
  auto removed =
      out.files->remove_leftovers([known](const uuid& id) { return known->has_image_file(id); },
                                  [known](const store::sha256& digest) {
                                    auto has = known->has_blob(digest);
                                    return !has || *has;
                                  });
  if (!removed) {
    return removed.error();
  }
  out.indexes = std::make_unique<index_cache>(
      [known](const uuid& image) { return known->get_index(image); }, 64u << 20);
  return out;
}

/// The work goes on.
std::string write_something(const recovered& found) {
  auto id = uuid::random();
  auto t = found.records->begin();
  if (!t) {
    return t.error().text;
  }
  auto record = make_frame<proto::OperationRecord>([&](proto::OperationRecord::Builder to) {
    id.to(to.initId());
    to.setProject(project);
    to.getRequest().initInstance().initProcess().setCommand("true");
  });
  if (auto put = t->put_operation(*record.view()); !put) {
    return put.error().text;
  }
  auto done = t->commit();
  return done ? std::string{} : done.error().text;
}

} // namespace

std::string store_at_work::judge_image(const recovered& found, const uuid& image) const {
  const auto& expected = images_.at(image);
  auto index = found.indexes->get(image);
  if (!index) {
    return "its index: " + index.error().text;
  }
  std::size_t count = 0;
  std::string wrong;
  (*index)->for_each([&](cluster_number guest, const block_index::run& run) {
    for (cluster_number i = 0; i < run.count; ++i) {
      if (guest + i != 0 && !expected.disk.contains(guest + i)) {
        wrong = "cluster " + std::to_string(guest + i) + " should be zeros";
      }
      ++count;
    }
  });
  if (wrong.empty() && count != expected.disk.size() + (expected.disk.contains(0) ? 0 : 1)) {
    wrong = "its index has " + std::to_string(count) + " clusters, not " +
            std::to_string(expected.disk.size() + 1);
  }
  if (!wrong.empty()) {
    return wrong;
  }
  auto open_file = [&](const uuid& of) {
    return qcow2::open_bytes(found.files->image_path(of));
  };
  auto top = open_file(image);
  if (!top) {
    return top.error().text;
  }
  auto disk = qcow2::reader::open(std::move(*top), open_file);
  if (!disk) {
    return disk.error().text;
  }
  auto looked_at = expected.looked_at;
  looked_at.push_back(0);
  for (auto guest : looked_at) {
    auto bytes = expected.cluster(guest);
    content seen(cluster_bytes);
    if (auto read = (*disk)->read(std::uint64_t{guest} * cluster_bytes, seen); !read) {
      return "through qcow2: " + read.error().text;
    }
    if (seen != bytes) {
      return "cluster " + std::to_string(guest) + " is not what was written, through qcow2";
    }
    auto run = (*index)->find(guest, 1);
    std::fill(seen.begin(), seen.end(), std::byte{});
    if (run.file != nullptr) {
      auto from = file::open(found.files->image_path(*run.file), O_RDONLY);
      if (!from) {
        return from.error().text;
      }
      auto got = from->read_at(std::uint64_t{run.file_cluster} * cluster_bytes, seen);
      if (!got || *got != seen.size()) {
        return "cluster " + std::to_string(guest) + " cannot be read from its file";
      }
    }
    if (seen != bytes) {
      return "cluster " + std::to_string(guest) + " is not what was written, through the index";
    }
  }
  return {};
}

std::string store_at_work::judge_images(const recovered& found) const {
  auto request = make_frame<proto::ListImages>([&](proto::ListImages::Builder to) {
    to.setProject(project);
    to.setLimit(1000);
  });
  auto page = found.records->list_images(*request.view());
  if (!page) {
    return page.error().text;
  }
  auto v = page->view();
  for (auto row : v->getRows()) {
    auto image = uuid::from(row.getImage().getId());
    if (auto wrong = judge_image(found, image); !wrong.empty()) {
      return "image " + image.text() + ", which is in the catalog: " + wrong;
    }
  }
  return {};
}

std::string store_at_work::judge_files(const recovered& found) {
  for (auto folder : {"images", "uploads", "tmp"}) {
    for (const auto& each : fs::directory_iterator{found.root / folder}) {
      auto name = each.path().filename().string();
      auto image = uuid::parse(name.substr(0, 36));
      if (!image || name != image->text() + ".qcow2" || !found.records->has_image_file(*image)) {
        return "left over: " + std::string{folder} + "/" + name;
      }
    }
  }
  for (const auto& each : fs::directory_iterator{found.root / "blobs"}) {
    auto name = each.path().filename().string();
    auto digest = blobs::digest_of(name);
    if (auto known = digest ? found.records->has_blob(*digest) : result<bool>{false};
        !known || !*known) {
      return "left over: blobs/" + name;
    }
  }
  return {};
}

std::string store_at_work::judge(const fs::path& root, std::size_t notes) const {
  auto found = recover(root);
  if (!found) {
    return "it does not start: " + found.error().text;
  }
  if (auto wrong = judge_images(*found); !wrong.empty()) {
    return wrong;
  }
  if (auto wrong = judge_files(*found); !wrong.empty()) {
    return wrong;
  }
  std::map<std::string, const claim*> last;
  for (std::size_t i = 0; i < notes; ++i) {
    last[notes_[i].first] = &notes_[i].second;
  }
  for (const auto& [what, check] : last) {
    if (*check) {
      if (auto wrong = (*check)(*found); !wrong.empty()) {
        return what + " was told to a client: " + wrong;
      }
    }
  }
  return write_something(*found);
}

void store_at_work::told_image(const uuid& image) {
  told("image " + image.text(), [this, image](const recovered& found) {
    return found.records->has_image(image) ? judge_image(found, image) : "it is gone";
  });
}

void store_at_work::told_operation(const uuid& operation,
                                   std::initializer_list<proto::OperationStatus> in) {
  told("operation " + operation.text(),
       [operation, allowed = std::vector(in)](const recovered& found) {
         auto request = make_frame<proto::GetOperation>([&](proto::GetOperation::Builder to) {
           to.setProject(project);
           operation.to(to.initId());
         });
         auto record = found.records->get_operation(*request.view());
         if (!record) {
           return record.error().text;
         }
         auto status = record->view()->getStatus();
         return std::find(allowed.begin(), allowed.end(), status) != allowed.end()
                    ? std::string{}
                    : "its status is " + std::to_string(static_cast<int>(status));
       });
}

} // namespace coppice::storage::test::crash
