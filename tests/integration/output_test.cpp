#define BOOST_TEST_MODULE output
#include "tests/integration/inventory.hpp"
#include "tests/integration/shared_daemon.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

// Commands that print more than anybody wants to keep.

using namespace coppice::test;
namespace json = boost::json;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

const std::uint64_t flood_bytes = is_full ? 1u << 30 : 256u << 20;
constexpr std::uint64_t kept_bytes = 1u << 20;

/// Of a command: what ends it if its output does not get on. An hour is the most there is.
std::chrono::seconds timeout() {
  return std::min(10 * patience(), std::chrono::seconds{3600});
}

/// What the daemon may hold of a flood: what is kept of it, on its way to the log and to a client,
/// and a little of what is not.
constexpr long held_kib_max = 16 * 1024;

struct two_slots : shared_daemon {
  two_slots() : shared_daemon{{"--vm.running_max=2"}} {}
};

json::object shell(const std::string& script) {
  return {{"command", script},  {"shell", true},
          {"image", base()},    {"timeout", timeout().count()},
          {"disposable", true}, {"truncate_output_at", kept_bytes}};
}

/// Long, so that the pipe is what takes the time and not the program that fills it.
const std::string line(1023, 'y');

json::object flood(std::uint64_t bytes) {
  return shell("yes " + line + " | head -c " + std::to_string(bytes));
}

std::string beginning() {
  std::string out;
  while (out.size() < kept_bytes) {
    out += line + "\n";
  }
  return out;
}

bool is_truncated(const json::object& operation, const char* stream) {
  return operation.at("metadata").at("result").at(stream).at("truncated").as_bool();
}

std::vector<sse_frame> frames_of(const std::string& operation, const std::string& event) {
  auto all = server().events(operation).rest();
  std::erase_if(all, [&](const sse_frame& frame) { return frame.event != event; });
  return all;
}

/// Waits until it ends, at the latest by its own time-out, and raises `most_kib` to the largest
/// memory of the daemon meanwhile.
json::object wait_and_measure(const std::string& operation, long& most_kib) {
  auto client = server().connect();
  const auto limit = std::chrono::steady_clock::now() + timeout() + patience();
  for (;;) {
    most_kib = std::max(most_kib, anonymous_kib(server().pid()));
    auto now = client.get("/v1/operations/" + operation).json().as_object();
    if (status_of(now) == "SUCCESS" || status_of(now) == "FAILED") {
      return now;
    }
    BOOST_REQUIRE_MESSAGE(std::chrono::steady_clock::now() < limit, operation << " does not end");
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(two_slots);

BOOST_AUTO_TEST_CASE(of_a_flood_the_beginning_is_kept_and_the_rest_counted) {
  server().run(flood(2 * kept_bytes)); // what is made at first use
  const auto before_kib = anonymous_kib(server().pid());
  auto most_kib = before_kib;
  const auto operation = server().spawn(flood(flood_bytes));
  const auto done = wait_and_measure(operation, most_kib);
  BOOST_REQUIRE_MESSAGE(status_of(done) == "SUCCESS", error_of(done));
  BOOST_TEST(exit_code_of(done) == 0);
  BOOST_TEST((stdout_of(done) == beginning()));
  BOOST_TEST(is_truncated(done, "stdout"));
  BOOST_TEST(!is_truncated(done, "stderr"));
  const auto told = frames_of(operation, "truncated");
  BOOST_REQUIRE(told.size() == 1u);
  const auto data = told.front().json().at("data");
  BOOST_TEST(std::string{data.at("stream").as_string()} == "stdout");
  BOOST_TEST(data.at("bytes_emitted").to_number<std::uint64_t>() == kept_bytes);
  BOOST_TEST(data.at("bytes_dropped").to_number<std::uint64_t>() == flood_bytes - kept_bytes);
  std::uint64_t logged = 0;
  for (const auto& frame : frames_of(operation, "stdout")) {
    logged += frame.json().at("data").at("value").as_string().size();
  }
  BOOST_TEST(logged == kept_bytes);
  std::cout << (flood_bytes >> 20) << " MiB of output: the daemon's own memory was " << before_kib
            << " KiB before and " << most_kib << " KiB at most\n";
  BOOST_TEST(most_kib - before_kib <= held_kib_max);
}

BOOST_AUTO_TEST_CASE(others_are_served_beside_an_endless_flood) {
  auto endless = shell("yes " + line + " & yes " + line + " >&2");
  const auto operation = server().spawn(endless);
  auto stream = server().events(operation, "?follow=1&spid=1");
  for (auto frame = stream.next_event(); frame && frame->event != "stdout";) {
    frame = stream.next_event();
  }
  const auto before_kib = anonymous_kib(server().pid());
  auto most_kib = before_kib;
  for (int i = 0; i < 3; ++i) {
    const auto small = wait_and_measure(server().spawn(shell("echo heard")), most_kib);
    BOOST_TEST(stdout_of(small) == "heard\n");
    BOOST_TEST(!is_truncated(small, "stdout"));
  }
  auto client = server().connect();
  const auto path = "/v1/operations/" + operation;
  BOOST_TEST(status_of(client.get(path).json().as_object()) == "EXECUTING");
  BOOST_TEST(client.get("/v1/inspect/" + base() + "/list?path=/").status == 200u);
  eventually("the beginning is there", [&] {
    const auto live = client.get(path + "/subprocesses/1").json();
    return live.at("stdout").at("value").as_string() == beginning();
  });
  BOOST_TEST(client.request("DELETE", path + "/subprocesses/1").status == 202u);
  const auto done = server().wait(operation);
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST((stdout_of(done) == beginning()));
  BOOST_TEST((stderr_of(done) == beginning()));
  const auto told = frames_of(operation, "truncated");
  BOOST_TEST(told.size() == 2u); // one for each stream
  BOOST_TEST(most_kib - before_kib <= held_kib_max);
}
