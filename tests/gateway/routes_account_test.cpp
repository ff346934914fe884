#define BOOST_TEST_MODULE routes
#include "tests/gateway/routes_fixture.hpp"
#include "tests/support/metric_text.hpp"

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(whoami_tells_rights_limits_and_what_runs) {
  inside.capacity->set({7, 1, 4096});
  auto answer = client().get("/v1/whoami");
  BOOST_TEST(answer.status == 200u);
  auto body = answer.json();
  BOOST_TEST(uuid::parse(text(body.at("token_uuid"))).has_value());
  BOOST_TEST(body.at("token_expiration").is_null());
  for (auto name : {"import", "spawn", "spawn_disposable", "list", "cancel", "set_image_tag"}) {
    BOOST_TEST(body.at("permissions").at(name).as_bool(), name);
  }
  BOOST_TEST(body.at("limits").at("instance_max_timeout").as_int64() == 3600);
  BOOST_TEST(body.at("limits").at("instance_max_concurrency").as_int64() == 7);
  BOOST_TEST(body.at("limits").at("instance_max_layer_bytes").as_int64() == 12884901888);
  BOOST_TEST(body.at("limits").at("images_import_max_concurrency").as_int64() == 2);
  BOOST_TEST(body.at("limits").at("images_import_max_timeout").as_int64() == 3600);
  BOOST_TEST(body.at("operations_stat").at("running_instances").as_int64() == 3);
  BOOST_TEST(body.at("operations_stat").at("running_imports").as_int64() == 1);
}

BOOST_AUTO_TEST_CASE(metrics_are_read_without_a_token_on_this_machine) {
  auto client = this->client("");
  BOOST_TEST(client.get("/v1/images/00000000-0000-4000-8000-000000000001").status == 401u);
  BOOST_TEST(client.get("/no/such/address").status == 404u);
  auto answer = client.get("/metrics");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  BOOST_TEST(has_line(answer.body, "coppice_http_requests_total{method=\"GET\",route=\"/v1/images/"
                                   "{}\",status=\"4xx\"} 1"));
  BOOST_TEST(has_line(answer.body, "coppice_http_requests_total{method=\"other\",route=\"other\","
                                   "status=\"4xx\"} 1"));
  // No label comes from what a client sends.
  BOOST_TEST(!mentions(answer.body, "such"));
  BOOST_TEST(!mentions(answer.body, "00000000-0000"));
}

BOOST_AUTO_TEST_CASE(metrics_do_not_exist_for_clients_of_a_proxy) {
  auto client = this->client();
  for (const auto* name : {"Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"}) {
    auto answer = client.request("GET", "/metrics", {}, {{name, "somebody"}});
    BOOST_TEST(answer.status == 404u, name);
    BOOST_TEST(error_of(answer) == "no such address");
  }
  BOOST_TEST(operator_client().get("/metrics").status == 200u);
}

BOOST_AUTO_TEST_CASE(metrics_can_be_for_operators_only) {
  inside.config.metrics.open_to = "operators";
  BOOST_TEST(client().get("/metrics").status == 404u);
  BOOST_TEST(operator_client().get("/metrics").status == 200u);
}

BOOST_AUTO_TEST_CASE(metrics_can_be_for_everybody) {
  inside.config.metrics.open_to = "anyone";
  auto answer = client("").request("GET", "/metrics", {}, {{"X-Forwarded-For", "somebody"}});
  BOOST_TEST(answer.status == 200u);
}

BOOST_AUTO_TEST_CASE(a_missing_right_is_403_by_its_name) {
  inside.add_token("reader", "default", false, true);
  inside.add_token("runner", "default", true, false);
  inside.add_image("default", {"base"});
  auto reader = client("reader");
  auto answer = reader.post("/v1/instances", run_order());
  // The token may still run what it does not keep.
  BOOST_TEST(answer.status == 403u);
  BOOST_TEST(error_of(answer) == "Insufficient permissions: spawn or spawn_disposable");
  auto disposable = run_order();
  disposable["disposable"] = true;
  BOOST_TEST(reader.post("/v1/instances", disposable).status == 201u);
  auto runner = client("runner");
  answer = runner.get("/v1/operations");
  BOOST_TEST(answer.status == 403u);
  BOOST_TEST(error_of(answer) == "Insufficient permissions: list");
  BOOST_TEST(runner.get("/v1/whoami").json().at("permissions").at("list").as_bool() == false);
}

BOOST_AUTO_TEST_SUITE_END()
