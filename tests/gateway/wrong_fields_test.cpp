#include "tests/gateway/refusals_fixture.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

// Every field of every body in every way in which it can be wrong, and bodies that are none.

namespace {

using texts = std::vector<std::string>;

/// Values of other types, as JSON.
const texts no_text{"5", "1.5", "true", "[]", "{}", R"(["x"])"};
const texts no_flag{R"("true")", R"("")", "0", "1", "[]", "{}"};
const texts no_integer{R"("5")",
                       R"("")",
                       "1.5",
                       "1e300",
                       "true",
                       "[]",
                       R"({})",
                       "18446744073709551615",
                       "-9223372036854775808"};
const texts no_object{R"("x")", "5", "true", "[]"};
const texts no_list{R"("x")", "5", "true", "{}"};

std::string quoted(const std::string& text) {
  return json::serialize(json::value(text));
}

struct field {
  std::string name; ///< its parts with dots between them
  texts other_types;
  texts wrong; ///< of the right type
  bool is_required = false;
};

struct address {
  std::string method;
  std::string target;
  json::object body; ///< that is right
  std::vector<field> fields;
};

/// The body with `value` as the field.
std::string body_with(const json::object& right, std::string_view name, const std::string& value) {
  json::value body = right;
  auto* at = &body;
  for (;;) {
    auto dot = std::min(name.find('.'), name.size());
    if (!at->is_object()) {
      *at = json::object{};
    }
    at = &at->as_object()[json::string_view{name.data(), dot}];
    if (dot == name.size()) {
      break;
    }
    name.remove_prefix(dot + 1);
  }
  *at = json::parse(value);
  return json::serialize(body);
}

std::vector<field> process_fields() {
  std::string args(4097 * 4, ' ');
  for (std::size_t i = 0; i < 4097; ++i) {
    args.replace(i * 4, 4, R"("x",)");
  }
  args.pop_back();
  return {
      {"command",
       no_text,
       {R"("")", R"("a\u0000b")", quoted(std::string((1u << 20) + 1, 'x'))},
       true},
      {"args", no_list, {"[1]", "[null]", "[[]]", R"(["a","\u0000"])", "[" + args + "]"}},
      {"shell", no_flag, {}},
      {"env",
       no_object,
       {R"({"":"x"})", R"({"A=B":"x"})", R"({"A":1})", R"({"A":[]})", R"({"A":"\u0000"})",
        R"({"\u0000":"x"})"}},
      {"cwd", no_text, {R"("/\u0000")", quoted(std::string(4097, '/'))}},
      {"uid", no_integer, {"-1", "4294967295"}},
      {"gid", no_integer, {"-1", "4294967295"}},
      {"stdin", no_object, {}},
      {"stdin.value", no_text, {}},
      {"stdin.encoding", no_text, {R"("utf-8")", R"("ASCII")", R"("")", R"("ascii\u0000")"}},
      {"stdin.close", no_flag, {}},
      {"truncate_output_at", no_integer, {"-1", "10485761"}},
  };
}

std::vector<field> run_fields() {
  auto fields = process_fields();
  for (const auto& more : std::vector<field>{
           {"image", no_text, {R"("")", R"("\u0000")", quoted(std::string(513, 'x'))}, true},
           {"preserve_env", no_flag, {}},
           {"disposable", no_flag, {}},
           {"hostname",
            no_text,
            {R"("a b")", R"("\u0007")", R"("\u00e9")", quoted(std::string(65, 'h'))}},
           {"timeout", no_integer, {"0", "-1", "3601"}},
           {"files",
            no_object,
            {R"({"":{}})", R"({"a":{}})", R"({"/a/":{}})", R"({"/\u0000":{}})"}},
           {"files./a", no_object, {}},
           {"files./a.uuid", no_text, {R"("")", R"("x")", quoted(std::string(37, '0'))}, true},
           {"files./a.uid", no_integer, {"-1", "4294967295"}},
           {"files./a.gid", no_integer, {"-1", "4294967295"}},
           {"files./a.mode",
            {"true", "[]", "{}", "1.5"},
            {R"("")", R"("8")", R"("rw")", R"("-1")", R"("200000")", R"("644\u0000")", "-1",
             "65536"}},
           {"resources_limits", no_object, {}},
           {"resources_limits.max_layer_bytes", no_integer, {"0", "-1", "4611686018427387905"}},
           {"networking", no_object, {}},
           {"networking.enabled", no_flag, {}},
           {"resources", no_object, {}},
           {"resources.cpus", no_integer, {"0", "-1", "65"}},
           {"resources.memory_mb", no_integer, {"0", "-1", "65537"}},
           {"priority", no_integer, {"-11", "11"}},
       }) {
    fields.push_back(more);
  }
  return fields;
}

std::vector<field> import_fields() {
  const texts no_tag{R"("a b")", R"("a/")", R"("\u0000")", R"("\u00e9")",
                     quoted(std::string(257, 'a'))};
  return {
      {"registry", no_object, {}, true},
      {"registry.url",
       no_text,
       {R"("")", R"("docker://")", R"("dir:/etc")", R"("docker://a b")", R"("docker://a\u0000")",
        R"("http://host/a")", quoted("docker://" + std::string(300, 'a'))},
       true},
      {"registry.credentials", no_object, {}},
      {"registry.credentials.username",
       no_text,
       {R"("a:b")", R"("a\nb")", quoted(std::string(4097, 'u'))}},
      {"registry.credentials.password", no_text, {R"("a\nb")", quoted(std::string(4097, 'p'))}},
      {"tag", no_text, no_tag},
      {"timeout", no_integer, {"0", "-1", "3601"}},
  };
}

struct fixture : refusals_fixture {
  std::string file = kept_file();

  std::string kept_file() {
    inside.file_table.push_back({uuid::random(), "default", std::string(32, 'f'), 1});
    return inside.file_table.back().id.text();
  }

  std::vector<address> all() const {
    const auto processes = "/v1/operations/" + running + "/subprocesses";
    const texts no_tag{R"("")", R"("a b")", R"("a/")", R"("\u0000")",
                       quoted(std::string(257, 'a'))};
    return {
        {"POST",
         "/v1/instances",
         {{"command", "true"}, {"image", "tag:base"}, {"files", {{"/a", {{"uuid", file}}}}}},
         run_fields()},
        {"POST", processes, {{"command", "ls"}}, process_fields()},
        {"POST",
         processes + "/1/stdin",
         {{"value", "x"}},
         {{"value", no_text, {}, true},
          {"encoding", no_text, {R"("hex")", R"("")"}},
          {"close", no_flag, {}}}},
        {"POST",
         "/v1/images/import",
         {{"registry", {{"url", "docker://host/a:b"}}}},
         import_fields()},
        {"PATCH",
         "/v1/images/" + image + "/tag",
         {{"tag", "base"}},
         {{"tag", no_text, no_tag, true}}},
    };
  }
};

/// What is not one object of JSON in UTF-8.
const texts no_bodies{
    "",
    " ",
    "{",
    "}",
    "[]",
    "null",
    "5",
    "\"x\"",
    "true",
    "not JSON",
    "{}{}",
    "{} x",
    "{\"a\":1,}",
    "{'a':1}",
    "{a:1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"}",
    "// no\n{}",
    "{\"a\":01}",
    "{\"a\":NaN}",
    "{\"a\":\"\t\"}",
    "{\"a\":\"\\x41\"}",
    "{\"a\":\"\\u12\"}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\udc00\\ud800\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\xc3\"}",
    "{\"a\":\"\xc0\xaf\"}",
    "{\"a\":\"\xed\xa0\x80\"}",
    "\xef\xbb\xbf{}",
    std::string("{\0}", 3),
    std::string("\xff\xfe{\0}\0", 6),
    std::string(17, '[') + std::string(17, ']'),
    "{\"a\":" + std::string(100'000, '[') + "}",
    "command=true&image=base",
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(wrong_fields, fixture)

BOOST_AUTO_TEST_CASE(a_field_of_another_type_is_400_by_its_name) {
  for (const auto& where : all()) {
    for (const auto& each : where.fields) {
      for (const auto& value : each.other_types) {
        auto why =
            refused(where.method, where.target, 400, body_with(where.body, each.name, value));
        BOOST_TEST(why.starts_with(each.name + " "), each.name << " = " << value << ": " << why);
      }
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(a_field_beyond_what_it_may_be_is_400_by_its_name) {
  for (const auto& where : all()) {
    for (const auto& each : where.fields) {
      for (const auto& value : each.wrong) {
        auto why =
            refused(where.method, where.target, 400, body_with(where.body, each.name, value));
        BOOST_TEST(why.starts_with(each.name),
                   each.name << " = " << value.substr(0, 80) << ": " << why.substr(0, 200));
      }
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(a_null_is_a_field_that_is_absent) {
  for (const auto& where : all()) {
    for (const auto& each : where.fields) {
      const auto body = body_with(where.body, each.name, "null");
      if (each.is_required) {
        auto why = refused(where.method, where.target, 400, body);
        BOOST_TEST(why.starts_with(each.name + " "), each.name << ": " << why);
      } else {
        auto answer = kept().request(where.method, where.target, body);
        BOOST_TEST(answer.status / 100 == 2, each.name << ": " << answer.body);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(input_that_is_not_in_its_encoding_is_400) {
  const auto processes = "/v1/operations/" + running + "/subprocesses";
  for (const auto* value : {"?", "A", "AB", "ABC", "A===", "AB=C", "AAAA=", "\u00e9"}) {
    const json::object input{{"value", value}, {"encoding", "base64"}};
    BOOST_TEST(
        refused("POST", processes + "/1/stdin", 400, json::serialize(input)).starts_with("value "));
    const json::object run{{"command", "x"}, {"image", "tag:base"}, {"stdin", input}};
    BOOST_TEST(
        refused("POST", "/v1/instances", 400, json::serialize(run)).starts_with("stdin.value "));
    BOOST_TEST(refused("POST", processes, 400, json::serialize(run)).starts_with("stdin.value "));
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(a_body_that_is_no_object_is_400_and_nothing_happens) {
  for (const auto& where : all()) {
    for (const auto& body : no_bodies) {
      auto why = refused(where.method, where.target, 400, body);
      BOOST_TEST(why.starts_with("the body "), body.substr(0, 40) << ": " << why);
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(a_body_that_breaks_off_is_400_and_nothing_happens) {
  for (const auto& where : all()) {
    const auto head = where.method + " " + where.target +
                      " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n";
    const auto body = json::serialize(where.body);
    for (const auto& part :
         {"Content-Length: " + std::to_string(body.size() + 1) + "\r\n\r\n" + body,
          "Content-Length: 1\r\n\r\n" + std::string{},
          "Transfer-Encoding: chunked\r\n\r\n5\r\n" + body.substr(0, 4),
          "Transfer-Encoding: chunked\r\n\r\n4\r\n" + body.substr(0, 4) + "\r\n",
          std::string{"Transfer-Encoding: chunked\r\n\r\n"}}) {
      auto client = this->client();
      client.send(head + part);
      client.finish_sending();
      auto answer = client.read_answer();
      BOOST_TEST(answer.status == 400u, where.target << " " << part);
      BOOST_TEST(mentions(error_of(answer), "body"));
      BOOST_TEST(client.is_closed_by_server());
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(a_body_beyond_the_limit_is_413_however_it_comes) {
  inside.config.http.json_body_bytes_max = 1000;
  for (const auto& where : all()) {
    const std::string body(1001, ' ');
    BOOST_TEST(mentions(refused(where.method, where.target, 413, body), "1000 bytes"));
    const auto head = where.method + " " + where.target +
                      " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n";
    kept().send(head + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + body + "\r\n0\r\n\r\n");
    told(kept().read_answer(), 413, where.target + " in chunks");
    // More than is worth reading: told before it comes, and then there is nothing to go on with.
    auto client = this->client();
    client.send(head + "Content-Length: 100000000000\r\n\r\n");
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 413u, where.target);
    error_of(answer);
    BOOST_TEST(!answer.keep_alive);
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(the_operators_import_is_read_as_strictly) {
  auto client = operator_client();
  const json::object right{{"oci_layout", "/srv/layout"}};
  for (const auto& each : std::vector<field>{
           {"oci_layout", no_text, {R"("")", R"("here")", R"("/\u0000")", "null"}},
           {"tag", no_text, {R"("a b")", R"("a/")"}},
           {"timeout", no_integer, {"0", "3601"}},
           {"project",
            no_text,
            {R"("")", R"("A")", R"("a b")", R"("\u0000")", quoted(std::string(65, 'a'))}}}) {
    for (const auto* values : {&each.other_types, &each.wrong}) {
      for (const auto& value : *values) {
        auto answer = client.post("/admin/import", body_with(right, each.name, value));
        BOOST_TEST(answer.status == 400u, each.name << " = " << value);
        BOOST_TEST(error_of(answer).starts_with(each.name + " "), error_of(answer));
      }
    }
  }
  BOOST_TEST(is_untouched());
}

BOOST_AUTO_TEST_CASE(an_upload_takes_any_bytes_and_its_key_is_read_first) {
  for (const auto& bytes : {std::string{}, std::string("\0\xff", 2), std::string{"{"}}) {
    BOOST_TEST(kept().post("/v1/files", bytes).status == 201u);
  }
  const auto so_far = inside.locked([&] { return inside.uploads.size(); });
  for (const auto& key : {std::string(256, 'k'), std::string{"a\tb"}, std::string{"\xff"}}) {
    BOOST_TEST(mentions(refused("POST", "/v1/files", 400, "bytes", {{"Idempotency-Key", key}}),
                        "Idempotency-Key"));
    for (const auto& where : all()) {
      if (where.method == "POST") {
        BOOST_TEST(mentions(refused("POST", where.target, 400, json::serialize(where.body),
                                    {{"Idempotency-Key", key}}),
                            "Idempotency-Key"));
      }
    }
  }
  BOOST_TEST(inside.locked([&] { return inside.uploads.size(); }) == so_far);
  BOOST_TEST(inside.started.empty());
  BOOST_TEST(inside.process_orders.empty());
}

BOOST_AUTO_TEST_SUITE_END()
