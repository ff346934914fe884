#define BOOST_TEST_MODULE catalog_operations
#include "catalog_fixture.hpp"

#include "storage/lmdb.hpp"

#include <capnp/dynamic.h>
#include <capnp/pretty-print.h>

namespace coppice::storage {

using status = proto::OperationStatus;
using kind = proto::OperationKind;

namespace {

struct finish_of {
  operation_of operation;
  std::uint64_t first_event = 0;
  unsigned event_count = 0;
  std::uint64_t image = 0;
  const char* tag = "";
  const char* image_project = "default";

  frame<proto::FinishOperation> request() const {
    return make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      operation.fill(to.initRecord());
      auto events = to.initEvents(event_count);
      for (unsigned i = 0; i < event_count; ++i) {
        events[i].setId(first_event + i);
        events[i].initCompletion().setStatus(operation.status);
      }
      if (image != 0) {
        auto made = image_of{image, operation.created, image_project}.record();
        to.setImage(*made.view());
        to.setHasImage(true);
      }
      to.setTag(tag);
    });
  }
};

/// Gives every field another value than its default; of unions the member `pick` (or the last).
class filler {
public:
  explicit filler(unsigned pick) : pick_{pick} {}

  void fill(capnp::DynamicStruct::Builder into) {
    for (auto field : into.getSchema().getNonUnionFields()) {
      fill_field(into, field);
    }
    auto members = into.getSchema().getUnionFields();
    if (members.size() > 0) {
      fill_field(into, members[std::min(pick_, members.size() - 1)]);
    }
  }

private:
  void fill_field(capnp::DynamicStruct::Builder into, capnp::StructSchema::Field field) {
    const auto n = ++count_;
    switch (field.getType().which()) {
    case capnp::schema::Type::BOOL:
      into.set(field, !into.get(field).as<bool>());
      return;
    case capnp::schema::Type::TEXT: {
      const auto text = "text " + std::to_string(n);
      into.set(field, text.c_str());
      return;
    }
    case capnp::schema::Type::DATA:
      into.set(field, capnp::Data::Reader{kj::StringPtr{"bytes"}.asBytes()});
      return;
    case capnp::schema::Type::ENUM: {
      auto values = field.getType().asEnum().getEnumerants();
      into.set(field, capnp::DynamicEnum{values[values.size() - 1]});
      return;
    }
    case capnp::schema::Type::STRUCT:
      fill(into.init(field).as<capnp::DynamicStruct>());
      return;
    case capnp::schema::Type::LIST:
      fill_list(into.init(field, 2).as<capnp::DynamicList>());
      return;
    default:
      into.set(field, n + 1);
      return;
    }
  }

  void fill_list(capnp::DynamicList::Builder list) {
    for (unsigned i = 0; i < list.size(); ++i) {
      if (list.getSchema().whichElementType() == capnp::schema::Type::STRUCT) {
        fill(list[i].as<capnp::DynamicStruct>());
      } else {
        list.set(i, "element");
      }
    }
  }

  unsigned pick_;
  unsigned count_ = 0;
};

std::uint64_t touched() {
  return lmdb::counts_of_thread().look_ups + lmdb::counts_of_thread().steps;
}

std::string shown(proto::OperationRecord::Reader record) {
  return kj::str(capnp::prettyPrint(record)).cStr();
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(operations_of_the_catalog, catalog_fixture)

BOOST_AUTO_TEST_CASE(every_field_of_a_record_comes_back) {
  for (unsigned request : {0u, 1u}) {
    capnp::MallocMessageBuilder message;
    auto record = message.initRoot<proto::OperationRecord>();
    filler{request}.fill(record);
    BOOST_REQUIRE_EQUAL(record.getRequest().isInstance(), request == 0);
    record.setProject("default");
    record.setError(std::string(5000, 'e').c_str());
    id_number(1 + request).to(record.getId());
    record.setStatus(status::EXECUTING);
    record.setEventCount(0);
    record.setEventsTrimmed(false);
    record.disownStdoutHead();
    record.disownStderrHead();
    write([&](catalog::transaction& t) { REQUIRE_OK(t.put_operation(record.asReader())); });
    auto back = operation(1 + request);
    REQUIRE_OK(back);
    BOOST_CHECK_EQUAL(shown(*back->view()), shown(record.asReader()));

    auto finish = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
      record.setStatus(status::FAILED);
      to.setRecord(record.asReader());
    });
    write([&](catalog::transaction& t) { REQUIRE_OK(t.finish_operation(*finish.view())); });
    if (request == 1) {
      record.getRequest().getImport().disownPassword();
    }
    back = operation(1 + request);
    REQUIRE_OK(back);
    BOOST_CHECK_EQUAL(shown(*back->view()), shown(record.asReader()));
  }
}

