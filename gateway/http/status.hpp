#pragma once

#include "actors/error.hpp"
#include "gateway/http/refusal.hpp"

#include <string_view>

/// The one place where the system's error codes become HTTP statuses.
namespace coppice::gateway {

/// The status of a code.
unsigned status_of(ec code);

/// An actor's error as a refusal. A request that nobody answered in time is 503.
refusal refuse(const caf::error& error);

/// The standard phrase of a status.
std::string_view reason_phrase(unsigned status);

} // namespace coppice::gateway
