#include "actors/requests.hpp"

#include "storage/error.hpp"
#include "vmm/error.hpp"

namespace coppice {

namespace {

ec translate(storage::ec code) {
  switch (code) {
  case storage::ec::none:
    return ec::none;
  case storage::ec::not_found:
    return ec::not_found;
  case storage::ec::wrong_type:
    return ec::wrong_type;
  case storage::ec::unsupported:
    return ec::invalid;
  case storage::ec::damaged: // the store; what is wrong in an image's content is told otherwise
  case storage::ec::not_clean:
    return ec::internal;
  case storage::ec::too_large:
    return ec::too_large;
  case storage::ec::conflict:
    return ec::conflict;
  case storage::ec::gone:
    return ec::gone;
  case storage::ec::busy:
    return ec::busy;
  case storage::ec::no_space:
  case storage::ec::io:
  case storage::ec::in_use:
    return ec::storage;
  }
  return ec::internal;
}

} // namespace

caf::error to_error(const failure& f) {
  if (f.code.category() == storage::storage_category()) {
    return make_error(translate(static_cast<storage::ec>(f.code.value())), f.text);
  }
  if (f.code.category() == vmm::vmm_category()) {
    auto busy = f.code.value() == static_cast<int>(vmm::ec::busy);
    return make_error(busy ? ec::busy : ec::vm, f.text);
  }
  return make_error(ec::internal, f.text);
}

} // namespace coppice
