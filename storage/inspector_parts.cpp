#include "storage/inspector_parts.hpp"

#include "storage/error.hpp"

#include <algorithm>

namespace coppice::storage::inspection {

namespace {

/// Beside their data; a frame has 2 MiB.
constexpr std::size_t parts_max = 8192;
constexpr std::size_t data_bytes_max = 512u << 10;

constexpr std::uint64_t content_bytes_usual = 16u << 20;

} // namespace

part_list::part_list(std::uint64_t content_bytes_max)
    : content_bytes_max_{content_bytes_max == 0 ? content_bytes_usual : content_bytes_max} {
  // nop
}

bool part_list::is_full() const {
  return parts_.size() >= parts_max || data_bytes_ + pending_.size() >= data_bytes_max ||
         content_bytes_ >= content_bytes_max_;
}

void part_list::add(const content_reader::piece& found) {
  data_bytes_ += pending_.size();
  content_bytes_ += found.bytes;
  parts_.push_back({std::exchange(pending_, {}), found.disk_offset_bytes, found.bytes,
                    found.disk_offset_bytes == 0});
}

frame<proto::InspectAnswer> part_list::take(bool is_last) {
  if (!pending_.empty()) {
    parts_.push_back({std::exchange(pending_, {}), 0, 0, false});
  }
  auto out = make_frame<proto::InspectAnswer>([&](auto root) {
    auto list = root.initParts(static_cast<unsigned>(parts_.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      const auto& part = parts_[i];
      list[i].setData({reinterpret_cast<const kj::byte*>(part.data.data()), part.data.size()});
      list[i].setOffset(part.offset_bytes);
      list[i].setBytes(part.bytes);
      list[i].setZeros(part.is_zeros);
    }
    root.setLast(is_last);
  });
  parts_.clear();
  return out;
}

result<file_cursor> file_cursor::open(file_system& fs, const file_inode& inode) {
  // Blocks of a file are numbered with 32 bits.
  if (inode.size_bytes() > std::uint64_t{fs.block_bytes()} << 32) {
    return fail(ec::damaged, "file system: a file larger than ext4 can hold");
  }
  auto content = content_reader::open(fs, inode);
  if (!content) {
    return content.error();
  }
  return file_cursor{std::move(*content), 0, inode.size_bytes()};
}

result<void> file_cursor::tell(part_list& out) {
  while (!has_ended() && !out.is_full()) {
    auto found =
        content->find(offset_bytes, std::min(end_bytes - offset_bytes, out.content_room_bytes()));
    if (!found) {
      return found.error();
    }
    out.add(*found);
    offset_bytes += found->bytes;
  }
  return {};
}

result<frame<proto::InspectAnswer>> file_parts::next(std::uint64_t content_bytes_max) {
  part_list out{content_bytes_max};
  if (auto told = file_.tell(out); !told) {
    return told.error();
  }
  return out.take(file_.has_ended());
}

} // namespace coppice::storage::inspection
