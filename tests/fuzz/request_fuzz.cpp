#include "gateway/http/client_address.hpp"
#include "gateway/http/gzip.hpp"
#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/request_head.hpp"
#include "gateway/http/request_id.hpp"
#include "gateway/http/spawn_order.hpp"
#include "gateway/http/target.hpp"

#include <boost/json/parse.hpp>

#include <capnp/message.h>

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

// What the HTTP door parses itself: heads, addresses, run requests, base64, names, what headers
// say; and the JSON and gzip that it writes from bytes of hostile guests, which must be valid
// whatever they are.

using namespace coppice::gateway;

namespace {

void require(bool claim) {
  if (!claim) {
    std::abort();
  }
}

void spawn(std::string_view text) {
  auto body = parse_json_object(text);
  if (!body) {
    return;
  }
  // Two classes, so that a request may pick one, or ask for more than there is.
  static const spawn_limits limits{60, 3600, 1u << 30, {}, {coppice::machine_class{}, {4, 2048}}};
  auto order = parse_spawn_order(*body, limits);
  if (order) {
    require(order->timeout_seconds >= 1 && order->timeout_seconds <= 3600);
    require(order->command.find('\0') == std::string::npos);
    capnp::MallocMessageBuilder message;
    fill_run_request(*order, message.initRoot<coppice::proto::RunRequest>());
  }
}

/// The bodies about processes of a running operation, and the names of signals.
void processes(std::string_view text) {
  if (auto number = parse_signal(text)) {
    require(*number >= 1 && *number <= 64);
  }
  auto body = parse_json_object(text);
  if (!body) {
    return;
  }
  if (auto order = parse_exec_order(*body)) {
    require(order->command.find('\0') == std::string::npos);
    require(text_bytes(*order) <= text_bytes_max);
    capnp::MallocMessageBuilder message;
    fill_process(*order, message.initRoot<coppice::proto::ProcessSpec>());
  }
  static_cast<void>(parse_input_order(*body));
}

void write(std::string_view bytes) {
  std::string json;
  append_json_string(json, bytes);
  boost::json::error_code error;
  auto value = boost::json::parse(json, error);
  require(!error);
  base64_encoder encoder;
  std::string encoded;
  auto half = bytes.size() / 2;
  encoder.append(encoded, bytes.substr(0, half));
  encoder.append(encoded, bytes.substr(half));
  encoder.finish(encoded);
  require(base64_decode(encoded) == std::string{bytes});
}

/// A head is found at the same place however it is cut, and one that passes has one meaning.
void head(std::string_view bytes) {
  const head_limits limits{256, 1024, 16};
  auto whole = head_scanner{limits}.scan(bytes);
  head_scanner by_bytes{limits};
  head_scanner::progress last;
  for (std::size_t end = 0; end <= bytes.size() && !last.refused && !last.head_bytes; ++end) {
    last = by_bytes.scan(bytes.substr(0, end));
  }
  require(last.head_bytes == whole.head_bytes);
  require(whole.refused.has_value() == last.refused.has_value());
  if (!whole.head_bytes) {
    return;
  }
  auto text = bytes.substr(0, *whole.head_bytes);
  require(text.ends_with("\r\n\r\n") && text.size() <= 256 + 1024);
  if (check_head(text)) {
    return;
  }
  auto lower = std::string{text};
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  auto count = [&](std::string_view what) {
    std::size_t found = 0;
    for (auto at = lower.find(what); at != lower.npos; at = lower.find(what, at + 1)) {
      ++found;
    }
    return found;
  };
  require(count("\r\ncontent-length:") + count("\r\ntransfer-encoding:") <= 1);
  require(count("\r\nhost:") <= 1 && count("\r\n ") == 0 && count("\r\n\t") == 0);
  require(count("\n") == count("\r\n") && count("\r") == count("\n"));
  require(text.find('\0') == text.npos);
}

void header_values(std::string_view text) {
  static_cast<void>(accepts_gzip(text));
  if (is_request_id(text)) {
    require(text.size() <= 128 && text.find_first_of(" \r\n\"\\") == text.npos);
  }
  static const address_list proxies{{"10.0.0.0/8", "fd00::/8"}};
  auto peer = boost::asio::ip::make_address("10.0.0.1");
  static_cast<void>(original_client(proxies, peer, text).to_string());
}

/// What is compressed in pieces is what comes out.
void compress(std::string_view bytes) {
  gzip_encoder encoder;
  auto half = bytes.size() / 2;
  auto packed = encoder.add(bytes.substr(0, half));
  packed += encoder.flush();
  packed += encoder.add(bytes.substr(half));
  packed += encoder.finish();
  std::string out(bytes.size() + 1, '\0');
  z_stream state{};
  require(inflateInit2(&state, 15 + 16) == Z_OK);
  state.next_in = reinterpret_cast<Bytef*>(packed.data());
  state.avail_in = static_cast<uInt>(packed.size());
  state.next_out = reinterpret_cast<Bytef*>(out.data());
  state.avail_out = static_cast<uInt>(out.size());
  require(inflate(&state, Z_FINISH) == Z_STREAM_END && state.avail_in == 0);
  require(out.substr(0, out.size() - state.avail_out) == bytes);
  inflateEnd(&state);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0] % 8) {
  case 0:
    static_cast<void>(parse_target(text));
    break;
  case 1:
    spawn(text);
    break;
  case 2:
    write(text);
    static_cast<void>(base64_decode(text));
    break;
  case 3:
    head(text);
    break;
  case 4:
    header_values(text);
    break;
  case 5:
    compress(text);
    break;
  case 6:
    processes(text);
    break;
  default:
    if (auto reference = registry_reference(text)) {
      require(reference->starts_with("docker://"));
      require(reference->find_first_of(" \t\n") == std::string::npos);
    }
    static_cast<void>(is_tag(text));
    static_cast<void>(parse_image_reference(text));
  }
  return 0;
}
