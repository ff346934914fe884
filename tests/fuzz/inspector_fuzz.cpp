#include "storage/error.hpp"
#include "storage/inspector.hpp"
#include "storage/inspector_grep.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

// A hostile ext4: a small valid one (made by mke2fs at the start, without checksums), with bytes of
// it replaced. Input: records of a 3-byte offset, a length below 16, and that many bytes.
// The oracle beside the sanitizers: no session reads more than a bound.

namespace {

using namespace coppice;
using namespace coppice::storage;

std::vector<std::byte> pristine;

class patched_source final : public block_source {
public:
  explicit patched_source(std::vector<std::byte> bytes) : bytes_{std::move(bytes)} {}

  std::uint64_t size_bytes() const override {
    return bytes_.size();
  }
  result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (++reads_ > 3'000'000) {
      std::abort();
    }
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return fail(ec::io, "read outside the disk");
    }
    std::copy_n(bytes_.data() + offset, out.size(), out.data());
    return {};
  }

private:
  std::vector<std::byte> bytes_;
  std::uint64_t reads_ = 0;
};

void list(inspector& image, const std::string& path) {
  if (!image.open_directory(path)) {
    return;
  }
  for (int i = 0; i < 50; ++i) {
    auto answer = image.next_entries(100);
    if (!answer || answer->view()->getEntries().size() == 0) {
      return;
    }
  }
}

void download(inspector& image, const std::string& path) {
  if (!image.open_file(path)) {
    return;
  }
  for (int i = 0; i < 50; ++i) {
    auto data = image.next_bytes(50'000);
    if (!data || data->empty()) {
      return;
    }
  }
}

/// Everything below a path as an archive; nothing that it names may lie outside the disk.
void archive(inspector& image, const std::string& path) {
  auto source = image.archive(path);
  for (int i = 0; source && i < 50; ++i) {
    auto answer = (*source)->next(1u << 20);
    if (!answer) {
      return;
    }
    for (auto part : answer->view()->getParts()) {
      if (!part.getZeros() && (part.getOffset() > pristine.size() ||
                               part.getBytes() > pristine.size() - part.getOffset())) {
        std::abort();
      }
    }
    if (answer->view()->getLast()) {
      return;
    }
  }
}

void grep(inspector& image) {
  grep_query query;
  query.patterns = {"[0-9]+0$", "^root:"};
  query.paths = {"/etc", "/"};
  query.globs = {"!*.bin"};
  query.before = 1;
  query.after = 1;
  query.max_total = 1000;
  auto source = image.grep(query);
  for (int i = 0; source && i < 50; ++i) {
    auto answer = (*source)->next(0);
    if (!answer || answer->view()->getLast()) {
      return;
    }
  }
}

} // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  char name[] = "/tmp/coppice-fuzz-XXXXXX";
  if (::mkdtemp(name) == nullptr) {
    std::abort();
  }
  const std::string dir = name;
  const auto make = "cd " + dir +
                    " && mkdir -p root/etc/deep && echo root:x:0:0 >root/etc/passwd &&"
                    " seq 5000 >root/etc/deep/file && ln -s deep/file root/etc/link &&"
                    " ln -s /etc/./deep/../deep/file$(printf '%070d' 0) root/etc/long &&"
                    " mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum -b 1024 -N 64"
                    " -d root disk 512K >/dev/null 2>&1";
  if (std::system(make.c_str()) != 0) {
    std::abort();
  }
  std::ifstream in{dir + "/disk", std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{in}, {}};
  const auto view = std::as_bytes(std::span{bytes});
  pristine.assign(view.begin(), view.end());
  return std::system(("rm -rf " + dir).c_str());
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto disk = pristine;
  const auto input = std::as_bytes(std::span{data, size});
  for (std::size_t at = 0; at + 4 <= input.size();) {
    std::uint32_t head = 0;
    std::memcpy(&head, input.data() + at, 4);
    at += 4;
    const auto length = std::min<std::size_t>(head >> 24 & 15u, input.size() - at);
    const auto offset = (head & 0xff'ffffu) % (disk.size() - 16);
    std::copy_n(input.data() + at, length, disk.data() + offset);
    at += length;
  }
  auto image = inspector::open(std::make_unique<patched_source>(std::move(disk)));
  if (!image) {
    return 0;
  }
  for (const auto* path : {"/", "/etc", "/etc/deep"}) {
    list(**image, path);
  }
  for (const auto* path : {"/etc/passwd", "/etc/link", "/etc/long", "/etc/deep/file"}) {
    download(**image, path);
  }
  archive(**image, "/");
  archive(**image, "/etc/deep/file");
  grep(**image);
  return 0;
}
