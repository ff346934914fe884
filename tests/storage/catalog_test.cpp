#define BOOST_TEST_MODULE catalog
#include "catalog_fixture.hpp"

#include "storage/lmdb.hpp"

#include <array>

namespace coppice::storage {

using status = proto::OperationStatus;
using kind = proto::OperationKind;

BOOST_FIXTURE_TEST_SUITE(images, catalog_fixture)

BOOST_AUTO_TEST_CASE(an_image_comes_back_as_it_was_put_and_only_to_its_project) {
  put(image_of{1, 100});
  auto row = image(1);
  REQUIRE_OK(row);
  BOOST_CHECK_EQUAL(row->view()->getImage().getCreatedAtUnixNs(), 100);
  BOOST_CHECK_EQUAL(row->view()->getImage().getSizeBytes(), 4096);
  BOOST_CHECK_EQUAL(row->view()->getTag().size(), 0);
  BOOST_CHECK(failed_with(image(1, "other"), ec::not_found));
  BOOST_CHECK(failed_with(image(2), ec::not_found));
  BOOST_CHECK(c->has_image(id_number(1)));
  BOOST_CHECK(!c->has_image(id_number(2)));
}

BOOST_AUTO_TEST_CASE(an_image_cannot_be_put_twice) {
  put(image_of{1, 100});
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(t->put_image(*image_of{1, 200}.record().view()), ec::conflict));
  BOOST_CHECK(failed_with(t->put_image(*image_of{1, 200, "other"}.record().view()), ec::conflict));
}

BOOST_AUTO_TEST_CASE(two_projects_have_the_same_tag_each_for_itself) {
  put(image_of{1, 100});
  put(image_of{2, 100, "other"});
  tag(1, "base");
  tag(2, "base", "other");
  BOOST_CHECK_EQUAL(tagged("base"), 1);
  BOOST_CHECK_EQUAL(tagged("base", "other"), 2);
  CHECK_SAME(images([](auto) {}), strings{"1:base"});
  CHECK_SAME(images([](auto to) { to.setProject("other"); }), strings{"2:base"});
  CHECK_SAME(images([](auto to) { to.setProject("othe"); }), strings{});
  CHECK_SAME(images([](auto to) { to.setProject("Not a name"); }), strings{});
  auto t = c->begin();
  BOOST_CHECK(failed_with(tag_in(*t, 2, "mine"), ec::not_found));
  BOOST_CHECK(failed_with(untag_in(*t, 2, "base"), ec::not_found));
}

BOOST_AUTO_TEST_CASE(a_tag_moves_and_its_old_image_is_listed_untagged_again) {
  put(image_of{1, 100});
  put(image_of{2, 200});
  tag(1, "x");
  CHECK_SAME(images([](auto) {}), strings{"2", "1:x"});
  tag(2, "x");
  CHECK_SAME(images([](auto) {}), strings{"2:x", "1"});
  BOOST_CHECK_EQUAL(tagged("x"), 2);
  tag(2, "x");
  CHECK_SAME(images([](auto) {}), strings{"2:x", "1"});
}

BOOST_AUTO_TEST_CASE(setting_a_tag_answers_the_row_with_that_tag) {
  put(image_of{1, 100});
  tag(1, "a");
  auto t = c->begin();
  auto row = tag_in(*t, 1, "b");
  REQUIRE_OK(row);
  BOOST_CHECK_EQUAL(text_of(row->view()->getTag()), "b");
  BOOST_CHECK(uuid::from(row->view()->getImage().getId()) == id_number(1));
}

BOOST_AUTO_TEST_CASE(there_is_one_row_for_each_tag_of_an_image) {
  put(image_of{1, 100});
  put(image_of{2, 200});
  put(image_of{3, 300});
  tag(2, "b");
  tag(2, "a");
  CHECK_SAME(images([](auto) {}), strings{"3", "2:a", "2:b", "1"});
  CHECK_SAME(images([](auto to) { to.setTaggedOnly(true); }), strings{"2:a", "2:b"});
  auto by_id = [](std::uint64_t n) {
    return [n](auto to) {
      id_number(n).to(to.initId());
    };
  };
  CHECK_SAME(images(by_id(2)), strings{"2:a", "2:b"});
  CHECK_SAME(images(by_id(1)), strings{"1"});
  CHECK_SAME(images(by_id(9)), strings{});
  BOOST_CHECK_EQUAL(text_of(image(2)->view()->getTag()), "a");
}

