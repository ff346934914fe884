#include "storage/qcow2/reader.hpp"

#include "storage/error.hpp"
#include "storage/qcow2/tables.hpp"

#include <algorithm>
#include <string>

namespace coppice::storage::qcow2 {

namespace {

/// How far one look-up follows a run: 256 KiB of our clusters, and a bound on how often the same
/// entries are looked at when the layers below are fragmented. Runs that go on are joined.
constexpr std::uint64_t run_clusters_max = 64;

/// Whether the entry at `next` goes on where the run that began with `first` is after `clusters`.
bool continues(const cluster& first, const cluster& next, std::uint64_t clusters,
               const header& head) {
  if (first.what != next.what) {
    return false;
  }
  return first.what != cluster::state::data ||
         next.offset_bytes == first.offset_bytes + clusters * head.cluster_bytes();
}

} // namespace

reader::reader(open_parent parents, reader_limits limits)
    : parents_{std::move(parents)}, limits_{limits} {
  // nop
}

result<std::unique_ptr<reader>> reader::open(std::unique_ptr<byte_source> top, open_parent parents,
                                             reader_limits limits) {
  auto out = std::unique_ptr<reader>{new reader{std::move(parents), limits}};
  if (auto added = out->add_layer({}, std::move(top)); !added) {
    return added.error();
  }
  return out;
}

std::uint64_t reader::size_bytes() const {
  return layers_.front().head.disk_bytes;
}

result<void> reader::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  if (offset_bytes > size_bytes() || out.size() > size_bytes() - offset_bytes) {
    return fail(ec::damaged, layers_.front().bytes->name() + ": a read of " +
                                 std::to_string(out.size()) + " bytes at " +
                                 std::to_string(offset_bytes) + " is behind the end of the disk");
  }
  std::size_t filled = 0; // up to here `out` is done; `pending` follows
  extent pending;
  while (filled + pending.length_bytes < out.size()) {
    auto done = filled + pending.length_bytes;
    auto next = find(offset_bytes + done, out.size() - done);
    if (!next) {
      return next.error();
    }
    auto joins = pending.what == next->what &&
                 (pending.what == extent::state::zeros ||
                  (pending.layer_index == next->layer_index &&
                   pending.offset_bytes + pending.length_bytes == next->offset_bytes));
    if (joins) {
      pending.length_bytes += next->length_bytes;
      continue;
    }
    auto length = static_cast<std::size_t>(pending.length_bytes);
    if (auto read = fill(pending, out.subspan(filled, length)); !read) {
      return read;
    }
    filled += length;
    pending = *next;
  }
  return fill(pending, out.subspan(filled));
}

result<void> reader::fill(const extent& from, std::span<std::byte> out) {
  if (from.what != extent::state::data) {
    std::fill(out.begin(), out.end(), std::byte{0});
    return {};
  }
  auto source = layer_at(from.layer_index);
  if (!source) {
    return source.error();
  }
  auto bytes = bytes_of(**source);
  if (!bytes) {
    return bytes.error();
  }
  return (*bytes)->read(from.offset_bytes, out);
}

// -- look-up
// -----------------------------------------------------------------------------------------

result<reader::extent> reader::find(std::uint64_t offset, std::uint64_t length_max) {
  for (std::size_t index = 0;; ++index) {
    auto found = find_in_layer(index, offset, length_max);
    if (!found || found->what != extent::state::parent) {
      return found;
    }
    length_max = found->length_bytes;
    if (!layers_[index].head.parent) {
      found->what = extent::state::zeros;
      return found;
    }
  }
}

result<reader::extent> reader::find_in_layer(std::size_t layer_index, std::uint64_t offset,
                                             std::uint64_t length_max) {
  auto opened = layer_at(layer_index);
  if (!opened) {
    return opened.error();
  }
  auto& in = **opened;
  if (offset >= in.head.disk_bytes) {
    // A parent whose disk is shorter: "they shall read zeros for all parts that are not covered".
    return extent{extent::state::zeros, layer_index, 0, length_max};
  }
  length_max = std::min(length_max, in.head.disk_bytes - offset);
  auto l2_covers = in.head.l2_entries() * in.head.cluster_bytes();
  auto l2_offset = l2_offset_of(in, offset / l2_covers);
  if (!l2_offset) {
    return l2_offset.error();
  }
  length_max = std::min(length_max, l2_covers - offset % l2_covers);
  if (*l2_offset == 0) {
    return extent{extent::state::parent, layer_index, 0, length_max};
  }
  auto table = l2_table(layer_index, in, *l2_offset);
  if (!table) {
    return table.error();
  }
  auto inside = offset % in.head.cluster_bytes();
  auto index = static_cast<std::size_t>(offset % l2_covers / in.head.cluster_bytes());
  auto first = cluster_of((**table)[index]);
  std::uint64_t clusters = 1;
  while (clusters < run_clusters_max && clusters * in.head.cluster_bytes() - inside < length_max) {
    auto next = cluster_of((**table)[index + static_cast<std::size_t>(clusters)]);
    if (!continues(first, next, clusters, in.head)) {
      break;
    }
    ++clusters;
  }
  auto length = std::min(length_max, clusters * in.head.cluster_bytes() - inside);
  switch (first.what) {
  case cluster::state::unallocated:
    return extent{extent::state::parent, layer_index, 0, length};
  case cluster::state::zeros:
    return extent{extent::state::zeros, layer_index, 0, length};
  case cluster::state::data:
    break;
  }
  return extent{extent::state::data, layer_index, first.offset_bytes + inside, length};
}

