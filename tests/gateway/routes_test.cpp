#define BOOST_TEST_MODULE routes
#include "protocol/limits.hpp"
#include "tests/gateway/server_fixture.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

constexpr auto nil_file = "00000000-0000-4000-8000-000000000001";
const std::string no_digest(64, 'a');

json::object run_order() {
  return {{"command", "true"}, {"image", "tag:base"}};
}

std::vector<std::string> keys(const json::value& object) {
  std::vector<std::string> out;
  for (const auto& member : object.as_object()) {
    out.emplace_back(member.key());
  }
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

// -- account -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(whoami_tells_rights_limits_and_what_runs) {
  inside.config.vm.running_max = 7;
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

// -- images --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(images_have_four_members_and_null_for_no_tag) {
  inside.add_image("default", {"base"});
  inside.add_image("default", {});
  auto images = client().get("/v1/images").json().at("images").as_array();
  BOOST_REQUIRE(images.size() == 2u);
  BOOST_TEST(keys(images[0]) ==
                 (std::vector<std::string>{"created_at", "operation_uuid", "tag", "uuid"}),
             boost::test_tools::per_element());
  BOOST_TEST(text(images[0].at("tag")) == "base");
  BOOST_TEST(text(images[0].at("created_at")) == "2024-01-01T12:00:00.123456Z");
  BOOST_TEST(images[1].at("tag").is_null());
}

BOOST_AUTO_TEST_CASE(image_filters_reach_the_catalog) {
  auto client = this->client();
  auto id = uuid::random();
  BOOST_TEST(client
                 .get("/v1/images?limit=5&offset=7&tagged&tag=busy/box:1&uuid=" + id.text() +
                      "&since=1704110400&until=2024-01-01T13:00:00+00:00")
                 .status == 200u);
  auto asked = inside.image_listings.at(0).view();
  BOOST_TEST(asked->getProject().cStr() == "default");
  BOOST_TEST(asked->getLimit() == 5u);
  BOOST_TEST(asked->getOffset() == 7u);
  BOOST_TEST(asked->getTaggedOnly());
  BOOST_TEST(asked->getTagPrefix().cStr() == "busy/box:1");
  BOOST_TEST((uuid::from(asked->getId()) == id));
  BOOST_TEST(asked->getSinceUnixNs() == 1'704'110'400'000'000'000);
  BOOST_TEST(asked->getUntilUnixNs() == 1'704'114'000'000'000'000);
}

BOOST_AUTO_TEST_CASE(odd_filters_are_empty_pages_and_bad_bounds_are_400) {
  auto client = this->client();
  BOOST_TEST(client.get("/v1/images?tag=docker://docker.io/library/x:y").status == 200u);
  BOOST_TEST(client.get("/v1/images?uuid=nonsense").json().at("images").as_array().empty());
  BOOST_TEST(client.get("/v1/images?tag=%00").json().at("images").as_array().empty());
  for (auto query : {"limit=0", "limit=1001", "limit=x", "limit=", "limit=-1"}) {
    auto answer = client.get(std::string{"/v1/images?"} + query);
    BOOST_TEST(answer.status == 400u, query);
    BOOST_TEST(error_of(answer) == "limit must be between 1 and 1000");
  }
  for (auto query : {"offset=-1", "since=yesterday", "until=5q", "tagged=perhaps"}) {
    auto answer = client.get(std::string{"/v1/images?"} + query);
    BOOST_TEST(answer.status == 400u, query);
    BOOST_TEST(error_of(answer).starts_with(std::string{query}.substr(0, 5)));
  }
}

BOOST_AUTO_TEST_CASE(images_are_deleted) {
  auto id = inside.add_image("default", {});
  auto tagged = inside.add_image("default", {"busybox:latest"});
  auto foreign = inside.add_image("other", {});
  auto client = this->client();
  auto path_of = [](const uuid& image) {
    return "/v1/images/" + image.text();
  };
  auto answer = client.request("DELETE", path_of(id));
  BOOST_TEST(answer.status == 204u);
  BOOST_TEST(answer.body.empty());
  BOOST_TEST(client.request("DELETE", path_of(id)).status == 404u);
  BOOST_TEST(client.request("DELETE", path_of(foreign)).status == 404u);
  BOOST_TEST(client.request("DELETE", "/v1/images/nonsense").status == 404u);
  answer = client.request("DELETE", path_of(tagged));
  BOOST_TEST(answer.status == 409u);
  BOOST_TEST(mentions(error_of(answer), "busybox:latest"));
  BOOST_TEST(client.request("DELETE", path_of(tagged) + "?with_tags=maybe").status == 400u);
  BOOST_TEST(client.request("DELETE", path_of(tagged) + "?with_tags=true").status == 204u);
  BOOST_TEST((inside.deleted_images == std::vector{id, tagged}));
  answer = client.request("POST", path_of(foreign), "{}");
  BOOST_TEST(answer.status == 405u);
  BOOST_TEST(answer.header("Allow") == "GET, HEAD, DELETE");
}

