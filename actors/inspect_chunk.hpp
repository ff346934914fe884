#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/messages.capnp.h"

#include <optional>

/// What a reader process told, made ours.
///
/// Problem: the process may have been taken over by the image that it reads. A pointer of the wrong
/// kind is only met by who reads it, which would be the HTTP thread in the middle of a body; and a
/// few bytes can stand for lists of any length, or many times for the same bytes.
/// Guarantee: a chunk was read field by field, and holds no more than its answer had room for.
namespace coppice {

/// A piece of work that was told as it is; nothing: it is no such piece, or of a wrong shape.
std::optional<frame<proto::InspectChunk>> chunk_of(const frame<proto::InspectAnswer>& answer);

/// It tells more than that the work goes on.
bool has_content(proto::InspectChunk::Reader chunk);

} // namespace coppice
