#include "gateway/http/spawn_order.hpp"

#include "gateway/http/json_fields.hpp"

#include <boost/json/value.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace coppice::gateway {
namespace {

namespace json = boost::json;

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
}

/// Whatever it says there is no network to be had; only what cannot be meant is refused.
void check_networking(json_fields& fields) {
  if (const auto* object = fields.object("networking")) {
    static_cast<void>(fields.inside("networking", *object).flag("enabled"));
  }
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

std::size_t all_text_bytes(const spawn_order& order) {
  auto total = text_bytes(order);
  for (const auto& file : order.files) {
    total += file.path.size();
  }
  return total;
}

} // namespace

answer<spawn_order> parse_spawn_order(const json::object& body, const spawn_limits& limits) {
  json_fields fields{body};
  spawn_order order;
  static_cast<process_order&>(order) = read_process(fields);
  order.image = read_text(fields, "image", 512);
  if (order.image.empty()) {
    fields.refuse_field("image", "is required: a UUID or tag:NAME");
  }
  order.preserve_env = fields.flag("preserve_env").value_or(false);
  order.disposable = fields.flag("disposable").value_or(false);
  read_hostname(fields, order);
  order.stdin = read_stdin(fields);
  order.timeout_seconds = static_cast<std::uint32_t>(
      fields.integer("timeout", 1, limits.timeout_seconds_max)
          .value_or(std::min(limits.timeout_seconds_default, limits.timeout_seconds_max)));
  read_files(fields, order);
  read_resources(fields, limits, order);
  check_networking(fields);
  read_machine(fields, limits, order);
  order.priority = static_cast<std::int32_t>(
      fields.integer("priority", -priority_max, priority_max).value_or(0));
  if (fields.failed()) {
    return fields.error();
  }
  if (all_text_bytes(order) > text_bytes_max) {
    return bad_request("command, args, env and paths together must not be longer than " +
                       std::to_string(text_bytes_max) + " bytes; upload a file instead");
  }
  return order;
}

void fill_run_request(const spawn_order& order, proto::RunRequest::Builder out) {
  fill_process(order, out.initProcess());
  out.setImageReference(order.image);
  out.setDisposable(order.disposable);
  out.setHostname(order.hostname);
  out.setPreserveEnv(order.preserve_env);
  out.setStdin(data_of(order.stdin.bytes));
  out.setStdinIsBase64(order.stdin.is_base64);
  out.setStdinClose(order.stdin.close);
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
