#include "vmm/template_file.hpp"

#include "vmm/guest_protocol.hpp"

#include "protocol/limits.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

namespace coppice::vmm {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t piece_bytes = 1u << 20;
constexpr std::uint64_t state_bytes_max = 16u << 20;
constexpr std::array<char, 16> magic{'c', 'o', 'p', 'p', 'i', 'c', 'e', ' ',
                                     't', 'e', 'm', 'p', 'l', ' ', '1', '\n'};

struct file_header {
  std::array<char, 16> magic;
  sha256_digest key;
  std::uint64_t tsc_khz;
  std::uint64_t ram_bytes;
  std::uint64_t ready_bytes;
  std::uint64_t state_bytes;
  std::uint64_t extent_count;
  std::uint64_t content_bytes; ///< of all extents
};
static_assert(sizeof(file_header) == 96, "no padding: it is written as it is");

struct extent {
  std::uint64_t offset_bytes;
  std::uint64_t bytes;
};

failure trouble(const char* doing) {
  return fail(ec::io, std::string{doing} + ": " + std::strerror(errno));
}

failure damaged(const std::string& how) {
  return fail(ec::stale, "it is damaged: " + how);
}

/// A mapping of a memory file, for its lifetime.
class mapping {
public:
  static result<mapping> of(const unique_fd& file, std::uint64_t bytes, int protection, int kind) {
    void* at = ::mmap(nullptr, bytes, protection, kind, file.get(), 0);
    if (at == MAP_FAILED) {
      return trouble("mapping a template's memory");
    }
    return mapping{static_cast<std::byte*>(at), bytes};
  }
  mapping(mapping&& other) noexcept
      : at_{std::exchange(other.at_, nullptr)}, bytes_{other.bytes_} {}
  mapping& operator=(mapping&&) = delete;
  ~mapping() {
    if (at_ != nullptr) {
      ::munmap(at_, bytes_);
    }
  }
  std::span<std::byte> bytes() const {
    return {at_, bytes_};
  }

private:
  mapping(std::byte* at, std::uint64_t bytes) : at_{at}, bytes_{bytes} {}
  std::byte* at_;
  std::uint64_t bytes_;
};

/// Sequential, and hashed on the way.
class hashed_file {
public:
  explicit hashed_file(int file) : file_{file} {}

  result<void> write(std::span<const std::byte> bytes) {
    hash_.add(bytes);
    return write_plain(bytes);
  }

  result<void> write_digest() {
    const auto digest = hash_.finish();
    return write_plain(std::as_bytes(std::span{digest}));
  }

  result<void> read(std::span<std::byte> to) {
    auto done = read_plain(to);
    if (done) {
      hash_.add(to);
    }
    return done;
  }

