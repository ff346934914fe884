#pragma once

#include "actors/settings.hpp"
#include "protocol/result.hpp"

namespace coppice::cli {

/// Sends the process's log where the settings say: one line an event, `ts=… level=… msg=…
/// key=value…`, times in UTC. The failure names the file that cannot be written.
result<void> start_logging(const settings& values);

} // namespace coppice::cli
