#include "storage/disk/nbd_handshake.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace coppice::storage::nbd {

namespace {

using bytes = std::vector<std::byte>;

constexpr std::string_view allocation_context_name = "base:allocation";
constexpr std::size_t option_header_bytes = 16;

class category : public std::error_category {
public:
  const char* name() const noexcept override {
    return "nbd";
  }
  std::string message(int code) const override {
    switch (static_cast<ec>(code)) {
    case ec::none:
      break;
    case ec::broken:
      return "the client broke the protocol";
    case ec::aborted:
      return "the client ended the handshake";
    }
    return "no error";
  }
};

template <class T>
void append(bytes& out, T value) {
  out.resize(out.size() + sizeof(T));
  store_be(out, out.size() - sizeof(T), value);
}

void append_text(bytes& out, std::string_view text) {
  auto raw = std::as_bytes(std::span{text});
  out.insert(out.end(), raw.begin(), raw.end());
}

void append_reply(bytes& out, std::uint32_t to, option_reply type, std::size_t data_bytes = 0) {
  append(out, option_reply_magic);
  append(out, to);
  append(out, static_cast<std::uint32_t>(type));
  append(out, static_cast<std::uint32_t>(data_bytes));
}

void append_reply(bytes& out, option to, option_reply type, std::size_t data_bytes = 0) {
  append_reply(out, static_cast<std::uint32_t>(to), type, data_bytes);
}

/// Takes pieces from the front of an option's data; what is not there is nothing.
class cursor {
public:
  explicit cursor(std::span<const std::byte> data) : rest_{data} {}

