#define BOOST_TEST_MODULE wrong_input
#include "gateway/http/router.hpp"
#include "tests/gateway/refusals_fixture.hpp"

#include <map>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

// Every parameter of every address in every way in which it can be wrong.

namespace {

using texts = std::vector<std::string>;

texts operator+(texts all, const texts& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// As they stand in an address. What is no number: a sign, another base, other digits, other bytes.
const texts no_number{"x",    "-1",  "1.5",  "1e3", "%2B5",   "0x10",  "%205",
                      "5%20", "%00", "5%00", "%ff", "%D9%A1", "1,000", "99999999999999999999"};
const texts no_flag{"2", "yes", "TRUE", "-1", "%00", "1%00", "%ff", "on", "null"};
const texts no_time{
    "yesterday",        "5q",         "%00",        "15m%00",     "--",   "%ff",
    "2024-01-01T25:00", "2024-13-01", "2024-02-30", "2024-01-1x", "1h2m", std::string(65, '1')};
const texts no_path{"", "%00", "/a%00b", "/" + std::string(4096, 'a')};

struct parameter {
  std::string target;
  std::string name;
  texts wrong;
  std::string method = "GET";
};

struct fixture : refusals_fixture {
  std::vector<parameter> all() const {
    std::vector<parameter> out;
    const auto near = "/v1/images/" + image;
    const auto inspect = "/v1/inspect/" + image;
    const auto operation = "/v1/operations/" + running;
    for (const auto& listing :
         texts{"/v1/images", "/v1/files", "/v1/operations", near + "/ancestors", near + "/children",
               near + "/tree", operation + "/subprocesses"}) {
      out.push_back({listing, "limit", no_number + texts{"", "0", "1001"}});
      out.push_back({listing, "offset", no_number + texts{""}});
    }
    for (const auto& listing : texts{"/v1/images", "/v1/files", "/v1/operations"}) {
      out.push_back({listing, "since", no_time});
      out.push_back({listing, "until", no_time});
    }
    out.push_back({"/v1/images", "tagged", no_flag});
    out.push_back(
        {"/v1/operations", "status", {"running", "SUCCESS,FAILED", "%00", "SUCCESS%00", "%ff"}});
    out.push_back({"/v1/operations", "kind", {"vm", "import", "%00", "instance%00", "%ff"}});
    out.push_back({near + "/tree", "depth", no_number + texts{"", "0", "1001"}});
    out.push_back({near + "/diff/" + other_image, "limit", no_number + texts{"0", "100001"}});
    out.push_back({near + "/diff/" + other_image, "offset", no_number + texts{"4294967296"}});
    out.push_back({near + "/diff/" + other_image, "text", no_flag});
    out.push_back({near + "/diff/" + other_image + "?text", "path", no_path});
    out.push_back({near, "with_tags", no_flag, "DELETE"});
    out.push_back({operation, "inflight", no_flag});
    out.push_back({operation + "/events", "follow", no_flag});
    out.push_back({operation + "/events", "spid", no_number + texts{"4294967296"}});
    out.push_back({operation + "/events",
                   "since",
                   {"x", "1.5", "1e3", "%00", "5%00", "%ff", "0x10", "99999999999999999999"}});
    out.push_back({operation + "/subprocesses/1",
                   "signal",
                   {"0", "65", "-9", "9.0", "NOPE", "SIG", "SIGSIG", "TERM%00", "%00", "%ff",
                    "9%00", "99999999999999999999"},
                   "DELETE"});
    out.push_back({inspect + "/list", "path", no_path});
    out.push_back({inspect + "/list", "text", no_flag});
    out.push_back({inspect + "/download", "path", no_path});
    out.push_back({inspect + "/archive", "path", no_path});
    const auto grep = inspect + "/grep?pattern=x";
    out.push_back({grep, "path", no_path});
    for (const auto* count : {"max_count", "max_total"}) {
      out.push_back({grep, count, no_number + texts{"4294967296"}});
    }
    for (const auto* lines : {"before", "after"}) {
      out.push_back({grep, lines, no_number + texts{"101"}});
    }
    out.push_back({grep, "case", {"loud", "Smart", "%00", "smart%00", "%ff"}});
    return out;
  }

  /// The address of a route, with something that is there for each `{}`, or `wrong` for one.
  std::string address(std::string pattern, std::size_t place = SIZE_MAX,
                      const std::string& wrong = {}) const {
    const bool is_operation = pattern.find("/operations") != std::string::npos;
    const bool is_file = pattern.find("/files") != std::string::npos;
    for (std::size_t i = 0;; ++i) {
      auto at = pattern.find("{}");
      if (at == std::string::npos) {
        return pattern + (pattern.ends_with("/grep") ? "?pattern=x" : "");
      }
      const auto right = is_operation ? (i == 0 ? running : "1")
                         : is_file    ? no_digest
                                      : (i == 0 ? image : other_image);
      pattern.replace(at, 2, i == place ? wrong : right);
    }
  }

  static std::size_t places(std::string_view pattern) {
    std::size_t count = 0;
    for (auto at = pattern.find("{}"); at != pattern.npos; at = pattern.find("{}", at + 2)) {
      ++count;
    }
    return count;
  }

  static bool is_clients(const gateway::route& route) {
    return std::string_view{route.pattern}.starts_with("/v1/");
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(wrong_parameters, fixture)

BOOST_AUTO_TEST_CASE(a_wrong_parameter_is_400_by_its_name) {
  for (const auto& each : all()) {
    const bool has_query = each.target.find('?') != std::string::npos;
    for (const auto& value : each.wrong) {
      auto why = refused(each.method,
                         each.target + (has_query ? "&" : "?") + each.name + "=" + value, 400);
      BOOST_TEST(why.starts_with(each.name + " "), why);
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(what_is_missing_is_400_by_its_name) {
  for (const auto& [target, name] : std::map<std::string, std::string>{
           {"/v1/inspect/", "tag"},
           {"/v1/inspect/?tag=", "tag"},
           {"/v1/inspect/" + image + "/download", "path"},
           {"/v1/inspect/" + image + "/archive", "path"},
           {"/v1/images/" + image + "/diff/" + other_image + "?text=1", "path"}}) {
    auto why = refused("GET", target, 400);
    BOOST_TEST(why.starts_with(name + " is required"), why);
  }
}

BOOST_AUTO_TEST_CASE(a_search_that_cannot_be_made_is_400) {
  const auto grep = "/v1/inspect/" + image + "/grep";
  for (const auto* query : {"", "?pattern=(", "?pattern=%ff", "?pattern=x&pattern=%5B",
                            "?pattern=x&glob=", "?pattern=x&glob=%5B"}) {
    refused("GET", grep + query, 400);
  }
  std::string many = "?pattern=x";
  for (int i = 0; i < 65; ++i) {
    many += "&path=/";
  }
  BOOST_TEST(mentions(refused("GET", grep + many, 400), "paths"));
}

BOOST_AUTO_TEST_CASE(headers_that_say_nothing_are_400_or_overlooked) {
  const auto events = "/v1/operations/" + running + "/events";
  for (const auto* id : {"x", "1.5", "1 2", "99999999999999999999", "\xff", "1,2"}) {
    BOOST_TEST(mentions(refused("GET", events, 400, {}, {{"Last-Event-Id", id}}), "Last-Event-Id"));
  }
  inside.paths["/f"] = {"content", {}, false, {}, {}};
  const auto file = "/v1/inspect/" + image + "/download?path=/f";
  // RFC 9110, section 14.2: a Range that is none is as if it were not there.
  for (const auto* range : {"x", "bytes", "bytes=", "bytes=-", "bytes=5-1", "bytes=a-b",
                            "lines=1-2", "bytes=0-1,3-4", "bytes=1-\xff"}) {
    auto answer = kept().request("GET", file, {}, {{"Range", range}});
    BOOST_TEST(answer.status == 200u, range);
    BOOST_TEST(answer.body == "content");
  }
  told(kept().request("GET", file, {}, {{"Range", "bytes=7-"}}), 416, "a range behind the end");
}

BOOST_AUTO_TEST_CASE(a_name_that_names_nothing_is_404_at_every_address) {
  const texts no_id{"nonsense",
                    "%00",
                    "%ff%fe",
                    "..",
                    "%2e%2e",
                    "%2F",
                    "0",
                    std::string(36, 'x'),
                    std::string(64, 'g'),
                    std::string(5000, 'a'),
                    "00000000-0000-0000-0000-000000000000",
                    image + "x",
                    image + "%00",
                    image.substr(0, 35),
                    "%20" + image};
  const texts no_spid{
      "0", "-1", "x", "1.5", "%2B1", "%00", "1%00", "4294967296", "99999999999999999999"};
  for (const auto& route : gateway::routes()) {
    for (std::size_t place = 0; is_clients(route) && place < places(route.pattern); ++place) {
      const bool is_spid = place == 1 && mentions(std::string{route.pattern}, "subprocesses/{}");
      for (const auto& wrong : is_spid ? no_spid : no_id) {
        refused(std::string{route.method}, address(std::string{route.pattern}, place, wrong), 404,
                route.method == "GET" || route.method == "DELETE" ? "" : "{}");
      }
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(head_is_refused_as_get_is_and_without_a_body) {
  for (const auto& route : gateway::routes()) {
    if (is_clients(route) && route.method == "GET" && places(route.pattern) > 0) {
      auto target = address(std::string{route.pattern}, 0, "nonsense");
      auto head = kept().head(target);
      BOOST_TEST(head.status == 404u, target);
      BOOST_TEST(head.body.empty());
      refused("GET", target, 404); // and the connection has not lost its place
    }
  }
}

BOOST_AUTO_TEST_CASE(another_method_is_405_and_says_which_there_are) {
  std::map<std::string, std::string> methods; // of each address
  for (const auto& route : gateway::routes()) {
    if (is_clients(route)) {
      methods[std::string{route.pattern}] += std::string{route.method} + " ";
    }
  }
  for (const auto& [pattern, known] : methods) {
    for (const std::string method :
         {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}) {
      if (mentions(known, method + " ")) {
        continue;
      }
      // An image may be asked for by any name, this one too.
      const bool is_name =
          pattern == "/v1/images/import" && (method == "GET" || method == "DELETE");
      auto answer = kept().request(method, address(pattern), method == "TRACE" ? "" : "{}");
      told(answer, is_name ? 404 : 405, method + " " + pattern);
      if (is_name) {
        continue;
      }
      BOOST_TEST(mentions(known, answer.header("Allow").substr(0, 3)), pattern);
    }
    kept().send("BREW " + address(pattern) + " HTTP/1.1\r\nHost: x\r\n\r\n");
    told(kept().read_answer(), 405, "BREW " + pattern);
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(who_cannot_be_told_is_401_at_every_address) {
  const texts nobody{"",
                     "Bearer",
                     "Bearer ",
                     "Basic c2VjcmV0",
                     "secret",
                     "Bearer secre",
                     "Bearer secret extra",
                     "Bearer \xff\xfe",
                     "Bearer secret,secret",
                     "Token secret",
                     "Bearer " + std::string(10'000, 'x')};
  for (const auto& route : gateway::routes()) {
    if (!is_clients(route)) {
      continue;
    }
    for (const auto& who : nobody) {
      refused(std::string{route.method}, address(std::string{route.pattern}), 401, "{}",
              {{"Authorization", who}});
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(who_may_nothing_is_403_at_every_address) {
  inside.add_token_with("powerless", "default", [](proto::TokenRecord::Builder record) {
    record.setMayImport(false);
    record.setMaySpawn(false);
    record.setMaySpawnDisposable(false);
    record.setMayList(false);
    record.setMayCancel(false);
    record.setMaySetImageTag(false);
    record.setMayDeleteImage(false);
  });
  for (const auto& route : gateway::routes()) {
    if (is_clients(route) && route.needs != 0) {
      auto why = refused(std::string{route.method}, address(std::string{route.pattern}), 403, "{}",
                         {{"Authorization", "Bearer powerless"}});
      BOOST_TEST(why.starts_with("Insufficient permissions: "), why);
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(percent_signs_that_encode_nothing_are_400_in_paths_and_text_in_queries) {
  for (const auto* target : {"/v1/images/%", "/v1/images/%4", "/v1/images/%zz/tag", "/%%%",
                             "/v1/operations/%u0041", "/v1/inspect/%-1/list"}) {
    BOOST_TEST(mentions(refused("GET", target, 400), "percent"));
  }
  for (const auto* query : {"tag=%", "tag=%zz", "%zz=1", "%", "tag=a%2", "&&&", "=", "=x", "tag"}) {
    BOOST_TEST(kept().get("/v1/images?" + std::string{query}).status == 200u, query);
  }
}

BOOST_AUTO_TEST_CASE(addresses_with_bytes_that_should_have_been_encoded_are_read_or_refused) {
  auto ask = [&](const std::string& target) {
    kept().send("GET " + target + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
    return kept().read_answer();
  };
  // The CLI sends tags as they were typed.
  for (const auto* query : {"tag=\xff\xfe", "tag=\xc3\xa9", "tag=a\"b", "tag={a}|b\\c^`", "tag=<a>",
                            "tag=a#b", "tag=a?b=c", "tag[]=x;y=z"}) {
    BOOST_TEST(ask("/v1/images?" + std::string{query}).status == 200u, query);
  }
  for (const auto* target :
       {"/v1/images/\xff", "/v1/images/a\"b", "/v1/images/{}", "/v1//images", "//v1/images",
        "/v1/images/", "/v1/../v1/images", "/V1/images", "/", "/v1", "/v1/", "/v1/images;x=1",
        "/v1/images#x", "/v1%2Fimages", "http://x", "http://x/", "http://x?y", "*"}) {
    told(ask(target), 404, target);
  }
}

BOOST_AUTO_TEST_CASE(listings_take_odd_filters_for_what_matches_nothing) {
  for (const auto* filter : {"tag=docker://docker.io/library/x:y", "tag=%00", "tag=%ff",
                             "uuid=nonsense", "uuid=%00", "kind=whatever"}) {
    BOOST_TEST(kept().get("/v1/images?" + std::string{filter}).status == 200u, filter);
  }
  const auto too_long = "/v1/images?tag=" + std::string(5000, 'a');
  BOOST_TEST(kept().get(too_long).status == 200u);
  for (const auto* look_up : {"sha256=", "sha256=xyz", "sha256=%00", "uuid=", "uuid=nonsense"}) {
    refused("GET", "/v1/files?" + std::string{look_up}, 404);
  }
}

BOOST_AUTO_TEST_SUITE_END()
