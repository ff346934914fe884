#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/block_source.hpp"
#include "storage/qcow2/byte_source.hpp"
#include "storage/qcow2/header.hpp"

#include <boost/functional/hash.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace coppice::storage::qcow2 {

/// What one reader may hold.
struct reader_limits {
  /// Real clouds reach chains of a thousand; beyond this something makes images in a loop.
  std::size_t layers_max = 4096;
  /// Below the usual limit of 1,024 descriptors a process.
  std::size_t open_files_max = 256;
  /// 8,192 tables of 4 KiB: they map 16 GiB of one file.
  std::size_t l2_bytes_max = 32u << 20;
  /// Pieces of L1 tables with content: a layer of a few changes has three of 4 KiB. Those of layers
  /// whose turn it is are forgotten beyond it, and read again when they are needed.
  std::size_t l1_bytes_max = 64u << 20;
};

/// The disk behind a qcow2 file and its chain of parents.
///
/// Problem: inspect and seal look at a few blocks of a disk whose chain may have a thousand files,
/// each written under a hostile guest. So a file is opened when a read first gets that deep, tables
/// are read when they are needed and kept within limits, and nothing in them is believed.
///
/// Guarantee: memory, descriptors and the depth of the walk are bounded by reader_limits; a file
/// that contradicts the format, a loop and a missing parent are failures of the read that meets
/// them. Adjacent clusters are read in one call.
/// Owner: one thread. The files must not change.
class reader final : public block_source {
public:
  /// Opens the file of an image that is somebody's parent; may be called again for the same one.
  using open_parent = std::function<result<std::unique_ptr<byte_source>>(const uuid&)>;

  /// damaged, unsupported, too_large: of the header of `top`; its parents are not yet looked at.
  static result<std::unique_ptr<reader>> open(std::unique_ptr<byte_source> top, open_parent parents,
                                              reader_limits limits = {});

  std::uint64_t size_bytes() const override;
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) override;

private:
  /// Offsets of L2 tables: a part of a layer's L1.
  struct l1_piece {
    bool is_known = false;
    std::unique_ptr<std::uint64_t[]> offsets; ///< null where it is known that all are 0
  };

  /// One file of the chain.
  struct layer {
    uuid image;                         ///< nil for the top
    std::unique_ptr<byte_source> bytes; ///< null while it is closed to save descriptors
    header head;
    std::vector<l1_piece> l1;
    std::uint64_t last_use = 0;
  };

  /// A run of the disk that lies in one place.
  struct extent {
    enum class state { parent, zeros, data } what = state::zeros;
    std::size_t layer_index = 0;
    std::uint64_t offset_bytes = 0; ///< in the layer's file, for data
    std::uint64_t length_bytes = 0;
  };

  using table_key = std::pair<std::size_t, std::uint64_t>; ///< layer, L2 offset
  struct cached_table {
    table_key key;
    std::vector<std::uint64_t> entries;
  };

  reader(open_parent parents, reader_limits limits);

  result<void> add_layer(const uuid& image, std::unique_ptr<byte_source> bytes);
  result<layer*> layer_at(std::size_t index);
  result<const byte_source*> bytes_of(layer& target);
  void close_least_used();
  result<std::uint64_t> l2_offset_of(layer& in, std::uint64_t l1_index);
  void forget_l1_pieces(const layer& except);
  result<const std::vector<std::uint64_t>*> l2_table(std::size_t layer_index, layer& in,
                                                     std::uint64_t l2_offset);
  result<extent> find_in_layer(std::size_t layer_index, std::uint64_t offset,
                               std::uint64_t length_max);
  result<extent> find(std::uint64_t offset, std::uint64_t length_max);
  result<void> fill(const extent& from, std::span<std::byte> out);

  open_parent parents_;
  reader_limits limits_;
  std::vector<layer> layers_;
  std::set<uuid> images_; ///< of layers_, to see loops
  std::size_t open_files_ = 0;
  std::size_t l1_place_bytes_ = 0;  ///< what the layers' lists of pieces take
  std::size_t l1_bytes_ = 0;        ///< and the pieces in them
  std::size_t l1_forget_layer_ = 0; ///< whose turn it is to forget them
  std::uint64_t uses_ = 0;

  std::list<cached_table> tables_; ///< most recently used first
  std::unordered_map<table_key, std::list<cached_table>::iterator, boost::hash<table_key>>
      table_index_;
  std::size_t l2_bytes_ = 0;
};

} // namespace coppice::storage::qcow2
