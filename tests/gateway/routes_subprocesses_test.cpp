#include "protocol/limits.hpp"
#include "tests/gateway/description.hpp"
#include "tests/gateway/routes_fixture.hpp"

#include <boost/json/parse.hpp>

#include <string>
#include <utility>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

struct fixture : server_fixture {
  uuid add(proto::OperationStatus status, bool is_disposable = false,
           const std::string& project = "default") {
    return inside.add_operation(project, [&](proto::OperationRecord::Builder record) {
      record.setStatus(status);
      record.getRequest().initInstance().setDisposable(is_disposable);
    });
  }
  uuid running = add(proto::OperationStatus::EXECUTING);

  static std::string path(const uuid& id, const std::string& rest = {}) {
    return "/v1/operations/" + id.text() + "/subprocesses" + rest;
  }

  frame<proto::ProcessOrder> last_order() {
    return inside.locked([&] { return inside.process_orders.back(); });
  }
  std::size_t orders() {
    return inside.locked([&] { return inside.process_orders.size(); });
  }

  void output_event(std::uint32_t spid, const std::string& bytes, bool is_stderr = false) {
    inside.add_event(running, [&](proto::Event::Builder event) {
      event.setSpid(spid);
      capnp::Data::Reader data{reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
      is_stderr ? event.setStderr(data) : event.setStdout(data);
    });
  }
  void spawn_event(std::uint32_t spid, std::uint32_t pid, const char* command) {
    inside.add_event(running, [&](proto::Event::Builder event) {
      event.setSpid(spid);
      event.initSpawn().setPid(pid);
      event.getSpawn().setCommand(command);
    });
  }
  void exit_event(std::uint32_t spid, int code) {
    inside.add_event(running, [&](proto::Event::Builder event) {
      event.setSpid(spid);
      event.initExit().setExitCode(code);
      event.getExit().setPid(100 + spid);
    });
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(routes_subprocesses, fixture)

BOOST_AUTO_TEST_CASE(a_process_needs_only_a_command_and_is_answered_with_its_spid) {
  auto answer = client().post(path(running), json::object{{"command", "ls"}});
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(answer.body == R"({"spid":2})");
  BOOST_TEST(answer.header("Location") == path(running, "/2"));
  auto order = last_order();
  auto view = order.view();
  auto exec = view->getExec();
  BOOST_TEST((uuid::from(view->getOperation()) == running));
  BOOST_TEST(view->getProject().cStr() == "default");
  BOOST_TEST(exec.getStdinClose());
  BOOST_TEST(exec.getStdin().size() == 0u);
  BOOST_TEST(exec.getProcess().getTruncateOutputAtBytes() == limits::output_kept_bytes_default);
  BOOST_TEST(!exec.getProcess().getShell());
  BOOST_TEST(!exec.getProcess().getHasUid());
  BOOST_TEST(exec.getProcess().getCwd().size() == 0u);
}

BOOST_AUTO_TEST_CASE(everything_that_a_client_may_say_about_a_process_is_handed_on) {
  auto body = json::parse(R"({"command":"sh","args":["-c","x"],"shell":true,"env":{"A":"1"},
    "cwd":"/w","uid":5,"gid":0,"stdin":{"value":"AP8=","encoding":"base64","close":false},
    "truncate_output_at":9,"unknown":[1]})")
                  .as_object();
  BOOST_TEST(client().post(path(running), body).status == 201u);
  auto order = last_order();
  auto view = order.view();
  auto exec = view->getExec();
  auto process = exec.getProcess();
  BOOST_TEST(process.getCommand().cStr() == "sh");
  BOOST_TEST(process.getArgs().size() == 2u);
  BOOST_TEST(process.getShell());
  BOOST_TEST(process.getEnv()[0].getValue().cStr() == "1");
  BOOST_TEST(process.getCwd().cStr() == "/w");
  BOOST_TEST(process.getUid() == 5u);
  BOOST_TEST(process.getHasGid());
  BOOST_TEST(process.getTruncateOutputAtBytes() == 9u);
  BOOST_TEST(exec.getStdin().size() == 2u);
  BOOST_TEST(!exec.getStdinClose());
  // An explicit null is an absent field.
  auto nulls = json::parse(R"({"command":"ls","args":null,"shell":null,"env":null,"cwd":null,
    "uid":null,"gid":null,"stdin":null,"truncate_output_at":null})")
                   .as_object();
  BOOST_TEST(client().post(path(running), nulls).status == 201u);
  auto inner = json::parse(R"({"command":"ls","env":{"A":null,"B":"b"},
    "stdin":{"value":null,"encoding":null,"close":null}})")
                   .as_object();
  BOOST_TEST(client().post(path(running), inner).status == 201u);
  auto second = last_order();
  auto second_view = second.view();
  auto read = second_view->getExec();
  BOOST_TEST(read.getProcess().getEnv().size() == 1u);
  BOOST_TEST(read.getProcess().getEnv()[0].getName().cStr() == "B");
  BOOST_TEST(read.getStdin().size() == 0u);
  BOOST_TEST(read.getStdinClose());
  auto input = json::parse(R"({"value":"x","encoding":null,"close":null})").as_object();
  BOOST_TEST(client().post(path(running, "/1/stdin"), input).status == 202u);
  BOOST_TEST(last_order().view()->getStdin().getClose());
}

