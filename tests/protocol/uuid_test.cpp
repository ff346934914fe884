#define BOOST_TEST_MODULE uuid
#include "protocol/ordered_uuid.hpp"
#include "protocol/uuid.hpp"

#include <boost/test/unit_test.hpp>
#include <capnp/message.h>

#include <algorithm>
#include <set>
#include <string>

using coppice::uuid;

BOOST_AUTO_TEST_CASE(canonical_text_is_read_and_written_back_in_lower_case) {
  const std::string text = "0123abcd-ef45-4678-9abc-def012345678";
  const auto id = uuid::parse(text);
  BOOST_REQUIRE(id);
  BOOST_CHECK_EQUAL(id->hi, 0x0123abcdef454678ull);
  BOOST_CHECK_EQUAL(id->lo, 0x9abcdef012345678ull);
  BOOST_CHECK_EQUAL(id->text(), text);
  BOOST_CHECK(uuid::parse("0123ABCD-EF45-4678-9ABC-DEF012345678") == id);
}

BOOST_AUTO_TEST_CASE(nothing_but_canonical_text_is_read) {
  for (const char* text :
       {"", "0123abcd", "0123abcdef4546789abcdef012345678",
        "{0123abcd-ef45-4678-9abc-def012345678}", "0123abcd-ef45-4678-9abc-def01234567",
        "0123abcd-ef45-4678-9abc-def0123456789", "0123abcd-ef45-4678-9abcd-ef012345678",
        "0123abcg-ef45-4678-9abc-def012345678", " 123abcd-ef45-4678-9abc-def012345678",
        "0123abcd_ef45_4678_9abc_def012345678", "0123abcd-ef45-4678-9abc-def01234567-"}) {
    BOOST_CHECK_MESSAGE(!uuid::parse(text), "\"" << text << "\" is taken");
  }
  BOOST_CHECK(!uuid::parse(std::string_view{"0123abcd-ef45-4678-9abc-def01234567\0", 36}));
}

BOOST_AUTO_TEST_CASE(ordered_ids_are_version_7_and_sort_by_their_time) {
  constexpr std::int64_t now = 1'700'000'000'123'000'000;
  std::set<uuid> seen;
  uuid before;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const auto id = coppice::ordered_uuid(now + i * 250);
    BOOST_REQUIRE_EQUAL(id.text()[14], '7');
    BOOST_REQUIRE_NE(std::string{"89ab"}.find(id.text()[19]), std::string::npos);
    BOOST_REQUIRE_EQUAL(id.hi >> 16, 1'700'000'000'123ull);
    BOOST_REQUIRE_GT(id.hi, before.hi);
    seen.insert(coppice::ordered_uuid(now));
    before = id;
  }
  BOOST_CHECK_EQUAL(seen.size(), 1000);
  BOOST_CHECK(coppice::ordered_uuid(-5).hi == 0x7000ull);
  BOOST_CHECK_LT(coppice::ordered_uuid(now + 999'999).hi,
                 coppice::ordered_uuid(now + 1'000'000).hi);
}

BOOST_AUTO_TEST_CASE(random_ids_are_version_4_and_differ) {
  std::set<uuid> seen;
  for (int i = 0; i < 1000; ++i) {
    const auto id = uuid::random();
    const auto text = id.text();
    BOOST_REQUIRE_EQUAL(text[14], '4');
    BOOST_REQUIRE(std::string{"89ab"}.find(text[19]) != std::string::npos);
    BOOST_REQUIRE(uuid::parse(text) == id);
    seen.insert(id);
  }
  BOOST_CHECK_EQUAL(seen.size(), 1000);
}

BOOST_AUTO_TEST_CASE(ids_texts_and_bytes_sort_alike) {
  for (int i = 0; i < 1000; ++i) {
    const auto a = uuid::random();
    const auto b = uuid::random();
    BOOST_REQUIRE_EQUAL(a < b, a.text() < b.text());
    BOOST_REQUIRE_EQUAL(a < b, a.bytes() < b.bytes());
  }
}

BOOST_AUTO_TEST_CASE(the_nil_value_means_absent) {
  BOOST_CHECK(!uuid{});
  BOOST_CHECK((uuid{0, 1}));
  BOOST_CHECK((uuid{1, 0}));
}

BOOST_AUTO_TEST_CASE(a_message_carries_an_id) {
  capnp::MallocMessageBuilder message;
  auto built = message.initRoot<coppice::proto::Uuid>();
  const auto id = uuid::random();
  id.to(built);
  BOOST_CHECK(uuid::from(built.asReader()) == id);
}
