#include "storage/disk/index_codec.hpp"

#include "storage/error.hpp"

#include <boost/crc.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::size_t id_bytes = 16;
constexpr std::size_t checksum_bytes = 4;
constexpr std::size_t run_bytes_min = 2;
constexpr unsigned number_bytes_max = 5; // 35 bits: two more than any number here has

std::uint32_t checksum_of(std::span<const std::byte> bytes, const uuid& image,
                          const uuid& checkpoint) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> sum;
  for (const auto& id : {image.bytes(), checkpoint.bytes()}) {
    sum.process_bytes(id.data(), id.size());
  }
  sum.process_bytes(bytes.data(), bytes.size());
  return static_cast<std::uint32_t>(sum.checksum());
}

void put_number(std::vector<std::byte>& out, std::uint64_t number) {
  for (; number >= 0x80; number >>= 7) {
    out.push_back(static_cast<std::byte>(number | 0x80));
  }
  out.push_back(static_cast<std::byte>(number));
}

/// Whether the level is a checkpoint or stands on one.
std::byte kind_of(const uuid& checkpoint) {
  return checkpoint ? std::byte{1} : std::byte{0};
}

std::uint64_t zigzag(cluster_number from, cluster_number to) {
  return to >= from ? std::uint64_t{to - from} << 1 : (std::uint64_t{from - to} << 1) - 1;
}

failure damaged(const std::string& what) {
  return fail(ec::damaged, "block index: " + what);
}

/// Reads one level. Every `take_` is nothing when the bytes do not have it.
class level_reader {
public:
  explicit level_reader(std::span<const std::byte> bytes) : rest_{bytes} {}

  result<void> read_files();
  result<void> read_runs();

  index_level take() {
    return std::move(level_);
  }

private:
  std::optional<std::uint64_t> take_number();
  result<void> read_run();
  result<std::uint32_t> read_slot(run_kind kind);
  failure wrong(const char* what) const {
    return damaged("run " + std::to_string(level_.entries.size()) + ": " + what);
  }

  std::span<const std::byte> rest_;
  index_level level_;
  /// Where the last run of each file ended, of those that were named.
  std::vector<cluster_number> ends_;
  std::optional<std::uint32_t> last_slot_;
  cluster_number guest_ = 0;
};

std::optional<std::uint64_t> level_reader::take_number() {
  std::uint64_t number = 0;
  for (unsigned i = 0; i < number_bytes_max && i < rest_.size(); ++i) {
    const auto byte = std::to_integer<std::uint64_t>(rest_[i]);
    number |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      if (byte == 0 && i > 0) {
        return std::nullopt; // the same number has a shorter form
      }
      rest_ = rest_.subspan(i + 1);
      return number;
    }
  }
  return std::nullopt;
}

result<void> level_reader::read_files() {
  const auto count = take_number();
  if (!count || *count > rest_.size() / id_bytes) {
    return damaged("its file table is longer than itself");
  }
  level_.files.reserve(static_cast<std::size_t>(*count));
  for (std::uint64_t i = 0; i < *count; ++i) {
    uuid file;
    for (std::size_t at = 0; at < id_bytes; ++at) {
      auto& half = at < id_bytes / 2 ? file.hi : file.lo;
      half = half << 8 | std::to_integer<std::uint64_t>(rest_[at]);
    }
    if (!file) {
      return damaged("file " + std::to_string(i) + " has no id");
    }
    level_.files.push_back(file);
    rest_ = rest_.subspan(id_bytes);
  }
  ends_.reserve(level_.files.size());
  return {};
}

result<std::uint32_t> level_reader::read_slot(run_kind kind) {
  if (kind == run_kind::next_file) {
    if (ends_.size() == level_.files.size()) {
      return wrong("a file beyond the table");
    }
    ends_.push_back(0);
    return static_cast<std::uint32_t>(ends_.size() - 1);
  }
  if (kind == run_kind::same_file) {
    if (!last_slot_) {
      return wrong("the same file as none");
    }
    return *last_slot_;
  }
  const auto slot = take_number();
  if (!slot || *slot >= ends_.size() || *slot == last_slot_) {
    return wrong("no other file that was named");
  }
  return static_cast<std::uint32_t>(*slot);
}

