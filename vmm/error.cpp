#include "vmm/error.hpp"

#include <string>

namespace coppice::vmm {

namespace {

class category_type final : public std::error_category {
public:
  const char* name() const noexcept override {
    return "vmm";
  }

  std::string message(int code) const override {
    switch (static_cast<ec>(code)) {
    case ec::none:
      return "no error";
    case ec::spawn:
      return "the process could not be started";
    case ec::exited:
      return "the process ended unexpectedly";
    case ec::timeout:
      return "no answer before the deadline";
    case ec::protocol:
      return "protocol violation";
    case ec::closed:
      return "the channel is closed";
    case ec::busy:
      return "the channel's queue is full";
    case ec::missing:
      return "a needed file is missing";
    case ec::refused:
      return "not in this state";
    case ec::stale:
      return "the template does not fit";
    case ec::io:
      return "a file could not be read or written";
    }
    return "unknown";
  }
};

} // namespace

const std::error_category& vmm_category() {
  static const category_type instance;
  return instance;
}

} // namespace coppice::vmm
