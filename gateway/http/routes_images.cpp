#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/request_key.hpp"
#include "gateway/http/routes.hpp"

#include <algorithm>

namespace coppice::gateway {
namespace {

constexpr std::int64_t import_timeout_seconds_default = 300;
constexpr std::size_t credential_bytes_max = 4096;

struct import_order {
  std::string url;
  std::string username;
  std::string password;
  std::string tag;
  std::string oci_layout;
  std::uint32_t timeout_seconds = 0;
};

std::string read_tag(json_fields& fields) {
  auto tag = fields.text("tag").value_or(std::string{});
  if (!tag.empty() && !is_tag(tag)) {
    fields.refuse_field("tag", "must be 1 to 256 characters of a-z 0-9 _ - . : / and not end in "
                               "a separator");
  }
  return tag;
}

std::uint32_t read_timeout_field(json_fields& fields, const settings& config) {
  auto seconds_max = static_cast<std::int64_t>(config.import.timeout_max.count());
  return static_cast<std::uint32_t>(
      fields.integer("timeout", 1, seconds_max)
          .value_or(std::min(import_timeout_seconds_default, seconds_max)));
}

std::string read_credential(json_fields& fields, std::string_view name) {
  auto text = fields.text(name).value_or(std::string{});
  auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < ' ';
  };
  if (text.size() > credential_bytes_max || std::any_of(text.begin(), text.end(), is_control)) {
    fields.refuse_field(name, "must be one line of text");
  }
  return text;
}

answer<import_order> parse_import_order(const boost::json::object& body, const settings& config) {
  json_fields fields{body};
  import_order order;
  const auto* registry = fields.object("registry");
  if (!registry) {
    fields.refuse_field("registry", "is required");
  } else {
    auto inner = fields.inside("registry", *registry);
    order.url = inner.text("url").value_or(std::string{});
    if (const auto* credentials = inner.object("credentials")) {
      auto secret = inner.inside("credentials", *credentials);
      order.username = read_credential(secret, "username");
      order.password = read_credential(secret, "password");
      if (order.username.find(':') != std::string::npos) {
        secret.refuse_field("username", "must not contain a colon");
      }
    }
  }
  order.tag = read_tag(fields);
  order.timeout_seconds = read_timeout_field(fields, config);
  if (fields.failed()) {
    return fields.error();
  }
  auto url = registry_reference(order.url);
  if (url.has_error()) {
    return url.error();
  }
  order.url = std::move(*url);
  return order;
}

reply started_reply(proto::OperationRecord::Reader record) {
  auto id = uuid::from(record.getId()).text();
  json_writer json;
  json.begin_object();
  json.member("uuid", id);
  json.end_object();
  reply out{201, json.take()};
  out.headers.emplace_back("Location", "/v1/operations/" + id);
  return out;
}

asio::awaitable<reply> start_import(exchange& x, const import_order& order) {
  auto key = key_of(x, x.body_sha256);
  if (key.has_error()) {
    co_return reply{key.error()};
  }
  auto earlier = co_await find_earlier(x, *key);
  if (earlier.has_error()) {
    co_return reply{earlier.error()};
  }
  if (*earlier) {
    auto record = (*earlier)->view();
    co_return started_reply(*record);
  }
  auto request = make_frame<proto::StartOperation>([&](auto root) {
    root.setProject(x.who.project);
    key->to(root.initKey());
    auto import = root.initRequest().initImport();
    import.setUrl(order.url);
    import.setUsername(order.username);
    import.setPassword(order.password);
    import.setHasCredentials(!order.username.empty() || !order.password.empty());
    import.setTag(order.tag);
    import.setTimeoutSeconds(order.timeout_seconds);
    import.setOciLayout(order.oci_layout);
  });
  auto started = co_await start_once(x, std::move(request), *key);
  if (started.has_error()) {
    co_return reply{started.error()};
  }
  auto record = started->view();
  co_return started_reply(*record);
}

reply image_reply(proto::ImageRow::Reader row) {
  json_writer json;
  write_image(json, row);
  return reply{200, json.take()};
}

} // namespace

