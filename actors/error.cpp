#include "actors/error.hpp"

#include "actors/error_category.hpp"

#include <caf/deep_to_string.hpp>
#include <caf/make_message.hpp>
#include <caf/message.hpp>

namespace coppice {

std::string_view to_string(ec code) {
  switch (code) {
  case ec::none:
    return "none";
  case ec::invalid:
    return "invalid";
  case ec::not_found:
    return "not_found";
  case ec::conflict:
    return "conflict";
  case ec::gone:
    return "gone";
  case ec::wrong_type:
    return "wrong_type";
  case ec::too_large:
    return "too_large";
  case ec::busy:
    return "busy";
  case ec::unauthorised:
    return "unauthorised";
  case ec::damaged:
    return "damaged";
  case ec::cancelled:
    return "cancelled";
  case ec::stopping:
    return "stopping";
  case ec::unavailable:
    return "unavailable";
  case ec::registry:
    return "registry";
  case ec::storage:
    return "storage";
  case ec::vm:
    return "vm";
  case ec::too_early:
    return "too_early";
  case ec::internal:
    return "internal";
  }
  return "unknown";
}

caf::error make_error(ec code, std::string text) {
  return {static_cast<std::uint8_t>(code), error_category, caf::make_message(std::move(text))};
}

std::string text_of(const caf::error& error) {
  if (error.category() == error_category && error.context().match_elements<std::string>()) {
    return error.context().get_as<std::string>(0);
  }
  return "internal error: " + caf::deep_to_string(error);
}

ec code_of(const caf::error& error) {
  if (error.category() != error_category ||
      error.code() > static_cast<std::uint8_t>(ec::internal)) {
    return ec::internal;
  }
  return static_cast<ec>(error.code());
}

} // namespace coppice
