#pragma once

#include "protocol/result.hpp"
#include "vmm/template.hpp"

#include <memory>

namespace coppice::vmm {

/// A template as a file, all numbers little-endian:
///
///   header    magic, key, clock rate, sizes of what follows
///   ready     the agent's message
///   state     of the devices
///   extents   (offset, bytes) of the memory that is not zero, ascending
///   memory    the content of the extents, in their order
///   SHA-256   of all that stands before it
///
/// A file is not trusted: every size is held against the file's own before anything is allocated.

/// Writes to a new, empty file; not yet durable. io.
result<void> write_template(int file, const vm_template& made);

/// stale: made of other ingredients, or damaged; io.
result<std::shared_ptr<const vm_template>> read_template(int file,
                                                         const template_ingredients& wanted);

} // namespace coppice::vmm
