#define BOOST_TEST_MODULE process_keys
#include "gateway/http/process_keys.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>

#include <optional>
#include <string>

using namespace coppice::gateway;

namespace {

using turn = process_keys::turn;

struct fixture {
  asio::io_context loop;
  process_keys keys{3};
  process_keys::clock::time_point now = process_keys::clock::now();

  /// Fills `into` when it is its turn.
  void ask(std::optional<answer<turn>>& into, const std::string& name,
           const std::string& digest = "same", const std::string& project = "default") {
    auto wait = [this, &into, name, digest, project]() -> asio::awaitable<void> {
      auto came = co_await keys.take(project, name, digest, now);
      into.emplace(std::move(came));
    };
    asio::co_spawn(loop, std::move(wait), asio::detached);
    loop.restart();
    loop.poll();
  }
  void look() {
    loop.restart();
    loop.poll();
  }
  /// Takes a turn and says that it was carried out.
  unsigned carry_out(const std::string& name, std::uint32_t spid,
                     const std::string& project = "default") {
    std::optional<answer<turn>> mine;
    ask(mine, name, "same", project);
    if (mine->has_error()) {
      return mine->error().status;
    }
    (*mine)->done(spid);
    return 0;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(process_keys_suite, fixture)

BOOST_AUTO_TEST_CASE(who_comes_while_the_first_is_under_way_waits_for_its_answer) {
  std::optional<answer<turn>> first;
  std::optional<answer<turn>> second;
  std::optional<answer<turn>> other;
  ask(first, "k");
  ask(second, "k");
  ask(other, "k", "another request");
  BOOST_TEST_REQUIRE(first.has_value());
  BOOST_TEST(!(*first)->earlier().has_value());
  BOOST_TEST(!second.has_value());
  BOOST_TEST_REQUIRE(other.has_value());
  BOOST_TEST(other->error().status == 409u);
  (*first)->done(7);
  look();
  BOOST_TEST_REQUIRE(second.has_value());
  BOOST_TEST((*second)->earlier().value_or(0) == 7u);
}

BOOST_AUTO_TEST_CASE(one_of_those_who_waited_is_next_when_the_first_was_refused) {
  std::optional<answer<turn>> first;
  std::optional<answer<turn>> second;
  std::optional<answer<turn>> third;
  ask(first, "k");
  ask(second, "k");
  ask(third, "k");
  first.reset();
  look();
  BOOST_TEST_REQUIRE((second.has_value() != third.has_value()));
  auto& next = second ? second : third;
  auto& last = second ? third : second;
  BOOST_TEST(!(*next)->earlier().has_value());
  (*next)->done(2);
  look();
  BOOST_TEST_REQUIRE(last.has_value());
  BOOST_TEST((*last)->earlier().value_or(0) == 2u);
}

BOOST_AUTO_TEST_CASE(what_may_have_been_carried_out_is_not_carried_out_again) {
  std::optional<answer<turn>> first;
  ask(first, "k");
  (*first)->left_open();
  std::optional<answer<turn>> second;
  ask(second, "k");
  BOOST_TEST(second->error().status == 409u);
  BOOST_TEST(second->error().text.find("nobody knows") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_name_is_forgotten_after_a_day) {
  BOOST_TEST(carry_out("k", 2) == 0u);
  std::optional<answer<turn>> same;
  now += process_keys::age_max - std::chrono::seconds{1};
  ask(same, "k");
  BOOST_TEST((*same)->earlier().value_or(0) == 2u);
  BOOST_TEST(keys.is_for_another("default", "k", "another", now));
  BOOST_TEST(!keys.is_for_another("default", "k", "same", now));
  BOOST_TEST(!keys.is_for_another("other", "k", "another", now));
  now += std::chrono::seconds{1};
  BOOST_TEST(!keys.is_for_another("default", "k", "another", now));
  std::optional<answer<turn>> fresh;
  ask(fresh, "k", "another request");
  BOOST_TEST(!(*fresh)->earlier().has_value());
}

BOOST_AUTO_TEST_CASE(a_project_has_a_limited_number_of_names) {
  for (const auto* name : {"a", "b", "c"}) {
    BOOST_TEST(carry_out(name, 2) == 0u);
    now += std::chrono::seconds{1};
  }
  BOOST_TEST(carry_out("d", 2) == 429u);
  BOOST_TEST(carry_out("d", 2, "other") == 0u);
  BOOST_TEST(carry_out("", 2) == 0u); // is none
  now += process_keys::age_max - std::chrono::seconds{3};
  BOOST_TEST(carry_out("d", 2) == 0u); // "a" has gone
  BOOST_TEST(carry_out("e", 2) == 429u);
}

BOOST_AUTO_TEST_SUITE_END()
