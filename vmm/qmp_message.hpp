#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace coppice::vmm {

/// What QEMU says on its control socket: one JSON object a line (QEMU's docs/interop/qmp-spec).
/// A QEMU that a guest has taken over may say anything, so lines and nesting are bounded.

enum class qmp_kind {
  greeting, ///< first, once
  reply,    ///< a command worked
  error,    ///< a command was refused
  event,    ///< something happened
};

struct qmp_message {
  qmp_kind kind = qmp_kind::event;
  std::string name;   ///< event: its name; error: its class
  std::string detail; ///< event: data.reason or data.status if there is one; error: its description
};

/// protocol: the line is not a message; the text shows the head of it.
result<qmp_message> parse_qmp(std::string_view line);

/// Cuts a byte stream into lines.
class line_buffer {
public:
  static constexpr std::size_t line_bytes_max = 64u << 10;

  void append(std::string_view bytes);

  /// The next whole line without its end, empty ones left out; nothing when more bytes are needed.
  /// protocol: longer than `line_bytes_max`.
  result<std::optional<std::string>> next();

private:
  std::string bytes_;
};

} // namespace coppice::vmm
