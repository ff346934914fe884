#include "gateway/http/json_fields.hpp"

#include <boost/json/parser.hpp>
#include <boost/json/value.hpp>

namespace coppice::gateway {

namespace json = boost::json;

std::uint64_t count_json_values(std::string_view text) {
  std::uint64_t count = 1;
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      is_quoted = !is_quoted;
    } else if (is_quoted && c == '\\') {
      ++i;
    } else if (!is_quoted && (c == ',' || c == '[' || c == '{')) {
      ++count;
    }
  }
  return count;
}

answer<json::object> parse_json_object(std::string_view text) {
  json::parse_options options;
  options.max_depth = 16; // the deepest request has four levels
  json::parser parser{{}, options};
  json::error_code error;
  auto taken = parser.write_some(text.data(), text.size(), error);
  if (!error && text.find_first_not_of(" \t\r\n", taken) != std::string_view::npos) {
    error = json::error::extra_data;
  }
  if (error) {
    return bad_request("the body is not JSON: " + error.message() + " near byte " +
                       std::to_string(taken));
  }
  auto value = parser.release();
  if (!value.is_object()) {
    return bad_request("the body must be a JSON object");
  }
  return std::move(value.get_object());
}

const json::value* json_fields::any(std::string_view name) const {
  const auto* found = object_->if_contains({name.data(), name.size()});
  return found && !found->is_null() ? found : nullptr;
}

std::optional<std::string> json_fields::text(std::string_view name) {
  const auto* value = any(name);
  if (!value) {
    return std::nullopt;
  }
  if (const auto* string = value->if_string()) {
    return std::string{string->data(), string->size()};
  }
  refuse_field(name, "must be a string");
  return std::nullopt;
}

std::optional<bool> json_fields::flag(std::string_view name) {
  const auto* value = any(name);
  if (!value) {
    return std::nullopt;
  }
  if (const auto* b = value->if_bool()) {
    return *b;
  }
  refuse_field(name, "must be true or false");
  return std::nullopt;
}

std::optional<std::int64_t> json_fields::integer(std::string_view name, std::int64_t minimum,
                                                 std::int64_t maximum) {
  const auto* value = any(name);
  if (!value) {
    return std::nullopt;
  }
  if (!value->is_int64() && !value->is_uint64()) {
    refuse_field(name, "must be a whole number");
    return std::nullopt;
  }
  // Beyond int64 there is nothing that any field allows.
  const auto* number = value->if_int64();
  if (!number || *number < minimum || *number > maximum) {
    refuse_field(name,
                 "must be between " + std::to_string(minimum) + " and " + std::to_string(maximum));
    return std::nullopt;
  }
  return *number;
}

const json::array* json_fields::array(std::string_view name) {
  const auto* value = any(name);
  if (value && !value->is_array()) {
    refuse_field(name, "must be an array");
    return nullptr;
  }
  return value ? value->if_array() : nullptr;
}

const json::object* json_fields::object(std::string_view name) {
  const auto* value = any(name);
  if (value && !value->is_object()) {
    refuse_field(name, "must be an object");
    return nullptr;
  }
  return value ? value->if_object() : nullptr;
}

json_fields json_fields::inside(std::string_view name, const json::object& object) const {
  json_fields out = *this;
  out.object_ = &object;
  out.prefix_ += name;
  out.prefix_ += '.';
  return out;
}

void json_fields::refuse_field(std::string_view name, std::string_view what) {
  if (!failed()) {
    std::string text = prefix_;
    text += name.substr(0, 200);
    text += ' ';
    text += what;
    *error_ = bad_request(std::move(text));
  }
}

} // namespace coppice::gateway
