#pragma once

#include "protocol/result.hpp"

#include <string>

namespace coppice::vmm {

/// The absolute path of an executable file: `name` itself when it is one, else the first match in
/// this process's PATH. missing: the text says where was looked.
result<std::string> find_program(const std::string& name);

} // namespace coppice::vmm
