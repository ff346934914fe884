#include "gateway/http/json_records.hpp"

#include "protocol/time_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace coppice::gateway {
namespace {

constexpr std::array<std::pair<proto::OperationKind, std::string_view>, 2> kinds{{
    {proto::OperationKind::INSTANCE, "instance"},
    {proto::OperationKind::IMAGE_IMPORT, "image_import"},
}};

double seconds(std::uint64_t microseconds) {
  return static_cast<double>(microseconds) / 1e6;
}

std::optional<std::string> id_text(proto::Uuid::Reader reader) {
  auto id = uuid::from(reader);
  return id ? std::optional{id.text()} : std::nullopt;
}

std::optional<std::string_view> filled(capnp::Text::Reader text) {
  return text.size() == 0 ? std::nullopt : std::optional{view(text)};
}

std::string octal(std::uint32_t mode) {
  std::string out{"0000"};
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, mode >>= 3) {
    *digit = static_cast<char>('0' + (mode & 7u));
  }
  return mode == 0 ? out : std::to_string(mode) + out;
}

bool equal_ignoring_case(std::string_view left, std::string_view right) {
  auto lower = [](char c) {
    return std::tolower(static_cast<unsigned char>(c));
  };
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](char a, char b) { return lower(a) == lower(b); });
}

void write_placements(json_writer& json, capnp::List<proto::FilePlacement>::Reader files) {
  json.begin_object();
  for (auto file : files) {
    json.key(view(file.getPath()));
    json.begin_object();
    json.member("uuid", uuid::from(file.getFile()).text());
    json.member("uid", file.getUid());
    json.member("gid", file.getGid());
    json.member("mode", octal(file.getMode()));
    json.end_object();
  }
  json.end_object();
}

void write_id(json_writer& json, std::string_view name, bool is_set, std::uint32_t id) {
  json.member(name, is_set ? std::optional{id} : std::nullopt);
}

void write_resources(json_writer& json, proto::RunResult::Reader result) {
  auto usage = result.getUsage();
  json.begin_object();
  json.member("block_input", usage.getBlockInputOps());
  json.member("block_output", usage.getBlockOutputOps());
  json.member("cost", 0.0);
  json.member("elapsed_time", seconds(result.getElapsedUs()));
  json.member("involuntary_switches", usage.getInvoluntarySwitches());
  json.member("max_rss", usage.getMaxRssKib());
  json.member("monotonic_time", seconds(result.getElapsedUs()));
  json.member("page_faults", usage.getMinorFaults());
  json.member("page_faults_io", usage.getMajorFaults());
  json.member("shared_memory", usage.getSharedMemory());
  json.member("signals", usage.getSignalsReceived());
  json.member("swaps", usage.getSwaps());
  json.member("system_cpu_time", seconds(usage.getSystemTimeUs()));
  json.member("unshared_memory", usage.getUnsharedMemory());
  json.member("user_cpu_time", seconds(usage.getUserTimeUs()));
  json.member("voluntary_switches", usage.getVoluntarySwitches());
  json.end_object();
}

void write_stream(json_writer& json, const stream_text& stream) {
  json.begin_object();
  json.key("value");
  stream.value();
  json.member("encoding", stream.is_plain ? "ascii" : "base64");
  json.member("truncated", stream.is_truncated);
  json.end_object();
}

} // namespace

void write_image_members(json_writer& json, proto::ImageRow::Reader row) {
  auto image = row.getImage();
  json.member("uuid", uuid::from(image.getId()).text());
  json.member("tag", filled(row.getTag()));
  json.member("created_at", time_text(image.getCreatedAtUnixNs()));
  json.member("operation_uuid", id_text(image.getOperation()));
}

std::string_view to_text(proto::OperationKind kind) {
  for (const auto& [value, text] : kinds) {
    if (value == kind) {
      return text;
    }
  }
  return "instance";
}

std::optional<proto::OperationStatus> parse_status(std::string_view text) {
  for (const auto& [value, name] : operation_status_names) {
    if (equal_ignoring_case(text, name)) {
      return value;
    }
  }
  return std::nullopt;
}

