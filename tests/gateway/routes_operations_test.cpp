#include "protocol/limits.hpp"
#include "tests/gateway/server_fixture.hpp"

#include <boost/json/serialize.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(a_finished_run_is_told_whole) {
  auto result_image = uuid::random();
  auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.setDurationUs(1'500'000);
    result_image.to(record.initResultImage());
    record.setResultImageSizeBytes(4096);
    auto run = record.getRequest().initInstance();
    run.initProcess().setCommand("echo");
    uuid::random().to(run.initImage());
    record.setHasResult(true);
    auto result = record.initResult();
    result.setExitCode(3);
    result.setPid(42);
    result.setElapsedUs(10'000);
    auto usage = result.initUsage();
    usage.setUserTimeUs(250'000);
    usage.setSystemTimeUs(250'000);
    usage.setMaxRssKib(1024);
    auto out = result.initStdout();
    out.setKeptBytes(9);
    out.setTotalBytes(20);
    auto err = result.initStderr();
    err.setKeptBytes(4);
    err.setTotalBytes(4);
    err.setPlain(false);
  });
  auto stdout_event = [&](const std::string& bytes, std::uint32_t spid) {
    inside.add_event(id, [&](proto::Event::Builder event) {
      event.setSpid(spid);
      event.setStdout({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
    });
  };
  inside.add_event(id, [](proto::Event::Builder event) { event.initInit(); });
  stdout_event("one \"\n", 1);
  stdout_event("not this", 2);
  inside.add_event(id, [](proto::Event::Builder event) {
    const kj::byte bytes[] = {0, 255, 'a'};
    event.setStderr({bytes, 3});
  });
  stdout_event("two", 1);
  inside.add_event(id, [](proto::Event::Builder event) {
    const kj::byte bytes[] = {'b'};
    event.setStderr({bytes, 1});
  });

  auto answer = client().get("/v1/operations/" + id.text());
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Retry-After").empty());
  auto body = answer.json();
  BOOST_TEST(text(body.at("uuid")) == id.text());
  BOOST_TEST(text(body.at("kind")) == "instance");
  BOOST_TEST(text(body.at("status")) == "SUCCESS");
  BOOST_TEST(body.at("error").is_null());
  BOOST_TEST(text(body.at("created_at")) == "2024-01-01T12:00:00Z");
  BOOST_TEST(body.at("duration").as_double() == 1.5);
  BOOST_TEST(body.at("consumed_cpu").as_double() == 0.5);
  BOOST_TEST(body.at("consumed_memory").as_int64() == 1024);
  BOOST_TEST(body.at("image_size").as_int64() == 4096);
  BOOST_TEST(text(body.at("result_image_uuid")) == result_image.text());
  BOOST_TEST(text(body.at("result").at("image")) == result_image.text());
  BOOST_TEST(body.at("result").at("tag").is_null());
  auto result = body.at("metadata").at("result");
  BOOST_TEST(result.at("state").at("exit_code").as_int64() == 3);
  BOOST_TEST(result.at("state").at("signal").as_int64() == -1);
  BOOST_TEST(result.at("state").as_object().size() == 7u);
  BOOST_TEST(result.at("resources").as_object().size() == 16u);
  for (const auto& resource : result.at("resources").as_object()) {
    BOOST_TEST(resource.value().is_number(), resource.key());
  }
  BOOST_TEST(text(result.at("stdout").at("value")) == "one \"\ntwo");
  BOOST_TEST(text(result.at("stdout").at("encoding")) == "ascii");
  BOOST_TEST(result.at("stdout").at("truncated").as_bool());
  BOOST_TEST(text(result.at("stderr").at("value")) == "AP9hYg==");
  BOOST_TEST(text(result.at("stderr").at("encoding")) == "base64");
  BOOST_TEST(!result.at("stderr").at("truncated").as_bool());
}

BOOST_AUTO_TEST_CASE(a_run_whose_event_log_is_not_kept_shows_the_beginning_of_its_output) {
  auto data = [](std::string_view bytes) {
    return capnp::Data::Reader{reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
  };
  auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.getRequest().initInstance();
    record.setHasResult(true);
    record.setEventsTrimmed(true);
    record.setStdoutHead(data("all of it\n"));
    record.setStderrHead(data("\xff\xfe"));
    auto result = record.initResult();
    result.setExitCode(3);
    result.getStdout().setKeptBytes(10);
    result.getStdout().setTotalBytes(10);
    result.getStderr().setKeptBytes(9000);
    result.getStderr().setTotalBytes(9000);
    result.getStderr().setPlain(false);
  });
  auto answer = client().get("/v1/operations/" + id.text());
  BOOST_TEST(answer.status == 200u);
  auto result = answer.json().at("metadata").at("result");
  BOOST_TEST(result.at("state").at("exit_code").as_int64() == 3);
  BOOST_TEST(json::serialize(result.at("stdout")) ==
             R"({"value":"all of it\n","encoding":"ascii","truncated":false})");
  BOOST_TEST(json::serialize(result.at("stderr")) ==
             R"({"value":"//4=","encoding":"base64","truncated":true})");
  BOOST_TEST(inside.event_pages == 0u);
}

BOOST_AUTO_TEST_CASE(ten_megabytes_of_output_come_in_chunks_from_many_pages) {
  constexpr std::size_t pieces = 320;
  auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.getRequest().initInstance();
    record.setHasResult(true);
    auto out = record.initResult().initStdout();
    out.setKeptBytes(pieces * limits::output_chunk_bytes);
    out.setTotalBytes(pieces * limits::output_chunk_bytes);
    out.setPlain(false);
  });
  std::vector<kj::byte> bytes(limits::output_chunk_bytes, 0xFF);
  for (std::size_t i = 0; i < pieces; ++i) {
    inside.add_event(id, [&](proto::Event::Builder event) {
      event.setStdout({bytes.data(), bytes.size()});
    });
  }
  auto answer = client().get("/v1/operations/" + id.text());
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  auto value = text(answer.json().at("metadata").at("result").at("stdout").at("value"));
  BOOST_TEST(value.size() == (pieces * limits::output_chunk_bytes + 2) / 3 * 4);
  BOOST_TEST(value.find_first_not_of('/') == value.size() - 3); // one byte is left over: "/w=="
  BOOST_TEST(inside.event_pages > 50u);
}

