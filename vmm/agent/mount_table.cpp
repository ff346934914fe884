#include "vmm/agent/mount_table.hpp"

#include <algorithm>
#include <charconv>

namespace coppice::agent {
namespace {

std::string_view next_field(std::string_view& line) {
  auto begin = line.find_first_not_of(' ');
  if (begin == line.npos) {
    line = {};
    return {};
  }
  line.remove_prefix(begin);
  auto end = std::min(line.find(' '), line.size());
  auto field = line.substr(0, end);
  line.remove_prefix(end);
  return field;
}

bool parse_number(std::string_view text, unsigned& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

} // namespace

std::string unescape_mount_path(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<mount_entry> parse_mountinfo(std::string_view text) {
  std::vector<mount_entry> out;
  for (std::size_t end = 0; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
    auto line = text.substr(0, end);
    mount_entry entry;
    auto id = next_field(line);
    next_field(line); // parent
    auto device = next_field(line);
    next_field(line); // root
    auto target = next_field(line);
    auto colon = device.find(':');
    if (colon == device.npos || target.empty() || !parse_number(id, entry.id) ||
        !parse_number(device.substr(0, colon), entry.device_major) ||
        !parse_number(device.substr(colon + 1), entry.device_minor)) {
      continue;
    }
    entry.target = unescape_mount_path(target);
    out.push_back(std::move(entry));
  }
  return out;
}

std::vector<std::string> parse_swaps(std::string_view text) {
  std::vector<std::string> out;
  bool is_heading = true;
  for (std::size_t end = 0; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
    auto line = text.substr(0, end);
    auto name = next_field(line);
    if (!is_heading && !name.empty()) {
      out.push_back(unescape_mount_path(name));
    }
    is_heading = false;
  }
  return out;
}

std::string read_start_of(int fd, std::size_t bytes_max) {
  std::string out;
  if (fd < 0 || ::lseek(fd, 0, SEEK_SET) < 0) {
    return out;
  }
  while (out.size() < bytes_max) {
    auto have = out.size();
    out.resize(std::min(bytes_max, have + (64u << 10)));
    auto n = ::read(fd, out.data() + have, out.size() - have);
    out.resize(have + static_cast<std::size_t>(n > 0 ? n : 0));
    if (n <= 0) {
      break;
    }
  }
  return out;
}

} // namespace coppice::agent
