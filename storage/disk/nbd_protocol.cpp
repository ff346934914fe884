#include "storage/disk/nbd_protocol.hpp"

#include <cerrno>

namespace coppice::storage::nbd {

namespace {

/// Writes the head of a chunk that is the only one of its reply.
void encode_chunk_header(const request& r, chunk type, std::uint32_t payload_bytes,
                         std::span<std::byte> out) {
  store_be(out, 0, structured_reply_magic);
  store_be(out, 4, reply_flag_done);
  store_be(out, 6, static_cast<std::uint16_t>(type));
  store_be(out, 8, r.cookie);
  store_be(out, 16, payload_bytes);
}

void encode_simple_reply(const request& r, error what, std::span<std::byte> out) {
  store_be(out, 0, simple_reply_magic);
  store_be(out, 4, static_cast<std::uint32_t>(what));
  store_be(out, 8, r.cookie);
}

/// Section "Command flags": FUA goes with every command, the others with one each.
std::uint16_t flags_known(command c, const agreement& agreed) {
  switch (c) {
  case command::read:
    return static_cast<std::uint16_t>(flag_fua | (agreed.structured_replies ? flag_df : 0));
  case command::write_zeroes:
    return static_cast<std::uint16_t>(flag_fua | flag_no_hole | flag_fast_zero);
  case command::block_status:
    return static_cast<std::uint16_t>(flag_fua | flag_req_one);
  case command::write:
  case command::disc:
  case command::flush:
  case command::trim:
    break;
  }
  return flag_fua;
}

bool lies_on_disk(const request& r, std::uint64_t disk_bytes) {
  return r.length != 0 && r.offset % cluster_bytes == 0 && r.length % cluster_bytes == 0 &&
         r.offset <= disk_bytes && r.length <= disk_bytes - r.offset;
}

} // namespace

error error_of(int error_number) {
  switch (error_number) {
  case 0:
    return error::none;
  case EPERM:
  case EACCES:
  case EROFS:
    return error::perm;
  case ENOMEM:
    return error::nomem;
  case EINVAL:
    return error::inval;
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return error::nospc;
  case ENOTSUP:
    return error::notsup;
  case ESHUTDOWN:
    return error::shutdown;
  default:
    return error::io;
  }
}

std::optional<request> parse_request(std::span<const std::byte> bytes) {
  if (load_be<std::uint32_t>(bytes, 0) != request_magic) {
    return std::nullopt;
  }
  request r;
  r.flags = load_be<std::uint16_t>(bytes, 4);
  r.type = load_be<std::uint16_t>(bytes, 6);
  r.cookie = load_be<std::uint64_t>(bytes, 8);
  r.offset = load_be<std::uint64_t>(bytes, 16);
  r.length = load_be<std::uint32_t>(bytes, 24);
  return r;
}

error objection_to(const request& r, std::uint64_t disk_bytes, const agreement& agreed) {
  auto c = static_cast<command>(r.type);
  auto is_good = false;
  switch (c) {
  case command::read:
  case command::write:
    is_good = lies_on_disk(r, disk_bytes) && r.length <= payload_bytes_max;
    break;
  case command::trim:
  case command::write_zeroes: // without a payload, so of any length
    is_good = lies_on_disk(r, disk_bytes);
    break;
  case command::block_status:
    is_good = lies_on_disk(r, disk_bytes) && agreed.allocation_context;
    break;
  case command::flush:
  case command::disc:
    is_good = r.offset == 0 && r.length == 0;
    break;
  }
  auto has_known_flags = (r.flags & ~flags_known(c, agreed)) == 0;
  return is_good && has_known_flags ? error::none : error::inval;
}

bool is_hostile(const request& r) {
  return r.payload_bytes() > payload_bytes_max;
}

std::size_t encode_reply(const request& r, error what, const agreement& agreed,
                         std::span<std::byte> out) {
  // Structured replies must answer a read ("Structured reply chunk message"), and so does every
  // server answer a block status, which only exists with them. The rest is shorter as it was.
  auto needs_chunk =
      agreed.structured_replies && (r.is(command::read) || r.is(command::block_status));
  if (!needs_chunk) {
    encode_simple_reply(r, what, out);
    return simple_reply_bytes;
  }
  encode_chunk_header(r, chunk::error, 6, out);
  store_be(out, 20, static_cast<std::uint32_t>(what));
  store_be(out, 24, std::uint16_t{0}); // no text
  return chunk_header_bytes + 6;
}

std::size_t read_header_bytes(const agreement& agreed) {
  return agreed.structured_replies ? chunk_header_bytes + 8 : simple_reply_bytes;
}

std::size_t encode_read_header(const request& r, const agreement& agreed,
                               std::span<std::byte> out) {
  if (!agreed.structured_replies) {
    encode_simple_reply(r, error::none, out);
    return simple_reply_bytes;
  }
  encode_chunk_header(r, chunk::offset_data, r.length + 8, out);
  store_be(out, chunk_header_bytes, r.offset);
  return chunk_header_bytes + 8;
}

std::size_t encode_status_header(const request& r, std::size_t runs, std::span<std::byte> out) {
  encode_chunk_header(r, chunk::block_status, static_cast<std::uint32_t>(4 + 8 * runs), out);
  store_be(out, chunk_header_bytes, allocation_context_id);
  return chunk_header_bytes + 4;
}

void encode_status_run(std::size_t index, std::uint32_t length_bytes, std::uint32_t state,
                       std::span<std::byte> out) {
  auto at = status_reply_bytes(index);
  store_be(out, at, length_bytes);
  store_be(out, at + 4, state);
}

} // namespace coppice::storage::nbd
