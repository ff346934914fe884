#include "storage/qcow2/header.hpp"

#include "storage/error.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace coppice::storage::qcow2 {

namespace {

constexpr std::string_view name_suffix = ".qcow2";
constexpr std::string_view backing_format_name = "qcow2";

/// Two numbers of 8 bytes: checksum_place.
constexpr std::size_t checksums_extension_bytes = 16;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// One parse: the input, and the header as far as it is known.
class parser {
public:
  parser(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& name)
      : start_{start}, file_bytes_{file_bytes}, name_{name} {}

  result<header> run();

private:
  failure bad(ec code, std::string_view what) const {
    return fail(code, name_ + ": " + std::string{what});
  }

  result<void> identity();
  result<void> features();
  result<void> disk();
  result<void> refcounts();
  result<void> extensions();
  result<void> one_extension(std::uint32_t type, std::span<const std::byte> data);
  result<void> checksums(std::span<const std::byte> data);
  result<void> backing_file();

  /// A table that starts at a cluster boundary behind the header and ends inside the file.
  bool table_fits(std::uint64_t offset, std::uint64_t length) const {
    return offset != 0 && offset % out_.cluster_bytes() == 0 && offset < file_bytes_ &&
           length <= file_bytes_ - offset;
  }

  template <class T>
  T get(std::size_t at) const {
    return load_be<T>(start_, at);
  }

