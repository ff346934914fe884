#define BOOST_TEST_MODULE events
#include "tests/integration/shared_daemon.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <list>
#include <random>
#include <string>
#include <vector>

// The event log of an operation as its clients see it, while it grows and afterwards.

using namespace coppice::test;
namespace json = boost::json;

namespace {

struct two_slots : shared_daemon {
  two_slots() : shared_daemon{{"--vm.running_max=2"}} {}
};

json::object shell(const std::string& script) {
  return {{"command", script}, {"shell", true}, {"image", base()}};
}

std::vector<std::string> data_of(const std::vector<sse_frame>& frames) {
  std::vector<std::string> out;
  for (const auto& frame : frames) {
    out.push_back(frame.data);
  }
  return out;
}

std::vector<std::string> names(const std::vector<sse_frame>& frames) {
  std::vector<std::string> out;
  for (const auto& frame : frames) {
    out.push_back(frame.event);
  }
  return out;
}

/// What was printed to one stream, put together.
std::string printed(const std::vector<sse_frame>& frames, const std::string& stream) {
  std::string out;
  for (const auto& frame : frames) {
    if (frame.event == stream) {
      auto data = frame.json().at("data");
      BOOST_TEST(data.at("encoding").as_string() == "ascii");
      out += std::string_view{data.at("value").as_string()};
    }
  }
  return out;
}

std::string status_in(const sse_frame& completion) {
  BOOST_TEST(completion.event == "completion");
  return std::string{completion.json().at("data").at("status").as_string()};
}

void check_ids(const std::vector<sse_frame>& frames) {
  std::uint64_t next = 0;
  for (const auto& frame : frames) {
    BOOST_TEST(frame.id.value_or(UINT64_MAX) == next++);
  }
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(two_slots);

BOOST_AUTO_TEST_CASE(a_follower_sees_output_while_the_command_runs) {
  auto endless = shell("echo first; sleep 1000");
  endless["timeout"] = 3000;
  auto operation = server().spawn(endless);
  auto stream = server().events(operation, "?follow=1");
  BOOST_TEST(stream.status() == 200u);
  BOOST_TEST(stream.header("Content-Type") == "text/event-stream");
  std::vector<sse_frame> seen;
  while (seen.empty() || seen.back().event != "stdout") {
    auto frame = stream.next_event();
    BOOST_REQUIRE(frame);
    seen.push_back(*frame);
  }
  BOOST_TEST(names(seen) == (std::vector<std::string>{"init", "spawn", "stdout"}),
             boost::test_tools::per_element());
  auto spawn = seen[1].json().at("data");
  BOOST_TEST(spawn.at("command").as_string() == "/bin/sh");
  BOOST_TEST(spawn.at("args").as_array().at(0).as_string() == "-c");
  BOOST_TEST(spawn.at("timeout").to_number<int>() == 3000);
  BOOST_TEST(server().connect().request("DELETE", "/v1/operations/" + operation).status == 202u);
  auto last = stream.rest();
  BOOST_REQUIRE(!last.empty());
  BOOST_TEST(status_in(last.back()) == "CANCELLED");
  BOOST_TEST(stream.broken().empty());
}

BOOST_AUTO_TEST_CASE(all_followers_of_a_run_see_what_the_replay_shows) {
  auto operation = server().spawn(shell(
      "for i in $(seq 1 30); do echo line $i; echo problem $i >&2; sleep 0.03; done; exit 3"));
  auto whole = server().events(operation, "?follow=1");
  auto main_only = server().events(operation, "?follow=1&spid=1");
  auto idle = server().events(operation, "?follow=1"); // never read

  // Cut at random frames and taken up again behind the last one that came.
  std::mt19937 random{7};
  std::vector<sse_frame> resumed;
  for (bool is_over = false; !is_over;) {
    header_list headers;
    if (!resumed.empty()) {
      headers.emplace_back("Last-Event-Id", std::to_string(*resumed.back().id));
    }
    auto piece = server().events(operation, "?follow=1", headers);
    for (auto left = 1 + random() % 6; left > 0 && !is_over; --left) {
      auto frame = piece.next_event();
      BOOST_REQUIRE(frame);
      is_over = frame->event == "completion";
      resumed.push_back(std::move(*frame));
    }
  }

  std::vector<sse_frame> live;
  while (live.empty() || live.back().event != "completion") {
    auto frame = whole.next_event();
    BOOST_REQUIRE(frame);
    live.push_back(std::move(*frame));
  }
  // Whoever has seen completion finds the result.
  auto record = server().connect().get("/v1/operations/" + operation).json().as_object();
  BOOST_TEST(status_of(record) == "SUCCESS");
  BOOST_TEST(exit_code_of(record) == 3);
  BOOST_TEST(!whole.next_event());

  auto replay = server().events(operation).rest();
  check_ids(replay);
  BOOST_TEST(data_of(live) == data_of(replay), boost::test_tools::per_element());
  BOOST_TEST(data_of(resumed) == data_of(replay), boost::test_tools::per_element());
  BOOST_TEST(data_of(server().events(operation, "?follow=1").rest()) == data_of(replay),
             boost::test_tools::per_element());
  BOOST_TEST(printed(replay, "stdout") == stdout_of(record));
  BOOST_TEST(printed(replay, "stderr") == stderr_of(record));
  BOOST_TEST(replay.front().event == "init");
  auto exit = std::find_if(replay.begin(), replay.end(),
                           [](const sse_frame& frame) { return frame.event == "exit"; });
  BOOST_REQUIRE(exit != replay.end());
  BOOST_TEST(exit->json().at("data").at("code").to_number<int>() == 3);
  auto end = replay.back().json().at("data");
  BOOST_TEST(end.at("result_image_uuid").as_string() == result_image_of(record));

  auto filtered = main_only.rest();
  std::vector<sse_frame> expected;
  std::copy_if(replay.begin(), replay.end(), std::back_inserter(expected), [](const auto& frame) {
    return frame.event == "completion" || frame.json().at("spid").template to_number<int>() == 1;
  });
  BOOST_TEST(data_of(filtered) == data_of(expected), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(one_that_waits_can_be_followed_and_replayed) {
  auto endless = shell("sleep 1000");
  std::list<std::string> running{server().spawn(endless), server().spawn(endless)};
  auto waiting = server().spawn(endless);
  BOOST_TEST(server().events(waiting).rest().empty());
  auto stream = server().events(waiting, "?follow=1");
  BOOST_TEST(stream.status() == 200u);
  auto client = server().connect();
  BOOST_TEST(client.request("DELETE", "/v1/operations/" + waiting).status == 202u);
  auto frames = stream.rest();
  BOOST_REQUIRE(!frames.empty());
  BOOST_TEST(status_in(frames.back()) == "CANCELLED");
  check_ids(frames);
  BOOST_TEST(data_of(server().events(waiting).rest()) == data_of(frames),
             boost::test_tools::per_element());
  for (const auto& each : running) {
    BOOST_TEST(client.request("DELETE", "/v1/operations/" + each).status == 202u);
  }
}

BOOST_AUTO_TEST_CASE(imports_have_a_log_that_ends_with_completion) {
  auto client = server().connect();
  auto imports = client.get("/v1/operations?kind=image_import&status=SUCCESS").json().as_array();
  BOOST_REQUIRE(!imports.empty());
  auto good = server().events(std::string{imports[0].at("uuid").as_string()}, "?follow=1").rest();
  BOOST_REQUIRE(!good.empty());
  check_ids(good);
  BOOST_TEST(status_in(good.back()) == "SUCCESS");
  BOOST_TEST(good.back().json().at("data").at("result_image_uuid").as_string() == base());

  auto answer =
      client.post("/v1/images/import",
                  json::value(json::object{
                      {"registry", json::object{{"url", "docker://127.0.0.1:1/nothing:latest"}}}}));
  BOOST_REQUIRE(answer.status == 201u);
  auto bad = server().events(std::string{answer.json().at("uuid").as_string()}, "?follow=1").rest();
  BOOST_REQUIRE(!bad.empty());
  BOOST_TEST(status_in(bad.back()) == "FAILED");
  BOOST_TEST(!bad.back().json().at("data").at("error").as_string().empty());
}

BOOST_AUTO_TEST_CASE(a_client_that_goes_away_leaves_nothing_behind) {
  auto operation = server().spawn(shell("sleep 1000"));
  server().wait_for(operation, {"EXECUTING"});
  for (int i = 0; i < 50; ++i) {
    server().events(operation, "?follow=1").close();
  }
  BOOST_TEST(server().connect().request("DELETE", "/v1/operations/" + operation).status == 202u);
  // All who followed are let go with the operation.
  auto frames = server().events(operation, "?follow=1").rest();
  BOOST_REQUIRE(!frames.empty());
  BOOST_TEST(status_in(frames.back()) == "CANCELLED");
}

BOOST_AUTO_TEST_CASE(a_server_that_stops_ends_its_streams_and_the_log_is_whole_when_it_is_back) {
  state_folder folder;
  std::vector<sse_frame> seen;
  std::string operation;
  {
    node server{folder.path(), {"--vm.running_max=1"}};
    auto base = server.import_busybox();
    operation =
        server.spawn({{"command", "echo before; sleep 1000"}, {"shell", true}, {"image", base}});
    auto stream = server.events(operation, "?follow=1");
    while (seen.empty() || seen.back().event != "stdout") {
      auto frame = stream.next_event();
      BOOST_REQUIRE(frame);
      seen.push_back(std::move(*frame));
    }
    BOOST_TEST(server.stop() == 0);
    auto last = stream.rest();
    BOOST_TEST(names(last) == (std::vector<std::string>{"sse_error"}),
               boost::test_tools::per_element());
    BOOST_TEST(stream.broken().empty(), stream.broken());
  }
  node server{folder.path(), {"--vm.running_max=1"}};
  auto later =
      server.events(operation, "?follow=1", {{"Last-Event-Id", std::to_string(*seen.back().id)}})
          .rest();
  BOOST_REQUIRE(!later.empty());
  BOOST_TEST(status_in(later.back()) == "FAILED");
  seen.insert(seen.end(), later.begin(), later.end());
  check_ids(seen);
  BOOST_TEST(data_of(server.events(operation).rest()) == data_of(seen),
             boost::test_tools::per_element());
}