  result<void> check_digest() {
    sha256_digest there{};
    if (auto done = read_plain(std::as_writable_bytes(std::span{there})); !done) {
      return done;
    }
    return hash_.finish() == there ? result<void>{} : damaged("its SHA-256 is another");
  }

private:
  result<void> write_plain(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto n = ::write(file_, bytes.data(), std::min(bytes.size(), piece_bytes));
      if (n < 0 && errno != EINTR) {
        return trouble("writing a template");
      }
      bytes = bytes.subspan(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
    return {};
  }

  result<void> read_plain(std::span<std::byte> to) {
    while (!to.empty()) {
      const auto n = ::read(file_, to.data(), std::min(to.size(), piece_bytes));
      if (n == 0) {
        return damaged("it ends too early");
      }
      if (n < 0 && errno != EINTR) {
        return trouble("reading a template");
      }
      to = to.subspan(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
    return {};
  }

  int file_;
  sha256 hash_;
};

bool is_zero(std::span<const std::byte> page) {
  return page.front() == std::byte{0} &&
         std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0;
}

/// The parts of a memory file that are not zero; holes are not even looked at.
std::vector<extent> used_extents(const unique_fd& file, std::span<const std::byte> content) {
  std::vector<extent> out;
  const auto end = static_cast<off_t>(content.size());
  off_t at = 0;
  while (at < end && (at = ::lseek(file.get(), at, SEEK_DATA)) >= 0) {
    const auto stop = std::min(::lseek(file.get(), at, SEEK_HOLE), end);
    for (; at < stop; at += page_bytes) {
      const auto offset = static_cast<std::uint64_t>(at);
      if (is_zero(content.subspan(offset, page_bytes))) {
        continue;
      }
      if (!out.empty() && out.back().offset_bytes + out.back().bytes == offset) {
        out.back().bytes += page_bytes;
      } else {
        out.push_back({offset, page_bytes});
      }
    }
  }
  return out;
}

std::uint64_t file_bytes_of(const file_header& header) {
  return sizeof(header) + header.ready_bytes + header.state_bytes +
         header.extent_count * sizeof(extent) + header.content_bytes + sizeof(sha256_digest);
}

bool is_clock_near(std::uint64_t one, std::uint64_t other) {
  const auto apart = one > other ? one - other : other - one;
  return apart * 1'000'000 <= other * clock_tolerance_ppm;
}

/// Everything that the sizes promise is held against the file and the wanted template.
result<void> check(const file_header& header, const template_ingredients& wanted,
                   std::uint64_t file_bytes) {
  if (header.magic != magic) {
    return damaged("it does not begin as a template");
  }
  if (header.key != key_of(wanted)) {
    return fail(ec::stale, "it was made of other ingredients (QEMU, kernel, agent, settings)");
  }
  if (!is_clock_near(header.tsc_khz, wanted.tsc_khz)) {
    return fail(ec::stale, "it was made for a clock of " + std::to_string(header.tsc_khz) +
                               " kHz, this host's has " + std::to_string(wanted.tsc_khz));
  }
  const auto ram_bytes = std::uint64_t{wanted.memory_mib} << 20;
  if (header.ram_bytes != ram_bytes || header.content_bytes > ram_bytes ||
      header.extent_count > ram_bytes / page_bytes || header.state_bytes > state_bytes_max ||
      header.ready_bytes > limits::channel_frame_bytes_max) {
    return damaged("its sizes cannot be");
  }
  if (file_bytes != file_bytes_of(header)) {
    return damaged("it has " + std::to_string(file_bytes) + " bytes instead of " +
                   std::to_string(file_bytes_of(header)));
  }
  return {};
}

result<frame<proto::FromGuest>> parse_ready(std::span<const std::byte> bytes) {
  auto out = checked<proto::FromGuest>(bytes, limits::channel_frame_bytes_max);
  if (!out || !objection_to(*out).empty() || !(*out->view()).isReady()) {
    return damaged("its ready message is none");
  }
  return *out;
}

result<void> read_memory(hashed_file& in, const std::vector<extent>& extents,
                         std::uint64_t content_bytes, std::span<std::byte> ram) {
  std::uint64_t end = 0;
  std::uint64_t sum = 0;
  for (const auto& piece : extents) {
    if (piece.offset_bytes < end || piece.bytes == 0 || piece.bytes > ram.size() ||
        piece.offset_bytes > ram.size() - piece.bytes || piece.bytes > content_bytes - sum) {
      return damaged("its extents overlap or leave the memory");
    }
    end = piece.offset_bytes + piece.bytes;
    sum += piece.bytes;
    if (auto done = in.read(ram.subspan(piece.offset_bytes, piece.bytes)); !done) {
      return done;
    }
  }
  return sum == content_bytes ? result<void>{} : damaged("its extents are too few");
}

result<unique_fd> make_memory_file(const char* name, std::uint64_t bytes) {
  unique_fd out{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!out || ::ftruncate(out.get(), static_cast<off_t>(bytes)) != 0) {
    return trouble("making a template's memory file");
  }
  return out;
}

} // namespace

result<void> write_template(int file, const vm_template& made) {
  auto ram = made.open_ram();
  auto state = made.open_state();
  if (!ram || !state) {
    return ram ? state.error() : ram.error();
  }
  auto ram_map = mapping::of(*ram, made.ram_bytes(), PROT_READ, MAP_PRIVATE);
  auto state_map = mapping::of(*state, made.state_bytes(), PROT_READ, MAP_PRIVATE);
  if (!ram_map || !state_map) {
    return ram_map ? state_map.error() : ram_map.error();
  }
  const auto extents = used_extents(*ram, ram_map->bytes());
  const auto ready = made.ready().bytes();
  file_header header{magic,
                     made.key(),
                     made.ingredients().tsc_khz,
                     made.ram_bytes(),
                     ready.size(),
                     made.state_bytes(),
                     extents.size(),
                     0};
  for (const auto& piece : extents) {
    header.content_bytes += piece.bytes;
  }
  hashed_file out{file};
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span{&header, 1}), ready,
                                                 state_map->bytes(),
                                                 std::as_bytes(std::span{extents})};
  for (const auto& piece : extents) {
    pieces.push_back(ram_map->bytes().subspan(piece.offset_bytes, piece.bytes));
  }
  for (const auto& piece : pieces) {
    if (auto done = out.write(piece); !done) {
      return done;
    }
  }
  return out.write_digest();
}

result<std::shared_ptr<const vm_template>> read_template(int file,
                                                         const template_ingredients& wanted) {
  struct stat st {};
  if (::fstat(file, &st) != 0) {
    return trouble("looking at a template");
  }
  hashed_file in{file};
  file_header header{};
  if (auto done = in.read(std::as_writable_bytes(std::span{&header, 1})); !done) {
    return done.error();
  }
  if (auto fits = check(header, wanted, static_cast<std::uint64_t>(st.st_size)); !fits) {
    return fits.error();
  }
  std::vector<std::byte> ready(header.ready_bytes);
  std::vector<extent> extents(header.extent_count);
  vm_template::parts parts;
  auto ram = make_memory_file("coppice-ram", header.ram_bytes);
  auto state = make_memory_file("coppice-state", header.state_bytes);
  if (!ram || !state) {
    return ram ? state.error() : ram.error();
  }
  if (header.state_bytes == 0) {
    return damaged("it has no state");
  }
  {
    auto ram_map = mapping::of(*ram, header.ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
    auto state_map = mapping::of(*state, header.state_bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
    if (!ram_map || !state_map) {
      return ram_map ? state_map.error() : ram_map.error();
    }
    for (auto to : {std::span<std::byte>{ready}, state_map->bytes(),
                    std::as_writable_bytes(std::span{extents})}) {
      if (auto done = in.read(to); !done) {
        return done.error();
      }
    }
    if (auto done = read_memory(in, extents, header.content_bytes, ram_map->bytes()); !done) {
      return done.error();
    }
  } // sealing asks that nothing is mapped for writing
  if (auto whole = in.check_digest(); !whole) {
    return whole.error();
  }
  auto message = parse_ready(ready);
  if (!message) {
    return message.error();
  }
  parts.ingredients = wanted;
  parts.ram = std::move(*ram);
  parts.state = std::move(*state);
  parts.ready = std::move(*message);
  return vm_template::make(std::move(parts));
}

} // namespace coppice::vmm
