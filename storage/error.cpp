#include "storage/error.hpp"

#include <cerrno>
#include <cstring>

namespace coppice::storage {

namespace {

class category_type final : public std::error_category {
public:
  const char* name() const noexcept override {
    return "storage";
  }

  std::string message(int code) const override {
    switch (static_cast<ec>(code)) {
    case ec::none:
      return "no error";
    case ec::not_found:
      return "not found";
    case ec::wrong_type:
      return "wrong type";
    case ec::damaged:
      return "damaged";
    case ec::not_clean:
      return "file system not cleanly unmounted";
    case ec::unsupported:
      return "unsupported";
    case ec::too_large:
      return "too large";
    case ec::no_space:
      return "no space";
    case ec::io:
      return "input/output error";
    case ec::in_use:
      return "in use";
    case ec::conflict:
      return "conflict";
    case ec::busy:
      return "too many";
    case ec::gone:
      return "gone";
    }
    return "unknown";
  }
};

} // namespace

const std::error_category& storage_category() {
  static const category_type instance;
  return instance;
}

failure io_failure(int error_number, std::string what) {
  auto code = ec::io;
  if (error_number == ENOENT) {
    code = ec::not_found;
  } else if (error_number == ENOSPC || error_number == EDQUOT) {
    code = ec::no_space;
  }
  return fail(code, what + ": " + std::strerror(error_number));
}

} // namespace coppice::storage
