#include "protocol/time_text.hpp"

#include <chrono>
#include <limits>

namespace coppice {

namespace {

constexpr std::int64_t ns_per_second = 1'000'000'000;
constexpr std::int64_t seconds_per_minute = 60;
constexpr std::int64_t seconds_per_hour = 3600;
constexpr std::int64_t seconds_per_day = 86'400;
constexpr std::int64_t earliest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t latest = std::numeric_limits<std::int64_t>::max();

/// Nothing that is meant is longer.
constexpr std::size_t text_bytes_max = 64;

/// Takes a text apart from its front.
class scanner {
public:
  explicit scanner(std::string_view text) : rest_{text} {}

  bool at_end() const {
    return rest_.empty();
  }

  bool take_any(std::string_view wanted) {
    if (rest_.empty() || wanted.find(rest_.front()) == std::string_view::npos) {
      return false;
    }
    taken_ = rest_.front();
    rest_.remove_prefix(1);
    return true;
  }

  /// The character that take_any took last.
  char taken() const {
    return taken_;
  }

  /// Exactly `count` digits.
  std::optional<int> digits(std::size_t count) {
    if (rest_.size() < count) {
      return std::nullopt;
    }
    int value = 0;
    for (char c : rest_.substr(0, count)) {
      if (!is_digit(c)) {
        return std::nullopt;
      }
      value = value * 10 + (c - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }

  /// All digits that follow, at least one; too many are the largest number.
  std::optional<std::int64_t> number() {
    if (rest_.empty() || !is_digit(rest_.front())) {
      return std::nullopt;
    }
    std::int64_t value = 0;
    for (; !rest_.empty() && is_digit(rest_.front()); rest_.remove_prefix(1)) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, rest_.front() - '0', &value)) {
        value = latest;
      }
    }
    return value;
  }

  /// The digits behind a point, as billionths; further digits are cut off. At least one.
  std::optional<std::int64_t> billionths() {
    if (rest_.empty() || !is_digit(rest_.front())) {
      return std::nullopt;
    }
    std::int64_t value = 0;
    std::int64_t unit = ns_per_second / 10;
    for (; !rest_.empty() && is_digit(rest_.front()); rest_.remove_prefix(1), unit /= 10) {
      value += (rest_.front() - '0') * unit;
    }
    return value;
  }

private:
  static bool is_digit(char c) {
    return c >= '0' && c <= '9';
  }