BOOST_AUTO_TEST_CASE(the_filter_by_id_obeys_all_other_filters) {
  put(image_of{1, 100});
  put(image_of{2, 100});
  tag(2, "a");
  tag(2, "ab");
  tag(2, "b");
  auto rows = [&](std::uint64_t n, auto fill) {
    return images([&](proto::ListImages::Builder to) {
      id_number(n).to(to.initId());
      fill(to);
    });
  };
  CHECK_SAME(rows(1, [](auto to) { to.setTaggedOnly(true); }), strings{});
  CHECK_SAME(rows(1, [](auto to) { to.setTagPrefix("a"); }), strings{});
  CHECK_SAME(rows(1, [](auto to) { to.setOffset(1); }), strings{});
  CHECK_SAME(rows(1, [](auto to) { to.setLimit(0); }), strings{});
  CHECK_SAME(rows(1, [](auto to) { to.setSinceUnixNs(101); }), strings{});
  CHECK_SAME(rows(1, [](auto to) { to.setProject("other"); }), strings{});
  CHECK_SAME(rows(2, [](auto to) { to.setTagPrefix("a"); }), strings{"2:a", "2:ab"});
  CHECK_SAME(rows(2, [](auto to) { to.setOffset(1), to.setLimit(1); }), strings{"2:ab"});
}

BOOST_AUTO_TEST_CASE(with_a_tag_prefix_the_exact_match_comes_first) {
  const char* names[] = {"busybox:latest", "busybox", "busy", "busyboy", "busybox-2", "alpine"};
  std::uint64_t n = 0;
  for (const char* name : names) {
    ++n;
    put(image_of{n, static_cast<std::int64_t>(n)});
    tag(n, name);
  }
  auto prefixed = [&](const char* prefix) {
    return images([&](auto to) { to.setTagPrefix(prefix); });
  };
  CHECK_SAME(prefixed("busybox"), strings{"2:busybox", "5:busybox-2", "1:busybox:latest"});
  CHECK_SAME(prefixed("docker://docker.io/library/x:y"), strings{});
  CHECK_SAME(prefixed(std::string(2000, 'x').c_str()), strings{});
  CHECK_SAME(images([](auto to) { to.setTagPrefix("busy"), to.setLimit(2), to.setOffset(1); }),
             strings{"2:busybox", "5:busybox-2"});
  CHECK_SAME(images([](auto to) { to.setTagPrefix("busy"), to.setSinceUnixNs(4); }),
             strings{"5:busybox-2", "4:busyboy"});
}