BOOST_AUTO_TEST_CASE(wrong_fields_of_a_process_are_400_by_name_and_nothing_is_ordered) {
  auto client = this->client();
  const std::string long_text((1u << 20) + 1, 'x');
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"command", "{}"},
      {"command", R"({"command":null})"},
      {"command", R"({"command":""})"},
      {"command", R"({"command":7})"},
      {"command", R"({"command":"a\u0000b"})"},
      {"command", R"({"command":")" + long_text + "\"}"},
      {"command, args", R"({"command":"ls","args":[")" + long_text + "\"]}"},
      {"args", R"({"command":"ls","args":"-l"})"},
      {"args", R"({"command":"ls","args":[1]})"},
      {"args", R"({"command":"ls","args":["\u0000"]})"},
      {"shell", R"({"command":"ls","shell":"yes"})"},
      {"env", R"({"command":"ls","env":[]})"},
      {"env", R"({"command":"ls","env":{"":"x"}})"},
      {"env", R"({"command":"ls","env":{"A=B":"x"}})"},
      {"env.A", R"({"command":"ls","env":{"A":1}})"},
      {"cwd", R"({"command":"ls","cwd":1})"},
      {"cwd", R"({"command":"ls","cwd":")" + std::string(4097, '/') + "\"}"},
      {"uid", R"({"command":"ls","uid":-1})"},
      {"uid", R"({"command":"ls","uid":4294967295})"},
      {"gid", R"({"command":"ls","gid":"0"})"},
      {"gid", R"({"command":"ls","gid":1.5})"},
      {"stdin", R"({"command":"ls","stdin":"text"})"},
      {"stdin.value", R"({"command":"ls","stdin":{"value":1}})"},
      {"stdin.value", R"({"command":"ls","stdin":{"value":"?","encoding":"base64"}})"},
      {"stdin.encoding", R"({"command":"ls","stdin":{"value":"","encoding":"utf-8"}})"},
      {"stdin.close", R"({"command":"ls","stdin":{"value":"","close":1}})"},
      {"truncate_output_at", R"({"command":"ls","truncate_output_at":-1})"},
      {"truncate_output_at", R"({"command":"ls","truncate_output_at":10485761})"},
      {"truncate_output_at", R"({"command":"ls","truncate_output_at":"1"})"},
      {"the body", "[]"},
      {"the body", "not JSON"},
      {"the body", ""},
  };
  for (const auto& [field, body] : wrong) {
    auto answer = client.request("POST", path(running), body);
    BOOST_TEST(answer.status == 400u, body.substr(0, 100));
    BOOST_TEST(error_of(answer).starts_with(field), error_of(answer));
  }
  BOOST_TEST(orders() == 0u);
}

BOOST_AUTO_TEST_CASE(input_is_decoded_and_handed_on_and_answered_empty) {
  auto client = this->client();
  auto answer = client.post(path(running, "/2/stdin"), json::object{{"value", "h\xc3\xa9"}});
  BOOST_TEST(answer.status == 202u);
  BOOST_TEST(answer.body.empty());
  auto order = last_order();
  BOOST_TEST(order.view()->getSpid() == 2u);
  BOOST_TEST(order.view()->getStdin().getData().size() == 3u);
  BOOST_TEST(order.view()->getStdin().getClose());
  auto body = json::parse(R"({"value":"AP8=","encoding":"base64","close":false,"truncated":false})")
                  .as_object();
  BOOST_TEST(client.post(path(running, "/1/stdin"), body).status == 202u);
  auto second = last_order();
  BOOST_TEST(second.view()->getSpid() == 1u);
  BOOST_TEST(second.view()->getStdin().getData().size() == 2u);
  BOOST_TEST(!second.view()->getStdin().getClose());
}

