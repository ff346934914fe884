#include "gateway/http/json_events.hpp"

#include "gateway/http/json_records.hpp"
#include "gateway/http/json_text.hpp"
#include "protocol/operation_status.hpp"
#include "protocol/time_text.hpp"
#include "protocol/uuid.hpp"

#include <algorithm>

namespace coppice::gateway {
namespace {

/// Of all texts in one event together. A byte takes six in JSON at worst.
constexpr std::size_t texts_bytes_max = 512u << 10;

/// The agent is the guest's first process.
constexpr std::string_view runtime_path = "/init";

/// What is left for an event's texts.
class text_budget {
public:
  /// The text, or as much of it as there is room for. A character that is cut in two becomes
  /// U+FFFD.
  std::string_view take(capnp::Text::Reader text) {
    auto out = view(text).substr(0, left_bytes_);
    left_bytes_ -= out.size();
    return out;
  }
  bool is_spent() const {
    return left_bytes_ == 0;
  }

private:
  std::size_t left_bytes_ = texts_bytes_max;
};

void write_init(json_writer& json, proto::Event::Init::Reader init) {
  text_budget texts;
  json.member("started_at", time_text(init.getStartedAtUnixNs()));
  json.member("runtime_path", runtime_path);
  json.member("verbose", false);
  json.member("init_pid", init.getInitPid());
  json.member("hostname", texts.take(init.getHostname()));
  json.member("kernel", texts.take(init.getKernel()));
  json.member("machine", texts.take(init.getMachine()));
}

/// The environment is left out: it may hold secrets, and no name says for sure which.
void write_spawn(json_writer& json, proto::Event::Spawn::Reader spawn) {
  text_budget texts;
  json.member("pid", spawn.getPid());
  json.member("command", texts.take(spawn.getCommand()));
  json.member("cwd", texts.take(spawn.getCwd()));
  json.key("args");
  json.begin_array();
  for (auto arg : spawn.getArgs()) {
    if (texts.is_spent()) {
      break;
    }
    json.value(texts.take(arg));
  }
  json.end_array();
  json.member("shell", spawn.getShell());
  json.member("uid", spawn.getUid());
  json.member("gid", spawn.getGid());
  json.member("timeout", spawn.getTimeoutSeconds());
  json.member("truncate_at", spawn.getTruncateAtBytes());
}

void write_bytes(json_writer& json, capnp::Data::Reader data) {
  auto bytes = view(data);
  json.key("value");
  std::string value{'"'};
  const bool is_text = is_plain(bytes);
  if (is_text) {
    append_json_escaped(value, bytes);
  } else {
    base64_encoder encoder;
    encoder.append(value, bytes);
    encoder.finish(value);
  }
  value += '"';
  json.raw(value);
  json.member("encoding", is_text ? "ascii" : "base64");
}

void write_exit(json_writer& json, proto::RunResult::Reader result) {
  auto usage = result.getUsage();
  json.member("pid", result.getPid());
  json.member("code", result.getExitCode());
  json.member("signal", result.getSignal());
  json.member("timed_out", result.getTimedOut());
  json.member("core_dump", result.getCoreDump());
  json.member("duration_ms", result.getElapsedUs() / 1000);
  json.key("resources");
  json.begin_object();
  json.member("user_time_us", usage.getUserTimeUs());
  json.member("sys_time_us", usage.getSystemTimeUs());
  json.member("max_rss_kb", usage.getMaxRssKib());
  json.member("shared_memory", usage.getSharedMemory());
  json.member("unshared_memory", usage.getUnsharedMemory());
  json.member("swaps", usage.getSwaps());
  json.member("minor_faults", usage.getMinorFaults());
  json.member("major_faults", usage.getMajorFaults());
  json.member("voluntary_ctx_switches", usage.getVoluntarySwitches());
  json.member("involuntary_ctx_switches", usage.getInvoluntarySwitches());
  json.member("block_input_ops", usage.getBlockInputOps());
  json.member("block_output_ops", usage.getBlockOutputOps());
  json.member("ipc_msgs_sent", usage.getMessagesSent());
  json.member("ipc_msgs_received", usage.getMessagesReceived());
  json.member("signals_received", usage.getSignalsReceived());
  json.end_object();
}

void write_completion(json_writer& json, proto::Event::Completion::Reader completion) {
  text_budget texts;
  auto image = uuid::from(completion.getResultImage());
  json.member("status", status_name(completion.getStatus()));
  json.member("duration_ms", completion.getDurationUs() / 1000);
  if (image) {
    json.member("result_image_uuid", image.text());
    json.member("image_size_bytes", completion.getImageSizeBytes());
  }
  if (completion.getError().size() > 0) {
    json.member("error", texts.take(completion.getError()));
  }
}

void write_data(json_writer& json, proto::Event::Reader event) {
  switch (event.which()) {
  case proto::Event::INIT:
    return write_init(json, event.getInit());
  case proto::Event::SPAWN:
    return write_spawn(json, event.getSpawn());
  case proto::Event::STDIN:
    write_bytes(json, event.getStdin().getData());
    if (event.getStdin().getTruncated()) {
      json.member("truncated", true);
    }
    return;
  case proto::Event::STDOUT:
    return write_bytes(json, event.getStdout());
  case proto::Event::STDERR:
    return write_bytes(json, event.getStderr());
  case proto::Event::EXIT:
    return write_exit(json, event.getExit());
  case proto::Event::TRUNCATED: {
    auto cut = event.getTruncated();
    json.member("stream", cut.getIsStderr() ? "stderr" : "stdout");
    json.member("bytes_emitted", cut.getKeptBytes());
    json.member("bytes_dropped", cut.getDroppedBytes());
    return;
  }
  case proto::Event::SIZE_CAP:
    json.member("limit_bytes", event.getSizeCap().getLimitBytes());
    json.member("file_size", event.getSizeCap().getLoggedBytes());
    return;
  case proto::Event::SHUTDOWN: {
    text_budget texts;
    json.member("stopped_at", time_text(event.getShutdown().getStoppedAtUnixNs()));
    json.member("reason", texts.take(event.getShutdown().getReason()));
    return;
  }
  case proto::Event::COMPLETION:
    return write_completion(json, event.getCompletion());
  }
}

} // namespace

std::optional<std::string_view> event_name(proto::Event::Which kind) {
  switch (kind) {
  case proto::Event::INIT:
    return "init";
  case proto::Event::SPAWN:
    return "spawn";
  case proto::Event::STDIN:
    return "stdin";
  case proto::Event::STDOUT:
    return "stdout";
  case proto::Event::STDERR:
    return "stderr";
  case proto::Event::EXIT:
    return "exit";
  case proto::Event::TRUNCATED:
    return "truncated";
  case proto::Event::SIZE_CAP:
    return "size_cap";
  case proto::Event::SHUTDOWN:
    return "shutdown";
  case proto::Event::COMPLETION:
    return "completion";
  }
  return std::nullopt;
}

void append_event_frame(std::string& out, proto::Event::Reader event) {
  const auto name = event_name(event.which());
  if (!name) {
    return;
  }
  json_writer json;
  json.begin_object();
  json.member("id", event.getId());
  json.member("ts", time_text(event.getAtUnixNs()));
  json.member("spid", event.getSpid());
  json.member("type", *name);
  json.key("data");
  json.begin_object();
  write_data(json, event);
  json.end_object();
  json.end_object();
  out += "id: ";
  out += std::to_string(event.getId());
  out += "\nevent: ";
  out += *name;
  out += "\ndata: ";
  out += json.take(); // line breaks are escaped in JSON: it is one line
  out += "\n\n";
}

void append_comment(std::string& out, std::string_view text) {
  out += ": ";
  out += text;
  out += "\n\n";
}

void append_break(std::string& out, std::string_view reason) {
  std::string line{reason};
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  append_comment(out, "the stream breaks here");
  out += "event: sse_error\ndata: ";
  out += line;
  out += "\n\n";
}

} // namespace coppice::gateway
