#pragma once

#include <optional>
#include <string_view>

namespace coppice::agent {

/// The one program on the disk that a machine warms up on (`disk::make`), as its shell and as
/// `true`.
///
/// What a run needs of the kernel is to have been done once: files made and read, folders listed, a
/// pipe, a process started and waited for. Programs of the run itself gain nothing from ours, so
/// this one is as little as does that: what it touches is memory that each waiting machine holds.
/// Gives its exit status, or nothing where the program was not called as one of these.
std::optional<int> warm_up(std::string_view name);

} // namespace coppice::agent