BOOST_AUTO_TEST_CASE(wrong_input_is_400_by_name) {
  auto client = this->client();
  const std::string too_long(limits::stdin_bytes_max + 1, 'x');
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"value", "{}"},
      {"value", R"({"value":null})"},
      {"value", R"({"value":[]})"},
      {"value", R"({"value":"a","encoding":"base64"})"},
      {"value", R"({"value":")" + too_long + "\"}"},
      {"encoding", R"({"value":"","encoding":"hex"})"},
      {"encoding", R"({"value":"","encoding":0})"},
      {"close", R"({"value":"","close":"no"})"},
  };
  for (const auto& [field, body] : wrong) {
    auto answer = client.request("POST", path(running, "/1/stdin"), body);
    BOOST_TEST(answer.status == 400u, body.substr(0, 100));
    BOOST_TEST(error_of(answer).starts_with(field), error_of(answer));
  }
  BOOST_TEST(orders() == 0u);
}

BOOST_AUTO_TEST_CASE(signals_have_names_and_numbers) {
  auto client = this->client();
  const std::vector<std::pair<std::string, int>> known{{"", 9},
                                                       {"?signal=", 9},
                                                       {"?signal=TERM", 15},
                                                       {"?signal=SIGTERM", 15},
                                                       {"?signal=15", 15},
                                                       {"?signal=term", 15},
                                                       {"?signal=SIGINT", 2},
                                                       {"?signal=USR1", 10},
                                                       {"?signal=64", 64},
                                                       {"?signal=IOT", 6}};
  for (const auto& [query, number] : known) {
    auto answer = client.request("DELETE", path(running, "/2" + query));
    BOOST_TEST(answer.status == 202u, query);
    BOOST_TEST(answer.body.empty());
    BOOST_TEST(last_order().view()->getSignal() == number, query);
  }
  auto sent = orders();
  for (const auto* wrong : {"0", "65", "-1", "9x", "SIG", "KILLED", "SIGSIGKILL", "%00", "1.5"}) {
    auto answer = client.request("DELETE", path(running, "/2?signal=" + std::string{wrong}));
    BOOST_TEST(answer.status == 400u, wrong);
    BOOST_TEST(mentions(error_of(answer), "signal"));
  }
  BOOST_TEST(orders() == sent);
}

BOOST_AUTO_TEST_CASE(a_result_is_folded_from_the_log) {
  spawn_event(1, 40, "sleep");
  output_event(1, "main");
  spawn_event(2, 42, "cat");
  output_event(2, "one ");
  output_event(1, "\xff");
  output_event(2, "two");
  output_event(2, "\xff", true);
  spawn_event(3, 43, "true");
  auto client = this->client();
  auto live = client.get(path(running, "/2"));
  BOOST_TEST(live.status == 200u);
  BOOST_TEST(inside.flushes == 1u);
  auto result = live.json();
  BOOST_TEST(result.at("state").at("exit_code").as_int64() == -1);
  BOOST_TEST(result.at("state").at("signal").as_int64() == -1);
  BOOST_TEST(result.at("state").at("pid").as_int64() == 42);
  BOOST_TEST(text(result.at("stdout").at("value")) == "one two");
  BOOST_TEST(text(result.at("stdout").at("encoding")) == "ascii");
  BOOST_TEST(text(result.at("stderr").at("encoding")) == "base64");
  BOOST_TEST(result.at("resources").as_object().size() == 16u);
  BOOST_TEST(text(client.get(path(running, "/1")).json().at("stdout").at("value")) == "bWFpbv8=");
  exit_event(2, 7);
  inside.add_event(running, [](proto::Event::Builder event) {
    event.setSpid(2);
    event.initTruncated().setKeptBytes(7);
  });
  auto ended = client.get(path(running, "/2")).json();
  BOOST_TEST(ended.at("state").at("exit_code").as_int64() == 7);
  BOOST_TEST(ended.at("stdout").at("truncated").as_bool());
  BOOST_TEST(!ended.at("stderr").at("truncated").as_bool());
  auto whole = client.get(path(running)).json();
  BOOST_TEST(keys(whole) == described_members("SubprocessList"), boost::test_tools::per_element());
  auto list = whole.at("subprocesses").as_array();
  BOOST_REQUIRE(list.size() == 3u);
  BOOST_TEST(keys(list[0]) == described_members("Subprocess"), boost::test_tools::per_element());
  BOOST_TEST(keys(list[0].at("state")) == described_members("ProcessState"),
             boost::test_tools::per_element());
  BOOST_TEST(list[1].at("spid").as_int64() == 2);
  BOOST_TEST(text(list[1].at("command")) == "cat");
  BOOST_TEST(list[1].at("state").at("exit_code").as_int64() == 7);
  BOOST_TEST(list[2].at("state").at("exit_code").as_int64() == -1);
  auto page = client.get(path(running, "?limit=1&offset=1")).json().at("subprocesses").as_array();
  BOOST_REQUIRE(page.size() == 1u);
  BOOST_TEST(page[0].at("spid").as_int64() == 2);
  BOOST_TEST(client.get(path(running, "?limit=0")).status == 400u);
  BOOST_TEST(client.get(path(running, "/4")).status == 404u);
}

