#include "vmm/guest_protocol.hpp"

#include "protocol/limits.hpp"

#include <kj/exception.h>

#include <cstdint>
#include <string_view>

namespace coppice::vmm {

namespace {

using message = proto::FromGuest;

constexpr int signal_max = 64;
constexpr int exit_code_max = 255;

struct refusal {
  std::string reason;
};

[[noreturn]] void refuse(const char* field, const char* what) {
  throw refusal{std::string{field} + ": " + what};
}

/// Length of the UTF-8 sequence at `at` (RFC 3629), 0 if there is none.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned first = byte(at);
  if (first < 0x80) {
    return 1;
  }
  const std::size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                             : first >= 0xe0 && first <= 0xef ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0 || text.size() - at < length) {
    return 0;
  }
  // The second byte also rules out overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned low = first == 0xe0 ? 0xa0u : first == 0xf0 ? 0x90u : 0x80u;
  const unsigned high = first == 0xed ? 0x9fu : first == 0xf4 ? 0x8fu : 0xbfu;
  if (byte(at + 1) < low || byte(at + 1) > high) {
    return 0;
  }
  for (std::size_t i = at + 2; i < at + length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) {
      return 0;
    }
  }
  return length;
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto length = sequence_length(text, at);
    if (length == 0) {
      return false;
    }
    at += length;
  }
  return true;
}

/// Reads every field of one message. `budget`: bytes of text and data that it may still show.
class inspector {
public:
  explicit inspector(std::size_t budget) : budget_{budget} {}

  void read(message::Reader m) {
    const bool is_ready = m.which() == message::READY;
    if (is_ready != (m.getRun() == 0)) {
      refuse("run", "zero belongs to ready and to nothing else");
    }
    switch (m.which()) {
    case message::READY:
      text("ready.agentVersion", m.getReady().getAgentVersion(), guest_name_bytes_max);
      text("ready.kernel", m.getReady().getKernel(), guest_name_bytes_max);
      text("ready.machine", m.getReady().getMachine(), guest_name_bytes_max);
      return;
    case message::MOUNTED:
      return;
    case message::STARTED:
      return started(m.getStarted());
    case message::OUTPUT:
      return output(m.getOutput());
    case message::EXITED:
      return exited(m.getExited());
    case message::FINISHED:
      static_cast<void>(m.getFinished().getClean());
      text("finished.error", m.getFinished().getError(), guest_error_bytes_max);
      return;
    case message::FAILED:
      text("failed.stage", m.getFailed().getStage(), guest_name_bytes_max);
      text("failed.error", m.getFailed().getError(), guest_error_bytes_max);
      number("failed.errorNumber", m.getFailed().getErrorNumber(), 0, guest_errno_max);
      return;
    case message::EXEC_FAILED:
      number("execFailed.spid", m.getExecFailed().getSpid(), 1, guest_spid_max);
      text("execFailed.error", m.getExecFailed().getError(), guest_error_bytes_max);
      number("execFailed.errorNumber", m.getExecFailed().getErrorNumber(), 0, guest_errno_max);
      return;
    case message::STDIN_TAKEN:
      number("stdinTaken.spid", m.getStdinTaken().getSpid(), 1, guest_spid_max);
      static_cast<void>(m.getStdinTaken().getTotalBytes()); // who sent it knows how much it was
      static_cast<void>(m.getStdinTaken().getClosed());
      return;
    }
    refuse("message", "of no known kind");
  }

private:
  void started(message::Started::Reader s) {
    number("started.spid", s.getSpid(), 1, guest_spid_max);
    number("started.pid", s.getPid(), 0, guest_pid_max);
    // A command line may be as long as a frame has room for; the budget bounds the sum.
    text("started.command", s.getCommand(), limits::channel_frame_bytes_max);
    for (auto argument : s.getArgs()) {
      text("started.args", argument, limits::channel_frame_bytes_max);
    }
    text("started.cwd", s.getCwd(), limits::channel_frame_bytes_max);
  }

  void output(message::Output::Reader o) {
    number("output.spid", o.getSpid(), 1, guest_spid_max);
    const auto size = o.getData().size();
    if (size > limits::output_chunk_bytes) {
      refuse("output.data", "longer than a chunk may be");
    }
    spend("output.data", size);
  }

  void exited(message::Exited::Reader e) {
    number("exited.spid", e.getSpid(), 1, guest_spid_max);
    const auto r = e.getResult();
    number("exited.result.exitCode", r.getExitCode(), -1, exit_code_max);
    number("exited.result.signal", r.getSignal(), -1, signal_max);
    number("exited.result.pid", r.getPid(), 0, guest_pid_max);
    static_cast<void>(r.getUsage().getUserTimeUs()); // follows the pointer
    summary("exited.result.stdout", r.getStdout());
    summary("exited.result.stderr", r.getStderr());
  }

  static void summary(const char* field, proto::StreamSummary::Reader s) {
    if (s.getKeptBytes() > s.getTotalBytes()) {
      refuse(field, "keeps more than there was");
    }
  }

  static void number(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value < low || value > high) {
      refuse(field, "out of range");
    }
  }

  void text(const char* field, capnp::Text::Reader value, std::size_t bytes_max) {
    const std::string_view view{value.begin(), value.size()};
    if (view.size() > bytes_max) {
      refuse(field, "too long");
    }
    spend(field, view.size());
    if (view.find('\0') != std::string_view::npos || !is_utf8(view)) {
      refuse(field, "not a text");
    }
  }

  void spend(const char* field, std::size_t bytes) {
    if (bytes > budget_) {
      refuse(field, "says more than the frame carries");
    }
    budget_ -= bytes;
  }

  std::size_t budget_;
};

std::uint32_t little_endian_32(std::span<const std::byte> bytes) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < frame_header_bytes; ++i) {
    out |= std::to_integer<std::uint32_t>(bytes[i]) << (8 * i);
  }
  return out;
}

parse_outcome refused(std::string reason) {
  parse_outcome out;
  out.status = parse_status::refused;
  out.reason = std::move(reason);
  return out;
}

} // namespace

std::string objection_to(const frame<proto::FromGuest>& message) {
  try {
    auto view = message.view();
    inspector{message.bytes().size()}.read(*view);
    return {};
  } catch (const refusal& r) {
    return r.reason;
  } catch (const kj::Exception& e) {
    return std::string{"malformed message: "} + e.getDescription().cStr();
  }
}

parse_outcome parse_guest_frame(std::span<const std::byte> stream) {
  parse_outcome out;
  if (stream.size() < frame_header_bytes) {
    return out;
  }
  const std::size_t bytes =
      std::size_t{little_endian_32(stream)} * sizeof(capnp::word); // 35 bits: cannot overflow
  if (bytes == 0 || bytes > limits::channel_frame_bytes_max) {
    return refused("frame of " + std::to_string(bytes) + " bytes, 1 to " +
                   std::to_string(limits::channel_frame_bytes_max) + " are allowed");
  }
  if (stream.size() - frame_header_bytes < bytes) {
    return out;
  }
  auto taken = checked<proto::FromGuest>(stream.subspan(frame_header_bytes, bytes),
                                         limits::channel_frame_bytes_max);
  if (!taken) {
    return refused("frame that is not a message");
  }
  auto reason = objection_to(*taken);
  if (!reason.empty()) {
    return refused(std::move(reason));
  }
  out.status = parse_status::complete;
  out.bytes_taken = frame_header_bytes + bytes;
  out.message = std::move(*taken);
  return out;
}

} // namespace coppice::vmm
