#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/spawn_order.hpp"
#include "gateway/http/target.hpp"

#include <boost/json/parse.hpp>

#include <capnp/message.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

// What the HTTP door parses itself: addresses, run requests, base64, names; and the JSON that it
// writes from bytes of hostile guests, which must be valid whatever they are.

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

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  std::string_view text{reinterpret_cast<const char*>(data) + 1, size - 1};
  switch (data[0] % 4) {
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
