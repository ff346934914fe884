#include "gateway/http/json_text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace coppice::gateway {
namespace {

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view hex_digits = "0123456789abcdef";
constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// Which bytes stand for themselves in a string, whatever is around them.
constexpr std::array<bool, 256> make_literals() {
  std::array<bool, 256> out{};
  for (std::size_t c = 0x20; c < 0x80; ++c) {
    out[c] = c != '"' && c != '\\';
  }
  return out;
}
constexpr auto literals = make_literals();

bool is_literal(char c) {
  return literals[static_cast<unsigned char>(c)];
}

void append_control(std::string& out, unsigned char c) {
  switch (c) {
  case '\n':
    out += "\\n";
    return;
  case '\r':
    out += "\\r";
    return;
  case '\t':
    out += "\\t";
    return;
  default:
    out += "\\u00";
    out += hex_digits[c >> 4];
    out += hex_digits[c & 15];
  }
}

int digit_of(char c) {
  if (c >= 'A' && c <= 'Z') {
    return c - 'A';
  }
  if (c >= 'a' && c <= 'z') {
    return c - 'a' + 26;
  }
  if (c >= '0' && c <= '9') {
    return c - '0' + 52;
  }
  if (c == '+') {
    return 62;
  }
  return c == '/' ? 63 : -1;
}

void append_group(std::string& out, unsigned a, unsigned b, unsigned c) {
  out += alphabet[a >> 2];
  out += alphabet[(a & 3u) << 4 | b >> 4];
  out += alphabet[(b & 15u) << 2 | c >> 6];
  out += alphabet[c & 63u];
}

} // namespace

void append_json_escaped(std::string& out, std::string_view text) {
  std::size_t pending = 0; // where what goes out as it is begins
  for (std::size_t at = 0; at < text.size();) {
    const auto c = static_cast<unsigned char>(text[at]);
    const auto bytes = is_literal(text[at]) ? std::size_t{1}
                       : c < 0x80           ? std::size_t{0}
                                            : utf8_character_bytes(text.substr(at));
    if (bytes > 0) {
      at += bytes;
      continue;
    }
    out += text.substr(pending, at - pending);
    if (c >= 0x80) {
      out += replacement;
    } else if (c < 0x20) {
      append_control(out, c);
    } else {
      out += '\\';
      out += static_cast<char>(c);
    }
    pending = ++at;
  }
  out += text.substr(pending);
}

void append_json_string(std::string& out, std::string_view text) {
  // Most are short names: in one go.
  std::array<char, 64> quoted;
  const bool is_short = text.size() <= quoted.size() - 2;
  if (is_short && std::all_of(text.begin(), text.end(), is_literal)) {
    quoted[0] = '"';
    text.copy(quoted.data() + 1, text.size());
    quoted[text.size() + 1] = '"';
    out.append(quoted.data(), text.size() + 2);
    return;
  }
  out += '"';
  append_json_escaped(out, text);
  out += '"';
}

bool is_plain(std::string_view bytes) {
  for (char c : bytes) {
    if ((c < 32 || c > 126) && c != '\t' && c != '\n' && c != '\r') {
      return false;
    }
  }
  return true;
}

void base64_encoder::append(std::string& out, std::string_view bytes) {
  auto at = [&](std::size_t i) -> unsigned {
    return i < held_count_ ? held_[i] : static_cast<unsigned char>(bytes[i - held_count_]);
  };
  std::size_t total = held_count_ + bytes.size();
  std::size_t whole = total / 3 * 3;
  out.reserve(out.size() + whole / 3 * 4);
  for (std::size_t i = 0; i < whole; i += 3) {
    append_group(out, at(i), at(i + 1), at(i + 2));
  }
  unsigned char rest[2]{};
  for (std::size_t i = whole; i < total; ++i) {
    rest[i - whole] = static_cast<unsigned char>(at(i));
  }
  held_[0] = rest[0];
  held_[1] = rest[1];
  held_count_ = total - whole;
}

void base64_encoder::finish(std::string& out) {
  if (held_count_ > 0) {
    append_group(out, held_[0], held_count_ > 1 ? held_[1] : 0u, 0);
    out.back() = '=';
    if (held_count_ == 1) {
      out[out.size() - 2] = '=';
    }
  }
  held_count_ = 0;
}

std::optional<std::string> base64_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size() / 4 * 3);
  unsigned bits = 0;
  std::size_t digits = 0;
  std::size_t padding = 0;
  for (char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') {
      continue;
    }
    if (c == '=') {
      ++padding;
      continue;
    }
    int digit = digit_of(c);
    if (digit < 0 || padding > 0) {
      return std::nullopt;
    }
    bits = (bits << 6 | static_cast<unsigned>(digit)) & 0xFFFFFFu;
    if (++digits % 4 == 0) {
      out += static_cast<char>(bits >> 16);
      out += static_cast<char>(bits >> 8 & 0xFFu);
      out += static_cast<char>(bits & 0xFFu);
    }
  }
  auto rest = digits % 4;
  if ((digits + padding) % 4 != 0 || padding > 2 || rest == 1) {
    return std::nullopt;
  }
  if (rest == 2) {
    out += static_cast<char>(bits >> 4 & 0xFFu);
  } else if (rest == 3) {
    out += static_cast<char>(bits >> 10 & 0xFFu);
    out += static_cast<char>(bits >> 2 & 0xFFu);
  }
  return out;
}

void json_writer::separate() {
  if (comma_) {
    out_ += ',';
  }
  comma_ = false;
}

void json_writer::begin_object() {
  separate();
  out_ += '{';
}

void json_writer::end_object() {
  out_ += '}';
  comma_ = true;
}

void json_writer::begin_array() {
  separate();
  out_ += '[';
}

void json_writer::end_array() {
  out_ += ']';
  comma_ = true;
}

void json_writer::key(std::string_view name) {
  separate();
  append_json_string(out_, name);
  out_ += ':';
}

void json_writer::value(std::string_view text) {
  separate();
  append_json_string(out_, text);
  comma_ = true;
}

void json_writer::value(bool flag) {
  raw(flag ? "true" : "false");
}

void json_writer::value(std::nullptr_t) {
  raw("null");
}

void json_writer::value(double number) {
  if (!std::isfinite(number)) {
    number = 0.0;
  }
  std::array<char, 400> text;
  auto end =
      std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed).ptr;
  std::string_view digits{text.data(), static_cast<std::size_t>(end - text.data())};
  raw(digits.find('.') == std::string_view::npos ? std::string{digits} + ".0"
                                                 : std::string{digits});
}

void json_writer::raw(std::string_view json) {
  separate();
  out_ += json;
  comma_ = true;
}

std::string json_writer::take() {
  return std::exchange(out_, {});
}

} // namespace coppice::gateway
