#pragma once

#include "protocol/events.capnp.h"

#include <optional>
#include <string>
#include <string_view>

/// Events of an operation's log as clients are told of them: JSON in frames of server-sent events
/// (WHATWG HTML, 9.2). Guarantee: a frame is valid whatever a guest has put into its event, and
/// smaller than the 4 MiB that clients take; what a guest made too long is cut.
namespace coppice::gateway {

/// `stdout`, `exit` and so on; nothing for kinds that are not known here.
std::optional<std::string_view> event_name(proto::Event::Which kind);

/// One whole frame with its blank line. Events of unknown kinds append nothing.
void append_event_frame(std::string& out, proto::Event::Reader event);

/// A line that clients ignore, so that they and all between hear that the stream is alive.
void append_comment(std::string& out, std::string_view text);

/// The last words of a stream that breaks: it has no id, so that the client resumes behind the last
/// event.
void append_break(std::string& out, std::string_view reason);

} // namespace coppice::gateway
