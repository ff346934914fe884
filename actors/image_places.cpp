#include "actors/image_places.hpp"

#include "protocol/limits.hpp"
#include "protocol/uuid.hpp"
#include "storage/error.hpp"

#include <algorithm>
#include <vector>

namespace coppice {

namespace {

using storage::cluster_bytes;
using storage::cluster_number;

/// A file whose every cluster lies elsewhere costs a message each 32 MiB.
constexpr std::size_t ranges_max = 8192;

/// Of one answer: as many as its frame has words. Elements without a size would take no room in it.
constexpr std::size_t parts_max = limits::channel_frame_bytes_max / sizeof(capnp::word);

struct range {
  std::string data;
  uuid file;
  std::uint64_t offset_bytes = 0;
  std::uint64_t bytes = 0;
};

/// Where the beginning of a part lies, as far as it is in one place.
range find(const storage::block_index& index, std::uint64_t offset_bytes, std::uint64_t bytes) {
  const auto inside = offset_bytes % cluster_bytes;
  const auto clusters = (inside + bytes + cluster_bytes - 1) / cluster_bytes;
  auto run = index.find(static_cast<cluster_number>(offset_bytes / cluster_bytes),
                        static_cast<cluster_number>(clusters));
  range out;
  out.bytes = std::min(bytes, run.count * cluster_bytes - inside);
  if (run.file) {
    out.file = *run.file;
    out.offset_bytes = run.file_cluster * cluster_bytes + inside;
  }
  return out;
}

} // namespace

result<void> image_places::add(capnp::List<proto::DiskPart>::Reader parts) {
  if (parts.size() > parts_max) {
    return fail(storage::ec::damaged, "the reader of the image told too many places at once");
  }
  for (auto told : parts) {
    part p{{reinterpret_cast<const char*>(told.getData().begin()), told.getData().size()},
           told.getOffset(),
           told.getBytes(),
           told.getZeros()};
    if (p.bytes > bytes_left_ || (!p.is_zeros && (p.offset_bytes > limits::disk_bytes ||
                                                  p.bytes > limits::disk_bytes - p.offset_bytes))) {
      return fail(storage::ec::damaged, "the reader of the image named bytes that are not there");
    }
    bytes_left_ -= p.bytes;
    parts_.push_back(std::move(p));
  }
  return {};
}

frame<proto::InspectChunk> image_places::take() {
  std::vector<range> ranges;
  while (!parts_.empty() && ranges.size() < ranges_max) {
    auto& p = parts_.front();
    auto found = p.is_zeros || p.bytes == 0 ? range{{}, {}, 0, p.bytes}
                                            : find(*index_, p.offset_bytes, p.bytes);
    found.data = std::exchange(p.data, {});
    p.offset_bytes += found.bytes;
    p.bytes -= found.bytes;
    if (p.bytes == 0) {
      parts_.pop_front();
    }
    ranges.push_back(std::move(found));
  }
  return make_frame<proto::InspectChunk>([&](auto root) {
    auto list = root.initParts(static_cast<unsigned>(ranges.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      const auto& r = ranges[i];
      list[i].setData({reinterpret_cast<const capnp::byte*>(r.data.data()), r.data.size()});
      list[i].setFileHi(r.file.hi);
      list[i].setFileLo(r.file.lo);
      list[i].setOffset(r.offset_bytes);
      list[i].setBytes(r.bytes);
    }
  });
}

} // namespace coppice
