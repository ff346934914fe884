#include "gateway/http/json_records.hpp"
#include "gateway/http/routes.hpp"

// The tree of images: ours, not in the contract that clients know.

namespace coppice::gateway {
namespace {

constexpr std::uint32_t depth_default = 3;
constexpr std::uint32_t depth_max = 1000;

void write_node(json_writer& json, proto::ImageTree::Node::Reader node) {
  json.begin_object();
  write_image_members(json, node.getRow());
  const auto parent = uuid::from(node.getParent());
  json.member("parent_uuid", parent ? std::optional{parent.text()} : std::nullopt);
  json.member("distance", node.getDistance());
  json.end_object();
}

asio::awaitable<reply> answer_walk(exchange& x, bool is_upwards, std::uint32_t distance) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto page = parse_page(x.query());
  if (page.has_error()) {
    co_return reply{page.error()};
  }
  auto request = make_frame<proto::WalkTree>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initImage());
    root.setUpwards(is_upwards);
    root.setDistanceMax(distance);
    root.setLimit(page->limit);
    root.setOffset(page->offset);
  });
  auto found = co_await x.read<proto::ImageTree>(x.inside().catalog, std::move(request));
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto tree = found->view();
  json_writer json;
  json.begin_object();
  json.member("uuid", id->text());
  json.key("images");
  json.begin_array();
  for (auto node : tree->getNodes()) {
    write_node(json, node);
  }
  json.end_array();
  json.member("truncated", tree->getTruncated());
  json.end_object();
  co_return reply{200, json.take()};
}

} // namespace

asio::awaitable<reply> get_image_ancestors(exchange& x) {
  return answer_walk(x, true, UINT32_MAX);
}

asio::awaitable<reply> get_image_children(exchange& x) {
  return answer_walk(x, false, 1);
}

asio::awaitable<reply> get_image_tree(exchange& x) {
  auto depth = depth_default;
  if (auto text = x.query().find("depth")) {
    auto given = parse_count(*text);
    if (!given || *given < 1 || *given > depth_max) {
      co_return reply{bad_request("depth must be between 1 and " + std::to_string(depth_max))};
    }
    depth = static_cast<std::uint32_t>(*given);
  }
  co_return co_await answer_walk(x, false, depth);
}

} // namespace coppice::gateway
