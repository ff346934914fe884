#include "vmm/launch_request.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace coppice::vmm {

namespace {

// Both sides are the same program on the same machine: numbers are in its own byte order.
//
//   u32 magic  u8 kind  u8 flags  u16 arguments  u16 descriptors
//   u64 address_space_bytes  u64 file_bytes  u64 memory_bytes
//   i16 placement, for each descriptor
//   u16 length and bytes, for each argument
constexpr std::uint32_t magic = 0x314a5043; // "CPJ1"
constexpr std::uint8_t flag_kvm = 1;

class writer {
public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), from, from + sizeof(value));
  }

  void text(std::string_view value) {
    number(static_cast<std::uint16_t>(value.size()));
    const auto* from = reinterpret_cast<const std::byte*>(value.data());
    out_.insert(out_.end(), from, from + value.size());
  }

  std::vector<std::byte> take() {
    return std::move(out_);
  }

private:
  std::vector<std::byte> out_;
};

/// Past the end everything reads as zero and `is_short` says so.
class reader {
public:
  explicit reader(std::span<const std::byte> bytes) : rest_{bytes} {}

  template <class T>
  T number() {
    static_assert(std::is_integral_v<T>);
    T value{};
    if (const auto from = piece(sizeof(value)); !from.empty()) {
      std::memcpy(&value, from.data(), sizeof(value));
    }
    return value;
  }

  std::string text() {
    const auto from = piece(number<std::uint16_t>());
    return {reinterpret_cast<const char*>(from.data()), from.size()};
  }

  bool is_short() const {
    return is_short_;
  }
  bool is_at_end() const {
    return rest_.empty();
  }

private:
  std::span<const std::byte> piece(std::size_t size) {
    if (size > rest_.size()) {
      is_short_ = true;
      rest_ = {};
      return {};
    }
    auto out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return out;
  }

  std::span<const std::byte> rest_;
  bool is_short_ = false;
};

bool has_folders(child_kind kind) {
  return kind == child_kind::import_worker || kind == child_kind::skopeo;
}

/// Why the placements cannot be carried out; empty if they can.
std::string objection_to_placements(const launch_request& request) {
  auto sorted = request.placements;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    return "a descriptor's place is given twice";
  }
  for (auto place : sorted) {
    if (place < placement::layout || place > launch_limits::descriptor_number_max) {
      return "a descriptor's number is out of range";
    }
    if ((place == placement::scratch || place == placement::layout) && !has_folders(request.kind)) {
      return "this kind of process gets no folder";
    }
  }
  if (!std::binary_search(sorted.begin(), sorted.end(), placement::lifeline)) {
    return "there is no life-line";
  }
  return {};
}

std::string objection_to(const launch_request& request) {
  if (request.kind == child_kind::plain || static_cast<std::size_t>(request.kind) >= child_kinds) {
    return "there is no such kind of process";
  }
  if (request.needs_kvm && request.kind != child_kind::qemu) {
    return "this kind of process has no use for KVM";
  }
  if (request.arguments.size() > launch_limits::arguments_max) {
    return "too many arguments";
  }
  if (request.placements.size() > launch_limits::descriptors_max) {
    return "too many descriptors";
  }
  for (const auto& argument : request.arguments) {
    if (argument.find('\0') != std::string::npos) {
      return "an argument contains a zero byte";
    }
  }
  return objection_to_placements(request);
}

failure refused(const std::string& why) {
  return fail(ec::protocol, "the request to the launcher is refused: " + why);
}

} // namespace

std::string_view to_string(child_kind kind) {
  constexpr std::string_view names[child_kinds] = {"plain", "qemu", "import-worker",
                                                   "inspect-worker", "skopeo"};
  const auto index = static_cast<std::size_t>(kind);
  return index < child_kinds ? names[index] : "unknown";
}

result<std::vector<std::byte>> encode(const launch_request& request) {
  if (auto why = objection_to(request); !why.empty()) {
    return refused(why);
  }
  writer out;
  out.number(magic);
  out.number(static_cast<std::uint8_t>(request.kind));
  out.number(static_cast<std::uint8_t>(request.needs_kvm ? flag_kvm : 0));
  out.number(static_cast<std::uint16_t>(request.arguments.size()));
  out.number(static_cast<std::uint16_t>(request.placements.size()));
  out.number(request.address_space_bytes);
  out.number(request.file_bytes);
  out.number(request.memory_bytes);
  for (auto place : request.placements) {
    out.number(place);
  }
  for (const auto& argument : request.arguments) {
    if (argument.size() >= launch_limits::request_bytes_max) {
      return refused("an argument is too long");
    }
    out.text(argument);
  }
  auto bytes = out.take();
  if (bytes.size() > launch_limits::request_bytes_max) {
    return refused("it is too long");
  }
  return bytes;
}

result<launch_request> parse_launch_request(std::span<const std::byte> bytes,
                                            std::size_t descriptor_count) {
  if (bytes.size() > launch_limits::request_bytes_max) {
    return refused("it is too long");
  }
  reader in{bytes};
  if (in.number<std::uint32_t>() != magic) {
    return refused("it does not begin like one");
  }
  launch_request out;
  out.kind = static_cast<child_kind>(in.number<std::uint8_t>());
  const auto flags = in.number<std::uint8_t>();
  const auto arguments = in.number<std::uint16_t>();
  const auto descriptors = in.number<std::uint16_t>();
  out.address_space_bytes = in.number<std::uint64_t>();
  out.file_bytes = in.number<std::uint64_t>();
  out.memory_bytes = in.number<std::uint64_t>();
  if ((flags & ~flag_kvm) != 0) {
    return refused("it has an unknown flag");
  }
  out.needs_kvm = flags == flag_kvm;
  // Before anything is kept for them.
  if (arguments > launch_limits::arguments_max || descriptors > launch_limits::descriptors_max) {
    return refused("too many arguments or descriptors");
  }
  if (descriptors != descriptor_count) {
    return refused("it came with another number of descriptors than it says");
  }
  for (std::size_t i = 0; i < descriptors; ++i) {
    out.placements.push_back(in.number<std::int16_t>());
  }
  for (std::size_t i = 0; i < arguments; ++i) {
    out.arguments.push_back(in.text());
  }
  if (in.is_short() || !in.is_at_end()) {
    return refused("its length is not what its numbers say");
  }
  if (auto why = objection_to(out); !why.empty()) {
    return refused(why);
  }
  return out;
}

} // namespace coppice::vmm