  std::string_view rest_;
  char taken_ = 0;
};

std::int64_t saturated(std::int64_t seconds, std::int64_t ns) {
  std::int64_t total = 0;
  if (__builtin_mul_overflow(seconds, ns_per_second, &total) ||
      __builtin_add_overflow(total, ns, &total)) {
    return seconds < 0 ? earliest : latest;
  }
  return total;
}

/// Days since 1970 of `YYYY-MM-DD`.
std::optional<std::int64_t> scan_date(scanner& in) {
  const auto year = in.digits(4);
  if (!year || !in.take_any("-")) {
    return std::nullopt;
  }
  const auto month = in.digits(2);
  if (!month || !in.take_any("-")) {
    return std::nullopt;
  }
  const auto day = in.digits(2);
  if (!day) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year{*year},
                                         std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  if (!date.ok()) {
    return std::nullopt;
  }
  return std::chrono::sys_days{date}.time_since_epoch().count();
}

struct time_of_day {
  std::int64_t seconds = 0;
  std::int64_t ns = 0;
};

/// `HH:MM`, `HH:MM:SS` or that with a fraction.
std::optional<time_of_day> scan_time(scanner& in) {
  const auto hour = in.digits(2);
  if (!hour || !in.take_any(":")) {
    return std::nullopt;
  }
  const auto minute = in.digits(2);
  if (!minute || *hour > 23 || *minute > 59) {
    return std::nullopt;
  }
  time_of_day out{*hour * seconds_per_hour + *minute * seconds_per_minute, 0};
  if (!in.take_any(":")) {
    return out;
  }
  const auto second = in.digits(2);
  if (!second || *second > 60) { // 60: a leap second, the same as the second after it
    return std::nullopt;
  }
  out.seconds += *second;
  if (in.take_any(".,")) {
    const auto ns = in.billionths();
    if (!ns) {
      return std::nullopt;
    }
    out.ns = *ns;
  }
  return out;
}

/// Seconds east of UTC: nothing written, `Z`, `+HH`, `+HHMM`, `+HH:MM`.
std::optional<std::int64_t> scan_zone(scanner& in) {
  if (in.at_end() || in.take_any("Zz")) {
    return 0;
  }
  if (!in.take_any("+- ")) {
    return std::nullopt;
  }
  const std::int64_t sign = in.taken() == '-' ? -1 : 1;
  const auto hours = in.digits(2);
  if (!hours || *hours > 23) {
    return std::nullopt;
  }
  int minutes = 0;
  const bool colon = in.take_any(":");
  if (colon || !in.at_end()) {
    const auto written = in.digits(2);
    if (!written || *written > 59) {
      return std::nullopt;
    }
    minutes = *written;
  }
  return sign * (*hours * seconds_per_hour + minutes * seconds_per_minute);
}

std::optional<std::int64_t> parse_iso(std::string_view text) {
  scanner in{text};
  const auto days = scan_date(in);
  if (!days) {
    return std::nullopt;
  }
  if (in.at_end()) {
    return saturated(*days * seconds_per_day, 0);
  }
  if (!in.take_any("Tt ")) {
    return std::nullopt;
  }
  const auto time = scan_time(in);
  if (!time) {
    return std::nullopt;
  }
  const auto east = scan_zone(in);
  if (!east || !in.at_end()) {
    return std::nullopt;
  }
  return saturated(*days * seconds_per_day + time->seconds - *east, time->ns);
}

std::optional<std::int64_t> unit_seconds(char unit) {
  switch (unit) {
  case 's':
    return 1;
  case 'm':
    return seconds_per_minute;
  case 'h':
    return seconds_per_hour;
  case 'd':
    return seconds_per_day;
  case 'w':
    return 7 * seconds_per_day;
  case 'M':
    return 30 * seconds_per_day;
  case 'y':
    return 365 * seconds_per_day;
  default:
    return std::nullopt;
  }
}

/// Unix seconds or an interval: both begin with a number.
std::optional<std::int64_t> parse_number(std::string_view text, std::int64_t now_unix_ns) {
  scanner in{text};
  const bool negative = in.take_any("-");
  const auto whole = in.number();
  if (!whole) {
    return std::nullopt;
  }
  std::int64_t fraction = 0;
  if (in.take_any(".")) {
    const auto read = in.billionths();
    if (!read) {
      return std::nullopt;
    }
    fraction = *read;
  }
  if (in.at_end()) {
    if (*whole >= latest / ns_per_second) {
      return std::nullopt;
    }
    const auto ns = *whole * ns_per_second + fraction;
    return negative ? -ns : ns;
  }
  if (negative || !in.take_any("smhdwMy") || !in.at_end()) {
    return std::nullopt;
  }
  const auto unit = unit_seconds(in.taken());
  std::int64_t back = 0;
  std::int64_t then = 0;
  if (!unit || __builtin_mul_overflow(*whole, *unit * ns_per_second, &back) ||
      __builtin_add_overflow(back, fraction * *unit, &back) ||
      __builtin_sub_overflow(now_unix_ns, back, &then)) {
    return earliest;
  }
  return then;
}

void append_padded(std::string& out, std::int64_t number, std::size_t digits) {
  auto text = std::to_string(number);
  out.append(digits > text.size() ? digits - text.size() : 0, '0');
  out += text;
}

} // namespace

std::string time_text(std::int64_t unix_ns) {
  std::int64_t seconds = unix_ns / ns_per_second;
  std::int64_t in_second = unix_ns % ns_per_second;
  if (in_second < 0) {
    in_second += ns_per_second;
    --seconds;
  }
  const auto day = std::chrono::floor<std::chrono::days>(
      std::chrono::sys_seconds{std::chrono::seconds{seconds}});
  const std::chrono::year_month_day date{day};
  const std::int64_t of_day = seconds - day.time_since_epoch().count() * seconds_per_day;

  std::string out;
  append_padded(out, static_cast<int>(date.year()), 4);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.month()), 2);
  out += '-';
  append_padded(out, static_cast<unsigned>(date.day()), 2);
  out += 'T';
  append_padded(out, of_day / seconds_per_hour, 2);
  out += ':';
  append_padded(out, of_day / seconds_per_minute % 60, 2);
  out += ':';
  append_padded(out, of_day % 60, 2);
  if (in_second != 0) {
    out += '.';
    if (in_second % 1'000'000 == 0) {
      append_padded(out, in_second / 1'000'000, 3);
    } else if (in_second % 1'000 == 0) {
      append_padded(out, in_second / 1'000, 6);
    } else {
      append_padded(out, in_second, 9);
    }
  }
  out += 'Z';
  return out;
}

std::optional<std::int64_t> parse_time_bound(std::string_view text, std::int64_t now_unix_ns) {
  if (text.empty() || text.size() > text_bytes_max) {
    return std::nullopt;
  }
  if (auto date = parse_iso(text)) {
    return date;
  }
  return parse_number(text, now_unix_ns);
}

} // namespace coppice
