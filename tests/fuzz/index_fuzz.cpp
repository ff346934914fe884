#include "storage/disk/block_index.hpp"
#include "storage/disk/index_codec.hpp"

#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

// Hostile block indexes: the stored level of an image, and of the checkpoint below it.
//
// Input: a byte that says where it is cut in two; the first part is the checkpoint, the rest the
// changes. Checksums are made to fit, or nothing would get past them.
// The oracle beside the sanitizers: what is accepted is encoded to the same bytes again, its runs
// cover the disk without a gap, and a child that changes nothing is the same disk.

namespace {

using coppice::uuid;
using coppice::storage::block_index;
using coppice::storage::cluster_number;
using index_ptr = std::shared_ptr<const block_index>;

const uuid base_image{1, 1};
const uuid image{1, 2};
const uuid child_image{1, 3};

index_ptr decoded(const uuid& of, std::span<const std::byte> body, const index_ptr& checkpoint) {
  std::vector<std::byte> bytes{body.begin(), body.end()};
  coppice::storage::append_checksum(bytes, of, checkpoint ? base_image : uuid{});
  auto index = block_index::decode(of, bytes, checkpoint);
  if (!index) {
    return nullptr;
  }
  if ((*index)->encode() != bytes) {
    std::abort();
  }
  return *index;
}

void check_runs(const block_index& index) {
  cluster_number last_end = 0;
  index.for_each([&](cluster_number guest, const block_index::run& run) {
    if (guest < last_end || run.count == 0 || run.count > index.end() - guest) {
      std::abort();
    }
    last_end = guest + run.count;
  });
  if (last_end != index.end()) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) {
    return 0;
  }
  auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const auto cut = input.size() * data[0] / 255;
  auto base = decoded(base_image, input.first(cut), nullptr);
  if (!base) {
    return 0;
  }
  check_runs(*base);
  auto index = decoded(image, input.subspan(cut), base);
  if (!index) {
    return 0;
  }
  check_runs(*index);
  auto child = block_index::of_child(index, child_image, {});
  check_runs(*child);
  index->for_each([&](cluster_number guest, const block_index::run& run) {
    const auto same = child->find(guest, run.count);
    if (!same.file || *same.file != *run.file || same.file_cluster != run.file_cluster) {
      std::abort();
    }
  });
  return 0;
}
