#define BOOST_TEST_MODULE catalog_lineage
#include "catalog_lineage_fixture.hpp"

#include <map>
#include <random>

namespace coppice::storage {

BOOST_FIXTURE_TEST_SUITE(indexes, lineage_fixture)

BOOST_AUTO_TEST_CASE(an_index_is_stored_with_its_image_or_not_at_all) {
  {
    auto t = c->begin();
    REQUIRE_OK(t);
    REQUIRE_OK(put_in(*t, 1, 0, 0));
  }
  BOOST_CHECK_EQUAL(index(1), "");
  put(1, 0, 0);
  put(2, 1, 1);
  write([](catalog::transaction& t) { REQUIRE_OK(t.put_image(*image_of{3, 1}.record().view())); });
  reopen();
  BOOST_CHECK_EQUAL(index(1), "index 1");
  BOOST_CHECK_EQUAL(index(2), "index 2");
  BOOST_CHECK_EQUAL(index(3), "");
  auto stored = c->get_index(id_number(2));
  BOOST_CHECK(uuid::from(stored->view()->getCheckpoint()) == id_number(1));
}

BOOST_AUTO_TEST_CASE(an_index_stands_on_a_checkpoint_that_is_there) {
  put(1, 0, 0);
  put(2, 1, 1);
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(put_in(*t, 3, 1, 9), ec::conflict)); // of no image
  BOOST_CHECK(failed_with(put_in(*t, 3, 1, 2), ec::conflict)); // which stands on one itself
  BOOST_CHECK(failed_with(put_in(*t, 3, 1, 3), ec::conflict)); // itself
  BOOST_CHECK(failed_with(t->put_image(*image_of{3, 1}.record().view(), *index_of(0, "").view()),
                          ec::unsupported));
  REQUIRE_OK(put_in(*t, 3, 2, 1));
  REQUIRE_OK(put_in(*t, 4, 3, 0));
  REQUIRE_OK(put_in(*t, 5, 4, 4));
  REQUIRE_OK(t->commit());
  BOOST_CHECK_EQUAL(index(5), "index 5");
}

BOOST_AUTO_TEST_CASE(an_operation_ends_with_the_index_of_its_image) {
  catalog_fixture::put(operation_of{50, 100});
  auto finish = [](std::uint64_t checkpoint) {
    return make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      operation_of{
          .id = 50, .created = 100, .status = proto::OperationStatus::SUCCESS, .result_image = 7}
          .fill(to.initRecord());
      to.setImage(*image_of{7, 100}.record().view());
      to.setHasImage(true);
      to.setIndex(*index_of(checkpoint, "of seven").view());
    });
  };
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(t->finish_operation(*finish(3).view()), ec::conflict));
  REQUIRE_OK(t->finish_operation(*finish(0).view()));
  REQUIRE_OK(t->commit());
  BOOST_CHECK_EQUAL(index(7), "of seven");
  BOOST_CHECK(has_file(7));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(deletion, lineage_fixture)

BOOST_AUTO_TEST_CASE(a_deleted_image_is_in_no_listing_and_leaves_nothing) {
  put(1, 0, 0);
  put(2, 0, 0);
  remove(1);
  BOOST_CHECK(failed_with(image(1), ec::not_found));
  CHECK_SAME(images([](auto) {}), strings{"2"});
  auto newest = c->find_by_source("default", "sha256:aa");
  REQUIRE_OK(newest);
  BOOST_CHECK(uuid::from(newest->view()->getImage().getId()) == id_number(2));
  BOOST_CHECK(!c->has_image(id_number(1)));
  BOOST_CHECK(!has_file(1));
  BOOST_CHECK_EQUAL(index(1), "");
  CHECK_SAME(dead(), numbers{});
  remove(2);
  BOOST_CHECK(failed_with(c->find_by_source("default", "sha256:aa"), ec::not_found));
}

BOOST_AUTO_TEST_CASE(an_image_with_a_tag_or_of_another_project_is_not_deleted) {
  put(1, 0, 0);
  tag(1, "a");
  tag(1, "b");
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(t->delete_image("default", id_number(1)), ec::conflict));
  REQUIRE_OK(untag_in(*t, 1, "a"));
  BOOST_CHECK(failed_with(t->delete_image("default", id_number(1)), ec::conflict));
  REQUIRE_OK(untag_in(*t, 1, "b"));
  BOOST_CHECK(failed_with(t->delete_image("other", id_number(1)), ec::not_found));
  BOOST_CHECK(failed_with(t->delete_image("default", id_number(2)), ec::not_found));
  REQUIRE_OK(t->delete_image("default", id_number(1)));
  BOOST_CHECK(failed_with(t->delete_image("default", id_number(1)), ec::not_found));
  REQUIRE_OK(t->commit());
  CHECK_SAME(images([](auto) {}), strings{});
}

