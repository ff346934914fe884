#include "gateway/http/target.hpp"

#include <boost/url/pct_string_view.hpp>

namespace coppice::gateway {
namespace {

std::optional<std::string> decode(std::string_view text, bool plus_is_space) {
  auto encoded = boost::urls::make_pct_string_view({text.data(), text.size()});
  if (encoded.has_error()) {
    return std::nullopt;
  }
  boost::urls::encoding_opts options;
  options.space_as_plus = plus_is_space;
  return encoded->decode(options);
}

std::string decode_leniently(std::string_view text) {
  return decode(text, true).value_or(std::string{text});
}

/// What follows scheme and authority of an absolute form; the text itself otherwise.
std::string_view origin_form(std::string_view target) {
  if (target.starts_with('/')) {
    return target;
  }
  auto authority = target.find("://");
  if (authority == std::string_view::npos) {
    return target;
  }
  auto path = target.find_first_of("/?", authority + 3);
  return path == std::string_view::npos ? "/" : target.substr(path);
}

query_map parse_query(std::string_view text) {
  query_map out;
  while (!text.empty()) {
    auto end = text.find('&');
    auto pair = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (pair.empty()) {
      continue;
    }
    auto equals = pair.find('=');
    auto value = equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1);
    out.add(decode_leniently(pair.substr(0, equals)), decode_leniently(value));
  }
  return out;
}

} // namespace

std::vector<std::string> query_map::all(std::string_view name) const {
  std::vector<std::string> out;
  for (const auto& [key, value] : entries_) {
    if (key == name) {
      out.push_back(value);
    }
  }
  return out;
}

std::optional<std::string_view> query_map::find(std::string_view name) const {
  for (const auto& [key, value] : entries_) {
    if (key == name) {
      return value;
    }
  }
  return std::nullopt;
}

answer<bool> query_map::flag(std::string_view name) const {
  auto value = find(name);
  if (!value || *value == "0" || *value == "false") {
    return false;
  }
  if (value->empty() || *value == "1" || *value == "true") {
    return true;
  }
  return bad_request(std::string{name} + " must be 0 or 1");
}

answer<request_target> parse_target(std::string_view target) {
  auto text = origin_form(target);
  auto question = text.find('?');
  auto path = text.substr(0, question);
  request_target out;
  if (question != std::string_view::npos) {
    out.raw_query = std::string{text.substr(question + 1)};
    out.query = parse_query(out.raw_query);
  }
  if (!path.starts_with('/')) {
    return not_found("no such address");
  }
  for (;;) {
    path.remove_prefix(1);
    auto slash = path.find('/');
    auto segment = decode(path.substr(0, slash), false);
    if (!segment) {
      return bad_request("the path contains a percent sign that encodes nothing");
    }
    out.segments.push_back(std::move(*segment));
    if (slash == std::string_view::npos) {
      return out;
    }
    path.remove_prefix(slash);
  }
}

} // namespace coppice::gateway
