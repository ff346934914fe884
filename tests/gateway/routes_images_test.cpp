#include "tests/gateway/routes_fixture.hpp"

#include <boost/json/parse.hpp>

#include <string>
#include <utility>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

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
  // A name that went missing in a script is not all names.
  BOOST_TEST(client.request("DELETE", "/v1/images/" + id + "/tag?tag=").status == 400u);
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
  auto handed = inside.started.at(0).view();
  auto request = handed->getRequest();
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

BOOST_AUTO_TEST_CASE(nulls_of_an_import_are_as_if_absent) {
  auto client = this->client();
  for (auto credentials : {"null", R"({"username":null,"password":null})", "{}"}) {
    auto body = R"({"registry":{"url":"docker://busybox","credentials":)" +
                std::string{credentials} + R"(},"tag":null,"timeout":null})";
    BOOST_TEST(client.post("/v1/images/import", body).status == 201u, body);
    auto import = inside.locked([&] { return inside.started.back(); });
    auto view = import.view();
    auto request = view->getRequest().getImport();
    BOOST_TEST(!request.getHasCredentials());
    BOOST_TEST(request.getTag().size() == 0u);
    BOOST_TEST(request.getTimeoutSeconds() == 300u);
  }
  auto answer = client.post("/v1/images/import", R"({"registry":{"url":null}})");
  BOOST_TEST(answer.status == 400u);
  BOOST_TEST(error_of(answer).starts_with("registry.url"));
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

BOOST_AUTO_TEST_SUITE_END()
