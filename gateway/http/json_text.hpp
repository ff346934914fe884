#pragma once

#include "protocol/utf8.hpp"

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// JSON as text, written front to back.
///
/// Problem: answers contain names and output made by hostile guests, and values too large to be
/// held; a document model can do neither. Guarantee: what is written is valid JSON in valid UTF-8
/// whatever bytes come in; invalid ones become U+FFFD.
namespace coppice::gateway {

/// Appends `text` between quotes.
void append_json_string(std::string& out, std::string_view text);

/// Appends `text` without the quotes. Only for text that is known to be whole characters.
void append_json_escaped(std::string& out, std::string_view text);

/// Whether every byte is 32..126, tab, newline or carriage return: such output travels as it is,
/// everything else as base64.
bool is_plain(std::string_view bytes);

/// Base64 of a stream of pieces: the value of the whole, whatever the borders.
class base64_encoder {
public:
  void append(std::string& out, std::string_view bytes);
  void finish(std::string& out);

private:
  unsigned char held_[2]{};
  std::size_t held_count_ = 0;
};

/// Nothing when it is not base64 with correct padding; white space between is tolerated.
std::optional<std::string> base64_decode(std::string_view text);

/// Commas, quotes and colons in the right places.
class json_writer {
public:
  /// Room for so much, made at once.
  void reserve(std::size_t bytes) {
    out_.reserve(bytes);
  }

  void begin_object();
  void end_object();
  void begin_array();
  void end_array();

  void key(std::string_view name);
  void value(std::string_view text);
  void value(const std::string& text) {
    value(std::string_view{text});
  }
  void value(const char* text) {
    value(std::string_view{text});
  }
  void value(bool flag);
  void value(double number);
  void value(std::nullptr_t);
  template <std::integral T>
  void value(T number) {
    raw(std::to_string(number));
  }
  template <class T>
  void value(const std::optional<T>& maybe) {
    maybe ? value(*maybe) : value(nullptr);
  }

  template <class T>
  void member(std::string_view name, const T& v) {
    key(name);
    value(v);
  }

  /// A value that is already JSON.
  void raw(std::string_view json);

  /// Announces a value that the caller puts after what was written so far.
  void skip_value() {
    comma_ = true;
  }

  std::size_t size() const {
    return out_.size();
  }

  /// What was written since the last call.
  std::string take();

private:
  void separate();

  std::string out_;
  bool comma_ = false;
};

} // namespace coppice::gateway