  std::span<const std::byte> start_;
  std::uint64_t file_bytes_;
  const std::string& name_;
  header out_;
  bool has_backing_format_ = false;
};

result<header> parser::run() {
  using step = result<void> (parser::*)();
  static constexpr std::array<step, 6> steps{&parser::identity,   &parser::features,
                                             &parser::disk,       &parser::refcounts,
                                             &parser::extensions, &parser::backing_file};
  for (auto next : steps) {
    if (auto done = (this->*next)(); !done) {
      return done.error();
    }
  }
  return std::move(out_);
}

result<void> parser::identity() {
  if (start_.size() < header_length_min) {
    return bad(ec::damaged, "too short for a qcow2 header");
  }
  if (get<std::uint32_t>(field::magic) != magic) {
    return bad(ec::damaged, "not a qcow2 file");
  }
  if (auto v = get<std::uint32_t>(field::version); v != version) {
    return bad(ec::unsupported, "qcow2 version " + std::to_string(v) + ", expected 3");
  }
  if (file_bytes_ > file_bytes_max) {
    return bad(ec::too_large, "file of " + std::to_string(file_bytes_) + " bytes");
  }
  out_.cluster_bits = get<std::uint32_t>(field::cluster_bits);
  if (out_.cluster_bits < cluster_bits_min || out_.cluster_bits > cluster_bits_max) {
    return bad(ec::damaged,
               "cluster_bits " + std::to_string(out_.cluster_bits) + " is outside of 9 to 21");
  }
  if (get<std::uint32_t>(field::crypt_method) != 0) {
    return bad(ec::unsupported, "encrypted");
  }
  if (get<std::uint32_t>(field::nb_snapshots) != 0) {
    return bad(ec::unsupported, "has internal snapshots");
  }
  return {};
}

result<void> parser::features() {
  static constexpr std::array<std::pair<std::uint64_t, const char*>, 5> known{{
      {incompatible_dirty, "marked dirty: it was not closed properly"},
      {incompatible_corrupt, "marked corrupt"},
      {incompatible_external_data, "has an external data file"},
      {incompatible_compression_type, "has a compression type of its own"},
      {incompatible_extended_l2, "has extended L2 entries"},
  }};
  auto bits = get<std::uint64_t>(field::incompatible_features);
  for (auto [bit, what] : known) {
    if ((bits & bit) != 0) {
      auto is_state = bit == incompatible_dirty || bit == incompatible_corrupt;
      return bad(is_state ? ec::damaged : ec::unsupported, what);
    }
  }
  if (bits != 0) {
    return bad(ec::unsupported, "has unknown incompatible features");
  }
  // Bitmaps and raw external data: we write neither, and ignoring the second would be wrong.
  if (get<std::uint64_t>(field::autoclear_features) != 0) {
    return bad(ec::unsupported, "has autoclear features");
  }
  out_.compatible_features = get<std::uint64_t>(field::compatible_features);
  return {};
}

result<void> parser::disk() {
  out_.disk_bytes = get<std::uint64_t>(field::size);
  if (out_.disk_bytes == 0 || out_.disk_bytes % 512 != 0) {
    return bad(ec::damaged, "disk of " + std::to_string(out_.disk_bytes) + " bytes");
  }
  if (out_.disk_bytes > disk_bytes_max) {
    return bad(ec::too_large, "disk of " + std::to_string(out_.disk_bytes) + " bytes");
  }
  out_.l1_entries = get<std::uint32_t>(field::l1_size);
  out_.l1_offset = get<std::uint64_t>(field::l1_table_offset);
  auto needed = l1_entries_for(out_.disk_bytes, out_.cluster_bits);
  if (needed * entry_bytes > l1_bytes_max) {
    return bad(ec::too_large, "the disk is too large for its clusters");
  }
  if (out_.l1_entries < needed ||
      out_.l1_entries > divide_up(needed, out_.l2_entries()) * out_.l2_entries()) {
    return bad(ec::damaged, "L1 table of " + std::to_string(out_.l1_entries) +
                                " entries, the disk needs " + std::to_string(needed));
  }
  if (!table_fits(out_.l1_offset, std::uint64_t{out_.l1_entries} * entry_bytes)) {
    return bad(ec::damaged, "L1 table at " + std::to_string(out_.l1_offset) +
                                " is misaligned or outside of the file");
  }
  return {};
}

result<void> parser::refcounts() {
  out_.refcount_order = get<std::uint32_t>(field::refcount_order);
  if (out_.refcount_order > refcount_order_max) {
    return bad(ec::damaged,
               "refcount_order " + std::to_string(out_.refcount_order) + " is above 6");
  }
  out_.refcount_table_offset = get<std::uint64_t>(field::refcount_table_offset);
  out_.refcount_table_clusters = get<std::uint32_t>(field::refcount_table_clusters);
  auto length = std::uint64_t{out_.refcount_table_clusters} * out_.cluster_bytes();
  if (length == 0 || length > std::max(refcount_table_bytes_max, out_.cluster_bytes())) {
    return bad(ec::damaged, "refcount table of " + std::to_string(length) + " bytes");
  }
  if (!table_fits(out_.refcount_table_offset, length)) {
    return bad(ec::damaged, "refcount table at " + std::to_string(out_.refcount_table_offset) +
                                " is misaligned or outside of the file");
  }
  return {};
}

/// Section "Header extensions": they follow the header, each padded to 8 bytes.
result<void> parser::extensions() {
  auto area = std::min<std::uint64_t>(start_.size(), out_.cluster_bytes());
  std::uint64_t at = get<std::uint32_t>(field::header_length);
  if (at < header_length_min || at % 8 != 0 || at > area) {
    return bad(ec::damaged, "header_length " + std::to_string(at));
  }
  if (at > field::compression_type && start_[field::compression_type] != std::byte{0}) {
    return bad(ec::unsupported, "has a compression type of its own");
  }
  while (area - at >= 8) {
    auto type = get<std::uint32_t>(at);
    std::uint64_t length = get<std::uint32_t>(at + 4);
    if (type == extension::end) {
      return {};
    }
    at += 8;
    if (length > area - at) {
      return bad(ec::damaged, "a header extension leaves the header");
    }
    if (auto done = one_extension(type, start_.subspan(at, length)); !done) {
      return done;
    }
    at = std::min(area, at + divide_up(length, 8) * 8);
  }
  return bad(ec::damaged, "the header extensions have no end");
}

result<void> parser::one_extension(std::uint32_t type, std::span<const std::byte> data) {
  switch (type) {
  case extension::backing_format:
    if (has_backing_format_) {
      return bad(ec::damaged, "names the backing format twice");
    }
    if (as_text(data) != backing_format_name) {
      return bad(ec::unsupported, "the backing format is not qcow2");
    }
    has_backing_format_ = true;
    return {};
  case extension::checksums:
    return checksums(data);
  case extension::external_data_file:
    return bad(ec::unsupported, "has an external data file");
  case extension::encryption:
    return bad(ec::unsupported, "encrypted");
  case extension::bitmaps:
    return bad(ec::unsupported, "has bitmaps");
  default:
    return {}; // names of features, and "unknown header extension, can be safely ignored"
  }
}

result<void> parser::checksums(std::span<const std::byte> data) {
  if (out_.checksums) {
    return bad(ec::damaged, "says twice where its checksums are");
  }
  if (data.size() != checksums_extension_bytes) {
    return bad(ec::damaged, "the place of the checksums takes " + std::to_string(data.size()) +
                                " bytes, expected " + std::to_string(checksums_extension_bytes));
  }
  checksum_place place{load_be<std::uint64_t>(data, 0), load_be<std::uint64_t>(data, 8)};
  // Without any they still have a place: the end of the file.
  if (place.offset_bytes == 0 || place.offset_bytes % out_.cluster_bytes() != 0 ||
      place.offset_bytes > file_bytes_ ||
      place.count > (file_bytes_ - place.offset_bytes) / checksum_bytes) {
    return bad(ec::damaged, std::to_string(place.count) + " checksums at " +
                                std::to_string(place.offset_bytes) +
                                " are misaligned or outside of the file");
  }
  out_.checksums = place;
  return {};
}

result<void> parser::backing_file() {
  auto offset = get<std::uint64_t>(field::backing_file_offset);
  auto length = get<std::uint32_t>(field::backing_file_size);
  if (offset == 0) {
    if (has_backing_format_) {
      return bad(ec::damaged, "has a backing format but no backing file");
    }
    return {};
  }
  auto area = std::min<std::uint64_t>(start_.size(), out_.cluster_bytes());
  if (offset > area || length > area - offset) {
    return bad(ec::damaged, "the backing file name leaves the header");
  }
  out_.parent = image_of_backing_name(as_text(start_.subspan(offset, length)));
  if (!out_.parent) {
    // The name itself stays out of the text: it may be anything.
    return bad(ec::unsupported, "the backing file is not an image of the store");
  }
  if (!has_backing_format_) {
    return bad(ec::unsupported, "the backing file is named without its format");
  }
  return {};
}

} // namespace