std::optional<proto::OperationKind> parse_kind(std::string_view text) {
  for (const auto& [value, name] : kinds) {
    if (equal_ignoring_case(text, name)) {
      return value;
    }
  }
  return std::nullopt;
}

std::string hex(capnp::Data::Reader digest) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (auto byte : digest) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::optional<std::string> parse_sha256(std::string_view text) {
  if (text.size() != 64) {
    return std::nullopt;
  }
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto c = text[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) {
      return std::nullopt;
    }
    if (i % 2 == 0) {
      out += static_cast<char>(digit << 4);
    } else {
      out.back() = static_cast<char>(static_cast<unsigned char>(out.back()) | digit);
    }
  }
  return out;
}

void write_image(json_writer& json, proto::ImageRow::Reader row) {
  json.begin_object();
  write_image_members(json, row);
  json.end_object();
}

void write_image_details(json_writer& json, proto::ImageRow::Reader row) {
  auto image = row.getImage();
  auto logical = image.getLogicalBytes();
  json.begin_object();
  write_image_members(json, row);
  json.member("parent_uuid", id_text(image.getParent()));
  json.member("own_bytes", image.getSizeBytes());
  // Images of earlier versions were not counted; one that was has a file system at least.
  json.member("logical_bytes", logical != 0 ? std::optional{logical} : std::nullopt);
  json.member("shared_bytes", logical != 0 ? std::optional{image.getSharedBytes()} : std::nullopt);
  json.end_object();
}

void write_file(json_writer& json, proto::FileRecord::Reader file) {
  json.begin_object();
  json.member("uuid", uuid::from(file.getId()).text());
  json.member("sha256", hex(file.getSha256()));
  json.member("size", file.getSizeBytes());
  json.member("created_at", time_text(file.getCreatedAtUnixNs()));
  json.member("updated_at", time_text(file.getUpdatedAtUnixNs()));
  json.end_object();
}

void write_upload(json_writer& json, proto::FileRecord::Reader file) {
  json.begin_object();
  json.member("uuid", uuid::from(file.getId()).text());
  json.member("sha256", hex(file.getSha256()));
  json.member("size", file.getSizeBytes());
  json.end_object();
}

void write_file_entry(json_writer& json, proto::FileEntry::Reader entry) {
  constexpr std::uint32_t type_mask = 0170000;
  auto type = entry.getMode() & type_mask;
  auto name_or_id = [&](std::string_view key, capnp::Text::Reader name, std::uint32_t id) {
    json.key(key);
    name.size() > 0 ? json.value(view(name)) : json.value(id);
  };
  json.begin_object();
  json.member("size", entry.getSizeBytes());
  json.member("path", view(entry.getName()));
  name_or_id("owner", entry.getOwner(), entry.getUid());
  name_or_id("group", entry.getGroup(), entry.getGid());
  json.member("uid", entry.getUid());
  json.member("gid", entry.getGid());
  json.member("mode", entry.getMode());
  json.member("mtime", entry.getMtimeUnixS());
  json.member("nlink", entry.getLinkCount());
  json.member("is_dir", type == 0040000u);
  json.member("is_regular", type == 0100000u);
  json.member("is_symlink", type == 0120000u);
  json.member("is_socket", type == 0140000u);
  json.member("is_fifo", type == 0010000u);
  json.member("symlink_to", view(entry.getSymlinkTarget()));
  json.end_object();
}

