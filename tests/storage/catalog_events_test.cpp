#define BOOST_TEST_MODULE catalog_events
#include "catalog_fixture.hpp"

#include "storage/catalog_events.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_upgrade.hpp"
#include "storage/lmdb.hpp"

namespace coppice::storage {

using status = proto::OperationStatus;

namespace {

struct trimmed {
  std::uint32_t rows = 0;
  std::uint32_t logs = 0;
  bool more = false;
};

constexpr std::int64_t never = INT64_MIN;
constexpr std::uint64_t all = UINT64_MAX;

struct events_fixture : catalog_fixture {
  /// An operation that ended at `ended` with so many events of `bytes` bytes to standard output.
  void end(std::uint64_t id, std::int64_t ended, unsigned count, std::size_t bytes = 10) {
    write([&](catalog::transaction& t) {
      REQUIRE_OK(t.put_operation(*operation_of{id, 1}.record().view()));
      std::uint64_t next = 0;
      while (count > 0) {
        auto more = std::min(count, 1000u);
        put_output(t, id, next, more, bytes);
        next += more;
        count -= more;
      }
      auto finish = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
        operation_of{id, 1, status::SUCCESS}.fill(to.initRecord());
        to.getRecord().setEndedAtUnixNs(ended);
        to.getRecord().getResult().setExitCode(7);
        to.getRecord().setHasResult(true);
      });
      REQUIRE_OK(t.finish_operation(*finish.view()));
    });
  }

  /// Every second to standard error, and some of another process.
  static void put_output(catalog::transaction& t, std::uint64_t id, std::uint64_t first,
                         unsigned count, std::size_t bytes) {
    capnp::MallocMessageBuilder message;
    auto events = message.initRoot<proto::EventPage>().initEvents(count);
    for (unsigned i = 0; i < count; ++i) {
      const auto n = first + i;
      const std::string text(bytes, static_cast<char>('a' + n % 26));
      const capnp::Data::Reader data{reinterpret_cast<const kj::byte*>(text.data()), text.size()};
      events[i].setId(n);
      events[i].setSpid(n % 5 == 4 ? 2 : 1);
      if (n % 2 == 0) {
        events[i].setStdout(data);
      } else {
        events[i].setStderr(data);
      }
    }
    REQUIRE_OK(t.append_events(id_number(id), events.asReader()));
  }

  trimmed trim(std::int64_t before, std::uint64_t kept, std::uint32_t rows_max = 1000) {
    trimmed out;
    write([&](catalog::transaction& t) {
      auto policy = make_frame<proto::TrimEvents>([&](proto::TrimEvents::Builder to) {
        to.setEndedBeforeUnixNs(before);
        to.setLogsKeptMax(kept);
        to.setRowsMax(rows_max);
      });
      auto done = t.trim_events(*policy.view());
      REQUIRE_OK(done);
      auto v = done->view();
      out = {v->getRows(), v->getLogs(), v->getMore()};
    });
    BOOST_CHECK_LE(out.rows, rows_max);
    return out;
  }

  bool is_gone(std::uint64_t id) const {
    auto request = make_frame<proto::ListEvents>([&](proto::ListEvents::Builder to) {
      id_number(id).to(to.initOperation());
      to.setMaxBytes(1000);
    });
    auto page = c->list_events(*request.view());
    BOOST_CHECK(page || failed_with(page, ec::gone));
    const bool gone = !page;
    BOOST_CHECK_EQUAL(operation(id)->view()->getEventsTrimmed(), gone);
    return gone;
  }

  static std::string head(capnp::Data::Reader data) {
    return {reinterpret_cast<const char*>(data.begin()), data.size()};
  }