  template <class T>
  std::optional<T> number() {
    if (rest_.size() < sizeof(T)) {
      return std::nullopt;
    }
    auto value = load_be<T>(rest_, 0);
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  /// 32 bits of length and so many bytes.
  std::optional<std::span<const std::byte>> string() {
    auto length = number<std::uint32_t>();
    if (!length || *length > rest_.size()) {
      return std::nullopt;
    }
    auto out = rest_.first(*length);
    rest_ = rest_.subspan(*length);
    return out;
  }

  std::size_t rest_bytes() const {
    return rest_.size();
  }

private:
  std::span<const std::byte> rest_;
};

bool equal(std::span<const std::byte> name, std::string_view text) {
  return name.size() == text.size() &&
         (text.empty() || std::memcmp(name.data(), text.data(), text.size()) == 0);
}

} // namespace

const std::error_category& nbd_category() {
  static const category instance;
  return instance;
}

std::array<std::byte, greeting_bytes> greeting() {
  std::array<std::byte, greeting_bytes> out{};
  store_be(out, 0, init_magic);
  store_be(out, 8, option_magic);
  store_be(out, 16, static_cast<std::uint16_t>(flag_fixed_newstyle | flag_no_zeroes));
  return out;
}

handshake::handshake(std::uint64_t disk_bytes, std::string export_name)
    : disk_bytes_{disk_bytes}, export_name_{std::move(export_name)} {}

agreement handshake::agreed() const {
  return agreed_;
}

result<std::size_t> handshake::take(std::span<const std::byte> in, bytes& out) {
  std::size_t taken = 0;
  while (!is_done_ && taken < in.size()) {
    auto part = std::min(in.size() - taken, wanted_bytes_ - pending_.size());
    auto piece = in.subspan(taken, part);
    pending_.insert(pending_.end(), piece.begin(), piece.end());
    taken += part;
    if (pending_.size() < wanted_bytes_) {
      break;
    }
    if (!has_client_flags_) {
      if (auto done = take_client_flags(); !done) {
        return done.error();
      }
      continue;
    }
    if (load_be<std::uint64_t>(pending_, 0) != option_magic) {
      return fail(ec::broken, "an option does not begin with IHAVEOPT");
    }
    auto length = load_be<std::uint32_t>(pending_, 12);
    if (length > option_data_bytes_max) {
      return fail(ec::broken, "an option of " + std::to_string(length) + " bytes");
    }
    if (wanted_bytes_ = option_header_bytes + length; pending_.size() < wanted_bytes_) {
      continue;
    }
    auto done = take_option(out);
    pending_.clear();
    wanted_bytes_ = option_header_bytes;
    if (!done) {
      return done.error();
    }
    break; // the caller sends the reply before it goes on
  }
  return taken;
}

result<void> handshake::take_client_flags() {
  auto flags = load_be<std::uint32_t>(pending_, 0);
  if ((flags & ~std::uint32_t{flag_fixed_newstyle | flag_no_zeroes}) != 0) {
    return fail(ec::broken, "unknown client flags: " + std::to_string(flags));
  }
  is_fixed_ = (flags & flag_fixed_newstyle) != 0;
  sends_zeroes_ = (flags & flag_no_zeroes) == 0;
  has_client_flags_ = true;
  pending_.clear();
  wanted_bytes_ = option_header_bytes;
  return {};
}

result<void> handshake::take_option(bytes& out) {
  if (++options_count_ > options_max) {
    return fail(ec::broken, "more than " + std::to_string(options_max) + " options");
  }
  auto number = load_be<std::uint32_t>(pending_, 8);
  auto which = static_cast<option>(number);
  auto data = std::span<const std::byte>{pending_}.subspan(option_header_bytes);
  if (which == option::export_name) {
    return take_export_name(data, out);
  }
  if (!is_fixed_) { // "the only valid option in nonfixed newstyle negotiation"
    return fail(ec::broken, "option " + std::to_string(number) + " without fixed newstyle");
  }
  switch (which) {
  case option::abort:
    append_reply(out, which, option_reply::ack);
    return fail(ec::aborted, "the client ended the handshake");
  case option::list:
    if (!data.empty()) {
      append_reply(out, which, option_reply::err_invalid);
      return {};
    }
    append_reply(out, which, option_reply::server, 4 + export_name_.size());
    append(out, static_cast<std::uint32_t>(export_name_.size()));
    append_text(out, export_name_);
    append_reply(out, which, option_reply::ack);
    return {};
  case option::structured_reply:
    agreed_.structured_replies = agreed_.structured_replies || data.empty();
    append_reply(out, which, data.empty() ? option_reply::ack : option_reply::err_invalid);
    return {};
  case option::info:
  case option::go:
    take_go(which, data, out);
    return {};
  case option::list_meta_context:
  case option::set_meta_context:
    take_meta_context(which, data, out);
    return {};
  case option::export_name:
    break;
  }
  append_reply(out, number, option_reply::err_unsup);
  return {};
}

result<void> handshake::take_export_name(std::span<const std::byte> data, bytes& out) {
  if (!is_ours(data)) {
    return fail(ec::broken, "the client asked for an export that does not exist");
  }
  append(out, disk_bytes_);
  append(out, transmission_flags());
  out.resize(out.size() + (sends_zeroes_ ? 124 : 0));
  is_done_ = true;
  return {};
}

void handshake::take_go(option which, std::span<const std::byte> data, bytes& out) {
  cursor at{data};
  auto name = at.string();
  auto wishes = at.number<std::uint16_t>();
  if (!name || !wishes || at.rest_bytes() != 2u * *wishes) {
    append_reply(out, which, option_reply::err_invalid);
    return;
  }
  if (!is_ours(*name)) {
    append_reply(out, which, option_reply::err_unknown);
    return;
  }
  append_reply(out, which, option_reply::info, 12);
  append(out, info_export);
  append(out, disk_bytes_);
  append(out, transmission_flags());
  // Whether it was wished for or not: what does not keep to it is refused all the same.
  append_reply(out, which, option_reply::info, 14);
  append(out, info_block_size);
  append(out, static_cast<std::uint32_t>(cluster_bytes)); // minimum
  append(out, static_cast<std::uint32_t>(cluster_bytes)); // preferred
  append(out, payload_bytes_max);
  append_reply(out, which, option_reply::ack);
  is_done_ = which == option::go;
}

void handshake::take_meta_context(option which, std::span<const std::byte> data, bytes& out) {
  auto is_set = which == option::set_meta_context;
  if (is_set) { // "replaces all previously-set metadata contexts (including when this fails)"
    agreed_.allocation_context = false;
  }
  cursor at{data};
  auto name = at.string();
  auto queries = at.number<std::uint32_t>();
  auto is_valid = name && queries && agreed_.structured_replies;
  // No query at all lists everything and sets nothing.
  auto is_found = is_valid && !is_set && *queries == 0;
  // Each query takes four bytes at least, so the data bound the loop.
  for (std::uint32_t i = 0; is_valid && i < *queries; ++i) {
    auto query = at.string();
    is_valid = query.has_value();
    is_found =
        is_found ||
        (query && (equal(*query, allocation_context_name) || (!is_set && equal(*query, "base:"))));
  }
  if (!is_valid || at.rest_bytes() != 0) {
    append_reply(out, which, option_reply::err_invalid);
    return;
  }
  if (!is_ours(*name)) {
    append_reply(out, which, option_reply::err_unknown);
    return;
  }
  if (is_found) {
    append_reply(out, which, option_reply::meta_context, 4 + allocation_context_name.size());
    append(out, is_set ? allocation_context_id : 0u);
    append_text(out, allocation_context_name);
  }
  append_reply(out, which, option_reply::ack);
  agreed_.allocation_context = is_set ? is_found : agreed_.allocation_context;
}

bool handshake::is_ours(std::span<const std::byte> name) const {
  return name.empty() || equal(name, export_name_);
}

std::uint16_t handshake::transmission_flags() const {
  auto flags = export_has_flags | export_send_flush | export_send_fua | export_send_trim |
               export_send_write_zeroes | export_send_fast_zero;
  return static_cast<std::uint16_t>(flags | (agreed_.structured_replies ? export_send_df : 0));
}

} // namespace coppice::storage::nbd