std::string backing_name(const uuid& image) {
  return image.text() + std::string{name_suffix};
}

std::optional<uuid> image_of_backing_name(std::string_view name) {
  if (!name.ends_with(name_suffix)) {
    return std::nullopt;
  }
  auto id = uuid::parse(name.substr(0, name.size() - name_suffix.size()));
  // One spelling only: what is written again is then the same file on every file system.
  if (!id || !*id || backing_name(*id) != name) {
    return std::nullopt;
  }
  return id;
}

result<header> parse_header(std::span<const std::byte> start, std::uint64_t file_bytes,
                            const std::string& name) {
  return parser{start, file_bytes, name}.run();
}

result<header> read_header(const byte_source& source) {
  std::array<std::byte, header_area_bytes> area{};
  auto length = std::min<std::uint64_t>(area.size(), source.size_bytes());
  auto start = std::span{area}.first(static_cast<std::size_t>(length));
  if (auto done = source.read(0, start); !done) {
    return done.error();
  }
  return parse_header(start, source.size_bytes(), source.name());
}

std::vector<std::byte> encode_header(const header& value) {
  std::vector<std::byte> out(header_length_written);
  store_be(out, field::magic, magic);
  store_be(out, field::version, version);
  store_be(out, field::cluster_bits, value.cluster_bits);
  store_be(out, field::size, value.disk_bytes);
  store_be(out, field::l1_size, value.l1_entries);
  store_be(out, field::l1_table_offset, value.l1_offset);
  store_be(out, field::refcount_table_offset, value.refcount_table_offset);
  store_be(out, field::refcount_table_clusters, value.refcount_table_clusters);
  store_be(out, field::compatible_features, value.compatible_features);
  store_be(out, field::refcount_order, value.refcount_order);
  store_be(out, field::header_length, static_cast<std::uint32_t>(header_length_written));
  auto append_text = [&](std::string_view text) {
    auto bytes = std::as_bytes(std::span{text});
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  auto append_extension = [&](std::uint32_t type, std::string_view data) {
    auto at = out.size();
    out.resize(at + 8);
    store_be(out, at, type);
    store_be(out, at + 4, static_cast<std::uint32_t>(data.size()));
    append_text(data);
    out.resize(divide_up(out.size(), 8) * 8);
  };
  if (value.parent) {
    append_extension(extension::backing_format, backing_format_name);
  }
  if (value.checksums) {
    std::array<std::byte, checksums_extension_bytes> place{};
    store_be(place, 0, value.checksums->offset_bytes);
    store_be(place, 8, value.checksums->count);
    append_extension(extension::checksums, as_text(place));
  }
  append_extension(extension::end, {});
  if (value.parent) {
    auto name = backing_name(*value.parent);
    store_be(out, field::backing_file_offset, static_cast<std::uint64_t>(out.size()));
    store_be(out, field::backing_file_size, static_cast<std::uint32_t>(name.size()));
    append_text(name);
  }
  return out;
}

} // namespace coppice::storage::qcow2
