#define BOOST_TEST_MODULE subprocess
#include "tests/integration/shared_daemon.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <future>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace coppice::test;
namespace json = boost::json;

struct two_slots : shared_daemon {
  two_slots() : shared_daemon{{"--vm.running_max=2"}} {}
};

std::string path_of(const std::string& operation, int spid = 0, const std::string& rest = {}) {
  return "/v1/operations/" + operation + "/subprocesses" +
         (spid == 0 ? "" : "/" + std::to_string(spid)) + rest;
}

/// A run whose command goes on until it is ended.
std::string begin(json::object request = {{"command", "sleep"}, {"args", json::array{"1000"}}}) {
  request["image"] = base();
  request["timeout"] = 600;
  auto id = server().spawn(request);
  server().wait_for(id, {"EXECUTING"});
  return id;
}

int exec(const std::string& operation, const json::object& spec) {
  auto answer = server().connect().post(path_of(operation), spec);
  BOOST_REQUIRE_MESSAGE(answer.status == 201, answer.body);
  return static_cast<int>(answer.json().at("spid").as_int64());
}

json::object shell(const std::string& script) {
  return {{"command", script}, {"shell", true}};
}

unsigned feed(const std::string& operation, int spid, const std::string& text, bool close) {
  return server()
      .connect()
      .post(path_of(operation, spid, "/stdin"), json::object{{"value", text}, {"close", close}})
      .status;
}

unsigned kill(const std::string& operation, int spid, const std::string& query = {}) {
  return server().connect().request("DELETE", path_of(operation, spid, query)).status;
}

json::object result_of(const std::string& operation, int spid) {
  auto answer = server().connect().get(path_of(operation, spid));
  BOOST_REQUIRE_MESSAGE(answer.status == 200, answer.body);
  return answer.json().as_object();
}

std::int64_t state_of(const json::object& result, const char* key) {
  return result.at("state").at(key).as_int64();
}

std::string stream_of(const json::object& result, const char* name) {
  return std::string{result.at(name).at("value").as_string()};
}

json::object ended(const std::string& operation, int spid) {
  json::object result;
  eventually("process " + std::to_string(spid) + " has ended", [&] {
    result = result_of(operation, spid);
    return state_of(result, "exit_code") != -1 || state_of(result, "signal") != -1;
  });
  return result;
}