BOOST_AUTO_TEST_CASE(an_operation_belongs_to_its_project) {
  put(operation_of{1, 100});
  REQUIRE_OK(operation(1));
  BOOST_CHECK(failed_with(operation(1, "other"), ec::not_found));
  BOOST_CHECK(failed_with(operation(2), ec::not_found));
  auto t = c->begin();
  const operation_of stolen{1, 100, status::PENDING, "other"};
  BOOST_CHECK(failed_with(t->put_operation(*stolen.record().view()), ec::conflict));
  const finish_of ended{{1, 100, status::FAILED, "other"}};
  BOOST_CHECK(failed_with(t->finish_operation(*ended.request().view()), ec::not_found));
}

BOOST_AUTO_TEST_CASE(rows_of_a_listing_are_slim_and_the_record_stays_whole) {
  auto heavy = make_frame<proto::OperationRecord>([](proto::OperationRecord::Builder to) {
    operation_of{1, 100}.fill(to);
    auto request = to.getRequest().getInstance();
    const std::vector<kj::byte> input(3u << 20, 'i');
    request.setStdin({input.data(), input.size()});
    request.initFiles(100)[99].setPath("/some/where");
    request.getProcess().initEnv(1)[0].setName("SECRET");
    request.getProcess().initArgs(1).set(0, std::string(100'000, 'a').c_str());
    request.getProcess().setCommand(std::string(100'000, 'c').c_str());
    to.setError((std::string(1023, 'e') + "\u00e9" + std::string(100'000, 'e')).c_str());
  });
  write([&](catalog::transaction& t) { REQUIRE_OK(t.put_operation(*heavy.view())); });
  put(operation_of{2, 50, status::PENDING, "default", kind::IMAGE_IMPORT});
  auto request = make_frame<proto::ListOperations>([](proto::ListOperations::Builder to) {
    to.setProject("default");
    to.setLimit(10);
  });
  auto page = c->list_operations(*request.view());
  REQUIRE_OK(page);
  BOOST_CHECK_LT(page->bytes().size(), 8192);
  const std::string raw{reinterpret_cast<const char*>(page->bytes().data()), page->bytes().size()};
  BOOST_CHECK(raw.find("SECRET") == std::string::npos);
  BOOST_CHECK(raw.find("correct horse") == std::string::npos);
  auto v = page->view();
  BOOST_REQUIRE_EQUAL(v->getRows().size(), 2);
  // Not cut inside a character.
  BOOST_CHECK_EQUAL(text_of(v->getRows()[0].getError()), std::string(1023, 'e'));
  BOOST_CHECK_EQUAL(operation(1)->view()->getRequest().getInstance().getStdin().size(), 3u << 20);
  BOOST_CHECK_EQUAL(operation(1)->view()->getError().size(), 101'025);
  auto import = operation(2);
  BOOST_CHECK_EQUAL(text_of(import->view()->getRequest().getImport().getPassword()),
                    "correct horse");
}

BOOST_AUTO_TEST_CASE(a_change_of_status_moves_the_operation_between_the_filters) {
  put(operation_of{1, 100});
  put(operation_of{2, 200, status::PENDING, "default", kind::IMAGE_IMPORT});
  put(operation_of{3, 300});
  auto filtered = [&](std::optional<status> s, std::optional<kind> k) {
    return operations([&](proto::ListOperations::Builder to) {
      to.setFilterStatus(s.has_value());
      to.setStatus(s.value_or(status::PENDING));
      to.setFilterKind(k.has_value());
      to.setKind(k.value_or(kind::INSTANCE));
    });
  };
  CHECK_SAME(filtered({}, {}), numbers{3, 2, 1});
  CHECK_SAME(filtered(status::PENDING, {}), numbers{3, 2, 1});
  CHECK_SAME(filtered({}, kind::IMAGE_IMPORT), numbers{2});
  BOOST_CHECK_EQUAL(active(), 0);
  put(operation_of{3, 300, status::ASSIGNED});
  put(operation_of{1, 100, status::EXECUTING});
  put(operation_of{2, 200, status::EXECUTING, "default", kind::IMAGE_IMPORT});
  put(operation_of{4, 400, status::EXECUTING, "other"});
  CHECK_SAME(filtered({}, {}), numbers{3, 2, 1});
  CHECK_SAME(filtered(status::PENDING, {}), numbers{});
  CHECK_SAME(filtered(status::EXECUTING, {}), numbers{2, 1});
  CHECK_SAME(filtered(status::EXECUTING, kind::INSTANCE), numbers{1});
  CHECK_SAME(filtered(status::ASSIGNED, kind::IMAGE_IMPORT), numbers{});
  BOOST_CHECK_EQUAL(active(), 2001);
  BOOST_CHECK_EQUAL(active("other"), 1000);
  BOOST_CHECK_EQUAL(active("third"), 0);
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.finish_operation(*finish_of{{1, 100, status::SUCCESS}}.request().view()));
  });
  CHECK_SAME(filtered(status::SUCCESS, kind::INSTANCE), numbers{1});
  CHECK_SAME(filtered(status::EXECUTING, {}), numbers{2});
  BOOST_CHECK_EQUAL(active(), 1001);
}

BOOST_AUTO_TEST_CASE(unfinished_operations_of_all_projects_are_listed_oldest_first_and_whole) {
  put(operation_of{3, 300});
  put(operation_of{1, 100, status::EXECUTING, "other"});
  put(operation_of{2, 200, status::ASSIGNED, "default", kind::IMAGE_IMPORT});
  put(operation_of{5, 100});
  CHECK_SAME(unfinished(), numbers{1, 5, 2, 3});
  auto page = unfinished_behind();
  auto v = page.view();
  BOOST_CHECK(!v->getMore());
  BOOST_CHECK_EQUAL(text_of(v->getRows()[2].getRequest().getImport().getPassword()),
                    "correct horse");
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.finish_operation(*finish_of{{5, 100, status::CANCELLED}}.request().view()));
  });
  CHECK_SAME(unfinished(), numbers{1, 2, 3});
  reopen();
  CHECK_SAME(unfinished(), numbers{1, 2, 3});
}

BOOST_AUTO_TEST_CASE(more_unfinished_operations_than_a_page_holds_come_each_once) {
  numbers expected;
  write([&](catalog::transaction& t) {
    for (std::uint64_t n = 1; n <= 2500; ++n) {
      REQUIRE_OK(t.put_operation(*operation_of{n, 7}.record().view()));
      expected.push_back(n);
    }
  });
  auto page = unfinished_behind();
  BOOST_CHECK_EQUAL(page.view()->getRows().size(), catalog::page_rows_max);
  BOOST_CHECK(page.view()->getMore());
  CHECK_SAME(unfinished(), expected);
}

BOOST_AUTO_TEST_CASE(a_terminal_state_is_final) {
  put(operation_of{1, 100});
  auto t = c->begin();
  const finish_of success{{1, 100, status::SUCCESS}};
  const finish_of going_on{{1, 100, status::EXECUTING}};
  BOOST_CHECK(failed_with(t->finish_operation(*going_on.request().view()), ec::conflict));
  const operation_of ended{1, 100, status::SUCCESS};
  BOOST_CHECK(failed_with(t->put_operation(*ended.record().view()), ec::conflict));
  REQUIRE_OK(t->finish_operation(*success.request().view()));
  const finish_of failed{{1, 100, status::FAILED}};
  BOOST_CHECK(failed_with(t->finish_operation(*failed.request().view()), ec::conflict));
  const operation_of again{1, 100, status::EXECUTING};
  BOOST_CHECK(failed_with(t->put_operation(*again.record().view()), ec::conflict));
  BOOST_CHECK(failed_with(append_in(*t, 1, 0, 1), ec::conflict));
  const finish_of unknown{{2, 100, status::FAILED}};
  BOOST_CHECK(failed_with(t->finish_operation(*unknown.request().view()), ec::not_found));
  REQUIRE_OK(t->commit());
  BOOST_CHECK(operation(1)->view()->getStatus() == status::SUCCESS);
}

BOOST_AUTO_TEST_CASE(the_end_brings_record_events_image_and_tag_at_once) {
  put(image_of{50, 1});
  tag(50, "result");
  put(operation_of{1, 100});
  const finish_of end{{1, 100, status::SUCCESS, "default", kind::INSTANCE, 51}, 0, 2, 51, "result"};
  write([&](catalog::transaction& t) {
    REQUIRE_OK(t.finish_operation(*end.request().view()));
    BOOST_CHECK_EQUAL(tagged("result"), 50); // a reader sees the latest commit
    CHECK_SAME(events(1), numbers{});
  });
  BOOST_CHECK_EQUAL(tagged("result"), 51);
  CHECK_SAME(events(1), numbers{0, 1});
  BOOST_CHECK_EQUAL(operation(1)->view()->getEventCount(), 2);
  REQUIRE_OK(image(51));
  CHECK_SAME(images([](auto) {}), strings{"51:result", "50"});
  CHECK_SAME(unfinished(), numbers{});
}

BOOST_AUTO_TEST_CASE(the_end_of_a_repeated_import_tags_the_image_that_was_there) {
  put(image_of{50, 1});
  put(operation_of{1, 100, status::PENDING, "default", kind::IMAGE_IMPORT});
  const operation_of done{1, 100, status::SUCCESS, "default", kind::IMAGE_IMPORT, 50};
  write([&](catalog::transaction& t) {
    const finish_of end{done, 0, 0, 0, "base"};
    REQUIRE_OK(t.finish_operation(*end.request().view()));
  });
  BOOST_CHECK_EQUAL(tagged("base"), 50);
  auto import = operation(1);
  auto v = import->view();
  BOOST_CHECK_EQUAL(text_of(v->getRequest().getImport().getPassword()), "");
  BOOST_CHECK_EQUAL(text_of(v->getRequest().getImport().getUsername()), "someone");
  const std::string raw{reinterpret_cast<const char*>(import->bytes().data()),
                        import->bytes().size()};
  BOOST_CHECK(raw.find("correct horse") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_end_that_contradicts_itself_changes_nothing) {
  put(image_of{50, 1});
  put(image_of{60, 1, "other"});
  put(operation_of{1, 100});
  auto done = [](std::uint64_t result_image) {
    return operation_of{1, 100, status::SUCCESS, "default", kind::INSTANCE, result_image};
  };
  auto t = c->begin();
  auto refused = [&](const finish_of& end) {
    auto answer = t->finish_operation(*end.request().view());
    return answer ? ec::none : static_cast<ec>(answer.error().code.value());
  };
  BOOST_CHECK(refused({done(51), 1, 1, 51}) == ec::conflict);               // gap in the log
  BOOST_CHECK(refused({done(52), 0, 1, 51}) == ec::conflict);               // another image
  BOOST_CHECK(refused({done(50), 0, 1, 50}) == ec::conflict);               // taken
  BOOST_CHECK(refused({done(51), 0, 1, 51, "t", "other"}) == ec::conflict); // another project
  BOOST_CHECK(refused({done(51), 0, 1, 0, "t"}) == ec::not_found);          // no such image
  BOOST_CHECK(refused({done(60), 0, 1, 0, "t"}) == ec::not_found);          // not its image
  BOOST_CHECK(refused({done(51), 0, 1, 51, std::string(300, 't').c_str()}) == ec::unsupported);
  REQUIRE_OK(t->commit());
  BOOST_CHECK(operation(1)->view()->getStatus() == status::PENDING);
  CHECK_SAME(events(1), numbers{});
  CHECK_SAME(images([](auto) {}), strings{"50"});
  BOOST_CHECK(!c->has_image(id_number(51)));
}

BOOST_AUTO_TEST_CASE(an_event_log_has_no_gaps_and_is_read_in_pieces) {
  put(operation_of{1, 100});
  put(operation_of{2, 100});
  auto t = c->begin();
  BOOST_CHECK(failed_with(append_in(*t, 9, 0, 1), ec::not_found));
  BOOST_CHECK(failed_with(append_in(*t, 1, 1, 1), ec::conflict));
  REQUIRE_OK(append_in(*t, 1, 0, 3, 1000));
  BOOST_CHECK(failed_with(append_in(*t, 1, 2, 2), ec::conflict));
  BOOST_CHECK(failed_with(append_in(*t, 1, 4, 1), ec::conflict));
  REQUIRE_OK(append_in(*t, 1, 3, 300, 1000));
  REQUIRE_OK(append_in(*t, 1, 303, 0));
  REQUIRE_OK(append_in(*t, 2, 0, 1));
  REQUIRE_OK(t->commit());
  BOOST_CHECK_EQUAL(operation(1)->view()->getEventCount(), 303);
  BOOST_CHECK_EQUAL(events(1).size(), 303);
  CHECK_SAME(events(1, 300), numbers{300, 301, 302});
  CHECK_SAME(events(1, 303), numbers{});
  CHECK_SAME(events(1, 0, 0), numbers{0});
  CHECK_SAME(events(1, 254, 2500), numbers{254, 255, 256});
  CHECK_SAME(events(2), numbers{0});
  CHECK_SAME(events(9), numbers{});
  // A later put, made by someone who knows an older count, does not lose it.
  put(operation_of{1, 100, status::EXECUTING});
  BOOST_CHECK_EQUAL(operation(1)->view()->getEventCount(), 303);
}

BOOST_AUTO_TEST_CASE(a_page_of_events_is_bounded_whatever_is_asked_for) {
  put(operation_of{1, 100});
  write([](catalog::transaction& t) { REQUIRE_OK(append_in(t, 1, 0, 20, 1u << 20)); });
  BOOST_CHECK_LE(events(1, 0, UINT32_MAX).size(), 5);
}

BOOST_AUTO_TEST_CASE(a_page_touches_as_many_records_among_fifty_thousand_as_among_a_thousand) {
  auto fill_up = [&](std::uint64_t from, std::uint64_t to) {
    write([&](catalog::transaction& t) {
      for (auto n = from; n < to; ++n) {
        const operation_of one{n, static_cast<std::int64_t>(n / 10), status::EXECUTING};
        REQUIRE_OK(t.put_operation(*one.record().view()));
      }
    });
  };
  auto touched_by = [&](std::uint64_t offset, bool filtered) {
    const auto before = touched();
    auto rows = operations([&](proto::ListOperations::Builder to) {
      to.setLimit(100);
      to.setOffset(offset);
      to.setFilterStatus(filtered);
      to.setStatus(status::EXECUTING);
    });
    BOOST_CHECK_EQUAL(rows.size(), 100);
    return touched() - before;
  };
  fill_up(1, 1001);
  const auto small = touched_by(0, false);
  const auto small_filtered = touched_by(500, true);
  fill_up(1001, 50'001);
  BOOST_CHECK_EQUAL(touched_by(0, false), small);
  BOOST_CHECK_EQUAL(touched_by(500, true), small_filtered);
  BOOST_CHECK_LE(small, 200);
  BOOST_CHECK_LE(small_filtered, 700);
  // Among the others, one of another status is found without looking at them.
  put(operation_of{60'000, 0});
  const auto before = touched();
  CHECK_SAME(operations([](auto to) {
               to.setFilterStatus(true);
               to.setStatus(status::PENDING);
             }),
             numbers{60'000});
  BOOST_CHECK_LE(touched() - before, 4);
}

BOOST_AUTO_TEST_CASE(a_page_has_at_most_a_thousand_rows) {
  write([](catalog::transaction& t) {
    for (std::uint64_t n = 1; n <= 1100; ++n) {
      REQUIRE_OK(t.put_operation(*operation_of{n, 1}.record().view()));
    }
  });
  BOOST_CHECK_EQUAL(operations([](auto to) { to.setLimit(5000); }).size(), 1000);
  BOOST_CHECK_EQUAL(operations([](auto to) { to.setOffset(1000); }).size(), 100);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
