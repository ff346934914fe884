#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// Times as people and HTTP clients write them. Inside, a wall-clock time is nanoseconds since 1970
/// in UTC as a signed 64-bit number (years 1677 to 2262).
namespace coppice {

/// RFC 3339 in UTC: `2024-01-01T12:00:00.123456Z`. The fraction has 0, 3, 6 or 9 digits, as many as
/// it needs: other numbers of digits are more than some clients can read.
std::string time_text(std::int64_t unix_ns);

/// A bound of a listing, in one of three forms:
///   - an ISO 8601 date or date and time: `2024-01-01`, `2024-01-01T12:00`,
///     `2024-01-01 12:00:00.5+02:00`; without a zone it is UTC; the `+` of a zone may have become
///     a space on its way through a URL;
///   - Unix seconds, whole or decimal: `1704110400`, `1704110400.25`;
///   - an interval back from now: a number and one of s m h d w M (30 days) y (365 days): `15m`.
/// A date, time or interval that is out of range is the nearest bound within it. Nothing: the text
/// is none of these, or the seconds are out of range (they are milliseconds then).
std::optional<std::int64_t> parse_time_bound(std::string_view text, std::int64_t now_unix_ns);

} // namespace coppice