asio::awaitable<reply> get_images(exchange& x) {
  auto page = parse_page(x.query());
  if (page.has_error()) {
    co_return reply{page.error()};
  }
  auto tagged = x.query().flag("tagged");
  if (tagged.has_error()) {
    co_return reply{tagged.error()};
  }
  auto prefix = x.query().find("tag").value_or("");
  auto id_text = x.query().find("uuid").value_or("");
  auto id = uuid::parse(id_text).value_or(uuid{});
  bool is_nothing = (!id_text.empty() && !id) || prefix.find('\0') != std::string_view::npos;
  if (is_nothing) { // a filter that nothing can match is an empty page, never an error
    co_return reply{200, R"({"images":[]})"};
  }
  auto request = make_frame<proto::ListImages>([&](auto root) {
    fill_page(root, *page, x.who.project);
    root.setTaggedOnly(*tagged);
    root.setTagPrefix(std::string{prefix});
    id.to(root.initId());
  });
  auto found = co_await x.read<proto::ImagePage>(x.inside().catalog, std::move(request));
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto rows = found->view();
  json_writer json;
  json.begin_object();
  json.key("images");
  json.begin_array();
  for (auto row : rows->getRows()) {
    write_image(json, row);
  }
  json.end_array();
  json.end_object();
  co_return reply{200, json.take()};
}

asio::awaitable<reply> get_image(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto request = make_frame<proto::GetImage>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initId());
  });
  auto row = co_await x.read<proto::ImageRow>(x.inside().catalog, std::move(request));
  if (row.has_error()) {
    co_return reply{row.error()};
  }
  auto image = row->view();
  json_writer json;
  write_image_details(json, *image);
  co_return reply{200, json.take()};
}

/// Ours, not in the contract that clients know. `with_tags` is for `coppice gc`, whose policy may
/// give up tagged images.
asio::awaitable<reply> delete_image(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto with_tags = x.query().flag("with_tags");
  if (with_tags.has_error()) {
    co_return reply{with_tags.error()};
  }
  auto request = make_frame<proto::DeleteImage>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initImage());
    root.setWithTags(*with_tags);
  });
  auto done = co_await x.write<proto::Done>(x.inside().images, std::move(request));
  if (done.has_error()) {
    co_return reply{done.error()};
  }
  co_return reply{204, {}};
}

asio::awaitable<reply> patch_tag(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto body = co_await x.read_json();
  if (body.has_error()) {
    co_return reply{body.error()};
  }
  json_fields fields{*body};
  auto tag = read_tag(fields);
  if (tag.empty()) {
    fields.refuse_field("tag", "is required");
  }
  if (fields.failed()) {
    co_return reply{fields.error()};
  }
  auto request = make_frame<proto::SetTag>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initImage());
    root.setTag(tag);
  });
  auto row = co_await x.write<proto::ImageRow>(x.inside().catalog_writer, std::move(request));
  if (row.has_error()) {
    co_return reply{row.error()};
  }
  auto image = row->view();
  co_return image_reply(*image);
}

asio::awaitable<reply> delete_tag(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  const auto named = x.query().find("tag");
  const auto tag = named.value_or("");
  if (named && tag.empty()) {
    co_return reply{bad_request("tag is empty: name one, or leave it out to remove all")};
  }
  if (named && !is_tag(tag)) {
    co_return reply{not_found("the image has no such tag")};
  }
  auto request = make_frame<proto::RemoveTag>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initImage());
    root.setTag(std::string{tag});
  });
  auto done = co_await x.write<proto::Done>(x.inside().catalog_writer, std::move(request));
  if (done.has_error()) {
    co_return reply{done.error()};
  }
  co_return reply{204, {}};
}

asio::awaitable<reply> post_import(exchange& x) {
  auto body = co_await x.read_json();
  if (body.has_error()) {
    co_return reply{body.error()};
  }
  auto order = parse_import_order(*body, x.config());
  if (order.has_error()) {
    co_return reply{order.error()};
  }
  co_return co_await start_import(x, *order);
}

asio::awaitable<reply> post_admin_import(exchange& x) {
  auto body = co_await x.read_json();
  if (body.has_error()) {
    co_return reply{body.error()};
  }
  json_fields fields{*body};
  import_order order;
  order.oci_layout = fields.text("oci_layout").value_or(std::string{});
  if (!order.oci_layout.starts_with('/') || order.oci_layout.find('\0') != std::string::npos) {
    fields.refuse_field("oci_layout", "must be the absolute path of an OCI layout");
  }
  order.url = "oci:" + order.oci_layout;
  order.tag = read_tag(fields);
  order.timeout_seconds = read_timeout_field(fields, x.config());
  if (auto project = fields.text("project")) {
    if (!is_project(*project)) {
      fields.refuse_field("project", "must be 1 to 64 characters of a-z 0-9 . _ -");
    }
    x.who.project = *project;
  }
  if (fields.failed()) {
    co_return reply{fields.error()};
  }
  co_return co_await start_import(x, order);
}

} // namespace coppice::gateway
