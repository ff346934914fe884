#include "gateway/http/request_head.hpp"

#include <algorithm>
#include <string>

namespace coppice::gateway {
namespace {

/// No method that anybody uses is longer.
constexpr std::size_t method_bytes_max = 32;

/// More digits do not fit a std::uint64_t for sure.
constexpr std::size_t length_digits_max = 19;

bool is_token_char(char c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
    return true;
  }
  return c != '\0' && std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equals_ignoring_case(std::string_view a, std::string_view lower_case) {
  return a.size() == lower_case.size() && std::equal(a.begin(), a.end(), lower_case.begin(),
                                                     [](char x, char y) { return lower(x) == y; });
}

std::string_view trim(std::string_view text) {
  auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Takes a line and its CRLF from the front.
std::string_view take_line(std::string_view& text) {
  auto end = std::min(text.find("\r\n"), text.size());
  auto line = text.substr(0, end);
  text.remove_prefix(std::min(end + 2, text.size()));
  return line;
}

enum class http_version { one_zero, one_one };

answer<http_version> check_request_line(std::string_view line) {
  auto method = line.substr(0, line.find(' '));
  if (!is_token(method) || method.size() > method_bytes_max) {
    return bad_request("malformed HTTP request: the method is no word");
  }
  auto rest = line.substr(std::min(method.size() + 1, line.size()));
  auto target = rest.substr(0, rest.find(' '));
  auto version = rest.substr(std::min(target.size() + 1, rest.size()));
  if (target.empty() || std::any_of(target.begin(), target.end(), is_control)) {
    return bad_request("malformed HTTP request: the first line has no address, or one with "
                       "control characters");
  }
  if (version == "HTTP/1.1") {
    return http_version::one_one;
  }
  if (version == "HTTP/1.0") {
    return http_version::one_zero;
  }
  return bad_request("malformed HTTP request: the first line must end with HTTP/1.1 or HTTP/1.0");
}

/// The headers that say where a request ends and whom it is for: each at most once.
struct framing {
  unsigned lengths = 0;
  unsigned codings = 0;
  unsigned hosts = 0;
  unsigned authorizations = 0;

  std::optional<refusal> add(std::string_view name, std::string_view value);
  std::optional<refusal> check(http_version version) const;
};

std::optional<refusal> framing::add(std::string_view name, std::string_view value) {
  if (equals_ignoring_case(name, "content-length")) {
    bool is_number =
        !value.empty() && value.size() <= length_digits_max &&
        std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (++lengths > 1) {
      return bad_request("the request has two Content-Length headers");
    }
    if (!is_number) {
      return bad_request("Content-Length must be one whole number of bytes");
    }
  } else if (equals_ignoring_case(name, "transfer-encoding")) {
    if (++codings > 1 || !equals_ignoring_case(value, "chunked")) {
      return bad_request("Transfer-Encoding must be chunked and nothing else");
    }
  } else if (equals_ignoring_case(name, "host")) {
    ++hosts;
    if (value.find_first_of(" \t,/@") != std::string_view::npos) {
      return bad_request("Host must be one name or address, with a port or without");
    }
  } else if (equals_ignoring_case(name, "authorization")) {
    ++authorizations;
  } else if (equals_ignoring_case(name, "expect")) {
    if (!equals_ignoring_case(value, "100-continue")) {
      return refusal{417, "the only expectation that is understood is Expect: 100-continue"};
    }
  }
  return std::nullopt;
}

std::optional<refusal> framing::check(http_version version) const {
  if (lengths > 0 && codings > 0) {
    return bad_request("the request has both Content-Length and Transfer-Encoding");
  }
  if (codings > 0 && version == http_version::one_zero) {
    return bad_request("HTTP/1.0 has no Transfer-Encoding; send Content-Length");
  }
  if (hosts > 1 || (hosts == 0 && version == http_version::one_one)) {
    return bad_request("the request must have one Host header");
  }
  if (authorizations > 1) {
    return bad_request("the request has two Authorization headers");
  }
  return std::nullopt;
}

std::optional<refusal> check_field(std::string_view line, framing& seen) {
  if (line.front() == ' ' || line.front() == '\t') {
    return bad_request("a header is folded over two lines; write it in one");
  }
  auto colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return bad_request("malformed header: it must be a name, a colon right after it, and a value");
  }
  auto value = trim(line.substr(colon + 1));
  if (std::any_of(value.begin(), value.end(), [](char c) { return is_control(c) && c != '\t'; })) {
    return bad_request("the value of a header contains control characters");
  }
  return seen.add(line.substr(0, colon), value);
}

} // namespace

std::optional<refusal> head_scanner::check_sizes(std::size_t end, std::size_t line_end) const {
  bool has_line = request_line_bytes_ > 0;
  if (!has_line && line_end > limits_.line_bytes_max) {
    return refusal{414, "the request line is longer than " +
                            std::to_string(limits_.line_bytes_max) + " bytes"};
  }
  if (has_line && end - request_line_bytes_ > limits_.headers_bytes_max) {
    return refusal{431, "the request's header is larger than " +
                            std::to_string(limits_.headers_bytes_max) + " bytes"};
  }
  // The request line and the empty one are none of them.
  if (lines_ > limits_.headers_max + 2) {
    return refusal{431,
                   "the request has more than " + std::to_string(limits_.headers_max) + " headers"};
  }
  return std::nullopt;
}

head_scanner::progress head_scanner::scan(std::string_view bytes) {
  progress out;
  for (;;) {
    auto fresh = std::max(scanned_, looked_at_);
    auto feed = bytes.find('\n', fresh);
    bool is_partial = feed == std::string_view::npos;
    auto end = is_partial ? bytes.size() : feed + 1;
    auto line = bytes.substr(scanned_, end - scanned_);
    lines_ += is_partial ? 0 : 1;
    out.refused = check_sizes(end, line.size());
    if (out.refused) {
      return out;
    }
    if (bytes.substr(fresh, end - fresh).find('\0') != std::string_view::npos) {
      out.refused = bad_request("malformed HTTP request: it contains a NUL byte");
      return out;
    }
    if (is_partial) {
      looked_at_ = bytes.size();
      return out;
    }
    if (!line.ends_with("\r\n")) {
      out.refused = bad_request("malformed HTTP request: lines must end with CR LF");
      return out;
    }
    scanned_ = end;
    if (request_line_bytes_ == 0) {
      request_line_bytes_ = line.size();
    } else if (line.size() == 2) {
      out.head_bytes = end;
      return out;
    }
  }
}

std::optional<refusal> check_head(std::string_view head) {
  auto version = check_request_line(take_line(head));
  if (version.has_error()) {
    return version.error();
  }
  framing seen;
  while (!head.empty()) {
    auto line = take_line(head);
    if (line.empty()) {
      break; // the end of the head
    }
    if (auto wrong = check_field(line, seen)) {
      return wrong;
    }
  }
  return seen.check(*version);
}

} // namespace coppice::gateway
