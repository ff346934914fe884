#include "gateway/http/routes.hpp"

namespace coppice::gateway {
namespace {

void write_limits(json_writer& json, const settings& config, const node_capacity& capacity) {
  json.begin_object();
  json.member("instance_max_timeout", config.limits.instance_timeout_max.count());
  // Runs beyond the slots wait in order, so this is what makes sense at once, not what is refused.
  json.member("instance_max_concurrency", capacity.running);
  json.member("instance_max_layer_bytes", config.limits.layer_bytes_max);
  json.member("images_import_max_concurrency", config.import.running_max);
  json.member("images_import_max_timeout", config.import.timeout_max.count());
  json.end_object();
}

} // namespace

asio::awaitable<reply> get_health(exchange&) {
  co_return reply{200, R"({"status":"ok"})"};
}

asio::awaitable<reply> get_ready(exchange& x) {
  // A server that answers has its store open; what may be missing is a way to run anything.
  if (x.server.stopping) {
    co_return reply{refusal{503, "the server is stopping"}};
  }
  if (!x.inside().capacity->is_exact()) {
    co_return reply{refusal{503, "the accelerator is being chosen; try again"}};
  }
  co_return reply{200, R"({"status":"ready"})"};
}

asio::awaitable<reply> get_metrics(exchange& x) {
  reply out{200, x.inside().metrics->text()};
  out.content_type = "text/plain; version=0.0.4; charset=utf-8";
  co_return out;
}

asio::awaitable<reply> get_whoami(exchange& x) {
  auto request = make_frame<proto::CountActive>([&](auto root) { root.setProject(x.who.project); });
  auto counts = co_await x.read<proto::ActiveCounts>(x.inside().catalog, std::move(request));
  if (counts.has_error()) {
    co_return reply{counts.error()};
  }
  auto active = counts->view();
  json_writer json;
  json.begin_object();
  json.member("token_uuid", x.who.token.text());
  json.key("token_expiration");
  if (x.who.expires_at_unix_ns == 0) {
    json.value(nullptr);
  } else {
    json.value(x.who.expires_at_unix_ns / 1'000'000'000);
  }
  json.key("permissions");
  json.begin_object();
  for (unsigned bit = 0; bit < std::size(permission_names); ++bit) {
    json.member(permission_names[bit], x.who.may(1u << bit));
  }
  json.end_object();
  json.key("limits");
  write_limits(json, x.config(), x.inside().capacity->get());
  json.key("operations_stat");
  json.begin_object();
  json.member("running_instances", active->getInstances());
  json.member("running_imports", active->getImports());
  json.end_object();
  json.end_object();
  co_return reply{200, json.take()};
}

} // namespace coppice::gateway
