#include "actors/requests.hpp"
#include "tests/gateway/routes_fixture.hpp"

#include <boost/json/serialize.hpp>

#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

struct keys_fixture : server_fixture {
  keys_fixture() {
    inside.add_image("default", {"base"});
  }

  http_answer post(const std::string& target, const std::string& body, const std::string& key) {
    return client().request("POST", target, body, {{"Idempotency-Key", key}});
  }
  http_answer run(const std::string& key, const std::string& command = "true") {
    return post("/v1/instances",
                json::serialize(json::object{{"command", command}, {"image", "tag:base"}}), key);
  }

  // -- processes of a running operation ----------------------------------------------------------

  uuid running = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(proto::OperationStatus::EXECUTING);
    record.getRequest().initInstance();
  });
  std::string processes = "/v1/operations/" + running.text() + "/subprocesses";

  http_answer exec(const std::string& key, const std::string& command = "ls") {
    return post(processes, json::serialize(json::object{{"command", command}}), key);
  }
  http_answer write(const std::string& key, const std::string& value = "x",
                    const std::string& spid = "1") {
    return post(processes + "/" + spid + "/stdin", json::serialize(json::object{{"value", value}}),
                key);
  }
  std::size_t orders() {
    return inside.locked([&] { return inside.process_orders.size(); });
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(routes_request_key, keys_fixture)

BOOST_AUTO_TEST_CASE(the_same_run_is_started_once_and_answered_alike) {
  auto first = run("mine");
  BOOST_TEST(first.status == 201u);
  inside.locked([&] {
    auto& record = inside.operation_table.begin()->second;
    record = edited(record, [](auto r) { r.setStatus(proto::OperationStatus::SUCCESS); });
    inside.image_table.clear(); // nor is anything resolved again
  });
  auto second = run("mine");
  BOOST_TEST(second.status == 201u);
  BOOST_TEST(second.body == first.body);
  BOOST_TEST(second.header("Location") == first.header("Location"));
  BOOST_TEST(inside.started.size() == 1u);
}

BOOST_AUTO_TEST_CASE(without_a_key_or_with_another_each_run_is_a_run) {
  run("one");
  run("two");
  client().post("/v1/instances", run_order());
  client().post("/v1/instances", run_order());
  BOOST_TEST(inside.started.size() == 4u);
}

BOOST_AUTO_TEST_CASE(the_same_key_with_anything_else_is_refused) {
  run("mine");
  auto other = run("mine", "false");
  BOOST_TEST(other.status == 409u);
  BOOST_TEST(mentions(error_of(other), "Idempotency-Key"));
  auto import = post("/v1/images/import", R"({"registry":{"url":"docker://host/a:b"}})", "mine");
  BOOST_TEST(import.status == 409u);
  BOOST_TEST(post("/v1/files", "bytes", "mine").status == 409u);
  BOOST_TEST(inside.started.size() == 1u);
}

BOOST_AUTO_TEST_CASE(imports_and_files_come_once_too) {
  const std::string order = R"({"registry":{"url":"docker://host/a:b"}})";
  auto first = post("/v1/images/import", order, "i");
  BOOST_TEST(first.status == 201u);
  BOOST_TEST(post("/v1/images/import", order, "i").body == first.body);
  BOOST_TEST(inside.started.size() == 1u);
  auto file = post("/v1/files", "bytes", "f");
  BOOST_TEST(file.status == 201u);
  BOOST_TEST(post("/v1/files", "bytes", "f").body == file.body);
  BOOST_TEST(post("/v1/files", "other bytes", "f").status == 409u);
}

BOOST_AUTO_TEST_CASE(a_run_that_was_started_meanwhile_is_found) {
  // Between the look-up and the start, the same request comes over another connection.
  auto first = run("mine");
  auto kept = inside.locked([&] { return std::exchange(inside.request_keys, {}); });
  inside.on_start = [&] {
    inside.request_keys = kept;
  };
  auto second = run("mine");
  BOOST_TEST(second.status == 201u);
  BOOST_TEST(second.body == first.body);
}

BOOST_AUTO_TEST_CASE(a_key_is_a_line_of_printable_characters) {
  for (const auto& key : {std::string(256, 'k'), std::string{"t\tb"}}) {
    auto answer = run(key);
    BOOST_TEST(answer.status == 400u, key);
    BOOST_TEST(mentions(error_of(answer), "Idempotency-Key"));
    BOOST_TEST(post("/v1/files", "bytes", key).status == 400u);
  }
  BOOST_TEST(run(std::string(255, 'k')).status == 201u);
  BOOST_TEST(inside.uploads.empty());
}

BOOST_AUTO_TEST_CASE(a_refused_run_uses_up_no_key) {
  inside.start_error = ec::busy;
  BOOST_TEST(run("mine").status == 429u);
  inside.start_error.reset();
  BOOST_TEST(run("mine").status == 201u);
}

BOOST_AUTO_TEST_CASE(a_process_is_started_once_and_input_is_written_once) {
  auto first = exec("e");
  BOOST_TEST(first.status == 201u);
  auto second = exec("e");
  BOOST_TEST(second.status == 201u);
  BOOST_TEST(second.body == first.body);
  BOOST_TEST(second.header("Location") == first.header("Location"));
  BOOST_TEST(orders() == 1u);
  BOOST_TEST(exec("f").body == R"({"spid":3})");
  BOOST_TEST(write("w").status == 202u);
  auto again = write("w");
  BOOST_TEST(again.status == 202u);
  BOOST_TEST(again.body == "");
  BOOST_TEST(orders() == 3u);
}

BOOST_AUTO_TEST_CASE(it_is_answered_alike_when_its_operation_has_ended) {
  auto first = exec("e");
  inside.end_operation(running, proto::OperationStatus::SUCCESS);
  BOOST_TEST(exec("e").body == first.body);
  BOOST_TEST(exec("f").status == 409u);
  BOOST_TEST(orders() == 1u);
}

BOOST_AUTO_TEST_CASE(a_key_of_a_process_stands_for_nothing_else) {
  exec("e");
  write("w");
  const auto so_far = orders();
  for (auto answer :
       {exec("e", "ps"), write("e"), exec("w"), write("w", "y"), write("w", "x", "2"), run("e"),
        post("/v1/files", "bytes", "w"),
        post("/v1/images/import", R"({"registry":{"url":"docker://host/a:b"}})", "e")}) {
    BOOST_TEST(answer.status == 409u);
    BOOST_TEST(mentions(error_of(answer), "Idempotency-Key"));
  }
  BOOST_TEST(orders() == so_far);
  BOOST_TEST(inside.started.empty());
  BOOST_TEST(inside.uploads.empty());
  run("r");
  post("/v1/files", "bytes", "f");
  BOOST_TEST(exec("r").status == 409u);
  BOOST_TEST(write("f").status == 409u);
  BOOST_TEST(orders() == so_far);
}

BOOST_AUTO_TEST_CASE(projects_have_their_own_keys) {
  inside.add_token("other", "other");
  exec("e");
  inside.add_image("other", {"base"});
  auto order = json::serialize(run_order());
  auto other = client("other").request("POST", "/v1/instances", order, {{"Idempotency-Key", "e"}});
  BOOST_TEST(other.status == 201u);
}

BOOST_AUTO_TEST_CASE(an_order_that_was_refused_uses_up_no_key) {
  for (auto [code, status] :
       {std::pair{ec::too_early, 425u}, std::pair{ec::busy, 429u}, std::pair{ec::conflict, 409u},
        std::pair{ec::not_found, 404u}, std::pair{ec::vm, 500u}, std::pair{ec::stopping, 503u},
        std::pair{ec::storage, 507u}}) {
    inside.locked([&, refused = code] { inside.process_error = refused; });
    BOOST_TEST(exec("e").status == status);
    BOOST_TEST(write("w").status == status);
  }
  inside.locked([&] { inside.process_error.reset(); });
  BOOST_TEST(exec("e", "{").status == 201u); // nor does it say for what
  BOOST_TEST(exec("e", "{").body == R"({"spid":2})");
  BOOST_TEST(write("w").status == 202u);
}

BOOST_AUTO_TEST_CASE(an_order_whose_answer_was_lost_is_not_given_again) {
  inside.locked([&] { inside.is_process_lost = true; });
  BOOST_TEST(exec("e").status == 503u);
  inside.locked([&] { inside.is_process_lost = false; });
  auto again = exec("e");
  BOOST_TEST(again.status == 409u);
  BOOST_TEST(mentions(error_of(again), "nobody knows"));
  BOOST_TEST(orders() == 1u);
  BOOST_TEST(exec("f").status == 201u);
}

BOOST_AUTO_TEST_CASE(a_run_that_failed_uses_up_no_key) {
  for (auto [code, status] : {std::pair{ec::stopping, 503u}, std::pair{ec::storage, 507u},
                              std::pair{ec::internal, 500u}}) {
    inside.locked([&, refused = code] { inside.start_error = refused; });
    BOOST_TEST(run("mine").status == status);
  }
  inside.locked([&] { inside.start_error.reset(); });
  BOOST_TEST(run("mine", "another").status == 201u);
}

BOOST_AUTO_TEST_CASE(an_upload_that_failed_uses_up_no_key) {
  inside.locked([&] { inside.store_error = ec::storage; });
  BOOST_TEST(post("/v1/files", "bytes", "f").status == 507u);
  inside.locked([&] { inside.store_error.reset(); });
  BOOST_TEST(post("/v1/files", "other bytes", "f").status == 201u);
  BOOST_TEST(post("/v1/files", "bytes", "f").status == 409u);
}

BOOST_AUTO_TEST_SUITE_END()
