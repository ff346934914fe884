#include "gateway/http/names.hpp"

#include <algorithm>

namespace coppice::gateway {
namespace {

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}

bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

template <class Allowed>
bool consists_of(std::string_view text, Allowed allowed) {
  return std::all_of(text.begin(), text.end(), allowed);
}

bool is_host(std::string_view text) {
  auto colon = text.find(':');
  auto name = text.substr(0, colon);
  if (name.empty() || name.front() == '-' || !consists_of(name, [](char c) {
        return is_lower(c) || is_upper(c) || is_digit(c) || c == '.' || c == '-';
      })) {
    return false;
  }
  if (colon == std::string_view::npos) {
    return true;
  }
  auto port = text.substr(colon + 1);
  return !port.empty() && port.size() <= 5 && consists_of(port, is_digit);
}

/// One part of a repository name: words of letters and digits with separators between them.
bool is_repository_part(std::string_view text) {
  auto is_word = [](char c) {
    return is_lower(c) || is_digit(c);
  };
  return !text.empty() && is_word(text.front()) && is_word(text.back()) &&
         consists_of(text, [&](char c) { return is_word(c) || c == '.' || c == '_' || c == '-'; });
}

bool is_registry_tag(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text.front() != '.' && text.front() != '-' &&
         consists_of(text, [](char c) {
           return is_lower(c) || is_upper(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
         });
}

bool is_digest(std::string_view text) {
  constexpr std::string_view algorithm = "sha256:";
  return text.starts_with(algorithm) && text.size() == algorithm.size() + 64 &&
         consists_of(text.substr(algorithm.size()),
                     [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

/// Takes `@digest` and `:tag` off the end; false when one of them is malformed.
bool take_suffixes(std::string_view& rest) {
  if (auto at = rest.find('@'); at != std::string_view::npos) {
    if (!is_digest(rest.substr(at + 1))) {
      return false;
    }
    rest = rest.substr(0, at);
  }
  auto colon = rest.rfind(':');
  auto slash = rest.rfind('/');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    if (!is_registry_tag(rest.substr(colon + 1))) {
      return false;
    }
    rest = rest.substr(0, colon);
  }
  return true;
}

bool is_repository(std::string_view rest) {
  if (rest.empty() || rest.size() > 255) {
    return false;
  }
  auto slash = rest.find('/');
  auto first = rest.substr(0, slash);
  bool has_host = slash != std::string_view::npos &&
                  (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  if (has_host) {
    if (!is_host(first)) {
      return false;
    }
    rest = rest.substr(slash + 1);
  }
  for (;;) {
    slash = rest.find('/');
    if (!is_repository_part(rest.substr(0, slash))) {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    rest = rest.substr(slash + 1);
  }
}

} // namespace

bool is_tag(std::string_view text) {
  auto is_word = [](char c) {
    return is_lower(c) || is_upper(c) || is_digit(c) || c == '_';
  };
  return !text.empty() && text.size() <= 256 && is_word(text.back()) &&
         consists_of(text, [&](char c) {
           return is_word(c) || c == '-' || c == '.' || c == ':' || c == '/' || c == '@';
         });
}

bool is_project(std::string_view text) {
  return !text.empty() && text.size() <= 64 && consists_of(text, [](char c) {
    return is_lower(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

answer<std::string> registry_reference(std::string_view url) {
  auto rest = url;
  if (auto scheme = url.find("://"); scheme != std::string_view::npos) {
    auto name = url.substr(0, scheme);
    if (name != "docker" && name != "oci") {
      return bad_request("registry.url must begin with docker://");
    }
    rest = url.substr(scheme + 3);
  }
  std::string reference = "docker://" + std::string{rest};
  if (!take_suffixes(rest) || !is_repository(rest)) {
    return bad_request("registry.url must be docker://HOST/NAME:TAG");
  }
  return reference;
}

std::variant<uuid, std::string> parse_image_reference(std::string_view text) {
  constexpr std::string_view prefix = "tag:";
  if (text.starts_with(prefix)) {
    return std::string{text.substr(prefix.size())};
  }
  if (auto id = uuid::parse(text)) {
    return *id;
  }
  return std::string{text};
}

} // namespace coppice::gateway
