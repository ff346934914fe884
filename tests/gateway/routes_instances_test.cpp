#include "protocol/limits.hpp"
#include "tests/gateway/routes_fixture.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <string>

using namespace coppice;
using namespace coppice::test;

namespace {

constexpr auto nil_file = "00000000-0000-4000-8000-000000000001";

} // namespace

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(a_run_is_resolved_handed_on_and_echoed_with_its_defaults) {
  auto image = inside.add_image("default", {"base"});
  auto client = this->client();
  auto answer = client.post("/v1/instances", run_order());
  BOOST_TEST(answer.status == 201u);
  auto body = answer.json();
  BOOST_TEST(answer.header("Location") == "/v1/operations/" + text(body.at("uuid")));
  BOOST_TEST(text(body.at("status")) == "PENDING");
  BOOST_TEST(body.at("result").is_null());
  BOOST_TEST(json::serialize(body.at("stdin")) ==
             R"({"value":"","encoding":"ascii","close":true})");
  BOOST_TEST(json::serialize(body.at("networking")) == R"({"enabled":false})");
  BOOST_TEST(json::serialize(body.at("env")) == "{}");
  BOOST_TEST(json::serialize(body.at("files")) == "{}");
  BOOST_TEST(json::serialize(body.at("args")) == "[]");
  BOOST_TEST(text(body.at("hostname")) == "linuxkit");
  BOOST_TEST(text(body.at("image")) == "tag:base");
  BOOST_TEST(text(body.at("cwd")).empty());
  BOOST_TEST(body.at("uid").is_null());
  BOOST_TEST(body.at("timeout").as_int64() == 60);
  BOOST_TEST(body.at("truncate_output_at").as_int64() == 1048576);
  BOOST_TEST(body.at("resources_limits").at("max_layer_bytes").as_int64() == 12884901888);
  BOOST_TEST(json::serialize(body.at("resources")) == R"({"cpus":1,"memory_mb":256})");
  BOOST_TEST(body.at("priority").as_int64() == 0);
  auto started = inside.started.at(0).view();
  auto handed = started->getRequest().getInstance();
  BOOST_TEST((uuid::from(handed.getImage()) == image));
  BOOST_TEST(handed.getCpus() == 1u);
  BOOST_TEST(handed.getMemoryMib() == 256u);

  for (const auto& reference : {image.text(), std::string{"base"}}) {
    auto order = run_order();
    order["image"] = reference;
    BOOST_TEST(client.post("/v1/instances", order).status == 201u, reference);
  }
}

BOOST_AUTO_TEST_CASE(everything_that_a_client_may_say_about_a_run_is_handed_on) {
  inside.add_image("default", {"base"});
  auto client = this->client();
  auto file = text(client.post("/v1/files", "content").json().at("uuid"));
  auto order = json::parse(R"({"command":"sh","image":"tag:base","args":["-c","x"],"shell":true,
    "env":{"A":"1"},"preserve_env":true,"cwd":"/w","uid":5,"gid":0,"hostname":"h",
    "stdin":{"value":"AP8=","encoding":"base64","close":false,"truncated":false},
    "timeout":9,"truncate_output_at":0,"disposable":true,
    "resources_limits":{"max_layer_bytes":4096},"networking":{"enabled":true},
    "resources":{"cpus":2,"memory_mb":1000},"priority":-3})")
                   .as_object();
  json::object placement{{"uuid", file}, {"mode", "0o100600"}, {"gid", 7}};
  order["files"] = json::object{{"/in/f", placement}};
  auto answer = client.post("/v1/instances", order);
  BOOST_TEST(answer.status == 201u);
  auto started = inside.started.at(0).view();
  auto run = started->getRequest().getInstance();
  BOOST_TEST(run.getProcess().getArgs().size() == 2u);
  BOOST_TEST(run.getProcess().getShell());
  BOOST_TEST(run.getProcess().getEnv()[0].getValue().cStr() == "1");
  BOOST_TEST(run.getProcess().getHasUid());
  BOOST_TEST(run.getProcess().getUid() == 5u);
  BOOST_TEST(run.getProcess().getHasGid());
  BOOST_TEST(run.getStdin().size() == 2u);
  BOOST_TEST(!run.getStdinClose());
  BOOST_TEST(run.getFiles().size() == 1u);
  BOOST_TEST(run.getFiles()[0].getSizeBytes() == 7u);
  BOOST_TEST(run.getFiles()[0].getSha256().size() == 32u);
  BOOST_TEST(run.getMaxLayerBytes() == 4096u);
  BOOST_TEST(run.getCpus() == 2u);
  BOOST_TEST(run.getMemoryMib() == 1024u);
  BOOST_TEST(run.getPriority() == -3);
  auto body = answer.json();
  BOOST_TEST(json::serialize(body.at("resources")) == R"({"cpus":2,"memory_mb":1024})");
  BOOST_TEST(body.at("priority").as_int64() == -3);
  BOOST_TEST(text(body.at("files").at("/in/f").at("mode")) == "0600");
  BOOST_TEST(text(body.at("stdin").at("value")) == "AP8=");
  BOOST_TEST(text(body.at("stdin").at("encoding")) == "base64");
  BOOST_TEST(!body.at("networking").at("enabled").as_bool());
  BOOST_TEST(body.at("truncate_output_at").as_int64() == 0);
}

