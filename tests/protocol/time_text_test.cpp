#define BOOST_TEST_MODULE time_text
#include "protocol/time_text.hpp"

#include <boost/test/unit_test.hpp>

#include <limits>
#include <utility>

using coppice::parse_time_bound;
using coppice::time_text;

namespace {

constexpr std::int64_t s = 1'000'000'000;
constexpr std::int64_t noon = 1'704'110'400 * s; // 2024-01-01T12:00:00Z
constexpr std::int64_t earliest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t latest = std::numeric_limits<std::int64_t>::max();

std::int64_t parsed(const char* text) {
  auto bound = parse_time_bound(text, noon);
  BOOST_REQUIRE_MESSAGE(bound.has_value(), text << " is refused");
  return *bound;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_time_is_rfc_3339_in_utc_with_as_many_digits_as_it_needs) {
  BOOST_CHECK_EQUAL(time_text(noon), "2024-01-01T12:00:00Z");
  BOOST_CHECK_EQUAL(time_text(noon + 123'456'000), "2024-01-01T12:00:00.123456Z");
  BOOST_CHECK_EQUAL(time_text(noon + 100'000'000), "2024-01-01T12:00:00.100Z");
  BOOST_CHECK_EQUAL(time_text(noon + 5), "2024-01-01T12:00:00.000000005Z");
  BOOST_CHECK_EQUAL(time_text(noon + 59 * s + 59 * 60 * s), "2024-01-01T12:59:59Z");
  BOOST_CHECK_EQUAL(time_text(951'782'400 * s), "2000-02-29T00:00:00Z");
}

BOOST_AUTO_TEST_CASE(the_whole_range_has_a_text_that_is_read_back) {
  BOOST_CHECK_EQUAL(time_text(0), "1970-01-01T00:00:00Z");
  BOOST_CHECK_EQUAL(time_text(-1), "1969-12-31T23:59:59.999999999Z");
  BOOST_CHECK_EQUAL(time_text(-86'400 * s), "1969-12-31T00:00:00Z");
  BOOST_CHECK_EQUAL(time_text(latest), "2262-04-11T23:47:16.854775807Z");
  BOOST_CHECK_EQUAL(time_text(earliest), "1677-09-21T00:12:43.145224192Z");
  for (auto time : {std::int64_t{0}, std::int64_t{-1}, latest, noon + 7, -noon - 7}) {
    BOOST_CHECK_EQUAL(parsed(time_text(time).c_str()), time);
  }
}

BOOST_AUTO_TEST_CASE(dates_and_times_are_utc_unless_they_name_a_zone) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"2024-01-01", noon - 12 * 3600 * s},
      {"2024-01-01T12:00", noon},
      {"2024-01-01T12:00:00", noon},
      {"2024-01-01 12:00:00", noon},
      {"2024-01-01t12:00:00z", noon},
      {"2024-01-01T12:00:00+00:00", noon},
      {"2024-01-01T14:30:00+02:30", noon},
      {"2024-01-01T14:30:00+0230", noon},
      {"2024-01-01T14:00:00+02", noon},
      {"2024-01-01T10:00:00-02:00", noon},
      {"2024-01-01T14:00:00 02:00", noon}, // a + that came through a query string
      {"2024-01-01 14:00:00 02:00", noon},
      {"2024-01-01T14:00 02:00", noon},
      {"2024-01-01T12:00:00.5Z", noon + s / 2},
      {"2024-01-01T12:00:00,5Z", noon + s / 2},
      {"2024-01-01T12:00:00.123456789Z", noon + 123'456'789},
      {"2024-01-01T12:00:00.1234567899Z", noon + 123'456'789},
      {"2024-01-01T11:59:60Z", noon},
      {"2024-02-29", 1'709'164'800 * s},
      {"9999-12-31", latest},
      {"0001-01-01", earliest},
  };
  for (const auto& [text, time] : cases) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_CHECK_EQUAL(parsed(text), time);
    }
  }
}

BOOST_AUTO_TEST_CASE(unix_seconds_are_whole_or_decimal) {
  BOOST_CHECK_EQUAL(parsed("1704110400"), noon);
  BOOST_CHECK_EQUAL(parsed("1704110400.25"), noon + s / 4);
  BOOST_CHECK_EQUAL(parsed("0"), 0);
  BOOST_CHECK_EQUAL(parsed("-1.5"), -s - s / 2);
}

BOOST_AUTO_TEST_CASE(intervals_go_back_from_now) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"30s", 30},         {"15m", 900},        {"1h", 3600},         {"1d", 86'400},
      {"2w", 14 * 86'400}, {"1M", 30 * 86'400}, {"1y", 365 * 86'400}, {"0s", 0},
  };
  for (const auto& [text, seconds] : cases) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_CHECK_EQUAL(parsed(text), noon - seconds * s);
    }
  }
  BOOST_CHECK_EQUAL(parsed("1.5h"), noon - 5400 * s);
  BOOST_CHECK_EQUAL(parsed("100000000000000y"), earliest);
  BOOST_CHECK_EQUAL(parsed("9999999999999999999999999s"), earliest);
}

BOOST_AUTO_TEST_CASE(anything_else_is_refused) {
  for (const char* text :
       {"",
        " ",
        "now",
        "yesterday",
        "15 m",
        "15x",
        "15min",
        "m",
        "-15m",
        "1.m",
        ".5",
        "1.",
        "-",
        "+5",
        "1e9",
        "0x10",
        "1704110400Z",
        "1704110400000",
        "99999999999999999999",
        "2024-1-1",
        "2024-13-01",
        "2024-00-01",
        "2024-02-30",
        "2023-02-29",
        "2024-01-01T",
        "2024-01-01T24:00",
        "2024-01-01T12",
        "2024-01-01T12:60",
        "2024-01-01T12:00:61",
        "2024-01-01T12:00:00.",
        "2024-01-01T12:00:00.Z",
        "2024-01-01T12:00:00+",
        "2024-01-01T12:00:00+2",
        "2024-01-01T12:00:00+24:00",
        "2024-01-01T12:00:00+02:60",
        "2024-01-01T12:00:00+02:",
        "2024-01-01T12:00:00ZZ",
        "2024-01-01T12:00:00Z+02:00",
        "2024-01-01Z",
        "20240101T120000Z",
        "2024-01-01T12:00:00 +02:00",
        "2024-01-01T12:00:00.00000000000000000000000000000000000000000000000000000Z"}) {
    BOOST_CHECK_MESSAGE(!parse_time_bound(text, noon), "\"" << text << "\" is taken");
  }
}
