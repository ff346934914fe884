#include "actors/import.hpp"

#include "protocol/limits.hpp"

#include <algorithm>

namespace coppice {

namespace {

bool is_host(std::string_view text) {
  return text == "localhost" || text.find('.') != text.npos || text.find(':') != text.npos;
}

bool is_clean(std::string_view text) {
  return !text.empty() && text.size() <= 1024 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"._-/:@+[]"}.find(c) != std::string_view::npos;
  });
}

} // namespace

std::optional<registry_reference> parse_registry_reference(std::string_view url) {
  for (std::string_view scheme : {"docker://", "oci://"}) {
    if (url.starts_with(scheme)) {
      url.remove_prefix(scheme.size());
    }
  }
  if (!is_clean(url) || url.front() == '/' || url.back() == '/' || url.front() == '-') {
    return std::nullopt;
  }
  registry_reference out{"docker.io", std::string{url}};
  auto slash = url.find('/');
  if (slash != url.npos && is_host(url.substr(0, slash))) {
    out.host = url.substr(0, slash);
    out.path = url.substr(slash + 1);
  }
  if (out.path.empty() || out.path.front() == '/') {
    return std::nullopt;
  }
  if (out.host == "docker.io" && out.path.find('/') == std::string::npos) {
    out.path = "library/" + out.path;
  }
  auto last = out.path.rfind('/');
  auto name = std::string_view{out.path}.substr(last == std::string::npos ? 0 : last + 1);
  if (name.find(':') == name.npos && name.find('@') == name.npos) {
    out.path += ":latest";
  }
  return out;
}

std::string registry_words(std::string_view output) {
  // skopeo logs lines of key=value; the fatal one's msg is the reason.
  constexpr std::string_view mark = "level=fatal msg=\"";
  auto at = output.rfind(mark);
  std::string words;
  if (at == output.npos) {
    words = output.substr(output.size() > 2000 ? output.size() - 2000 : 0);
  } else {
    for (auto i = at + mark.size(); i < output.size() && output[i] != '"'; ++i) {
      if (output[i] == '\\' && i + 1 < output.size()) {
        ++i;
      }
      words += output[i];
    }
  }
  while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) {
    words.pop_back();
  }
  return words.empty() ? "skopeo ended without saying why" : words;
}

} // namespace coppice