BOOST_AUTO_TEST_CASE(unknown_images_and_files_of_a_run_are_404) {
  inside.add_image("other", {"theirs"});
  inside.add_image("default", {"base"});
  auto client = this->client();
  for (const auto& image :
       {std::string{"tag:nothing"}, std::string{"nothing"}, std::string{"tag:theirs"},
        uuid::random().text(), std::string{"tag:a b"}}) {
    auto order = run_order();
    order["image"] = image;
    BOOST_TEST(client.post("/v1/instances", order).status == 404u, image);
  }
  auto order = run_order();
  order["files"] = json::object{{"/f", {{"uuid", nil_file}}}};
  auto answer = client.post("/v1/instances", order);
  BOOST_TEST(answer.status == 404u);
  BOOST_TEST(mentions(error_of(answer), "/f"));
  BOOST_TEST(inside.started.empty());
}

BOOST_AUTO_TEST_CASE(resources_beyond_the_largest_class_are_400_and_nothing_starts) {
  inside.add_image("default", {"base"});
  auto client = this->client();
  for (const auto& [field, value] : {std::pair{"cpus", 65}, std::pair{"memory_mb", 65'537}}) {
    auto order = run_order();
    order["resources"] = json::object{{field, value}};
    auto answer = client.post("/v1/instances", order);
    BOOST_TEST(answer.status == 400u);
    BOOST_TEST(mentions(error_of(answer), std::string{"resources."} + field));
  }
  BOOST_TEST(inside.started.empty());
}

BOOST_AUTO_TEST_CASE(a_class_that_never_fits_this_node_is_as_if_it_were_not_there) {
  inside.add_image("default", {"base"});
  inside.config.vm.classes = {{1, 512}, {2, 512}, {2, 4096}};
  inside.capacity->set({8, 2, 4096}); // 64 MiB beside each machine's own
  auto client = this->client();
  auto order = run_order();
  order["resources"] = json::object{{"cpus", 2}};
  BOOST_TEST(client.post("/v1/instances", order).status == 201u);
  BOOST_TEST(inside.started.size() == 1u);
  order["resources"] = json::object{{"cpus", 2}, {"memory_mb", 513}};
  auto answer = client.post("/v1/instances", order);
  BOOST_TEST(answer.status == 400u);
  BOOST_TEST(mentions(error_of(answer), "resources.memory_mb"));
  BOOST_TEST(mentions(error_of(answer), "512"));
  inside.capacity->set({8, 1, 4096});
  order["resources"] = json::object{{"cpus", 2}};
  BOOST_TEST(client.post("/v1/instances", order).status == 400u);
  BOOST_TEST(inside.started.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_waiting_operation_tells_its_place_when_asked_for_its_live_state) {
  auto add = [&](proto::OperationStatus status) {
    auto id = inside.add_operation("default", [&](auto record) {
      record.setStatus(status);
      record.getRequest().initInstance();
    });
    inside.locked([&] { inside.queue_places[id] = 3; });
    return id;
  };
  auto client = this->client();
  auto id = add(proto::OperationStatus::PENDING);
  auto live = client.get("/v1/operations/" + id.text() + "?inflight=1").json();
  BOOST_TEST(json::serialize(live.at("queue")) == R"({"position":3,"waited_us":2500000})");
  // From storage, and for one that does not wait, there is no place.
  BOOST_TEST(!client.get("/v1/operations/" + id.text()).json().as_object().contains("queue"));
  auto running = add(proto::OperationStatus::ASSIGNED);
  live = client.get("/v1/operations/" + running.text() + "?inflight=1").json();
  BOOST_TEST(!live.as_object().contains("queue"));
  auto granted = add(proto::OperationStatus::PENDING);
  inside.locked([&] { inside.queue_places.erase(granted); });
  live = client.get("/v1/operations/" + granted.text() + "?inflight=1").json();
  BOOST_TEST(!live.as_object().contains("queue"));
}

BOOST_AUTO_TEST_CASE(a_full_queue_is_429_with_a_time_to_retry) {
  inside.add_image("default", {"base"});
  inside.start_error = ec::busy;
  auto answer = client().post("/v1/instances", run_order());
  BOOST_TEST(answer.status == 429u);
  BOOST_TEST(answer.header("Retry-After") == "1");
}

BOOST_AUTO_TEST_CASE(the_largest_standard_input_goes_in_and_comes_back) {
  inside.add_image("default", {"base"});
  auto order = run_order();
  std::string bytes(limits::stdin_bytes_max, 'z');
  order["stdin"] = json::object{{"value", bytes}};
  auto client = this->client();
  auto answer = client.post("/v1/instances", order);
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  BOOST_TEST((text(answer.json().at("stdin").at("value")) == bytes));
  auto shown = client.get("/v1/operations/" + text(answer.json().at("uuid"))).json();
  BOOST_TEST((text(shown.at("metadata").at("stdin").at("value")) == bytes));
}

BOOST_AUTO_TEST_SUITE_END()