BOOST_AUTO_TEST_CASE(the_end_of_an_ended_log_is_not_looked_for) {
  auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.getRequest().initInstance();
    record.setHasResult(true);
    record.setEventCount(3);
    auto out = record.initResult().initStdout();
    out.setKeptBytes(6);
    out.setTotalBytes(6);
  });
  for (const std::string text : {"one", "two", "no more"}) {
    inside.add_event(id, [&](proto::Event::Builder event) {
      event.setSpid(text == "no more" ? 0 : 1);
      event.setStdout({reinterpret_cast<const kj::byte*>(text.data()), text.size()});
    });
  }
  auto answer = client().get("/v1/operations/" + id.text());
  auto value = text(answer.json().at("metadata").at("result").at("stdout").at("value"));
  BOOST_TEST(value == "onetwo");
  BOOST_TEST(inside.event_pages == 1u);
}

BOOST_AUTO_TEST_CASE(a_running_operation_shows_its_output_only_in_flight) {
  auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::EXECUTING);
    record.getRequest().initInstance();
  });
  inside.add_event(id, [](proto::Event::Builder event) { event.initSpawn().setPid(77); });
  inside.add_event(id, [](proto::Event::Builder event) {
    const kj::byte bytes[] = {'h', 'i'};
    event.setStdout({bytes, 2});
  });
  inside.add_event(id,
                   [](proto::Event::Builder event) { event.initTruncated().setIsStderr(true); });
  auto client = this->client();
  auto answer = client.get("/v1/operations/" + id.text());
  BOOST_TEST(answer.header("Retry-After") == "1");
  BOOST_TEST(answer.json().at("metadata").at("result").is_null());
  BOOST_TEST(answer.json().at("result").is_null());
  BOOST_TEST(answer.json().at("duration").is_double());
  BOOST_TEST(inside.flushes == 0u);

  auto live = client.get("/v1/operations/" + id.text() + "?inflight=1").json();
  BOOST_TEST(inside.flushes == 1u);
  auto result = live.at("metadata").at("result");
  BOOST_TEST(text(result.at("stdout").at("value")) == "hi");
  BOOST_TEST(text(result.at("stderr").at("value")).empty());
  BOOST_TEST(result.at("stderr").at("truncated").as_bool());
  BOOST_TEST(result.at("state").at("pid").as_int64() == 77);
  BOOST_TEST(result.at("state").at("exit_code").as_int64() == -1);
}

