#include "vmm/qmp_message.hpp"

#include "vmm/output_tail.hpp"

#include <boost/json.hpp>

#include <algorithm>

namespace coppice::vmm {

namespace {

namespace json = boost::json;

constexpr std::size_t depth_max = 16;
constexpr std::size_t shown_bytes_max = 200;

failure not_a_message(std::string_view line) {
  return fail(ec::protocol, "QEMU said on its control socket: " +
                                printable_lines(line.substr(0, shown_bytes_max), 1));
}

std::string string_or_empty(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  const auto* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? printable_lines({text->data(), text->size()}, 4) : std::string{};
}

} // namespace

result<qmp_message> parse_qmp(std::string_view line) {
  json::parse_options options;
  options.max_depth = depth_max;
  json::error_code error;
  const auto value = json::parse(line, error, {}, options);
  const auto* object = error ? nullptr : value.if_object();
  if (object == nullptr) {
    return not_a_message(line);
  }
  if (object->contains("QMP")) {
    return qmp_message{qmp_kind::greeting, {}, {}};
  }
  if (object->contains("return")) {
    return qmp_message{qmp_kind::reply, {}, {}};
  }
  if (const auto* said = object->if_contains("error"); said != nullptr && said->is_object()) {
    return qmp_message{qmp_kind::error, string_or_empty(said->get_object(), "class"),
                       string_or_empty(said->get_object(), "desc")};
  }
  if (auto name = string_or_empty(*object, "event"); !name.empty()) {
    const auto* data = object->if_contains("data");
    std::string detail;
    if (data != nullptr && data->is_object()) {
      detail = string_or_empty(data->get_object(), "reason");
      if (detail.empty()) {
        detail = string_or_empty(data->get_object(), "status");
      }
    }
    return qmp_message{qmp_kind::event, std::move(name), std::move(detail)};
  }
  return not_a_message(line);
}

void line_buffer::append(std::string_view bytes) {
  bytes_ += bytes;
}

result<std::optional<std::string>> line_buffer::next() {
  for (;;) {
    const auto end = bytes_.find('\n');
    if (std::min(end, bytes_.size()) > line_bytes_max) {
      return fail(ec::protocol, "QEMU's control socket: a line is longer than " +
                                    std::to_string(line_bytes_max) + " bytes");
    }
    if (end == std::string::npos) {
      return std::optional<std::string>{};
    }
    auto line = bytes_.substr(0, end);
    bytes_.erase(0, end + 1);
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (!line.empty()) {
      return std::optional<std::string>{std::move(line)};
    }
  }
}

} // namespace coppice::vmm