result<std::uint64_t> reader::l2_offset_of(layer& in, std::uint64_t l1_index) {
  auto number = static_cast<std::size_t>(l1_index / l1_piece_entries);
  auto& piece = in.l1[number];
  if (!piece.is_known) {
    auto bytes = bytes_of(in);
    if (!bytes) {
      return bytes.error();
    }
    auto offsets = read_l1_piece(**bytes, in.head, number);
    if (!offsets) {
      return offsets.error();
    }
    if (!offsets->empty()) {
      piece.offsets = std::make_unique<std::uint64_t[]>(l1_piece_entries);
      std::copy(offsets->begin(), offsets->end(), piece.offsets.get());
      l1_bytes_ += l1_piece_entries * entry_bytes;
      forget_l1_pieces(in);
    }
    piece.is_known = true;
  }
  return piece.offsets ? piece.offsets[l1_index % l1_piece_entries] : 0;
}

/// Layer by layer in a circle, until the rest is within the limit.
void reader::forget_l1_pieces(const layer& except) {
  for (std::size_t i = 0; i < layers_.size() && l1_bytes_ > limits_.l1_bytes_max; ++i) {
    auto& target = layers_[l1_forget_layer_++ % layers_.size()];
    if (&target == &except) {
      continue;
    }
    for (auto& piece : target.l1) {
      if (piece.offsets) {
        piece = {};
        l1_bytes_ -= l1_piece_entries * entry_bytes;
      }
    }
  }
}

result<const std::vector<std::uint64_t>*> reader::l2_table(std::size_t layer_index, layer& in,
                                                           std::uint64_t l2_offset) {
  auto key = table_key{layer_index, l2_offset};
  if (auto found = table_index_.find(key); found != table_index_.end()) {
    tables_.splice(tables_.begin(), tables_, found->second);
    return &tables_.front().entries;
  }
  auto bytes = bytes_of(in);
  if (!bytes) {
    return bytes.error();
  }
  auto entries = read_l2(**bytes, in.head, l2_offset);
  if (!entries) {
    return entries.error();
  }
  l2_bytes_ += entries->size() * entry_bytes;
  tables_.push_front({key, std::move(*entries)});
  table_index_[key] = tables_.begin();
  while (l2_bytes_ > limits_.l2_bytes_max && tables_.size() > 1) {
    l2_bytes_ -= tables_.back().entries.size() * entry_bytes;
    table_index_.erase(tables_.back().key);
    tables_.pop_back();
  }
  return &tables_.front().entries;
}

// -- layers
// ------------------------------------------------------------------------------------------

/// The pointer is good until the next call.
result<reader::layer*> reader::layer_at(std::size_t index) {
  if (index == layers_.size()) {
    auto parent = *layers_.back().head.parent;
    if (layers_.size() >= limits_.layers_max) {
      return fail(ec::too_large, "image " + parent.text() + ": its chain is deeper than " +
                                     std::to_string(limits_.layers_max) + " files");
    }
    if (images_.count(parent) != 0) {
      return fail(ec::damaged, "image " + parent.text() + ": it is its own ancestor");
    }
    auto bytes = parents_(parent);
    if (!bytes) {
      return bytes.error();
    }
    if (auto added = add_layer(parent, std::move(*bytes)); !added) {
      return added.error();
    }
  }
  return &layers_[index];
}

result<void> reader::add_layer(const uuid& image, std::unique_ptr<byte_source> bytes) {
  auto head = read_header(*bytes);
  if (!head) {
    return head.error();
  }
  // 16 bytes for each 4 KiB of table, whether it has content or not.
  auto place_bytes = l1_pieces(*head) * sizeof(l1_piece);
  if (place_bytes > limits_.l1_bytes_max - l1_place_bytes_) {
    return fail(ec::too_large, bytes->name() +
                                   ": the tables of the chain up to here take more than " +
                                   std::to_string(limits_.l1_bytes_max) + " bytes");
  }
  if (open_files_ >= limits_.open_files_max) {
    close_least_used();
  }
  l1_place_bytes_ += place_bytes;
  ++open_files_;
  if (image) {
    images_.insert(image);
  }
  auto pieces = l1_pieces(*head);
  layers_.push_back(
      {image, std::move(bytes), std::move(*head), std::vector<l1_piece>(pieces), ++uses_});
  return {};
}

/// A deep chain has more files than may be open: those not used for longest are opened again.
result<const byte_source*> reader::bytes_of(layer& target) {
  target.last_use = ++uses_;
  if (!target.bytes) {
    auto bytes = parents_(target.image);
    if (!bytes) {
      return bytes.error();
    }
    if (open_files_ >= limits_.open_files_max) {
      close_least_used();
    }
    target.bytes = std::move(*bytes);
    ++open_files_;
  }
  return target.bytes.get();
}

/// The top stays open: nobody can open it again.
void reader::close_least_used() {
  layer* least = nullptr;
  for (auto& candidate : layers_) {
    if (candidate.image && candidate.bytes &&
        (least == nullptr || candidate.last_use < least->last_use)) {
      least = &candidate;
    }
  }
  if (least != nullptr) {
    least->bytes.reset();
    --open_files_;
  }
}

} // namespace coppice::storage::qcow2
