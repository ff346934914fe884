#include "storage/inspector_io.hpp"

#include "storage/error.hpp"

#include <cerrno>
#include <cstdint>
#include <span>

namespace coppice::storage::inspection {

namespace {

/// libext2fs opens channels by name; ours is handed over beside it, to this thread's next open.
thread_local block_source* source_to_open = nullptr;

struct source_channel : struct_io_channel {
  block_source* source = nullptr;
};

char channel_name[] = "block source";

errcode_t open_channel(const char* name, int flags, io_channel* out);
errcode_t close_channel(io_channel channel);
errcode_t set_block_bytes(io_channel channel, int block_bytes);
errcode_t read_blocks(io_channel channel, unsigned long block, int count, void* data);
errcode_t read_blocks64(io_channel channel, unsigned long long block, int count, void* data);
errcode_t refuse_write(io_channel channel, unsigned long block, int count, const void* data);
errcode_t refuse_write64(io_channel channel, unsigned long long block, int count, const void* data);
errcode_t flush(io_channel channel);

struct_io_manager make_manager() {
  struct_io_manager out{};
  out.magic = EXT2_ET_MAGIC_IO_MANAGER;
  out.name = channel_name;
  out.open = open_channel;
  out.close = close_channel;
  out.set_blksize = set_block_bytes;
  out.read_blk = read_blocks;
  out.read_blk64 = read_blocks64;
  out.write_blk = refuse_write;
  out.write_blk64 = refuse_write64;
  out.flush = flush;
  return out;
}

struct_io_manager manager = make_manager();

errcode_t open_channel(const char*, int flags, io_channel* out) {
  if (source_to_open == nullptr || (flags & IO_FLAG_RW) != 0) {
    return EXT2_ET_INVALID_ARGUMENT;
  }
  auto* channel = new source_channel{};
  channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->manager = &manager;
  channel->name = channel_name;
  channel->block_size = 1024;
  channel->refcount = 1;
  channel->source = source_to_open;
  *out = channel;
  return 0;
}

errcode_t close_channel(io_channel channel) {
  if (--channel->refcount == 0) {
    delete static_cast<source_channel*>(channel);
  }
  return 0;
}

errcode_t set_block_bytes(io_channel channel, int block_bytes) {
  channel->block_size = block_bytes;
  return 0;
}

errcode_t read_blocks(io_channel channel, unsigned long block, int count, void* data) {
  return read_blocks64(channel, block, count, data);
}

/// A positive count is one of blocks, a negative one of bytes. A read outside the disk is the fault
/// of the number that asked for it: damage, not an error of the host.
errcode_t read_blocks64(io_channel channel, unsigned long long block, int count, void* data) {
  auto& source = *static_cast<source_channel*>(channel)->source;
  const auto block_bytes = static_cast<std::uint64_t>(channel->block_size);
  const auto length = count < 0 ? static_cast<std::uint64_t>(-std::int64_t{count})
                                : static_cast<std::uint64_t>(count) * block_bytes;
  const auto size = source.size_bytes();
  if (block > size / block_bytes || length > size - block * block_bytes) {
    return EXT2_ET_SHORT_READ;
  }
  auto read = source.read(block * block_bytes, {static_cast<std::byte*>(data), length});
  return read ? 0 : EIO;
}

errcode_t refuse_write(io_channel, unsigned long, int, const void*) {
  return EROFS;
}

errcode_t refuse_write64(io_channel, unsigned long long, int, const void*) {
  return EROFS;
}

errcode_t flush(io_channel) {
  return 0;
}

} // namespace

errcode_t open_on_source(block_source& source, ext2_filsys* out) {
  source_to_open = &source;
  auto code = ext2fs_open2(channel_name, nullptr, EXT2_FLAG_64BITS, 0, 0, &manager, out);
  source_to_open = nullptr;
  return code;
}

} // namespace coppice::storage::inspection
