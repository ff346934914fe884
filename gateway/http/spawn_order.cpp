#include "gateway/http/spawn_order.hpp"

#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_text.hpp"
#include "protocol/limits.hpp"

#include <boost/json/value.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace coppice::gateway {
namespace {

namespace json = boost::json;

constexpr std::int64_t id_max = 4294967294; // 2^32 - 1 means "unchanged" to the kernel

/// C strings are what the guest's kernel takes.
bool has_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

std::string read_text(json_fields& fields, std::string_view name, std::size_t bytes_max) {
  auto text = fields.text(name).value_or(std::string{});
  if (has_nul(text)) {
    fields.refuse_field(name, "must not contain a NUL character");
  }
  if (text.size() > bytes_max) {
    fields.refuse_field(name, "must not be longer than " + std::to_string(bytes_max) + " bytes");
  }
  return text;
}

std::optional<std::uint32_t> read_id(json_fields& fields, std::string_view name) {
  auto id = fields.integer(name, 0, id_max);
  return id ? std::optional{static_cast<std::uint32_t>(*id)} : std::nullopt;
}

void read_args(json_fields& fields, spawn_order& order) {
  const auto* args = fields.array("args");
  if (!args) {
    return;
  }
  if (args->size() > arguments_max) {
    return fields.refuse_field("args", "must not be more than " + std::to_string(arguments_max));
  }
  for (const auto& item : *args) {
    const auto* text = item.if_string();
    if (!text || has_nul({text->data(), text->size()})) {
      return fields.refuse_field("args", "must be strings without NUL characters");
    }
    order.args.emplace_back(text->data(), text->size());
  }
}

void read_env(json_fields& fields, spawn_order& order) {
  const auto* env = fields.object("env");
  if (!env) {
    return;
  }
  if (env->size() > variables_max) {
    return fields.refuse_field("env", "must not be more than " + std::to_string(variables_max));
  }
  for (const auto& item : *env) {
    std::string name{item.key().data(), item.key().size()};
    if (item.value().is_null()) {
      continue;
    }
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name)) {
      return fields.refuse_field("env", "has a name that is empty or contains = or NUL");
    }
    const auto* value = item.value().if_string();
    if (!value || has_nul({value->data(), value->size()})) {
      return fields.refuse_field("env." + name, "must be a string without NUL characters");
    }
    order.env.emplace_back(std::move(name), std::string{value->data(), value->size()});
  }
}

void read_stdin(json_fields& fields, spawn_order& order) {
  const auto* object = fields.object("stdin");
  if (!object) {
    return;
  }
  auto inner = fields.inside("stdin", *object);
  auto value = inner.text("value").value_or(std::string{});
  auto encoding = inner.text("encoding").value_or("ascii");
  order.stdin_close = inner.flag("close").value_or(true);
  if (encoding == "base64") {
    auto bytes = base64_decode(value);
    if (!bytes) {
      return inner.refuse_field("value", "is not base64");
    }
    order.stdin_bytes = std::move(*bytes);
    order.stdin_is_base64 = true;
  } else if (encoding == "ascii") {
    order.stdin_bytes = std::move(value);
  } else {
    return inner.refuse_field("encoding", "must be ascii or base64");
  }
  if (order.stdin_bytes.size() > limits::stdin_bytes_max) {
    inner.refuse_field("value", "must not be longer than " +
                                    std::to_string(limits::stdin_bytes_max) + " bytes");
  }
}

/// "0644", "644", "0o644", "0o100644", or a number that is the bits themselves.
std::optional<std::uint32_t> parse_mode(const json::value& value) {
  std::uint32_t bits = 0;
  if (value.is_int64()) {
    if (value.get_int64() < 0 || value.get_int64() > 0177777) {
      return std::nullopt;
    }
    bits = static_cast<std::uint32_t>(value.get_int64());
  } else if (value.is_string()) {
    std::string_view text{value.get_string().data(), value.get_string().size()};
    if (text.starts_with("0o") || text.starts_with("0O")) {
      text.remove_prefix(2);
    }
    auto end = text.data() + text.size();
    auto [stopped, error] = std::from_chars(text.data(), end, bits, 8);
    if (error != std::errc{} || stopped != end || bits > 0177777) {
      return std::nullopt;
    }
  } else {
    return std::nullopt;
  }
  return bits & 07777u;
}