/// Ends the command and gives the operation's end.
json::object finish(const std::string& operation) {
  BOOST_TEST(kill(operation, 1) == 202u);
  return server().wait(operation);
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(two_slots);

BOOST_AUTO_TEST_CASE(a_process_beside_the_command_has_its_own_result_and_its_files_are_kept) {
  auto operation = begin({{"command", "sleep"},
                          {"args", json::array{"1000"}},
                          {"env", json::object{{"OF_MAIN", "yes"}}},
                          {"cwd", "/tmp"},
                          {"uid", 7},
                          {"gid", 8}});
  auto spid = exec(operation, shell("echo out; echo err >&2; exit 3"));
  BOOST_TEST(spid == 2);
  auto result = ended(operation, spid);
  BOOST_TEST(state_of(result, "exit_code") == 3);
  BOOST_TEST(stream_of(result, "stdout") == "out\n");
  BOOST_TEST(stream_of(result, "stderr") == "err\n");
  BOOST_TEST(result.at("resources").as_object().size() == 16u);

  // What it leaves open is as the command has it.
  auto like = ended(operation, exec(operation, shell("echo $OF_MAIN $(pwd) $(id -u) $(id -g)")));
  BOOST_TEST(stream_of(like, "stdout") == "yes /tmp 7 8\n");
  auto own = shell("echo $OF_MAIN $(pwd) $(id -u) $(id -g); echo kept > /root/made");
  own["env"] = json::object{{"OF_MAIN", "no"}};
  own["cwd"] = "/root";
  own["uid"] = 0;
  auto unlike = ended(operation, exec(operation, own));
  BOOST_TEST(stream_of(unlike, "stdout") == "no /root 0 0\n");
  auto missing = ended(operation, exec(operation, {{"command", "no-such-command"}}));
  BOOST_TEST(state_of(missing, "exit_code") == 127);

  BOOST_TEST(state_of(result_of(operation, 1), "exit_code") == -1);
  auto list = server().connect().get(path_of(operation)).json().at("subprocesses").as_array();
  BOOST_TEST(list.size() == 5u);
  auto done = finish(operation);
  BOOST_TEST(status_of(done) == "SUCCESS");
  auto content =
      server().connect().get("/v1/inspect/" + result_image_of(done) + "/download?path=/root/made");
  BOOST_TEST(content.body == "kept\n");
  // Results stay, orders are over.
  BOOST_TEST(state_of(result_of(operation, 2), "exit_code") == 3);
  BOOST_TEST(state_of(result_of(operation, 1), "signal") == 9);
  auto client = server().connect();
  BOOST_TEST(client.post(path_of(operation), shell("true")).status == 409u);
  BOOST_TEST(kill(operation, 1) == 409u);
  BOOST_TEST(feed(operation, 1, "x", false) == 409u);
  BOOST_TEST(client.get(path_of(operation, 99)).status == 404u);
}

BOOST_AUTO_TEST_CASE(standard_input_stays_open_until_it_is_closed) {
  auto operation = begin();
  auto spec = json::object{{"command", "cat"},
                           {"stdin", json::object{{"value", "zero "}, {"close", false}}}};
  auto spid = exec(operation, spec);
  BOOST_TEST(feed(operation, spid, "one ", false) == 202u);
  eventually("what was written is echoed",
             [&] { return stream_of(result_of(operation, spid), "stdout") == "zero one "; });
  BOOST_TEST(state_of(result_of(operation, spid), "exit_code") == -1);
  BOOST_TEST(feed(operation, spid, "two", true) == 202u);
  BOOST_TEST(feed(operation, spid, "late", false) == 409u);
  auto result = ended(operation, spid);
  BOOST_TEST(stream_of(result, "stdout") == "zero one two");
  BOOST_TEST(state_of(result, "exit_code") == 0);
  // Without a word about it, it is empty and closed.
  auto closed = exec(operation, {{"command", "cat"}});
  BOOST_TEST(state_of(ended(operation, closed), "exit_code") == 0);
  BOOST_TEST(feed(operation, closed, "x", false) == 409u);
  BOOST_TEST(feed(operation, 1, "x", false) == 409u);
  BOOST_TEST(feed(operation, 77, "x", false) == 404u);
  BOOST_TEST(status_of(finish(operation)) == "SUCCESS");
}

BOOST_AUTO_TEST_CASE(requests_of_one_name_are_carried_out_once) {
  auto operation = begin();
  auto named = [](const std::string& target, const json::object& body, const std::string& key) {
    auto text = json::serialize(body);
    return server().connect().request("POST", target, text, {{"Idempotency-Key", key}});
  };
  const json::object spec{{"command", "cat"}, {"stdin", json::object{{"close", false}}}};
  std::vector<std::future<http_answer>> sent; // at once, as by a client that lost the answer
  for (int i = 0; i < 4; ++i) {
    sent.push_back(
        std::async(std::launch::async, [&] { return named(path_of(operation), spec, "the cat"); }));
  }
  for (auto& one : sent) {
    auto answer = one.get();
    BOOST_TEST(answer.status == 201u, answer.body);
    BOOST_TEST(answer.body == R"({"spid":2})");
  }
  auto list = server().connect().get(path_of(operation)).json().at("subprocesses").as_array();
  BOOST_TEST(list.size() == 2u);
  for (int i = 0; i < 3; ++i) {
    auto fed = named(path_of(operation, 2, "/stdin"), {{"value", "fish"}}, "a meal");
    BOOST_TEST(fed.status == 202u, fed.body);
  }
  BOOST_TEST(stream_of(ended(operation, 2), "stdout") == "fish");
  BOOST_TEST(named(path_of(operation), spec, "a meal").status == 409u);
  BOOST_TEST(status_of(finish(operation)) == "SUCCESS");
  BOOST_TEST(named(path_of(operation), spec, "the cat").body == R"({"spid":2})");
  BOOST_TEST(named(path_of(operation), spec, "another").status == 409u);
}

BOOST_AUTO_TEST_CASE(the_command_itself_can_be_fed_and_ends_the_operation) {
  auto operation =
      begin({{"command", "cat"}, {"stdin", json::object{{"value", "a"}, {"close", false}}}});
  auto beside = exec(operation, {{"command", "sleep"}, {"args", json::array{"1000"}}});
  BOOST_TEST(feed(operation, 1, "b", false) == 202u);
  BOOST_TEST(feed(operation, 1, "c", true) == 202u);
  auto done = server().wait(operation);
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(exit_code_of(done) == 0);
  BOOST_TEST(stdout_of(done) == "abc");
  BOOST_TEST(state_of(result_of(operation, beside), "signal") == 9);
}

BOOST_AUTO_TEST_CASE(signals_end_processes_and_the_one_to_the_command_ends_all) {
  auto operation = begin();
  auto caught = exec(operation, shell("trap 'echo caught; exit 5' TERM; echo ready; "
                                      "while :; do sleep 0.1; done"));
  auto plain = exec(operation, {{"command", "sleep"}, {"args", json::array{"1000"}}});
  auto killed = exec(operation, {{"command", "sleep"}, {"args", json::array{"1000"}}});
  auto left = exec(operation, {{"command", "sleep"}, {"args", json::array{"1000"}}});
  eventually("it is ready",
             [&] { return stream_of(result_of(operation, caught), "stdout") == "ready\n"; });
  BOOST_TEST(kill(operation, caught, "?signal=TERM") == 202u);
  BOOST_TEST(kill(operation, plain, "?signal=SIGTERM") == 202u);
  BOOST_TEST(kill(operation, killed) == 202u);
  auto answered = ended(operation, caught);
  BOOST_TEST(state_of(answered, "exit_code") == 5);
  BOOST_TEST(stream_of(answered, "stdout") == "ready\ncaught\n");
  BOOST_TEST(state_of(ended(operation, plain), "signal") == 15);
  BOOST_TEST(state_of(ended(operation, killed), "signal") == 9);
  BOOST_TEST(kill(operation, killed) == 409u);
  BOOST_TEST(kill(operation, left, "?signal=NOTHING") == 400u);
  auto done = finish(operation);
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(state_of(result_of(operation, 1), "signal") == 9);
  BOOST_TEST(state_of(result_of(operation, left), "signal") == 9);
  BOOST_TEST(!result_image_of(done).empty());
}

BOOST_AUTO_TEST_CASE(many_at_once_each_with_its_own_output_and_no_more_than_sixty_four) {
  auto operation = begin();
  std::vector<int> spids;
  for (int i = 0; i < 64; ++i) {
    spids.push_back(exec(operation, {{"command", "cat"},
                                     {"stdin", json::object{{"value", "n" + std::to_string(i)},
                                                            {"close", false}}}}));
  }
  BOOST_TEST(std::set<int>(spids.begin(), spids.end()).size() == 64u);
  auto refused = server().connect().post(path_of(operation), shell("true"));
  BOOST_TEST(refused.status == 429u);
  BOOST_TEST(refused.header("Retry-After") == "1");
  for (auto spid : spids) {
    BOOST_REQUIRE(feed(operation, spid, "!", true) == 202u);
  }
  for (std::size_t i = 0; i < spids.size(); ++i) {
    auto result = ended(operation, spids[i]);
    BOOST_TEST(stream_of(result, "stdout") == "n" + std::to_string(i) + "!");
  }
  BOOST_TEST(stream_of(ended(operation, exec(operation, shell("echo room"))), "stdout") ==
             "room\n");
  BOOST_TEST(status_of(finish(operation)) == "SUCCESS");
}

BOOST_AUTO_TEST_CASE(a_flood_and_unread_input_hold_up_nobody) {
  auto operation = begin();
  auto flood = json::object{{"command", "yes"}, {"truncate_output_at", 1000}};
  auto flooding = exec(operation, flood);
  auto deaf =
      exec(operation,
           {{"command", "sleep"},
            {"args", json::array{"1000"}},
            {"stdin", json::object{{"value", std::string(3u << 20, 'x')}, {"close", false}}}});
  const std::string most(10u << 20, 'y');
  BOOST_TEST(feed(operation, deaf, most, false) == 429u); // 13 MiB are more than it may be given
  auto result = ended(operation, exec(operation, shell("echo heard")));
  BOOST_TEST(stream_of(result, "stdout") == "heard\n");
  auto live = result_of(operation, flooding);
  BOOST_TEST(state_of(live, "exit_code") == -1);
  BOOST_TEST(stream_of(live, "stdout").size() == 1000u);
  BOOST_TEST(kill(operation, flooding) == 202u);
  BOOST_TEST(ended(operation, flooding).at("stdout").at("truncated").as_bool());
  BOOST_TEST(status_of(finish(operation)) == "SUCCESS");
}

BOOST_AUTO_TEST_CASE(the_first_process_may_be_asked_for_as_early_as_clients_like) {
  auto id =
      server().spawn({{"command", "sleep"}, {"args", json::array{"1000"}}, {"image", base()}});
  http_answer answer;
  eventually("the process is taken", [&] {
    answer = server().connect().post(path_of(id), shell("echo early"));
    if (answer.status == 425) {
      BOOST_TEST(answer.header("Retry-After") == "1");
    }
    return answer.status != 425;
  });
  BOOST_REQUIRE_MESSAGE(answer.status == 201, answer.body);
  auto spid = static_cast<int>(answer.json().at("spid").as_int64());
  BOOST_TEST(spid == 2); // nothing was executed before
  BOOST_TEST(stream_of(ended(id, spid), "stdout") == "early\n");
  BOOST_TEST(status_of(finish(id)) == "SUCCESS");
}

BOOST_AUTO_TEST_CASE(the_deadline_of_the_operation_is_that_of_all_its_processes) {
  auto id = server().spawn(
      {{"command", "sleep"}, {"args", json::array{"1000"}}, {"image", base()}, {"timeout", 8}});
  server().wait_for(id, {"EXECUTING"});
  auto beside = exec(id, {{"command", "sleep"}, {"args", json::array{"1000"}}});
  auto done = server().wait(id);
  BOOST_TEST(status_of(done) == "SUCCESS");
  auto result = result_of(id, beside);
  BOOST_TEST(state_of(result, "signal") == 9);
  BOOST_TEST(result.at("state").at("timed_out").as_bool());
}