void write_summary_members(json_writer& json, proto::OperationRecord::Reader record) {
  bool has_usage = record.getHasResult();
  auto usage = record.getResult().getUsage();
  auto image = uuid::from(record.getResultImage());
  auto request = record.getRequest();
  json.member("uuid", uuid::from(record.getId()).text());
  json.member("kind", to_text(record.getKind()));
  json.member("status", status_name(record.getStatus()));
  json.member("error", filled(record.getError()));
  json.member("created_at", time_text(record.getCreatedAtUnixNs()));
  json.member("duration", seconds(record.getDurationUs()));
  json.member("image_size", image ? std::optional{record.getResultImageSizeBytes()} : std::nullopt);
  json.member("consumed_cpu",
              has_usage ? std::optional{seconds(usage.getUserTimeUs() + usage.getSystemTimeUs())}
                        : std::nullopt);
  json.member("consumed_memory", has_usage ? std::optional{usage.getMaxRssKib()} : std::nullopt);
  json.member("image_uuid",
              request.isInstance() ? id_text(request.getInstance().getImage()) : std::nullopt);
  json.member("result_image_uuid", id_text(record.getResultImage()));
}

bool echoes_base64(proto::RunRequest::Reader request) {
  return request.getStdinIsBase64() || !is_plain(view(request.getStdin()));
}

void write_run_members(json_writer& json, proto::RunRequest::Reader request,
                       const large_value& stdin_value) {
  auto process = request.getProcess();
  json.member("command", view(process.getCommand()));
  json.member("image", view(request.getImageReference()));
  json.key("args");
  json.begin_array();
  for (auto arg : process.getArgs()) {
    json.value(view(arg));
  }
  json.end_array();
  json.member("shell", process.getShell());
  json.key("env");
  json.begin_object();
  for (auto variable : process.getEnv()) {
    json.member(view(variable.getName()), view(variable.getValue()));
  }
  json.end_object();
  json.member("preserve_env", request.getPreserveEnv());
  json.member("cwd", view(process.getCwd()));
  write_id(json, "uid", process.getHasUid(), process.getUid());
  write_id(json, "gid", process.getHasGid(), process.getGid());
  json.member("hostname", view(request.getHostname()));
  json.key("stdin");
  json.begin_object();
  json.key("value");
  stdin_value();
  json.member("encoding", echoes_base64(request) ? "base64" : "ascii");
  json.member("close", request.getStdinClose());
  json.end_object();
  json.member("timeout", request.getTimeoutSeconds());
  json.member("truncate_output_at", process.getTruncateOutputAtBytes());
  json.member("disposable", request.getDisposable());
  json.key("files");
  write_placements(json, request.getFiles());
  json.key("resources_limits");
  json.begin_object();
  json.member("max_layer_bytes", request.getMaxLayerBytes());
  json.end_object();
  json.key("networking");
  json.begin_object();
  json.member("enabled", false); // sandboxes have no network
  json.end_object();
  if (request.getCpus() > 0) { // else it was accepted before there were classes
    json.key("resources");
    json.begin_object();
    json.member("cpus", request.getCpus());
    json.member("memory_mb", request.getMemoryMib());
    json.end_object();
  }
  json.member("priority", request.getPriority());
}

void write_import(json_writer& json, proto::ImportRequest::Reader request) {
  json.begin_object();
  json.key("registry");
  json.begin_object();
  json.member("url", view(request.getUrl()));
  if (request.getHasCredentials()) {
    json.key("credentials");
    json.begin_object();
    json.member("username", view(request.getUsername()));
    json.member("password", "<MASKED>");
    json.end_object();
  }
  json.end_object();
  json.member("tag", filled(request.getTag()));
  json.member("timeout", request.getTimeoutSeconds());
  json.end_object();
}

void write_state(json_writer& json, proto::RunResult::Reader result) {
  json.begin_object();
  json.member("exit_code", result.getExitCode());
  json.member("pid", result.getPid());
  json.member("signal", result.getSignal());
  json.member("timed_out", result.getTimedOut());
  json.member("core_dump", result.getCoreDump());
  json.member("continued", false);
  json.member("stopped", false);
  json.end_object();
}

void write_result(json_writer& json, proto::RunResult::Reader result, const stream_text& out,
                  const stream_text& err) {
  json.begin_object();
  json.key("state");
  write_state(json, result);
  json.key("stdout");
  write_stream(json, out);
  json.key("stderr");
  write_stream(json, err);
  json.key("resources");
  write_resources(json, result);
  json.end_object();
}

} // namespace coppice::gateway