void read_file(json_fields& fields, const std::string& path, const json::value& value,
               spawn_order& order) {
  if (!path.starts_with('/') || path.ends_with('/') || path.size() > path_bytes_max ||
      has_nul(path)) {
    return fields.refuse_field(path, "must be the absolute path of a file");
  }
  const auto* object = value.if_object();
  if (!object) {
    return fields.refuse_field(path, "must be an object");
  }
  auto inner = fields.inside(path, *object);
  file_order file;
  file.path = path;
  auto id = uuid::parse(inner.text("uuid").value_or(std::string{}));
  if (!id) {
    return inner.refuse_field("uuid", "must be the UUID of an uploaded file");
  }
  file.file = *id;
  file.uid = read_id(inner, "uid").value_or(0);
  file.gid = read_id(inner, "gid").value_or(0);
  if (const auto* mode = inner.any("mode")) {
    auto bits = parse_mode(*mode);
    if (!bits) {
      return inner.refuse_field("mode", "must be an octal string like 0644");
    }
    file.mode = *bits;
  }
  order.files.push_back(std::move(file));
}

void read_files(json_fields& fields, spawn_order& order) {
  const auto* files = fields.object("files");
  if (!files) {
    return;
  }
  if (files->size() > files_max) {
    return fields.refuse_field("files", "must not be more than " + std::to_string(files_max));
  }
  auto inner = fields.inside("files", *files);
  for (const auto& item : *files) {
    if (!item.value().is_null()) {
      read_file(inner, std::string{item.key().data(), item.key().size()}, item.value(), order);
    }
  }
}

std::string names_of(const std::vector<machine_class>& classes) {
  std::string text;
  for (const auto& c : classes) {
    text += (text.empty() ? "" : ", ") + std::to_string(c.cpus) + " with " +
            std::to_string(c.memory_mib) + " MiB";
  }
  return text;
}

/// The class of the machine: the smallest that has what is asked for.
void read_machine(json_fields& fields, const spawn_limits& limits, spawn_order& order) {
  order.machine = limits.default_class;
  const auto* object = fields.object("resources");
  if (!object) {
    return;
  }
  machine_class largest;
  for (const auto& c : limits.classes) {
    largest.cpus = std::max(largest.cpus, c.cpus);
    largest.memory_mib = std::max(largest.memory_mib, c.memory_mib);
  }
  auto inner = fields.inside("resources", *object);
  auto cpus = inner.integer("cpus", 1, largest.cpus);
  auto memory = inner.integer("memory_mb", 1, largest.memory_mib);
  if (!cpus && !memory) {
    return;
  }
  // What is not asked for is as in the default class, if there is such a class, else whatever.
  const machine_class asked{static_cast<std::uint32_t>(cpus.value_or(1)),
                            static_cast<std::uint32_t>(memory.value_or(1))};
  const machine_class usual{cpus ? asked.cpus : limits.default_class.cpus,
                            memory ? asked.memory_mib : limits.default_class.memory_mib};
  auto found = smallest_class(limits.classes, usual);
  if (!found) {
    found = smallest_class(limits.classes, asked);
  }
  if (!found) {
    return fields.refuse_field("resources", "are not all in one class of machines; there are " +
                                                names_of(limits.classes));
  }
  order.machine = *found;
}

void read_resources(json_fields& fields, const spawn_limits& limits, spawn_order& order) {
  order.layer_bytes_max = limits.layer_bytes_max;
  if (const auto* object = fields.object("resources_limits")) {
    auto inner = fields.inside("resources_limits", *object);
    if (auto bytes = inner.integer("max_layer_bytes", 1, std::int64_t{1} << 62)) {
      // Clients send the usual default whatever the server allows: the smaller one counts.
      order.layer_bytes_max = std::min(static_cast<std::uint64_t>(*bytes), limits.layer_bytes_max);
    }
  }
  // "networking" is accepted whatever its value: there is no network to be had.
}

void read_process(json_fields& fields, spawn_order& order) {
  if (!fields.any("command")) {
    fields.refuse_field("command", "is required");
  }
  order.command = read_text(fields, "command", text_bytes_max);
  order.shell = fields.flag("shell").value_or(false);
  if (order.command.empty() && !order.shell) {
    fields.refuse_field("command", "must not be empty without shell");
  }
  read_args(fields, order);
  read_env(fields, order);
  order.cwd = read_text(fields, "cwd", path_bytes_max);
  order.uid = read_id(fields, "uid");
  order.gid = read_id(fields, "gid");
}

