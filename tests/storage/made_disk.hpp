#pragma once

#include "storage/error.hpp"
#include "storage/inspector.hpp"
#include "tests/storage/scratch.hpp"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

/// Small file systems that mke2fs made and debugfs falsified, and what the inspector says to them.
namespace coppice::storage::test {

/// A raw disk in memory that any byte can be changed of.
struct memory_disk {
  std::vector<std::byte> bytes;
  std::uint64_t reads = 0;
};

class memory_source final : public block_source {
public:
  explicit memory_source(std::shared_ptr<memory_disk> disk) : disk_{std::move(disk)} {}

  std::uint64_t size_bytes() const override {
    return disk_->bytes.size();
  }
  result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    ++disk_->reads;
    if (offset > disk_->bytes.size() || out.size() > disk_->bytes.size() - offset) {
      return fail(ec::io, "read outside the disk");
    }
    std::copy_n(disk_->bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(),
                out.begin());
    return {};
  }

private:
  std::shared_ptr<memory_disk> disk_;
};

struct entry {
  std::uint64_t size_bytes;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t mode;
  std::int64_t mtime;
  std::uint32_t links;
  std::string symlink_target;
  std::string owner;
  std::string group;
};

inline result<std::map<std::string, entry>> list(inspector& image, const std::string& path) {
  if (auto opened = image.open_directory(path); !opened) {
    return opened.error();
  }
  std::map<std::string, entry> out;
  for (;;) {
    auto answer = image.next_entries(100);
    if (!answer) {
      return answer.error();
    }
    auto view = answer->view();
    BOOST_REQUIRE(view->isEntries());
    if (view->getEntries().size() == 0) {
      return out;
    }
    for (auto e : view->getEntries()) {
      auto [place, is_new] =
          out.try_emplace(e.getName().cStr(),
                          entry{e.getSizeBytes(), e.getUid(), e.getGid(), e.getMode(),
                                e.getMtimeUnixS(), e.getLinkCount(), e.getSymlinkTarget().cStr(),
                                e.getOwner().cStr(), e.getGroup().cStr()});
      BOOST_CHECK(is_new);
    }
  }
}

inline result<std::string> content(inspector& image, const std::string& path,
                                   std::size_t piece_bytes = 100'000,
                                   std::size_t bytes_max = 64u << 20) {
  if (auto size = image.open_file(path); !size) {
    return size.error();
  }
  std::string out;
  while (out.size() < bytes_max) {
    auto data = image.next_bytes(piece_bytes);
    if (!data) {
      return data.error();
    }
    if (data->empty()) {
      break;
    }
    out.append(reinterpret_cast<const char*>(data->data()), data->size());
  }
  return out;
}

/// A small file system made by mke2fs from a folder, changed by debugfs and e2fsck.
struct made_disk {
  scratch dir;
  std::string options = "-O ^has_journal -b 4096";
  std::string size = "16M";

  made_disk() {
    std::filesystem::create_directories(root() / "etc");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n");
    write("etc/group", "root:x:0:\nstaff:x:50:\n");
    write("plain", "plain text");
  }

  std::filesystem::path root() const {
    return dir / "root";
  }
  std::filesystem::path disk() const {
    return dir / "disk";
  }
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((root() / name).parent_path());
    std::ofstream{root() / name, std::ios::binary} << text;
  }
  void make() {
    must("mke2fs -q -F -t ext4 " + options + " -d " + root().string() + " " + disk().string() +
         " " + size);
  }
  void debugfs(const std::string& request) {
    must("debugfs -w -R '" + request + "' " + disk().string());
  }
  std::shared_ptr<memory_disk> load() {
    return std::make_shared<memory_disk>(memory_disk{read_file(disk()), 0});
  }
  std::unique_ptr<inspector> open() {
    auto out = inspector::open(std::make_unique<memory_source>(load()));
    BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
    return std::move(*out);
  }
};

} // namespace coppice::storage::test
