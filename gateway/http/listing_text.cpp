#include "gateway/http/listing_text.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <string_view>

namespace coppice::gateway {
namespace {

char type_letter(std::uint32_t mode) {
  switch (mode & 0170000u) {
  case 0040000u:
    return 'd';
  case 0120000u:
    return 'l';
  case 0140000u:
    return 's';
  case 0010000u:
    return 'p';
  case 0020000u:
    return 'c';
  case 0060000u:
    return 'b';
  default:
    return '-';
  }
}

std::string printable(std::string_view text) {
  std::string out{text};
  for (auto& c : out) {
    if (static_cast<unsigned char>(c) < ' ' || c == 127) {
      c = '?';
    }
  }
  return out;
}

std::string time_column(std::int64_t unix_s) {
  std::tm parts{};
  auto time = static_cast<std::time_t>(unix_s);
  if (!gmtime_r(&time, &parts)) {
    return "?";
  }
  std::array<char, 64> text{};
  auto size = std::strftime(text.data(), text.size(), "%b %d %H:%M", &parts);
  return {text.data(), size};
}

} // namespace

std::string mode_text(std::uint32_t mode) {
  std::string out{"-rwxrwxrwx"};
  out[0] = type_letter(mode);
  for (unsigned bit = 0; bit < 9; ++bit) {
    if (!(mode & (0400u >> bit))) {
      out[bit + 1] = '-';
    }
  }
  auto special = [&](std::uint32_t flag, std::size_t column, char letter) {
    if (mode & flag) {
      out[column] = out[column] == 'x' ? letter : static_cast<char>(letter - 'a' + 'A');
    }
  };
  special(04000, 3, 's');
  special(02000, 6, 's');
  special(01000, 9, 't');
  return out;
}

std::string human_size(std::uint64_t bytes) {
  constexpr std::string_view units = "KMGTPE";
  if (bytes < 1024) {
    return std::to_string(bytes);
  }
  auto value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) {
    value /= 1024;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
  return text.data();
}

std::string listing_line(proto::FileEntry::Reader entry) {
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "%s %3u %5u %5u %6s %s ",
                mode_text(entry.getMode()).c_str(), entry.getLinkCount(), entry.getUid(),
                entry.getGid(), human_size(entry.getSizeBytes()).c_str(),
                time_column(entry.getMtimeUnixS()).c_str());
  std::string out{text.data()};
  out += printable(entry.getName().cStr());
  if (entry.getSymlinkTarget().size() > 0) {
    out += " -> ";
    out += printable(entry.getSymlinkTarget().cStr());
  }
  out += '\n';
  return out;
}

} // namespace coppice::gateway