  std::uint64_t entries(const char* name) {
    c.reset();
    std::uint64_t count = 0;
    {
      auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
      REQUIRE_OK(env);
      auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
      REQUIRE_OK(t);
      auto table = t->open_table(name);
      REQUIRE_OK(table);
      count = t->entries(*table);
    }
    c = open();
    return count;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(trimming, events_fixture)

BOOST_AUTO_TEST_CASE(logs_that_ended_before_go_and_their_records_stay) {
  end(1, 100, 5);
  end(2, 200, 5);
  end(3, 300, 5);
  put(operation_of{4, 1, status::EXECUTING});
  write([](catalog::transaction& t) { REQUIRE_OK(append_in(t, 4, 0, 3)); });
  auto done = trim(200, all);
  BOOST_CHECK_EQUAL(done.logs, 1); // the bound itself stays
  BOOST_CHECK(!done.more);
  BOOST_CHECK(is_gone(1));
  BOOST_CHECK(!is_gone(2) && !is_gone(3) && !is_gone(4));
  CHECK_SAME(events(2), numbers{0, 1, 2, 3, 4});
  auto record = operation(1);
  BOOST_CHECK_EQUAL(record->view()->getEventCount(), 5);
  BOOST_CHECK_EQUAL(record->view()->getResult().getExitCode(), 7);
  BOOST_CHECK(record->view()->getStatus() == status::SUCCESS);
  CHECK_SAME(operations([](auto) {}), numbers{1, 2, 3, 4});
  BOOST_CHECK_EQUAL(trim(INT64_MAX, all).logs, 2);
  BOOST_CHECK(!is_gone(4)); // it goes on
  BOOST_CHECK_EQUAL(entries("events"), 3);
  BOOST_CHECK_EQUAL(entries("event_logs"), 0);
}

BOOST_AUTO_TEST_CASE(beyond_a_number_of_logs_those_that_ended_first_go) {
  for (std::uint64_t n = 1; n <= 6; ++n) {
    end(n, 1000 - static_cast<std::int64_t>(n), 2);
  }
  end(7, 5, 0); // has no log, counts for nothing
  BOOST_CHECK_EQUAL(trim(never, 6).logs, 0);
  BOOST_CHECK_EQUAL(trim(never, 4).logs, 2);
  BOOST_CHECK(is_gone(6) && is_gone(5));
  BOOST_CHECK(!is_gone(4) && !is_gone(1) && !is_gone(7));
  BOOST_CHECK_EQUAL(trim(never, 0).logs, 4);
  BOOST_CHECK(is_gone(1));
}

BOOST_AUTO_TEST_CASE(a_long_log_goes_in_pieces_and_is_gone_from_the_first_on) {
  end(1, 100, 250);
  end(2, 200, 1);
  auto first = trim(INT64_MAX, all, 100);
  BOOST_CHECK_EQUAL(first.rows, 100);
  BOOST_CHECK_EQUAL(first.logs, 0);
  BOOST_CHECK(first.more);
  BOOST_CHECK(is_gone(1));
  BOOST_CHECK(!is_gone(2));
  reopen(); // whoever trims may die between two pieces
  unsigned pieces = 1;
  std::uint32_t logs = 0;
  for (bool more = true; more; ++pieces) {
    auto piece = trim(INT64_MAX, all, 100);
    logs += piece.logs;
    more = piece.more;
    BOOST_REQUIRE_LE(pieces, 4);
  }
  BOOST_CHECK_EQUAL(logs, 2);
  BOOST_CHECK_EQUAL(entries("events"), 0);
  BOOST_CHECK_EQUAL(entries("event_logs"), 0);
}

BOOST_AUTO_TEST_CASE(any_number_of_rows_at_a_time_comes_to_the_same_end) {
  for (std::uint32_t rows_max : {1u, 2u, 3u, 7u, 11u, 12u}) {
    for (std::uint64_t n = 1; n <= 4; ++n) {
      end(rows_max * 100 + n, 100, static_cast<unsigned>(n * 3 - 2));
    }
    unsigned pieces = 0;
    std::uint32_t logs = 0;
    for (bool more = true; more && pieces < 100; ++pieces) {
      auto piece = trim(INT64_MAX, all, rows_max);
      logs += piece.logs;
      more = piece.more;
    }
    BOOST_CHECK_EQUAL(logs, 4);
    BOOST_CHECK_LT(pieces, 100);
    auto record = operation(rows_max * 100 + 4);
    BOOST_CHECK_EQUAL(head(record->view()->getStdoutHead()),
                      std::string(10, 'a') + std::string(10, 'c') + std::string(10, 'g') +
                          std::string(10, 'i'));
    BOOST_CHECK_EQUAL(head(record->view()->getStderrHead()),
                      std::string(10, 'b') + std::string(10, 'd') + std::string(10, 'f') +
                          std::string(10, 'h'));
  }
  BOOST_CHECK_EQUAL(entries("events"), 0);
}

BOOST_AUTO_TEST_CASE(the_first_bytes_of_the_output_stay_and_no_more) {
  end(1, 100, 40, 1000);
  BOOST_CHECK_EQUAL(operation(1)->view()->getStdoutHead().size(), 0);
  trim(INT64_MAX, all, 9);
  trim(INT64_MAX, all);
  auto record = operation(1);
  const auto out = head(record->view()->getStdoutHead());
  BOOST_CHECK_EQUAL(out.size(), output_head_bytes_max);
  BOOST_CHECK_EQUAL(out.substr(0, 3000),
                    std::string(1000, 'a') + std::string(1000, 'c') + std::string(1000, 'g'));
  BOOST_CHECK_EQUAL(record->view()->getStderrHead().size(), output_head_bytes_max);
  // A listing's rows stay slim.
  auto request = make_frame<proto::ListOperations>([](proto::ListOperations::Builder to) {
    to.setProject("default");
    to.setLimit(10);
  });
  auto page = c->list_operations(*request.view());
  BOOST_CHECK_LT(page->bytes().size(), 2000);
}

BOOST_AUTO_TEST_CASE(looking_for_what_is_due_costs_the_same_among_many_logs) {
  auto cost = [&] {
    const auto before = lmdb::counts_of_thread();
    BOOST_CHECK_EQUAL(trim(100, 1'000'000).rows, 0);
    const auto after = lmdb::counts_of_thread();
    return after.look_ups + after.steps + after.records - before.look_ups - before.steps -
           before.records;
  };
  end(1, 100, 1);
  BOOST_CHECK_EQUAL(cost(), 1);
  for (std::uint64_t n = 2; n <= 300; ++n) {
    end(n, 100, 1);
  }
  BOOST_CHECK_EQUAL(cost(), 1);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(upgrade_to_version_3, events_fixture)

BOOST_AUTO_TEST_CASE(the_logs_of_version_2_can_be_trimmed_like_others) {
  for (std::uint64_t n = 1; n <= 25; ++n) {
    end(n, static_cast<std::int64_t>(n), n % 5 == 0 ? 0 : 2);
  }
  put(operation_of{30, 1, status::EXECUTING});
  write([](catalog::transaction& t) { REQUIRE_OK(append_in(t, 30, 0, 3)); });
  auto upload = make_frame<proto::PutFile>([](proto::PutFile::Builder to) {
    auto file = to.initRecord();
    id_number(40).to(file.initId());
    file.setProject("default");
    file.initSha256(32)[0] = 9;
    file.setUpdatedAtUnixNs(77);
  });
  write([&](catalog::transaction& t) { REQUIRE_OK(t.put_file(*upload.view())); });
  c.reset();
  auto open_env = [&] {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    return std::move(*env);
  };
  { // what version 2 had is what version 3 has without its tables
    auto env = open_env();
    auto t = lmdb::transaction::begin(env, lmdb::mode::write);
    REQUIRE_OK(t);
    for (const char* name : {"event_logs", "output_heads"}) {
      auto table = t->open_table(name);
      REQUIRE_OK(table);
      BOOST_REQUIRE_EQUAL(::mdb_drop(t->handle(), *table, 1), 0);
    }
    auto index = t->open_table("file_index");
    t->put(*index,
           "default" + std::string(1, '\0') + keys::newest_first(77) + '\x09' +
               std::string(31, '\0'),
           {});
    BOOST_REQUIRE_EQUAL(t->entries(*index), 1);
    auto meta = t->open_table("meta");
    t->put(*meta, "schema", keys::big_endian(2));
    REQUIRE_OK(t->commit());
  }
  { // in transactions of seven, and killed before the last one
    auto env = open_env();
    auto t = lmdb::transaction::begin(env, lmdb::mode::write);
    auto tables = tables::open(*t);
    REQUIRE_OK(tables);
    REQUIRE_OK(t->commit());
    REQUIRE_OK(upgrade(env, *tables, 2, 7));
    auto undo = lmdb::transaction::begin(env, lmdb::mode::write);
    undo->put(tables->meta, "schema", keys::big_endian(2));
    undo->erase(tables->event_logs, keys::oldest_first(3) + keys::of(id_number(3)));
    REQUIRE_OK(undo->commit());
  }
  c = open();
  BOOST_CHECK_EQUAL(entries("event_logs"), 20);
  auto listing = make_frame<proto::ListFiles>([](proto::ListFiles::Builder to) {
    to.setProject("default");
    to.setLimit(10);
  });
  auto files = c->list_files(*listing.view());
  REQUIRE_OK(files);
  BOOST_REQUIRE_EQUAL(files->view()->getRows().size(), 1);
  BOOST_CHECK(uuid::from(files->view()->getRows()[0].getId()) == id_number(40));
  BOOST_CHECK_EQUAL(trim(4, all).logs, 3);
  BOOST_CHECK(is_gone(1) && is_gone(2) && is_gone(3) && !is_gone(4));
  BOOST_CHECK_EQUAL(trim(INT64_MAX, 10).logs, 17);
  BOOST_CHECK(!is_gone(30) && !is_gone(5));
  reopen(); // it is version 3 now: nothing is made again
  BOOST_CHECK_EQUAL(entries("event_logs"), 0);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
