#include "vmm/agent/users.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(users)

namespace {

constexpr std::string_view passwd = "root:x:0:0:root:/root:/bin/sh\n"
                                    "not an entry\n"
                                    "broken:x:abc:0::/:/bin/sh\n"
                                    "huge:x:4294967295:0::/:/bin/sh\n"
                                    "bob:x:1000:100:Bob,,:/home/bob:/bin/sh\n"
                                    "5:x:1005:105::/home/five:/bin/sh";
constexpr std::string_view group = "root:x:0:\n"
                                   "short:x\n"
                                   "users:x:100:\n"
                                   "disk:x:6:alice,bob\n"
                                   "bobby:x:7:bobby\n"
                                   "ops:x:77:bob,root";

result<identity> resolve(std::string_view user) {
  return resolve_identity({user, {}, {}}, passwd, group);
}

} // namespace

BOOST_AUTO_TEST_CASE(nothing_said_is_root_with_its_groups) {
  auto who = resolve("").value();
  BOOST_TEST(who.uid == 0u);
  BOOST_TEST(who.gid == 0u);
  BOOST_TEST(who.groups == std::vector<gid_t>{77}, boost::test_tools::per_element());
  BOOST_TEST(who.home == "/root");
}

BOOST_AUTO_TEST_CASE(a_name_brings_its_group_home_and_supplementary_groups) {
  auto who = resolve("bob").value();
  BOOST_TEST(who.uid == 1000u);
  BOOST_TEST(who.gid == 100u);
  BOOST_TEST(who.groups == (std::vector<gid_t>{6, 77}), boost::test_tools::per_element());
  BOOST_TEST(who.home == "/home/bob");
}

BOOST_AUTO_TEST_CASE(a_number_with_an_entry_brings_the_same) {
  auto who = resolve("1000").value();
  BOOST_TEST(who.gid == 100u);
  BOOST_TEST(who.groups.size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_number_without_an_entry_is_taken_as_it_is) {
  auto who = resolve("4242").value();
  BOOST_TEST(who.uid == 4242u);
  BOOST_TEST(who.gid == 0u);
  BOOST_TEST(who.groups.empty());
  BOOST_TEST(who.home == "");
}

BOOST_AUTO_TEST_CASE(a_name_of_digits_is_a_name_first) {
  BOOST_TEST(resolve("5").value().uid == 1005u);
}

BOOST_AUTO_TEST_CASE(a_named_group_replaces_the_users_own_groups) {
  auto by_name = resolve("bob:ops").value();
  BOOST_TEST(by_name.gid == 77u);
  BOOST_TEST(by_name.groups.empty());
  BOOST_TEST(resolve("1:2").value().gid == 2u);
  BOOST_TEST(resolve(":6").value().gid == 6u);
}

BOOST_AUTO_TEST_CASE(an_unknown_name_is_a_failure_that_names_it) {
  auto user = resolve("nobody");
  BOOST_REQUIRE(!user);
  BOOST_TEST(user.error().code.value() == ENOENT);
  BOOST_TEST(user.error().text.find("nobody") != std::string::npos);
  auto unknown_group = resolve("bob:wheel");
  BOOST_REQUIRE(!unknown_group);
  BOOST_TEST(unknown_group.error().text.find("wheel") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(malformed_entries_and_the_value_that_means_unchanged_do_not_match) {
  BOOST_TEST(!resolve("broken"));
  BOOST_TEST(!resolve("huge"));
  BOOST_TEST(!resolve("4294967295"));
  BOOST_TEST(!resolve("not an entry"));
}

BOOST_AUTO_TEST_CASE(numbers_of_the_request_win_over_the_image) {
  auto who = resolve_identity({"bob:ops", 0, {}}, passwd, group).value();
  BOOST_TEST(who.uid == 0u);
  BOOST_TEST(who.gid == 0u);
  auto both = resolve_identity({"bob", 1000, 9}, passwd, group).value();
  BOOST_TEST(both.gid == 9u);
  BOOST_TEST(both.groups.empty());
  auto group_only = resolve_identity({"bob", {}, 9}, passwd, group).value();
  BOOST_TEST(group_only.uid == 1000u);
  BOOST_TEST(group_only.gid == 9u);
}

BOOST_AUTO_TEST_CASE(an_image_without_account_files_knows_numbers_only) {
  BOOST_TEST(resolve_identity({"7:8", {}, {}}, "", "").value().gid == 8u);
  BOOST_TEST(!resolve_identity({"root", {}, {}}, "", ""));
}

BOOST_AUTO_TEST_SUITE_END()
