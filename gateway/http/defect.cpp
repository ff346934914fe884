#include "gateway/http/defect.hpp"

#include "actors/log.hpp"

#include <kj/exception.h>

#include <exception>
#include <string>

namespace coppice::gateway {

refusal tell_defect(std::string_view request_id) {
  std::string defect = "of an unknown kind";
  try {
    throw;
  } catch (const kj::Exception& e) {
    defect = e.getDescription().cStr();
  } catch (const std::exception& e) {
    defect = e.what();
  } catch (...) {
    // nop
  }
  log::error("a request met a defect", "request", request_id, "reason", defect);
  return {500, "internal error; the server's log has it under request " + std::string{request_id}};
}

} // namespace coppice::gateway
