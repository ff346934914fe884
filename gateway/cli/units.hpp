#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// Numbers with units as people write them in the configuration and on the command line.
///
/// A size or a duration without a unit is refused ("30" of what?), except for 0. Each parser takes
/// the whole text or nothing, and each text made here is parsed back to the same value.
namespace coppice::cli {

/// Digits only, no sign; nothing when it does not fit.
std::optional<std::uint64_t> parse_count(std::string_view text);

/// `18MiB`: a whole number of B, KiB, MiB, GiB or TiB.
std::optional<std::uint64_t> parse_size(std::string_view text);

/// `90s`: a whole number of ms, s, m, h or d that is a whole number of seconds.
std::optional<std::chrono::seconds> parse_duration(std::string_view text);

/// In the largest unit that gives a whole number.
std::string size_text(std::uint64_t bytes);
std::string duration_text(std::chrono::seconds duration);

/// For people: at most one decimal (`1.5 GiB`).
std::string human_size(std::uint64_t bytes);

} // namespace coppice::cli
