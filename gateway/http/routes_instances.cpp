#include "gateway/http/body_sources.hpp"
#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/request_key.hpp"
#include "gateway/http/routes.hpp"
#include "gateway/http/spawn_order.hpp"

#include <map>

namespace coppice::gateway {
namespace {

/// Classes that can never run here do not exist for who asks.
spawn_limits limits_of(const services& inside) {
  const auto& config = inside.config;
  auto classes = config.classes();
  std::erase_if(classes, [room = inside.capacity->get()](const machine_class& c) {
    return !room.has_room_for(c);
  });
  return {static_cast<std::uint32_t>(config.limits.instance_timeout_default.count()),
          static_cast<std::uint32_t>(config.limits.instance_timeout_max.count()),
          config.limits.layer_bytes_max, config.default_class(), std::move(classes)};
}

asio::awaitable<answer<frame<proto::ImageRow>>> resolve_image(exchange& x,
                                                              const std::string& text) {
  auto reference = parse_image_reference(text);
  if (const auto* id = std::get_if<uuid>(&reference)) {
    auto request = make_frame<proto::GetImage>([&](auto root) {
      root.setProject(x.who.project);
      id->to(root.initId());
    });
    co_return co_await x.read<proto::ImageRow>(x.inside().catalog, std::move(request));
  }
  const auto& tag = std::get<std::string>(reference);
  if (!is_tag(tag)) {
    co_return not_found("image: no such tag");
  }
  auto request = make_frame<proto::ResolveTag>([&](auto root) {
    root.setProject(x.who.project);
    root.setTag(tag);
  });
  co_return co_await x.read<proto::ImageRow>(x.inside().catalog, std::move(request));
}

using file_table = std::map<uuid, frame<proto::FileRecord>>;

/// Every file of the order, each looked up once. 404, naming the path.
asio::awaitable<answer<file_table>> resolve_files(exchange& x, const spawn_order& order) {
  file_table found;
  for (const auto& file : order.files) {
    if (found.contains(file.file)) {
      continue;
    }
    auto request = make_frame<proto::GetFile>([&](auto root) {
      root.setProject(x.who.project);
      file.file.to(root.initId());
    });
    auto record = co_await x.read<proto::FileRecord>(x.inside().catalog, std::move(request));
    if (record.has_error()) {
      auto why = record.error();
      if (why.status == 404) {
        why.text = "files." + file.path + ".uuid: no such file";
      }
      co_return why;
    }
    found.emplace(file.file, std::move(*record));
  }
  co_return found;
}

frame<proto::StartOperation> build_order(const exchange& x, const spawn_order& order,
                                         const uuid& image, const file_table& files,
                                         const request_key& key) {
  return make_frame<proto::StartOperation>([&](auto root) {
    root.setProject(x.who.project);
    key.to(root.initKey());
    auto request = root.initRequest().initInstance();
    fill_run_request(order, request);
    image.to(request.initImage());
    for (auto placement : request.getFiles()) {
      auto record = files.at(uuid::from(placement.getFile())).view();
      placement.setSha256(record->getSha256());
      placement.setSizeBytes(record->getSizeBytes());
    }
  });
}

/// The effective request of the record, as when it was accepted.
reply started_reply(const frame<proto::OperationRecord>& started) {
  auto record = started.view();
  auto request = record->getRequest().getInstance();
  auto id = uuid::from(record->getId()).text();
  json_body body;
  auto& json = body.json;
  json.begin_object();
  json.member("uuid", id);
  write_run_members(json, request, [&] {
    body.add_value(
        std::make_unique<bytes_source>(started, view(request.getStdin()), !echoes_base64(request)));
  });
  json.member("result", nullptr);
  json.member("status", status_name(proto::OperationStatus::PENDING));
  json.end_object();
  reply out;
  out.status = 201;
  out.headers.emplace_back("Location", "/v1/operations/" + id);
  body.finish(out);
  return out;
}

} // namespace

asio::awaitable<reply> post_instance(exchange& x) {
  answer<spawn_order> order = refusal{};
  {
    auto body = co_await x.read_json();
    if (body.has_error()) {
      co_return reply{body.error()};
    }
    order = parse_spawn_order(*body, limits_of(x.inside()));
  }
  if (order.has_error()) {
    co_return reply{order.error()};
  }
  if (!order->disposable && !x.who.may(may_spawn)) {
    co_return reply{insufficient(may_spawn | may_spawn_disposable)};
  }
  // Before anything is resolved: tags may have moved since the same request came first.
  auto key = key_of(x, x.body_sha256);
  if (key.has_error()) {
    co_return reply{key.error()};
  }
  auto earlier = co_await find_earlier(x, *key);
  if (earlier.has_error()) {
    co_return reply{earlier.error()};
  }
  if (*earlier) {
    co_return started_reply(**earlier);
  }
  auto image = co_await resolve_image(x, order->image);
  if (image.has_error()) {
    co_return reply{image.error()};
  }
  auto files = co_await resolve_files(x, *order);
  if (files.has_error()) {
    co_return reply{files.error()};
  }
  auto request =
      build_order(x, *order, uuid::from(image->view()->getImage().getId()), *files, *key);
  auto started = co_await start_once(x, std::move(request), *key);
  if (started.has_error()) {
    co_return reply{started.error()};
  }
  co_return started_reply(*started);
}

} // namespace coppice::gateway
