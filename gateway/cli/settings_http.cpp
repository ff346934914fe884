#include "gateway/cli/lists.hpp"
#include "gateway/cli/settings_rows.hpp"

#include <utility>

namespace coppice::cli {
namespace {

problem set_listen(settings& s, std::string_view text) {
  auto colon = text.rfind(':');
  auto port = colon == text.npos ? std::nullopt : parse_count(text.substr(colon + 1));
  if (colon == text.npos || colon == 0 || !port || *port > 65535) {
    return "must be ADDRESS:PORT with a port from 0 to 65535, as in 127.0.0.1:8080 or [::1]:8080";
  }
  s.http.listen = text;
  return std::nullopt;
}

problem set_cors_origins(settings& s, std::string_view text) {
  auto origins = items_of(text);
  for (const auto& origin : origins) {
    auto scheme = origin.find("://");
    bool is_origin = scheme != origin.npos && scheme > 0 && scheme + 3 < origin.size() &&
                     origin.find_first_of("/ \t?#*", scheme + 3) == origin.npos;
    if (!is_origin && (origin != "*" || origins.size() != 1)) {
      return "must be origins as browsers send them, SCHEME://HOST or SCHEME://HOST:PORT without a "
             "path, separated by commas; or * alone for all";
    }
  }
  s.http.cors_origins = std::move(origins);
  return std::nullopt;
}

problem set_trusted_proxies(settings& s, std::string_view text) {
  auto proxies = items_of(text);
  for (const auto& proxy : proxies) {
    if (!is_network(proxy)) {
      return "must be addresses or networks separated by commas, as in 10.0.0.1, 10.1.0.0/16, "
             "fd00::/8";
    }
  }
  s.http.trusted_proxies = std::move(proxies);
  return std::nullopt;
}

void add_http_times(std::vector<setting>& rows) {
  using std::chrono::seconds;
  rows.push_back(duration_row({"http", "idle_timeout"}, FIELD(http.idle_timeout), seconds{1},
                              seconds{86'400},
                              "A connection that waits so long for its next request is closed."));
  rows.push_back(duration_row({"http", "header_timeout"}, FIELD(http.header_timeout), seconds{1},
                              seconds{3'600},
                              "A request whose header, and a connection whose TLS handshake, is "
                              "not complete so long after its first byte is refused."));
  rows.push_back(duration_row({"http", "stall_timeout"}, FIELD(http.stall_timeout), seconds{1},
                              seconds{3'600},
                              "A client that in so long of waiting for it sends or takes less than "
                              "rate_bytes_min a second of a body or a reply is cut off."));
  rows.push_back(size_row({"http", "rate_bytes_min"}, FIELD(http.rate_bytes_min), 1, 64 * mib,
                          "Bytes a second that a client must send or take at least."));
  rows.push_back(duration_row({"http", "drain_timeout"}, FIELD(http.drain_timeout), seconds{0},
                              seconds{3'600},
                              "Requests that are under way when the daemon is told to stop may "
                              "take so long to be answered."));
}

} // namespace

void add_http_settings(std::vector<setting>& rows) {
  rows.push_back(setting{
      "http", "listen", "ADDRESS:PORT",
      "Where the HTTP API listens. Without tls_certificate it speaks plain HTTP: set that, or put "
      "a TLS proxy in front, before it is reachable from other machines. Port 0 takes a free one, "
      "which the ready line names.",
      [](const settings& s) { return s.http.listen; }, set_listen});
  rows.push_back(size_row({"http", "json_body_bytes_max"}, FIELD(http.json_body_bytes_max),
                          64 * kib, 256 * mib,
                          "Largest JSON request body. The default fits the largest standard input "
                          "written as base64."));
  rows.push_back(size_row({"http", "upload_bytes_max"}, FIELD(http.upload_bytes_max), 1 * kib,
                          1 * tib, "Largest file that a client may upload."));
  rows.push_back(count_row({"http", "connections_max"}, FIELD(http.connections_max), 1, 1'000'000,
                           "Client connections that may be open at once; more are closed."));
  rows.push_back(count_row({"http", "connections_address_max"}, FIELD(http.connections_address_max),
                           0, 1'000'000,
                           "Of these, connections from one address (IPv6: from one /64 network); "
                           "trusted_proxies may have more. 0: no limit of its own."));
  rows.push_back(size_row({"http", "request_line_bytes_max"}, FIELD(http.request_line_bytes_max),
                          1 * kib, 1 * mib,
                          "Longest request line, that is method and address; longer ones are "
                          "answered 414."));
  rows.push_back(size_row({"http", "headers_bytes_max"}, FIELD(http.headers_bytes_max), 1 * kib,
                          1 * mib, "Largest header of a request; larger ones are answered 431."));
  rows.push_back(count_row({"http", "headers_max"}, FIELD(http.headers_max), 10, 10'000,
                           "Lines that such a header may have."));
  add_http_times(rows);
  rows.push_back(path_row({"http", "tls_certificate"}, FIELD(http.tls_certificate), true,
                          "The server's certificate with what signed it below, in PEM. With it "
                          "and tls_key the API speaks TLS (1.2 or later) only. SIGHUP reads both "
                          "files again. Empty: plain HTTP."));
  rows.push_back(path_row({"http", "tls_key"}, FIELD(http.tls_key), true,
                          "The certificate's private key, in PEM, not encrypted. The daemon's user "
                          "must be able to read it."));
  rows.push_back(setting{"http", "cors_origins", "SCHEME://HOST[:PORT], separated by commas, or *",
                         "Web pages that may use the API from a browser. Empty: none.",
                         [](const settings& s) { return text_of_items(s.http.cors_origins); },
                         set_cors_origins});
  rows.push_back(setting{"http", "trusted_proxies", "ADDRESS or ADDRESS/BITS, separated by commas",
                         "Proxies whose X-Forwarded-For is believed: the log then names the client "
                         "before them.",
                         [](const settings& s) { return text_of_items(s.http.trusted_proxies); },
                         set_trusted_proxies});
}

} // namespace coppice::cli