BOOST_AUTO_TEST_CASE(deleting_an_image_needs_its_own_right) {
  inside.add_token("old", "default", true, true, false);
  auto id = inside.add_image("default", {});
  auto answer = client("old").request("DELETE", "/v1/images/" + id.text());
  BOOST_TEST(answer.status == 403u);
  BOOST_TEST(mentions(error_of(answer), "delete_image"));
  BOOST_TEST(inside.deleted_images.empty());
}

BOOST_AUTO_TEST_CASE(tags_are_set_and_removed) {
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.request("PATCH", "/v1/images/" + id + "/tag", R"({"tag":"x/y:1"})");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(text(answer.json().at("tag")) == "x/y:1");
  for (auto body : {R"({})", R"({"tag":null})", R"({"tag":""})", R"({"tag":"a b"})",
                    R"({"tag":"a/"})", R"({"tag":5})", "", "[]"}) {
    BOOST_TEST(client.request("PATCH", "/v1/images/" + id + "/tag", body).status == 400u, body);
  }
  BOOST_TEST(client.request("DELETE", "/v1/images/" + id + "/tag?tag=other").status == 404u);
  answer = client.request("DELETE", "/v1/images/" + id + "/tag?tag=x/y:1");
  BOOST_TEST(answer.status == 204u);
  BOOST_TEST(answer.body.empty());
  BOOST_TEST(client.request("DELETE", "/v1/images/" + id + "/tag").status == 204u);
  BOOST_TEST(inside.removed_tags == (std::vector<std::string>{"x/y:1", ""}),
             boost::test_tools::per_element());
  auto unknown = uuid::random().text();
  for (const auto& image : {unknown, std::string{"nonsense"}}) {
    auto target = "/v1/images/" + image + "/tag";
    BOOST_TEST(client.request("PATCH", target, R"({"tag":"x"})").status == 404u);
    BOOST_TEST(client.request("DELETE", target).status == 404u);
  }
}

BOOST_AUTO_TEST_CASE(an_import_is_handed_on_and_its_operation_named) {
  auto client = this->client();
  auto answer =
      client.post("/v1/images/import", json::parse(R"({"registry":{"url":"busybox:1","credentials":
                              {"username":"u","password":"p"}},"tag":"bb","timeout":60})"));
  BOOST_TEST(answer.status == 201u);
  auto id = text(answer.json().at("uuid"));
  BOOST_TEST(answer.header("Location") == "/v1/operations/" + id);
  auto request = inside.started.at(0).view()->getRequest();
  BOOST_TEST(request.isImport());
  BOOST_TEST(request.getImport().getUrl().cStr() == "docker://busybox:1");
  BOOST_TEST(request.getImport().getPassword().cStr() == "p");
  BOOST_TEST(request.getImport().getTag().cStr() == "bb");
  BOOST_TEST(request.getImport().getTimeoutSeconds() == 60u);
  BOOST_TEST(request.getImport().getOciLayout().size() == 0u);

  auto shown = client.get("/v1/operations/" + id).json();
  BOOST_TEST(text(shown.at("kind")) == "image_import");
  auto metadata = shown.at("metadata");
  BOOST_TEST(text(metadata.at("registry").at("credentials").at("password")) == "<MASKED>");
  BOOST_TEST(metadata.at("timeout").as_int64() == 60);
}

BOOST_AUTO_TEST_CASE(empty_credentials_are_anonymous_and_not_shown) {
  auto client = this->client();
  auto answer =
      client.post("/v1/images/import", json::parse(R"({"registry":{"url":"docker://busybox",
                              "credentials":{"username":"","password":""}}})"));
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(!inside.started.at(0).view()->getRequest().getImport().getHasCredentials());
  auto shown = client.get("/v1/operations/" + text(answer.json().at("uuid"))).json();
  BOOST_TEST(!shown.at("metadata").at("registry").as_object().contains("credentials"));
  BOOST_TEST(shown.at("metadata").at("timeout").as_int64() == 300);
  BOOST_TEST(shown.at("metadata").at("tag").is_null());
}