BOOST_AUTO_TEST_CASE(tags_go_with_an_image_where_that_is_wanted) {
  put(1, 0, 0);
  tag(1, "a");
  tag(1, "b");
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.delete_image("default", id_number(1), with_tags::yes));
  });
  BOOST_CHECK_EQUAL(tagged("a"), 0);
  CHECK_SAME(images([](auto) {}), strings{});
  put(2, 0, 0);
  tag(2, "a");
  BOOST_CHECK_EQUAL(tagged("a"), 2);
}

BOOST_AUTO_TEST_CASE(an_image_is_not_deleted_before_its_operations_have_ended) {
  put(1, 0, 0);
  put(2, 0, 0);
  put_run(50, 1, proto::OperationStatus::PENDING);
  put_run(51, 1, proto::OperationStatus::PENDING);
  BOOST_CHECK(c->is_in_use(id_number(1)));
  BOOST_CHECK(!c->is_in_use(id_number(2)));
  auto refused = [&]() {
    auto t = c->begin();
    REQUIRE_OK(t);
    auto answer = t->delete_image("default", id_number(1), with_tags::yes);
    return failed_with(answer, ec::conflict);
  };
  BOOST_CHECK(refused());
  put_run(50, 1, proto::OperationStatus::ASSIGNED);
  put_run(51, 1, proto::OperationStatus::EXECUTING);
  BOOST_CHECK(refused());
  reopen();
  finish_run(50, 1);
  BOOST_CHECK(refused());
  {
    auto t = c->begin(); // ends 51 and deletes in one transaction, in this order only
    REQUIRE_OK(t);
    BOOST_CHECK(failed_with(t->delete_image("default", id_number(1)), ec::conflict));
    REQUIRE_OK(t->finish_operation(*ended_run(51, 1).view()));
    REQUIRE_OK(t->delete_image("default", id_number(1)));
    REQUIRE_OK(t->commit());
  }
  BOOST_CHECK(!c->is_in_use(id_number(1)));
}

BOOST_AUTO_TEST_CASE(an_operation_does_not_succeed_with_a_deleted_image) {
  put(1, 0, 0);
  catalog_fixture::put(operation_of{.id = 50, .kind = proto::OperationKind::IMAGE_IMPORT});
  remove(1);
  auto end_as = [](proto::OperationStatus status) {
    return make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      operation_of{.id = 50,
                   .status = status,
                   .kind = proto::OperationKind::IMAGE_IMPORT,
                   .result_image = status == proto::OperationStatus::SUCCESS ? 1u : 0u}
          .fill(to.initRecord());
    });
  };
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(t->finish_operation(*end_as(proto::OperationStatus::SUCCESS).view()),
                          ec::not_found));
  REQUIRE_OK(t->finish_operation(*end_as(proto::OperationStatus::FAILED).view()));
}

BOOST_AUTO_TEST_CASE(a_deletion_names_the_files_that_it_concerns) {
  // 1 ─ 2 ─ 3 ─ 4      6 stands on 1
  //       └ 5
  put(1, 0, 0);
  put(2, 1, 1);
  put(3, 2, 1);
  put(4, 3, 1);
  put(5, 2, 1);
  put(6, 1, 1);
  auto check = [&](std::uint64_t id, const numbers& gone, const numbers& dead_ones) {
    write([&](catalog::transaction& t) {
      auto done = t.delete_image("default", id_number(id));
      REQUIRE_OK(done);
      CHECK_SAME(numbers_of(done->gone), gone);
      CHECK_SAME(numbers_of(done->dead), dead_ones);
    });
  };
  check(2, {}, {2}); // above it is 1, which is live and sees what 2 saw of it
  check(1, {}, {1});
  check(3, {}, {3, 2, 1});
  check(4, {4, 3}, {2, 1});
  check(6, {6}, {1});
  check(5, {5, 2, 1}, {});
}

BOOST_AUTO_TEST_CASE(a_file_stays_until_no_other_stands_on_it) {
  put(1, 0, 0);
  put(2, 1, 1);
  put(3, 2, 1);
  put(4, 1, 1);
  CHECK_SAME(children(1), numbers{2, 4});
  remove(2);
  BOOST_CHECK(has_file(2));
  CHECK_SAME(dead(), numbers{2});
  CHECK_SAME(children(1), numbers{2, 4});
  remove(1);
  CHECK_SAME(dead(), numbers{1, 2});
  reopen();
  remove(3); // 2 goes with it, 1 is needed by 4
  BOOST_CHECK(!has_file(3));
  BOOST_CHECK(!has_file(2));
  CHECK_SAME(dead(), numbers{1});
  CHECK_SAME(children(1), numbers{4});
  remove(4);
  CHECK_SAME(dead(), numbers{});
  BOOST_CHECK(!has_file(1));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_stays_until_no_live_image_stands_on_it) {
  put(1, 0, 0);
  put(2, 1, 1);
  put(3, 2, 1);
  put(4, 3, 0);
  put(5, 4, 4);
  remove(1);
  remove(2);
  BOOST_CHECK_EQUAL(index(1), "index 1");
  BOOST_CHECK_EQUAL(index(2), "");
  remove(3);
  BOOST_CHECK_EQUAL(index(1), ""); // though its file is needed
  BOOST_CHECK(has_file(1));
  remove(5);
  BOOST_CHECK_EQUAL(index(4), "index 4");
  CHECK_SAME(dead(), numbers{1, 2, 3});
  remove(4);
  BOOST_CHECK_EQUAL(index(4), "");
  CHECK_SAME(dead(), numbers{});
}