BOOST_AUTO_TEST_CASE(after_the_end_results_stay_and_orders_are_a_conflict) {
  auto over = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.getRequest().initInstance();
    record.setHasResult(true);
    record.initResult().setExitCode(0);
    record.getResult().setSignal(9);
    record.getResult().getStdout().setKeptBytes(2);
  });
  running = over;
  spawn_event(1, 40, "sleep");
  output_event(1, "hi");
  spawn_event(2, 42, "cat");
  exit_event(2, 7);
  auto client = this->client();
  auto main = client.get(path(over, "/1")).json();
  BOOST_TEST(main.at("state").at("signal").as_int64() == 9);
  BOOST_TEST(text(main.at("stdout").at("value")) == "hi");
  BOOST_TEST(client.get(path(over, "/2")).json().at("state").at("exit_code").as_int64() == 7);
  BOOST_TEST(client.get(path(over, "/3")).status == 404u);
  BOOST_TEST(inside.flushes == 0u);
  BOOST_TEST(client.post(path(over), json::object{{"command", "ls"}}).status == 409u);
  BOOST_TEST(client.post(path(over, "/1/stdin"), json::object{{"value", "x"}}).status == 409u);
  BOOST_TEST(client.request("DELETE", path(over, "/1")).status == 409u);
  BOOST_TEST(orders() == 0u);
}

BOOST_AUTO_TEST_CASE(the_main_result_outlives_the_log) {
  auto over = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::SUCCESS);
    record.getRequest().initInstance();
    record.setHasResult(true);
    record.setEventsTrimmed(true);
    record.initResult().setExitCode(4);
  });
  BOOST_TEST(client().get(path(over, "/1")).json().at("state").at("exit_code").as_int64() == 4);
}

BOOST_AUTO_TEST_CASE(before_the_command_runs_it_is_425_and_nothing_is_done) {
  auto client = this->client();
  for (auto status : {proto::OperationStatus::PENDING, proto::OperationStatus::ASSIGNED}) {
    auto early = add(status);
    inside.locked([&] { inside.process_error = ec::too_early; });
    auto told_to_wait = [&](const http_answer& answer) {
      BOOST_TEST(answer.status == 425u);
      BOOST_TEST(answer.header("Retry-After") == "1");
      BOOST_TEST(error_of(answer) != "");
    };
    told_to_wait(client.post(path(early), json::object{{"command", "ls"}}));
    told_to_wait(client.post(path(early, "/1/stdin"), json::object{{"value", "x"}}));
    told_to_wait(client.request("DELETE", path(early, "/1")));
    told_to_wait(client.get(path(early, "/1")));
  }
}

BOOST_AUTO_TEST_CASE(what_the_inside_refuses_is_told_with_its_status) {
  auto client = this->client();
  for (auto [code, status] :
       {std::pair{ec::busy, 429u}, std::pair{ec::conflict, 409u}, std::pair{ec::not_found, 404u},
        std::pair{ec::vm, 500u}, std::pair{ec::stopping, 503u}}) {
    inside.locked([&, refused = code] { inside.process_error = refused; });
    auto answer = client.post(path(running), json::object{{"command", "ls"}});
    BOOST_TEST(answer.status == status);
    BOOST_TEST((answer.header("Retry-After") == "1") == (status == 429 || status == 503));
  }
}

