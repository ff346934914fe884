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
  case ec::busy:
    return 429;
  case ec::registry:
    return 502;
  case ec::stopping:
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
    return {503, "the server did not answer in time; try again"};
  }
  if (error == caf::sec::request_receiver_down) {
    return {503, "the part of the server that does this is not running; try again"};
  }
  return {status_of(code_of(error)), text_of(error)};
}

std::string_view reason_phrase(unsigned status) {
  auto phrase = boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(status));
  return {phrase.data(), phrase.size()};
}

} // namespace coppice::gateway
