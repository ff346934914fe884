#include "gateway/http/process_order.hpp"

#include "gateway/http/json_text.hpp"
#include "protocol/limits.hpp"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <csignal>
#include <cstring>

namespace coppice::gateway {
namespace {

constexpr std::int64_t id_max = 4294967294; // 2^32 - 1 means "unchanged" to the kernel

void read_args(json_fields& fields, process_order& order) {
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

void read_env(json_fields& fields, process_order& order) {
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
      continue; // as if it were left out: what the image has under that name stays
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

/// The bytes that a value stands for in its encoding.
std::string decode_input(json_fields& fields, input_order& order) {
  auto value = fields.text("value").value_or(std::string{});
  auto encoding = fields.text("encoding").value_or("ascii");
  if (encoding == "base64") {
    auto bytes = base64_decode(value);
    if (!bytes) {
      fields.refuse_field("value", "is not base64");
    }
    order.is_base64 = true;
    value = std::move(bytes).value_or(std::string{});
  } else if (encoding != "ascii") {
    fields.refuse_field("encoding", "must be ascii or base64");
  }
  if (value.size() > limits::stdin_bytes_max) {
    fields.refuse_field("value", "must not be longer than " +
                                     std::to_string(limits::stdin_bytes_max) + " bytes");
  }
  return value;
}

} // namespace

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

input_order read_input(json_fields& fields) {
  input_order order;
  order.bytes = decode_input(fields, order);
  order.close = fields.flag("close").value_or(true);
  return order;
}

input_order read_stdin(json_fields& fields) {
  const auto* object = fields.object("stdin");
  if (!object) {
    return {};
  }
  auto inner = fields.inside("stdin", *object);
  return read_input(inner);
}

process_order read_process(json_fields& fields) {
  process_order order;
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
  order.truncate_output_at = static_cast<std::uint64_t>(
      fields.integer("truncate_output_at", 0, std::int64_t{coppice::limits::output_kept_bytes_max})
          .value_or(std::int64_t{coppice::limits::output_kept_bytes_default}));
  return order;
}

std::size_t text_bytes(const process_order& order) {
  auto total = order.command.size() + order.cwd.size();
  for (const auto& arg : order.args) {
    total += arg.size();
  }
  for (const auto& [name, value] : order.env) {
    total += name.size() + value.size();
  }
  return total;
}

answer<process_order> parse_exec_order(const boost::json::object& body) {
  json_fields fields{body};
  auto order = read_process(fields);
  order.stdin = read_stdin(fields);
  if (fields.failed()) {
    return fields.error();
  }
  if (text_bytes(order) > text_bytes_max) {
    return bad_request("command, args, env and cwd together must not be longer than " +
                       std::to_string(text_bytes_max) + " bytes");
  }
  return order;
}

answer<input_order> parse_input_order(const boost::json::object& body) {
  json_fields fields{body};
  if (!fields.any("value")) {
    fields.refuse_field("value", "is required");
  }
  auto order = read_input(fields);
  if (fields.failed()) {
    return fields.error();
  }
  return order;
}

std::optional<std::int32_t> parse_signal(std::string_view text) {
  constexpr std::int32_t signal_max = 64;
  std::int32_t number = 0;
  auto end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc{} && stopped == end) {
    return number >= 1 && number <= signal_max ? std::optional{number} : std::nullopt;
  }
  std::string name{text};
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  name.erase(0, name.starts_with("SIG") ? 3 : 0);
  for (std::int32_t i = 1; i < signal_max; ++i) {
    const auto* known = ::sigabbrev_np(i);
    if (known && name == known) {
      return i;
    }
  }
  for (auto [alias, meant] :
       {std::pair{"IOT", SIGIOT}, std::pair{"CLD", SIGCLD}, std::pair{"IO", SIGIO}}) {
    if (name == alias) {
      return meant;
    }
  }
  return std::nullopt;
}

void fill_process(const process_order& order, proto::ProcessSpec::Builder process) {
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
}

} // namespace coppice::gateway