BOOST_AUTO_TEST_CASE(bad_imports_are_400_by_field) {
  auto client = this->client();
  for (auto [body, field] :
       {std::pair{R"({})", "registry"}, std::pair{R"({"registry":5})", "registry"},
        std::pair{R"({"registry":{}})", "registry.url"},
        std::pair{R"({"registry":{"url":5}})", "registry.url"},
        std::pair{R"({"registry":{"url":"dir:/etc"}})", "registry.url"},
        std::pair{R"({"registry":{"url":"docker://x","credentials":"x"}})", "registry.credentials"},
        std::pair{R"({"registry":{"url":"docker://x","credentials":{"username":"a\nb"}}})",
                  "registry.credentials.username"},
        std::pair{R"({"registry":{"url":"docker://x"},"timeout":3601})", "timeout"},
        std::pair{R"({"registry":{"url":"docker://x"},"tag":"a b"})", "tag"}}) {
    auto answer = client.post("/v1/images/import", std::string{body});
    BOOST_TEST(answer.status == 400u, body);
    BOOST_TEST(error_of(answer).starts_with(field), answer.body);
  }
  BOOST_TEST(inside.started.empty());
}

BOOST_AUTO_TEST_CASE(only_the_operator_imports_a_folder_of_this_machine) {
  auto order = json::parse(R"({"oci_layout":"/srv/layout","tag":"busybox:latest",
                               "project":"team"})");
  BOOST_TEST(client().post("/admin/import", order).status == 404u);
  auto answer = operator_client().post("/admin/import", order);
  BOOST_TEST(answer.status == 201u);
  auto started = inside.started.at(0).view();
  BOOST_TEST(started->getProject().cStr() == "team");
  BOOST_TEST(started->getRequest().getImport().getOciLayout().cStr() == "/srv/layout");
  for (auto bad : {R"({})", R"({"oci_layout":"relative"})", R"({"oci_layout":"/x","tag":"a b"})",
                   R"({"oci_layout":"/x","project":"A"})"}) {
    BOOST_TEST(operator_client().post("/admin/import", std::string{bad}).status == 400u, bad);
  }
}

// -- files ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_upload_is_stored_piece_by_piece_and_found_again) {
  std::string bytes(1'000'000, 'x');
  auto client = this->client();
  auto answer = client.post("/v1/files", bytes);
  BOOST_TEST(answer.status == 201u);
  auto body = answer.json();
  BOOST_TEST(keys(body) == (std::vector<std::string>{"sha256", "size", "uuid"}),
             boost::test_tools::per_element());
  BOOST_TEST(body.at("size").as_int64() == 1'000'000);
  BOOST_TEST(inside.uploads.at(1) == bytes);
  BOOST_TEST(inside.appends == 4u);
  BOOST_TEST(inside.aborted_uploads == 0u);
  auto again = client.post("/v1/files", bytes);
  BOOST_TEST(text(again.json().at("uuid")) == text(body.at("uuid")));

  auto digest = text(body.at("sha256"));
  auto id = text(body.at("uuid"));
  for (const auto& target :
       {"/v1/files/" + digest, "/v1/files?sha256=" + digest, "/v1/files?uuid=" + id}) {
    auto found = client.get(target);
    BOOST_TEST(found.status == 200u, target);
    BOOST_TEST(text(found.json().at("uuid")) == id);
    BOOST_TEST(found.json().as_object().contains("updated_at"));
    auto head = client.head(target);
    BOOST_TEST(head.status == 200u);
    BOOST_TEST(head.body.empty());
  }
  BOOST_TEST(client.get("/v1/files").json().at("files").as_array().size() == 1u);
}

BOOST_AUTO_TEST_CASE(unknown_files_are_404) {
  auto client = this->client();
  for (const auto& target :
       {"/v1/files/" + no_digest, std::string{"/v1/files/xyz"}, "/v1/files?sha256=" + no_digest,
        std::string{"/v1/files?sha256="}, std::string{"/v1/files?uuid=x"},
        "/v1/files?uuid=" + uuid::random().text()}) {
    BOOST_TEST(client.get(target).status == 404u, target);
    BOOST_TEST(client.head(target).status == 404u, target);
  }
}

BOOST_AUTO_TEST_CASE(an_upload_may_come_in_chunks_or_be_empty) {
  auto client = this->client();
  client.send("POST /v1/files HTTP/1.1\r\nAuthorization: Bearer secret\r\n"
              "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.send("2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n");
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(inside.uploads.at(1) == "abcde");
  auto empty = client.post("/v1/files", "");
  BOOST_TEST(empty.status == 201u);
  BOOST_TEST(empty.json().at("size").as_int64() == 0);
}

BOOST_AUTO_TEST_CASE(an_upload_beyond_the_limit_is_413_and_given_up) {
  inside.config.http.upload_bytes_max = 300'000;
  auto client = this->client();
  BOOST_TEST(client.post("/v1/files", std::string(300'001, 'x')).status == 413u);
  auto chunked = this->client();
  std::string head = "POST /v1/files HTTP/1.1\r\nAuthorization: Bearer secret\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n493e1\r\n";
  chunked.send(head + std::string(300'001, 'x') + "\r\n0\r\n\r\n");
  BOOST_TEST(chunked.read_answer().status == 413u);
  auto fits = this->client();
  BOOST_TEST(fits.post("/v1/files", std::string(300'000, 'x')).status == 201u);
  std::unique_lock lock{inside.mutex};
  auto is_given_up = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                           [&] { return inside.aborted_uploads == 1; });
  BOOST_TEST(is_given_up);
  BOOST_TEST(inside.file_table.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_told_and_the_upload_given_up) {
  inside.store_error = ec::storage;
  auto answer = client().post("/v1/files", "x");
  BOOST_TEST(answer.status == 507u);
  BOOST_TEST(mentions(error_of(answer), "No space left"));
}

// -- instances -----------------------------------------------------------------------------------

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
  auto handed = inside.started.at(0).view()->getRequest().getInstance();
  BOOST_TEST((uuid::from(handed.getImage()) == image));

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
    "resources_limits":{"max_layer_bytes":4096},"networking":{"enabled":true}})")
                   .as_object();
  json::object placement{{"uuid", file}, {"mode", "0o100600"}, {"gid", 7}};
  order["files"] = json::object{{"/in/f", placement}};
  auto answer = client.post("/v1/instances", order);
  BOOST_TEST(answer.status == 201u);
  auto run = inside.started.at(0).view()->getRequest().getInstance();
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
  auto body = answer.json();
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

// -- operations ----------------------------------------------------------------------------------

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

BOOST_AUTO_TEST_CASE(an_image_tells_what_it_takes) {
  auto id = inside.add_image("default", {"a:1"}).text();
  auto client = this->client();
  auto answer = client.get("/v1/images/" + id);
  BOOST_TEST(answer.status == 200u);
  auto image = answer.json();
  BOOST_TEST(text(image.at("uuid")) == id);
  BOOST_TEST(image.at("own_bytes").to_number<int>() == 28672);
  BOOST_TEST(image.at("logical_bytes").to_number<int>() == 8192);
  BOOST_TEST(image.at("shared_bytes").to_number<int>() == 4096);
  inside.image_table.back().logical_bytes = 0; // made by an earlier version
  image = client.get("/v1/images/" + id).json();
  BOOST_TEST(image.at("logical_bytes").is_null());
  BOOST_TEST(image.at("shared_bytes").is_null());
  BOOST_TEST(client.get("/v1/images/" + uuid::random().text()).status == 404u);
  BOOST_TEST(client.get("/v1/images/nonsense").status == 404u);
  // Rows of listings are the contract's, nothing more.
  auto row = client.get("/v1/images").json().at("images").at(0).as_object();
  BOOST_TEST(row.size() == 4u);
}

// -- inspect -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_tag_leads_to_its_image) {
  auto id = inside.add_image("default", {"a/b:1"}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect?tag=a/b:1");
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == "inspect/?tag=a/b:1");
  answer = client.get("/v1/inspect/?tag=a/b:1");
  BOOST_TEST(answer.status == 302u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id);
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id + "/");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(text(answer.json().at("uuid")) == id);
  BOOST_TEST(client.get("/v1/inspect/").status == 400u);
  BOOST_TEST(client.get("/v1/inspect/?tag=nothing").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/?tag=a%20b").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_directory_is_listed_with_every_member) {
  inside.paths["/etc dir"] = {{}, {"a", "b\xFF"}, true, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto body = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir").json();
  BOOST_TEST(text(body.at("path")) == "/etc dir");
  auto files = body.at("files").as_array();
  BOOST_REQUIRE(files.size() == 2u);
  BOOST_TEST(files[0].as_object().size() == 15u);
  BOOST_TEST(text(files[0].at("owner")) == "root");
  BOOST_TEST(files[0].at("group").as_int64() == 0); // no name is known for it
  BOOST_TEST(files[0].at("mode").as_int64() == 33188);
  BOOST_TEST(files[0].at("is_regular").as_bool());
  BOOST_TEST(!files[0].at("is_dir").as_bool());
  BOOST_TEST(text(files[1].at("path")) == "b\xEF\xBF\xBD");
  auto listing = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir&text");
  BOOST_TEST(listing.header("Content-Type").starts_with("text/plain"));
  BOOST_TEST(listing.body.starts_with("total 4.0K\n-rw-r--r--"));
}

BOOST_AUTO_TEST_CASE(a_huge_directory_is_listed_piece_by_piece) {
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) {
    names.push_back("file-" + std::to_string(i));
  }
  inside.paths["/"] = {{}, names, true, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/list");
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  BOOST_TEST(answer.json().at("files").as_array().size() == names.size());
  auto listing = client.get("/v1/inspect/" + id + "/list?text=1");
  BOOST_TEST(listing.body.starts_with("total 39M\n"));
  BOOST_TEST(std::count(listing.body.begin(), listing.body.end(), '\n') ==
             static_cast<std::ptrdiff_t>(names.size() + 1));
}

BOOST_AUTO_TEST_CASE(a_file_is_downloaded_with_its_length) {
  std::string bytes;
  for (int i = 0; i < 1'000'000; ++i) {
    bytes += static_cast<char>(i * 31);
  }
  inside.paths["/bin/x"] = {bytes, {}, false, {}};
  inside.paths["/empty"] = {};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/download?path=/bin/x");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Content-Length") == "1000000");
  BOOST_TEST(answer.header("Content-Type") == "application/octet-stream");
  BOOST_TEST((answer.body == bytes));
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=bin/x").status == 200u);
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=/empty").body.empty());
}

BOOST_AUTO_TEST_CASE(looking_whether_a_file_is_there_reads_none_of_it) {
  inside.paths["/x"] = {"12345", {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto head = client.head("/v1/inspect/" + id + "/download?path=/x");
  BOOST_TEST(head.status == 200u);
  BOOST_TEST(head.header("Content-Length") == "5");
  BOOST_TEST(client.head("/v1/inspect/" + id + "/download?path=/y").status == 404u);
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_CASE(wrong_paths_are_told_apart) {
  inside.paths["/dir"] = {{}, {}, true, {}};
  inside.paths["/file"] = {"x", {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto status = [&](const std::string& rest) {
    return client.get("/v1/inspect/" + id + rest).status;
  };
  BOOST_TEST(status("/list?path=/file") == 422u);
  BOOST_TEST(status("/download?path=/dir") == 422u);
  BOOST_TEST(status("/list?path=/nothing") == 404u);
  BOOST_TEST(status("/download?path=/nothing") == 404u);
  BOOST_TEST(status("/download") == 400u);
  BOOST_TEST(status("/download?path=/a%00b") == 400u);
  BOOST_TEST(status("/list?text=perhaps") == 400u);
  BOOST_TEST(status("/archive?path=/") == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/list").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/list").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_download_of_another_length_than_announced_breaks_the_connection) {
  auto id = inside.add_image("default", {}).text();
  inside.paths["/short"] = {"12345", {}, false, 9};
  auto shorter = client();
  BOOST_CHECK_THROW(shorter.get("/v1/inspect/" + id + "/download?path=/short"), std::exception);
  inside.paths["/long"] = {"12345", {}, false, 3};
  auto longer = client();
  BOOST_CHECK_THROW(longer.get("/v1/inspect/" + id + "/download?path=/long"), std::exception);
}

BOOST_AUTO_TEST_CASE(a_reader_that_goes_away_closes_its_session) {
  inside.paths["/big"] = {std::string(50u << 20, 'x'), {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  {
    auto client = this->client();
    client.send("GET /v1/inspect/" + id +
                "/download?path=/big HTTP/1.1\r\nAuthorization: Bearer secret\r\n\r\n");
  }
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_SUITE_END()