BOOST_AUTO_TEST_CASE(pages_of_equal_timestamps_are_stable_and_complete) {
  for (std::uint64_t n : {7, 3, 9, 1, 8, 2, 6, 4, 5}) {
    put(image_of{n, 100});
  }
  put(image_of{10, 101});
  strings paged;
  for (unsigned offset = 0; offset < 12; offset += 4) {
    for (auto& row : images([&](auto to) { to.setLimit(4), to.setOffset(offset); })) {
      paged.push_back(row);
    }
    reopen();
  }
  CHECK_SAME(paged, strings{"10", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  CHECK_SAME(images([](auto to) { to.setOffset(1ull << 40); }), strings{});
}

BOOST_AUTO_TEST_CASE(time_bounds_are_inclusive_and_order_holds_before_1970) {
  put(image_of{1, INT64_MIN});
  put(image_of{2, -5});
  put(image_of{3, 0});
  put(image_of{4, 5});
  put(image_of{5, INT64_MAX});
  CHECK_SAME(images([](auto) {}), strings{"5", "4", "3", "2", "1"});
  CHECK_SAME(images([](auto to) { to.setSinceUnixNs(-5), to.setUntilUnixNs(5); }),
             strings{"4", "3", "2"});
  CHECK_SAME(images([](auto to) { to.setSinceUnixNs(6), to.setUntilUnixNs(5); }), strings{});
}

BOOST_AUTO_TEST_CASE(a_tag_is_removed_from_its_image_only) {
  put(image_of{1, 100});
  put(image_of{2, 200});
  tag(1, "a");
  tag(1, "b");
  tag(2, "c");
  auto t = c->begin();
  BOOST_CHECK(failed_with(untag_in(*t, 1, "c"), ec::not_found));
  BOOST_CHECK(failed_with(untag_in(*t, 1, "nothing"), ec::not_found));
  BOOST_CHECK(failed_with(untag_in(*t, 9, ""), ec::not_found));
  REQUIRE_OK(untag_in(*t, 1, "a"));
  REQUIRE_OK(t->commit());
  CHECK_SAME(images([](auto) {}), strings{"2:c", "1:b"});
  BOOST_CHECK_EQUAL(tagged("a"), 0);
}

BOOST_AUTO_TEST_CASE(an_empty_tag_removes_all_tags_and_none_is_fine) {
  put(image_of{1, 100});
  tag(1, "a");
  tag(1, "b");
  write([](catalog::transaction& t) { REQUIRE_OK(untag_in(t, 1, "")); });
  CHECK_SAME(images([](auto) {}), strings{"1"});
  CHECK_SAME(images([](auto to) { to.setTaggedOnly(true); }), strings{});
  write([](catalog::transaction& t) { REQUIRE_OK(untag_in(t, 1, "")); });
  CHECK_SAME(images([](auto) {}), strings{"1"});
}

BOOST_AUTO_TEST_CASE(names_that_are_none_are_refused_and_the_transaction_goes_on) {
  put(image_of{1, 100});
  auto t = c->begin();
  BOOST_CHECK(failed_with(tag_in(*t, 1, ""), ec::unsupported));
  BOOST_CHECK(failed_with(tag_in(*t, 1, std::string(257, 'x').c_str()), ec::unsupported));
  BOOST_CHECK(failed_with(tag_in(*t, 1, "x", "../up"), ec::unsupported));
  BOOST_CHECK(failed_with(t->put_image(*image_of{2, 1, ""}.record().view()), ec::unsupported));
  BOOST_CHECK(failed_with(t->put_image(*image_of{2, 1, "A"}.record().view()), ec::unsupported));
  const std::string longest(256, 'x');
  const std::string project(64, 'p');
  REQUIRE_OK(t->put_image(*image_of{3, 1, project.c_str()}.record().view()));
  REQUIRE_OK(tag_in(*t, 3, longest.c_str(), project.c_str()));
  REQUIRE_OK(t->commit());
  BOOST_CHECK_EQUAL(tagged(longest.c_str(), project.c_str()), 3);
}

BOOST_AUTO_TEST_CASE(an_import_is_found_by_its_source_the_newest_first) {
  put(image_of{1, 100, "default", "sha256:aa"});
  put(image_of{2, 300, "default", "sha256:aa"});
  put(image_of{3, 200, "default", "sha256:aa"});
  put(image_of{4, 400, "default", "sha256:aab"});
  put(image_of{5, 500, "other", "sha256:aa"});
  tag(2, "t");
  auto row = c->find_by_source("default", "sha256:aa");
  REQUIRE_OK(row);
  BOOST_CHECK(uuid::from(row->view()->getImage().getId()) == id_number(2));
  BOOST_CHECK_EQUAL(text_of(row->view()->getTag()), "t");
  BOOST_CHECK(failed_with(c->find_by_source("default", "sha256:a"), ec::not_found));
  BOOST_CHECK(failed_with(c->find_by_source("default", ""), ec::not_found));
  BOOST_CHECK(failed_with(c->find_by_source("third", "sha256:aa"), ec::not_found));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(files_and_tokens, catalog_fixture)

namespace {

frame<proto::PutFile> file_of(std::uint64_t id, char digest, std::int64_t time,
                              const char* project = "default") {
  return make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
    auto record = to.initRecord();
    id_number(id).to(record.initId());
    record.setProject(project);
    auto bytes = record.initSha256(32);
    std::fill(bytes.begin(), bytes.end(), static_cast<kj::byte>(digest));
    record.setSizeBytes(10 + id);
    record.setCreatedAtUnixNs(time);
    record.setUpdatedAtUnixNs(time);
  });
}

} // namespace

BOOST_AUTO_TEST_CASE(the_same_bytes_keep_their_id_and_move_to_the_front) {
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.put_file(*file_of(1, 'a', 100).view()));
    REQUIRE_OK(t.put_file(*file_of(2, 'b', 200).view()));
    REQUIRE_OK(t.put_file(*file_of(3, 'a', 100, "other").view()));
    auto again = t.put_file(*file_of(4, 'a', 300).view());
    REQUIRE_OK(again);
    auto v = again->view();
    BOOST_CHECK(uuid::from(v->getId()) == id_number(1));
    BOOST_CHECK_EQUAL(v->getCreatedAtUnixNs(), 100);
    BOOST_CHECK_EQUAL(v->getUpdatedAtUnixNs(), 300);
  });
  auto list = [&](std::int64_t since) {
    auto request = make_frame<proto::ListFiles>([&](proto::ListFiles::Builder to) {
      to.setProject("default");
      to.setLimit(10);
      to.setSinceUnixNs(since);
    });
    auto page = c->list_files(*request.view());
    REQUIRE_OK(page);
    numbers ids;
    auto v = page->view();
    for (auto row : v->getRows()) {
      ids.push_back(uuid::from(row.getId()).lo & 0xffff);
    }
    return ids;
  };
  CHECK_SAME(list(0), numbers{1, 2});
  CHECK_SAME(list(201), numbers{1});
}