BOOST_AUTO_TEST_CASE(unknown_operations_and_processes_are_404_and_imports_have_none) {
  auto client = this->client();
  auto theirs = add(proto::OperationStatus::EXECUTING, false, "other");
  for (const auto& id : {theirs.text(), uuid::random().text(), std::string{"nonsense"}}) {
    auto base = "/v1/operations/" + id + "/subprocesses";
    BOOST_TEST(client.get(base).status == 404u);
    BOOST_TEST(client.get(base + "/1").status == 404u);
    BOOST_TEST(client.post(base, json::object{{"command", "ls"}}).status == 404u);
    BOOST_TEST(client.post(base + "/1/stdin", json::object{{"value", ""}}).status == 404u);
    BOOST_TEST(client.request("DELETE", base + "/1").status == 404u);
  }
  for (const auto* spid : {"0", "-1", "x", "1x", "99999999999", "1.0", "%31%20"}) {
    auto one = path(running, "/" + std::string{spid});
    BOOST_TEST(client.get(one).status == 404u, spid);
    BOOST_TEST(client.request("DELETE", one).status == 404u, spid);
    BOOST_TEST(client.post(one + "/stdin", json::object{{"value", ""}}).status == 404u, spid);
  }
  auto import = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::EXECUTING);
    record.getRequest().initImport();
  });
  BOOST_TEST(client.post(path(import), json::object{{"command", "ls"}}).status == 409u);
  BOOST_TEST(orders() == 0u);
  auto wrong_method = client.request("PUT", path(running, "/1"));
  BOOST_TEST(wrong_method.status == 405u);
  BOOST_TEST(wrong_method.header("Allow") == "GET, HEAD, DELETE");
}

BOOST_AUTO_TEST_CASE(rights_decide_who_acts_in_a_run) {
  inside.add_token_with("disposable", "default", [](auto r) { r.setMaySpawn(false); });
  inside.add_token_with("reader", "default", [](auto r) {
    r.setMaySpawn(false);
    r.setMaySpawnDisposable(false);
    r.setMayCancel(false);
  });
  inside.add_token_with("killer", "default", [](auto r) {
    r.setMaySpawn(false);
    r.setMaySpawnDisposable(false);
  });
  inside.add_token_with("spawner", "default", [](auto r) {
    r.setMayCancel(false);
    r.setMaySpawnDisposable(false);
    r.setMayList(false);
  });
  spawn_event(1, 40, "sleep");
  auto kept = running;
  auto thrown_away = add(proto::OperationStatus::EXECUTING, true);
  struct row {
    const char* token;
    uuid operation;
    unsigned acts;
    unsigned kills;
    unsigned reads;
  };
  for (const auto& r : std::vector<row>{{"disposable", kept, 403, 202, 200},
                                        {"disposable", thrown_away, 202, 202, 404},
                                        {"reader", kept, 403, 403, 200},
                                        {"killer", kept, 403, 202, 200},
                                        {"spawner", kept, 202, 202, 403}}) {
    auto client = this->client(r.token);
    auto made = client.post(path(r.operation), json::object{{"command", "ls"}}).status;
    BOOST_TEST((made == 201u ? 202u : made) == r.acts, r.token);
    BOOST_TEST(client.post(path(r.operation, "/1/stdin"), json::object{{"value", ""}}).status ==
               r.acts);
    BOOST_TEST(client.request("DELETE", path(r.operation, "/1")).status == r.kills, r.token);
    BOOST_TEST(client.get(path(r.operation, "/1")).status == r.reads, r.token);
  }
  // A token that may only start disposable runs and not cancel may signal in those alone.
  inside.add_token_with("thrower", "default", [](auto r) {
    r.setMaySpawn(false);
    r.setMayCancel(false);
  });
  auto thrower = this->client("thrower");
  BOOST_TEST(thrower.request("DELETE", path(thrown_away, "/1")).status == 202u);
  BOOST_TEST(thrower.request("DELETE", path(kept, "/1")).status == 403u);
}

BOOST_AUTO_TEST_SUITE_END()