result<void> level_reader::read_run() {
  const auto gap = take_number();
  const auto head = gap ? take_number() : std::nullopt;
  if (!head) {
    return wrong("cut off");
  }
  const auto count = (*head >> 2) + 1;
  if (*gap > clusters_end - guest_ || count > clusters_end - guest_ - *gap) {
    return wrong("beyond the largest disk");
  }
  index_entry run{static_cast<cluster_number>(guest_ + *gap), static_cast<cluster_number>(count),
                  index_entry::zeros_slot, 0};
  guest_ = run.end();
  if (const auto kind = static_cast<run_kind>(*head & 3); kind != run_kind::zeros) {
    auto slot = read_slot(kind);
    if (!slot) {
      return slot.error();
    }
    const auto distance = take_number();
    if (!distance) {
      return wrong("cut off");
    }
    const std::uint64_t from = ends_[*slot];
    const auto steps = (*distance >> 1) + (*distance & 1);
    const auto is_back = (*distance & 1) != 0;
    if (steps > (is_back ? from : clusters_end - from)) {
      return wrong("beyond the largest file");
    }
    const auto file = is_back ? from - steps : from + steps;
    if (count > clusters_end - file) {
      return wrong("beyond the largest file");
    }
    run.slot = *slot;
    run.file = static_cast<cluster_number>(file);
    ends_[run.slot] = run.file + run.count;
    last_slot_ = run.slot;
  }
  level_.entries.push_back(run);
  return {};
}

result<void> level_reader::read_runs() {
  const auto count = take_number();
  if (!count || *count > rest_.size() / run_bytes_min) {
    return damaged("it has more runs than bytes");
  }
  level_.entries.reserve(static_cast<std::size_t>(*count));
  for (std::uint64_t i = 0; i < *count; ++i) {
    if (auto read = read_run(); !read) {
      return read.error();
    }
  }
  if (!rest_.empty()) {
    return damaged(std::to_string(rest_.size()) + " bytes behind the last run");
  }
  if (ends_.size() != level_.files.size()) {
    return damaged("its file table has files that no run names");
  }
  return {};
}

} // namespace

void append_checksum(std::vector<std::byte>& bytes, const uuid& image, const uuid& checkpoint) {
  auto sum = checksum_of(bytes, image, checkpoint);
  for (std::size_t i = 0; i < checksum_bytes; ++i, sum >>= 8) {
    bytes.push_back(static_cast<std::byte>(sum));
  }
}

std::vector<std::byte> encode_level(const index_level& level, const uuid& image,
                                    const uuid& checkpoint) {
  std::vector<std::byte> out{index_format_version, kind_of(checkpoint)};
  out.reserve(32 + level.files.size() * id_bytes + level.entries.size() * 8);
  put_number(out, level.files.size());
  for (const auto& file : level.files) {
    for (auto byte : file.bytes()) {
      out.push_back(std::byte{byte});
    }
  }
  put_number(out, level.entries.size());
  std::vector<cluster_number> ends;
  ends.reserve(level.files.size());
  std::optional<std::uint32_t> last_slot;
  cluster_number guest = 0;
  for (const auto& run : level.entries) {
    auto kind = run_kind::another_file;
    if (run.is_zeros()) {
      kind = run_kind::zeros;
    } else if (run.slot == last_slot) {
      kind = run_kind::same_file;
    } else if (run.slot == ends.size()) {
      kind = run_kind::next_file;
      ends.push_back(0);
    }
    put_number(out, run.guest - guest);
    put_number(out, std::uint64_t{run.count - 1} << 2 | static_cast<unsigned>(kind));
    guest = run.end();
    if (kind == run_kind::zeros) {
      continue;
    }
    if (kind == run_kind::another_file) {
      put_number(out, run.slot);
    }
    put_number(out, zigzag(ends[run.slot], run.file));
    ends[run.slot] = run.file + run.count;
    last_slot = run.slot;
  }
  append_checksum(out, image, checkpoint);
  return out;
}

result<index_level> decode_level(std::span<const std::byte> bytes, const uuid& image,
                                 const uuid& checkpoint) {
  if (bytes.size() < 2 + checksum_bytes) {
    return damaged("it has " + std::to_string(bytes.size()) + " bytes");
  }
  const auto body = bytes.first(bytes.size() - checksum_bytes);
  std::uint32_t stored = 0;
  for (std::size_t i = checksum_bytes; i-- > 0;) {
    stored = stored << 8 | std::to_integer<std::uint32_t>(bytes[body.size() + i]);
  }
  if (body[0] != index_format_version) {
    return damaged("version " + std::to_string(std::to_integer<unsigned>(body[0])));
  }
  if (body[1] != kind_of(checkpoint)) {
    return damaged(checkpoint ? "a checkpoint where changes belong"
                              : "changes without their checkpoint");
  }
  if (stored != checksum_of(body, image, checkpoint)) {
    return damaged("its checksum does not fit image " + image.text() +
                   (checkpoint ? " on checkpoint " + checkpoint.text() : ""));
  }
  level_reader reader{body.subspan(2)};
  if (auto read = reader.read_files(); !read) {
    return read.error();
  }
  if (auto read = reader.read_runs(); !read) {
    return read.error();
  }
  return reader.take();
}

} // namespace coppice::storage