void read_hostname(json_fields& fields, spawn_order& order) {
  auto name = read_text(fields, "hostname", hostname_bytes_max);
  if (std::any_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c > '~'; })) {
    fields.refuse_field("hostname", "must be printable ASCII without spaces");
  }
  if (!name.empty()) {
    order.hostname = std::move(name);
  }
}

std::size_t text_bytes(const spawn_order& order) {
  auto total = order.command.size() + order.cwd.size();
  for (const auto& arg : order.args) {
    total += arg.size();
  }
  for (const auto& [name, value] : order.env) {
    total += name.size() + value.size();
  }
  for (const auto& file : order.files) {
    total += file.path.size();
  }
  return total;
}

void set_data(capnp::Data::Builder out, std::string_view bytes) {
  std::copy(bytes.begin(), bytes.end(), out.begin());
}

} // namespace

answer<spawn_order> parse_spawn_order(const json::object& body, const spawn_limits& limits) {
  json_fields fields{body};
  spawn_order order;
  read_process(fields, order);
  order.image = read_text(fields, "image", 512);
  if (order.image.empty()) {
    fields.refuse_field("image", "is required: a UUID or tag:NAME");
  }
  order.preserve_env = fields.flag("preserve_env").value_or(false);
  order.disposable = fields.flag("disposable").value_or(false);
  read_hostname(fields, order);
  read_stdin(fields, order);
  order.timeout_seconds = static_cast<std::uint32_t>(
      fields.integer("timeout", 1, limits.timeout_seconds_max)
          .value_or(std::min(limits.timeout_seconds_default, limits.timeout_seconds_max)));
  order.truncate_output_at = static_cast<std::uint64_t>(
      fields.integer("truncate_output_at", 0, std::int64_t{coppice::limits::output_kept_bytes_max})
          .value_or(std::int64_t{coppice::limits::output_kept_bytes_default}));
  read_files(fields, order);
  read_resources(fields, limits, order);
  read_machine(fields, limits, order);
  order.priority = static_cast<std::int32_t>(
      fields.integer("priority", -priority_max, priority_max).value_or(0));
  if (fields.failed()) {
    return fields.error();
  }
  if (text_bytes(order) > text_bytes_max) {
    return bad_request("command, args, env and paths together must not be longer than " +
                       std::to_string(text_bytes_max) + " bytes; upload a file instead");
  }
  return order;
}

void fill_run_request(const spawn_order& order, proto::RunRequest::Builder out) {
  auto process = out.initProcess();
  process.setCommand(order.command);
  auto args = process.initArgs(static_cast<capnp::uint>(order.args.size()));
  for (capnp::uint i = 0; i < args.size(); ++i) {
    args.set(i, order.args[i]);
  }
  process.setShell(order.shell);
  auto env = process.initEnv(static_cast<capnp::uint>(order.env.size()));
  for (capnp::uint i = 0; i < env.size(); ++i) {
    env[i].setName(order.env[i].first);
    env[i].setValue(order.env[i].second);
  }
  process.setCwd(order.cwd);
  process.setUid(order.uid.value_or(0));
  process.setGid(order.gid.value_or(0));
  process.setHasUid(order.uid.has_value());
  process.setHasGid(order.gid.has_value());
  process.setTruncateOutputAtBytes(order.truncate_output_at);
  out.setImageReference(order.image);
  out.setDisposable(order.disposable);
  out.setHostname(order.hostname);
  out.setPreserveEnv(order.preserve_env);
  set_data(out.initStdin(static_cast<capnp::uint>(order.stdin_bytes.size())), order.stdin_bytes);
  out.setStdinIsBase64(order.stdin_is_base64);
  out.setStdinClose(order.stdin_close);
  out.setTimeoutSeconds(order.timeout_seconds);
  out.setMaxLayerBytes(order.layer_bytes_max);
  out.setCpus(order.machine.cpus);
  out.setMemoryMib(order.machine.memory_mib);
  out.setPriority(order.priority);
  auto files = out.initFiles(static_cast<capnp::uint>(order.files.size()));
  for (capnp::uint i = 0; i < files.size(); ++i) {
    const auto& file = order.files[i];
    files[i].setPath(file.path);
    file.file.to(files[i].initFile());
    files[i].setUid(file.uid);
    files[i].setGid(file.gid);
    files[i].setMode(file.mode);
  }
}

} // namespace coppice::gateway
