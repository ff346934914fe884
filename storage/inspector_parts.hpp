#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/result.hpp"
#include "storage/inspector.hpp"
#include "storage/inspector_ext4.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage::inspection {

/// A part of a body as protocol/inspect.capnp has it.
struct disk_part {
  std::string data;
  std::uint64_t offset_bytes = 0;
  std::uint64_t bytes = 0;
  bool is_zeros = false;
};

/// The parts of one answer, within what a frame holds.
class part_list {
public:
  explicit part_list(std::uint64_t content_bytes_max);

  bool is_full() const;
  /// How much content may still be named.
  std::uint64_t content_room_bytes() const {
    return content_bytes_max_ - content_bytes_;
  }
  void add(std::string_view data) {
    pending_ += data;
  }
  void add(const content_reader::piece& found);
  frame<proto::InspectAnswer> take(bool is_last);

private:
  std::uint64_t content_bytes_max_;
  std::uint64_t content_bytes_ = 0;
  std::size_t data_bytes_ = 0;
  std::string pending_;
  std::vector<disk_part> parts_;
};

/// What is left of a file's content to be told.
struct file_cursor {
  std::unique_ptr<content_reader> content;
  std::uint64_t offset_bytes = 0;
  std::uint64_t end_bytes = 0;

  /// A regular file's, checked against what ext4 can hold.
  static result<file_cursor> open(file_system& fs, const file_inode& inode);
  bool has_ended() const {
    return offset_bytes == end_bytes;
  }
  /// Adds what the list has room for.
  result<void> tell(part_list& out);
};

/// Where the bytes of one file are.
class file_parts final : public answer_source {
public:
  explicit file_parts(file_cursor file) : file_{std::move(file)} {}
  result<frame<proto::InspectAnswer>> next(std::uint64_t content_bytes_max) override;

private:
  file_cursor file_;
};

/// The tar stream of a path and everything below it.
std::unique_ptr<answer_source> make_archive(file_system& fs, std::string path,
                                            const file_inode& inode);

} // namespace coppice::storage::inspection
