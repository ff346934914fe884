#include "gateway/http/status.hpp"

#include <boost/beast/http/status.hpp>

#include <caf/sec.hpp>

namespace coppice::gateway {

unsigned status_of(ec code) {
  switch (code) {
  case ec::invalid:
    return 400;
  case ec::unauthorised:
    return 401;
  case ec::not_found:
    return 404;
  case ec::conflict:
  case ec::cancelled:
    return 409;
  case ec::gone:
    return 410;
  case ec::too_large:
    return 413;
  case ec::wrong_type:
  case ec::damaged: // the image's own content is at fault, not the server
    return 422;
  case ec::too_early:
    return 425;
  case ec::busy:
    return 429;
  case ec::registry:
    return 502;
  case ec::stopping:
  case ec::unavailable:
    return 503;
  case ec::storage:
    return 507;
  case ec::none:
  case ec::vm:
  case ec::internal:
    return 500;
  }
  return 500;
}

refusal refuse(const caf::error& error) {
  if (error == caf::sec::request_timeout) {
    refusal late{503, "the server did not answer in time; try again"};
    late.may_be_done = true;
    return late;
  }
  if (error == caf::sec::request_receiver_down) {
    refusal down{503, "the part of the server that does this is not running; try again"};
    down.may_be_done = true; // it may have come down with the request in hand
    return down;
  }
  return {status_of(code_of(error)), text_of(error)};
}

std::string_view reason_phrase(unsigned status) {
  if (status == 425) {
    return "Too Early"; // RFC 8470: younger than Beast's list
  }
  auto phrase = boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(status));
  return {phrase.data(), phrase.size()};
}

} // namespace coppice::gateway