BOOST_AUTO_TEST_CASE(a_file_is_found_by_digest_and_by_id_in_its_project_only) {
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.put_file(*file_of(1, 'a', 100).view()));
    BOOST_CHECK(failed_with(t.put_file(*file_of(1, 'c', 100).view()), ec::conflict));
  });
  auto get = [&](const char* project, std::string digest, std::uint64_t id) {
    auto request = make_frame<proto::GetFile>([&](proto::GetFile::Builder to) {
      to.setProject(project);
      to.setSha256({reinterpret_cast<const kj::byte*>(digest.data()), digest.size()});
      if (id != 0) {
        id_number(id).to(to.initId());
      }
    });
    return c->get_file(*request.view());
  };
  const std::string digest(32, 'a');
  REQUIRE_OK(get("default", digest, 0));
  REQUIRE_OK(get("default", "", 1));
  BOOST_CHECK_EQUAL(get("default", "", 1)->view()->getSizeBytes(), 11);
  BOOST_CHECK(failed_with(get("other", digest, 0), ec::not_found));
  BOOST_CHECK(failed_with(get("other", "", 1), ec::not_found));
  BOOST_CHECK(failed_with(get("default", "", 0), ec::not_found));
  BOOST_CHECK(failed_with(get("default", std::string(32, 'b'), 0), ec::not_found));
  BOOST_CHECK(failed_with(get("default", std::string(31, 'a'), 1), ec::not_found));
}

BOOST_AUTO_TEST_CASE(a_token_is_found_by_its_digest_until_it_expires) {
  auto token = [](std::int64_t expires) {
    return make_frame<proto::TokenRecord>([&](proto::TokenRecord::Builder to) {
      to.setProject("default");
      to.setExpiresAtUnixNs(expires);
      to.setMayImport(false);
    });
  };
  auto digest = [](unsigned char byte) {
    catalog::sha256 out;
    out.fill(byte);
    return out;
  };
  write([&](catalog::transaction& t) {
    REQUIRE_OK(t.put_token(digest(1), *token(0).view()));
    REQUIRE_OK(t.put_token(digest(2), *token(INT64_MAX).view()));
    REQUIRE_OK(t.put_token(digest(3), *token(1).view()));
  });
  auto find = [&](unsigned char byte, std::size_t size) {
    const std::vector<kj::byte> bytes(size, byte);
    auto request = make_frame<proto::FindToken>([&](proto::FindToken::Builder to) {
      to.setSha256({bytes.data(), bytes.size()});
    });
    return c->find_token(*request.view());
  };
  REQUIRE_OK(find(1, 32));
  BOOST_CHECK(!find(1, 32)->view()->getMayImport());
  BOOST_CHECK(find(1, 32)->view()->getMaySpawn());
  REQUIRE_OK(find(2, 32));
  BOOST_CHECK(failed_with(find(3, 32), ec::not_found));
  BOOST_CHECK(failed_with(find(4, 32), ec::not_found));
  BOOST_CHECK(failed_with(find(1, 31), ec::not_found));
  BOOST_CHECK(failed_with(find(1, 0), ec::not_found));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
