#include "tests/gateway/routes_fixture.hpp"

#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes_tree, server_fixture)

BOOST_AUTO_TEST_CASE(what_is_near_an_image_is_told_with_parent_and_distance) {
  const auto image = inside.add_image("default", {});
  for (const std::string part : {"ancestors", "children", "tree"}) {
    auto answer = client().get("/v1/images/" + image.text() + "/" + part);
    BOOST_TEST(answer.status == 200u);
    auto body = answer.json();
    BOOST_TEST(keys(body) == (std::vector<std::string>{"images", "truncated", "uuid"}),
               boost::test_tools::per_element());
    BOOST_TEST(text(body.at("uuid")) == image.text());
    BOOST_TEST(body.at("truncated").as_bool());
    const auto& node = body.at("images").as_array().at(0);
    BOOST_TEST(keys(node) == (std::vector<std::string>{"created_at", "distance", "operation_uuid",
                                                       "parent_uuid", "tag", "uuid"}),
               boost::test_tools::per_element());
    BOOST_TEST(text(node.at("parent_uuid")) == image.text());
    BOOST_TEST(node.at("distance").as_int64() == 1);
  }
}

BOOST_AUTO_TEST_CASE(walks_reach_the_catalog_with_their_bounds) {
  const auto base = "/v1/images/" + inside.add_image("default", {}).text();
  auto client = this->client();
  client.get(base + "/ancestors?limit=7&offset=9");
  client.get(base + "/children");
  client.get(base + "/tree?depth=12");
  client.get(base + "/tree");
  auto up = inside.walks.at(0).view();
  BOOST_TEST(up->getUpwards());
  BOOST_TEST(up->getLimit() == 7u);
  BOOST_TEST(up->getOffset() == 9u);
  BOOST_TEST(up->getDistanceMax() == UINT32_MAX);
  BOOST_TEST(!inside.walks.at(1).view()->getUpwards());
  BOOST_TEST(inside.walks.at(1).view()->getDistanceMax() == 1u);
  BOOST_TEST(inside.walks.at(2).view()->getDistanceMax() == 12u);
  BOOST_TEST(inside.walks.at(3).view()->getDistanceMax() == 3u);
}

BOOST_AUTO_TEST_CASE(bad_walks_are_refused) {
  const auto base = "/v1/images/" + inside.add_image("default", {}).text();
  const auto foreign = inside.add_image("other", {});
  auto client = this->client();
  for (const std::string query :
       {"depth=0", "depth=1001", "depth=", "depth=x", "depth=-1", "limit=0", "offset=x"}) {
    auto answer = client.get(base + "/tree?" + query);
    BOOST_TEST(answer.status == 400u, query);
    BOOST_TEST(error_of(answer).starts_with(query.substr(0, 5)));
  }
  for (const std::string part : {"ancestors", "children", "tree"}) {
    BOOST_TEST(client.get("/v1/images/" + foreign.text() + "/" + part).status == 404u);
    BOOST_TEST(client.get("/v1/images/nonsense/" + part).status == 404u);
    BOOST_TEST(client.post(base + "/" + part, json::object{}).status == 405u);
  }
}

BOOST_AUTO_TEST_SUITE_END()