BOOST_AUTO_TEST_CASE(operations_are_listed_bare_and_filtered_by_the_catalog) {
  inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::FAILED);
    record.setError("the guest \xFF died");
  });
  auto client = this->client();
  auto answer = client.get("/v1/operations?status=failed&kind=instance&limit=1000");
  auto rows = answer.json().as_array();
  BOOST_REQUIRE(rows.size() == 1u);
  BOOST_TEST(text(rows[0].at("error")) == "the guest \xEF\xBF\xBD died");
  BOOST_TEST(rows[0].at("consumed_cpu").is_null());
  BOOST_TEST(rows[0].at("image_size").is_null());
  BOOST_TEST(!rows[0].as_object().contains("metadata"));
  auto asked = inside.operation_listings.at(0).view();
  BOOST_TEST(asked->getFilterStatus());
  BOOST_TEST((asked->getStatus() == proto::OperationStatus::FAILED));
  BOOST_TEST(asked->getFilterKind());
  BOOST_TEST(asked->getLimit() == 1000u);
  BOOST_TEST(client.get("/v1/operations?status=DONE").status == 400u);
  BOOST_TEST(client.get("/v1/operations?kind=vm").status == 400u);
  BOOST_TEST(client.get("/v1/operations?status=&kind=").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_long_listing_is_chunked) {
  for (int i = 0; i < 300; ++i) {
    inside.add_operation("default", [](auto) {});
  }
  auto answer = client().get("/v1/operations");
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  BOOST_TEST(answer.header("Content-Length").empty());
  BOOST_TEST(answer.json().as_array().size() == 300u);
}

BOOST_AUTO_TEST_CASE(cancelling_is_202_once_and_409_after) {
  auto running = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::EXECUTING);
  });
  auto over = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
  });
  auto theirs = inside.add_operation("other", [](auto) {});
  auto client = this->client();
  auto answer = client.request("DELETE", "/v1/operations/" + running.text());
  BOOST_TEST(answer.status == 202u);
  BOOST_TEST(answer.body == R"({"uuid":")" + running.text() + R"(","status":"CANCELLED"})");
  BOOST_TEST(client.request("DELETE", "/v1/operations/" + over.text()).status == 409u);
  for (const auto& id : {theirs.text(), uuid::random().text(), std::string{"nonsense"}}) {
    BOOST_TEST(client.request("DELETE", "/v1/operations/" + id).status == 404u);
    BOOST_TEST(client.get("/v1/operations/" + id).status == 404u);
  }
}

BOOST_AUTO_TEST_CASE(the_outcome_tells_the_tasks_failures_from_the_platforms) {
  using status = proto::OperationStatus;
  auto client = this->client();
  auto outcome = [&](const std::function<void(proto::OperationRecord::Builder)>& fill) {
    auto id = inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
      record.getRequest().initInstance();
      record.setHasResult(true);
      record.initResult().setExitCode(0);
      fill(record);
    });
    auto body = client.get("/v1/operations/" + id.text()).json();
    return json::serialize(body.at("outcome")) + (body.at("retryable").as_bool() ? " again" : "");
  };
  auto succeeded = [&](const std::function<void(proto::RunResult::Builder)>& fill) {
    return outcome([&](auto record) {
      record.setStatus(status::SUCCESS);
      fill(record.getResult());
    });
  };
  BOOST_TEST(succeeded([](auto) {}) == R"("ok")");
  BOOST_TEST(succeeded([](auto result) { result.setExitCode(1); }) == R"("task_error")");
  BOOST_TEST(succeeded([](auto result) {
               result.setExitCode(-1);
               result.setSignal(15);
             }) == R"("task_error")");
  BOOST_TEST(succeeded([](auto result) { result.setTimedOut(true); }) == R"("timeout")");
  BOOST_TEST(succeeded([](auto result) {
               result.setExitCode(137);
               result.setOomKilled(true);
             }) == R"("oom")");
  BOOST_TEST(outcome([](auto record) { record.setStatus(status::FAILED); }) == R"("infra" again)");
  BOOST_TEST(outcome([](auto record) {
               record.setStatus(status::FAILED);
               record.setTaskFault(true);
             }) == R"("task_error")");
  BOOST_TEST(outcome([](auto record) {
               record.setStatus(status::SUCCESS);
               record.setKind(proto::OperationKind::IMAGE_IMPORT);
               record.getRequest().initImport();
               record.setHasResult(false);
             }) == R"("ok")");
  for (auto at : {status::PENDING, status::ASSIGNED, status::EXECUTING, status::CANCELLED}) {
    BOOST_TEST(outcome([&](auto record) { record.setStatus(at); }) == "null");
  }
}

BOOST_AUTO_TEST_SUITE_END()
