#pragma once

#include "protocol/uuid.hpp"

#include <spdlog/spdlog.h>

#include <concepts>
#include <string>
#include <string_view>

/// One line an event, `msg="…" key=value …`: greppable by operation and image id.
namespace coppice::log {

inline void append_value(std::string& line, std::string_view value) {
  bool plain = !value.empty();
  for (char c : value) {
    plain = plain && c > ' ' && c < 127 && c != '"' && c != '=' && c != '\\';
  }
  if (plain) {
    line += value;
    return;
  }
  line += '"';
  for (char c : value) {
    if (c == '\n') {
      line += "\\n";
    } else if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else {
      line += static_cast<unsigned char>(c) < ' ' || c == 127 ? '?' : c;
    }
  }
  line += '"';
}

inline void append_value(std::string& line, const char* value) {
  append_value(line, std::string_view{value});
}

inline void append_value(std::string& line, const std::string& value) {
  append_value(line, std::string_view{value});
}

inline void append_value(std::string& line, const uuid& value) {
  line += value.text();
}

template <std::integral T>
void append_value(std::string& line, T value) {
  line += std::to_string(value);
}

inline void append_pairs(std::string&) {
  // nop
}

template <class Value, class... Rest>
void append_pairs(std::string& line, std::string_view key, const Value& value,
                  const Rest&... rest) {
  line += ' ';
  line += key;
  line += '=';
  append_value(line, value);
  append_pairs(line, rest...);
}

template <class... Pairs>
void event(spdlog::level::level_enum level, std::string_view message, const Pairs&... pairs) {
  if (!spdlog::should_log(level)) {
    return;
  }
  std::string line = "msg=";
  append_value(line, message);
  append_pairs(line, pairs...);
  spdlog::log(level, "{}", line);
}

template <class... Pairs>
void debug(std::string_view message, const Pairs&... pairs) {
  event(spdlog::level::debug, message, pairs...);
}

template <class... Pairs>
void info(std::string_view message, const Pairs&... pairs) {
  event(spdlog::level::info, message, pairs...);
}

template <class... Pairs>
void warn(std::string_view message, const Pairs&... pairs) {
  event(spdlog::level::warn, message, pairs...);
}

template <class... Pairs>
void error(std::string_view message, const Pairs&... pairs) {
  event(spdlog::level::err, message, pairs...);
}

} // namespace coppice::log
