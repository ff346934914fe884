#define BOOST_TEST_MODULE space_reserve
#include "storage/error.hpp"
#include "storage/space_reserve.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace coppice::storage;
using namespace std::chrono_literals;

namespace {

struct fixture {
  std::optional<std::uint64_t> free = 100u << 20;
  unsigned asked = 0;
  std::chrono::steady_clock::time_point now{};

  space_reserve of(std::uint64_t reserve) {
    return {[this] {
              ++asked;
              return free;
            },
            reserve,
            [this] {
              return now;
            }};
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(space_reserve_suite, fixture)

BOOST_AUTO_TEST_CASE(work_is_refused_below_the_reserve_and_not_at_it) {
  auto reserve = of(100u << 20);
  BOOST_TEST(!reserve.refusal());
  free = (100u << 20) - 1;
  now += 1s;
  auto why = reserve.refusal();
  BOOST_REQUIRE(why);
  BOOST_TEST((why->code == make_error_code(ec::no_space)));
  BOOST_TEST(why->text.find("99 MiB are free") != std::string::npos, why->text);
  BOOST_TEST(why->text.find("100 MiB are kept") != std::string::npos, why->text);
  free = 200u << 20;
  now += 1s;
  BOOST_TEST(!reserve.refusal());
}

BOOST_AUTO_TEST_CASE(the_file_system_is_asked_once_a_second) {
  auto reserve = of(1);
  for (int i = 0; i < 1000; ++i) {
    BOOST_TEST(!reserve.refusal());
  }
  BOOST_TEST(asked == 1u);
  now += 999ms;
  reserve.refusal();
  BOOST_TEST(asked == 1u);
  now += 1ms;
  reserve.refusal();
  BOOST_TEST(asked == 2u);
}

BOOST_AUTO_TEST_CASE(a_reserve_of_nothing_never_asks) {
  free = 0;
  BOOST_TEST(!of(0).refusal());
  BOOST_TEST(asked == 0u);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_asked_refuses_nothing) {
  free = std::nullopt;
  BOOST_TEST(!of(1u << 30).refusal());
  space_reserve real{"/nonexistent", 1u << 30};
  BOOST_TEST(!real.refusal());
}

BOOST_AUTO_TEST_CASE(a_real_file_system_answers) {
  BOOST_TEST(!space_reserve("/", 1).refusal());
  BOOST_TEST(space_reserve("/", ~0ull).refusal().has_value());
}

BOOST_AUTO_TEST_SUITE_END()