BOOST_AUTO_TEST_CASE(nothing_is_put_on_a_deleted_image_or_in_its_place) {
  put(1, 0, 0);
  put(2, 1, 1);
  remove(1);
  auto t = c->begin();
  REQUIRE_OK(t);
  BOOST_CHECK(failed_with(put_in(*t, 3, 1, 1), ec::conflict));
  BOOST_CHECK(failed_with(put_in(*t, 1, 0, 0), ec::conflict));
  BOOST_CHECK(failed_with(put_in(*t, 3, 9, 1), ec::conflict));
  REQUIRE_OK(put_in(*t, 3, 2, 1));
}

BOOST_AUTO_TEST_CASE(long_lists_come_in_pages) {
  write([](catalog::transaction& t) {
    REQUIRE_OK(put_in(t, 1, 0, 0));
    for (std::uint64_t id = 2; id < 2 + 2 * catalog::page_rows_max + 5; ++id) {
      REQUIRE_OK(put_in(t, id, 1, 1));
    }
  });
  std::size_t seen = 0;
  uuid after;
  for (;;) {
    auto page = c->list_child_files(id_number(1), after);
    REQUIRE_OK(page);
    if (page->empty()) {
      break;
    }
    BOOST_REQUIRE_LE(page->size(), catalog::page_rows_max);
    BOOST_REQUIRE(page->front() > after);
    seen += page->size();
    after = page->back();
  }
  BOOST_CHECK_EQUAL(seen, 2 * catalog::page_rows_max + 5);
}

namespace {

/// What must be there, found by looking at everything.
struct family {
  struct member {
    std::uint64_t parent = 0;
    std::uint64_t checkpoint = 0;
    bool is_live = true;
  };
  std::map<std::uint64_t, member> all;

  bool needs_file(std::uint64_t id) const {
    for (const auto& [other, m] : all) {
      if (!m.is_live) {
        continue;
      }
      for (auto at = other; at != 0; at = all.at(at).parent) {
        if (at == id) {
          return true;
        }
      }
    }
    return false;
  }

  bool needs_index(std::uint64_t id) const {
    for (const auto& [other, m] : all) {
      if (m.is_live && (other == id || m.checkpoint == id)) {
        return true;
      }
    }
    return false;
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(after_random_deletions_exactly_what_is_needed_is_there) {
  std::mt19937 random{17};
  family known;
  std::vector<std::uint64_t> live;
  std::uint64_t next = 1;
  for (unsigned round = 0; round < 25; ++round) {
    write([&](catalog::transaction& t) {
      for (unsigned step = 0; step < 30; ++step) {
        if (live.empty() || random() % 9 < 5) {
          family::member made;
          if (!live.empty() && random() % 20 != 0) {
            made.parent = live[random() % live.size()];
            const auto& parent = known.all.at(made.parent);
            if (random() % 4 != 0) {
              made.checkpoint = parent.checkpoint != 0 ? parent.checkpoint : made.parent;
            }
          }
          REQUIRE_OK(put_in(t, next, made.parent, made.checkpoint));
          known.all.emplace(next, made);
          live.push_back(next++);
        } else {
          std::swap(live[random() % live.size()], live.back());
          REQUIRE_OK(t.delete_image("default", id_number(live.back())));
          known.all.at(live.back()).is_live = false;
          live.pop_back();
        }
      }
    });
    numbers dead_files;
    for (const auto& [id, m] : known.all) {
      const bool needed = known.needs_file(id);
      BOOST_REQUIRE_EQUAL(has_file(id), needed);
      BOOST_REQUIRE_EQUAL(!index(id).empty(), known.needs_index(id));
      if (needed && !m.is_live) {
        dead_files.push_back(id);
      }
    }
    CHECK_SAME(dead(), dead_files);
  }
  write([&](catalog::transaction& t) {
    for (auto id : live) {
      REQUIRE_OK(t.delete_image("default", id_number(id)));
    }
  });
  CHECK_SAME(dead(), numbers{});
  c.reset();
  auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
  REQUIRE_OK(env);
  auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
  REQUIRE_OK(t);
  for (const char* name : {"images", "image_index", "sources", "indexes", "index_users",
                           "image_files", "image_file_children", "dead_image_files"}) {
    auto table = t->open_table(name);
    REQUIRE_OK(table);
    lmdb::cursor at{*t, *table};
    BOOST_CHECK_MESSAGE(!at.seek(std::string(1, '\0')), name << " has rows of nothing");
  }
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
