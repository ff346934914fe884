#define BOOST_TEST_MODULE requests
#include "gateway/http/json_fields.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/spawn_order.hpp"
#include "gateway/http/target.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <string>

using namespace coppice::gateway;
namespace json = boost::json;

namespace {

answer<spawn_order> parsed(std::string_view text) {
  auto body = parse_json_object(text);
  BOOST_REQUIRE_MESSAGE(body.has_value(), text);
  return parse_spawn_order(
      *body, {60, 3600, 1u << 30, {1, 256}, {{1, 128}, {1, 256}, {1, 1024}, {2, 512}, {4, 4096}}});
}

/// A request with the two required fields and one more.
std::string with(std::string_view field) {
  return R"({"command":"ls","image":"tag:busybox",)" + std::string{field} + "}";
}

std::string refusal_text(std::string_view body) {
  auto order = parsed(body);
  BOOST_REQUIRE_MESSAGE(order.has_error(), body);
  BOOST_TEST(order.error().status == 400u);
  return order.error().text;
}

void names_field(std::string_view body, std::string_view field) {
  auto text = refusal_text(body);
  BOOST_TEST(text.starts_with(field), text);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_run_needs_only_a_command_and_an_image) {
  auto order = parsed(R"({"command":"ls","image":"tag:busybox"})");
  BOOST_REQUIRE(order.has_value());
  BOOST_TEST(order->hostname == "linuxkit");
  BOOST_TEST(order->timeout_seconds == 60u);
  BOOST_TEST(order->truncate_output_at == 1048576u);
  BOOST_TEST(order->layer_bytes_max == 1u << 30);
  BOOST_TEST(order->stdin.close);
  BOOST_TEST(!order->disposable);
  BOOST_TEST(!order->uid.has_value());
  BOOST_TEST((order->machine == coppice::machine_class{1, 256}));
  BOOST_TEST(order->priority == 0);
}

BOOST_AUTO_TEST_CASE(resources_choose_the_smallest_class_that_has_them) {
  struct row {
    const char* resources;
    coppice::machine_class chosen;
  };
  for (const auto& r : {
           row{"null", {1, 256}},
           row{"{}", {1, 256}},
           row{R"({"cpus":null,"memory_mb":null})", {1, 256}},
           row{R"({"disk":1,"cpus":1})", {1, 256}},
           row{R"({"cpus":1,"memory_mb":1})", {1, 128}},
           row{R"({"cpus":1,"memory_mb":128})", {1, 128}},
           row{R"({"memory_mb":129})", {1, 256}},
           row{R"({"memory_mb":257,"cpus":null})", {1, 1024}},
           row{R"({"cpus":2})", {2, 512}},
           row{R"({"cpus":2,"memory_mb":513})", {4, 4096}},
           row{R"({"cpus":3})", {4, 4096}},
           row{R"({"cpus":4,"memory_mb":4096})", {4, 4096}},
       }) {
    auto order = parsed(with(std::string{R"("resources":)"} + r.resources));
    BOOST_REQUIRE_MESSAGE(order.has_value(), r.resources);
    BOOST_TEST((order->machine == r.chosen), r.resources);
  }
  for (const char* wrong : {"0", "-1", "1.5", "2.0", "5", "\"2\"", "true", "[]", "{}",
                            "18446744073709551615", "1e300"}) {
    names_field(with(std::string{R"("resources":{"cpus":)"} + wrong + "}"), "resources.cpus must");
  }
  for (const char* wrong :
       {"0", "-1", "256.5", "256.0", "4097", "\"256\"", "false", "[]", "9223372036854775808"}) {
    names_field(with(std::string{R"("resources":{"memory_mb":)"} + wrong + "}"),
                "resources.memory_mb must");
  }
  for (const char* wrong : {"1", "\"small\"", "[]", "true"}) {
    names_field(with(std::string{R"("resources":)"} + wrong), "resources must be an object");
  }
}

BOOST_AUTO_TEST_CASE(resources_that_no_class_has_together_are_refused) {
  auto body = parse_json_object(with(R"("resources":{"cpus":2,"memory_mb":1024})"));
  spawn_limits limits;
  limits.default_class = {2, 512};
  limits.classes = {{1, 1024}, {2, 512}};
  auto order = parse_spawn_order(*body, limits);
  BOOST_REQUIRE(order.has_error());
  BOOST_TEST(order.error().status == 400u);
  BOOST_TEST(order.error().text.starts_with("resources "));
  BOOST_TEST(order.error().text.ends_with("1 with 1024 MiB, 2 with 512 MiB"));
  // What is not asked for gives way.
  body = parse_json_object(with(R"("resources":{"memory_mb":1024})"));
  order = parse_spawn_order(*body, limits);
  BOOST_REQUIRE(order.has_value());
  BOOST_TEST((order->machine == coppice::machine_class{1, 1024}));
}

BOOST_AUTO_TEST_CASE(a_priority_is_a_whole_number_from_minus_ten_to_ten) {
  for (int priority : {-10, -1, 0, 10}) {
    auto order = parsed(with(R"("priority":)" + std::to_string(priority)));
    BOOST_REQUIRE(order.has_value());
    BOOST_TEST(order->priority == priority);
  }
  BOOST_TEST(parsed(with(R"("priority":null)"))->priority == 0);
  for (const char* wrong : {"-11", "11", "1.5", "1.0", "\"1\"", "true", "{}", "[]"}) {
    names_field(with(std::string{R"("priority":)"} + wrong), "priority must");
  }
}

BOOST_AUTO_TEST_CASE(null_and_unknown_fields_are_as_if_absent) {
  auto order = parsed(with(
      R"("uid":null,"cwd":null,"stdin":null,"timeout":null,"files":null,"env":null,"args":null,)"
      R"("result":null,"colour":"green","networking":null,"hostname":null)"));
  BOOST_REQUIRE(order.has_value());
  BOOST_TEST(order->timeout_seconds == 60u);
}

BOOST_AUTO_TEST_CASE(nulls_inside_maps_are_as_if_absent_too) {
  auto order = parsed(with(
      R"("env":{"A":null,"B":"b","=":null},"stdin":{"value":null,"encoding":null,"close":null},)"
      R"("files":{"/none":null,"/a":{"uuid":"00000000-0000-4000-8000-000000000001","uid":null,)"
      R"("gid":null,"mode":null}},"resources_limits":{"max_layer_bytes":null},)"
      R"("networking":{"enabled":null},"resources":{"cpus":null,"memory_mb":null})"));
  BOOST_REQUIRE_MESSAGE(order.has_value(), (order ? "" : order.error().text));
  BOOST_REQUIRE(order->env.size() == 1u);
  BOOST_TEST(order->env[0].first == "B");
  BOOST_TEST(order->stdin.bytes.empty());
  BOOST_TEST(!order->stdin.is_base64);
  BOOST_TEST(order->stdin.close);
  BOOST_REQUIRE(order->files.size() == 1u);
  BOOST_TEST(order->files[0].path == "/a");
  BOOST_TEST(order->files[0].uid == 0u);
  BOOST_TEST(order->files[0].gid == 0u);
  BOOST_TEST(order->files[0].mode == 0644u);
  BOOST_TEST(order->layer_bytes_max == 1u << 30);
  BOOST_TEST((order->machine == coppice::machine_class{1, 256}));
  // What is required is not there, and an item of a list is no member that could be absent.
  names_field(R"({"command":null,"image":"x"})", "command is required");
  names_field(R"({"command":"ls","image":null})", "image is required");
  names_field(with(R"("files":{"/a":{"uuid":null}})"), "files./a.uuid");
  names_field(with(R"("args":["-l",null])"), "args");
}

BOOST_AUTO_TEST_CASE(networking_is_read_though_there_is_none) {
  for (const char* fine : {"{}", R"({"enabled":true})", R"({"enabled":false,"dns":1})"}) {
    BOOST_TEST(parsed(with(std::string{R"("networking":)"} + fine)).has_value(), fine);
  }
  names_field(with(R"("networking":"none")"), "networking must be an object");
  names_field(with(R"("networking":{"enabled":"no"})"), "networking.enabled must");
}

BOOST_AUTO_TEST_CASE(wrong_fields_are_refused_by_name) {
  names_field(R"({"image":"tag:x"})", "command");
  names_field(R"({"command":"ls"})", "image");
  names_field(R"({"command":"","image":"x"})", "command");
  names_field(R"({"command":7,"image":"x"})", "command");
  names_field(R"({"command":"a\u0000b","image":"x"})", "command");
  names_field(with(R"("args":"x")"), "args");
  names_field(with(R"("args":[1])"), "args");
  names_field(with(R"("args":["a\u0000"])"), "args");
  names_field(with(R"("shell":"yes")"), "shell");
  names_field(with(R"("shell":1)"), "shell");
  names_field(with(R"("env":[])"), "env");
  names_field(with(R"("env":{"":"x"})"), "env");
  names_field(with(R"("env":{"A=B":"x"})"), "env");
  names_field(with(R"("env":{"A":1})"), "env.A");
  names_field(with(R"("env":{"A":"\u0000"})"), "env.A");
  names_field(with(R"("cwd":5)"), "cwd");
  names_field(with(R"("cwd":"/\u0000")"), "cwd");
  names_field(with(R"("uid":-1)"), "uid");
  names_field(with(R"("gid":4294967295)"), "gid");
  names_field(with(R"("hostname":"a b")"), "hostname");
  names_field(with(R"("stdin":"x")"), "stdin");
  names_field(with(R"("stdin":{"value":"!","encoding":"base64"})"), "stdin.value");
  names_field(with(R"("stdin":{"value":"x","encoding":"utf-7"})"), "stdin.encoding");
  names_field(with(R"("stdin":{"value":"x","close":1})"), "stdin.close");
  names_field(with(R"("timeout":0)"), "timeout");
  names_field(with(R"("timeout":3601)"), "timeout");
  names_field(with(R"("timeout":1.5)"), "timeout");
  names_field(with(R"("timeout":"60")"), "timeout");
  names_field(with(R"("truncate_output_at":-1)"), "truncate_output_at");
  names_field(with(R"("truncate_output_at":10485761)"), "truncate_output_at");
  names_field(with(R"("disposable":"no")"), "disposable");
  names_field(with(R"("files":[])"), "files");
  names_field(with(R"("resources_limits":{"max_layer_bytes":0})"),
              "resources_limits.max_layer_bytes");
}

BOOST_AUTO_TEST_CASE(files_need_absolute_paths_and_uuids) {
  const std::string file =
      R"({"uuid":"00000000-0000-4000-8000-000000000001","mode":"0o100755","uid":5})";
  auto order = parsed(with(R"("files":{"/a/b":)" + file + "}"));
  BOOST_REQUIRE(order.has_value());
  BOOST_REQUIRE(order->files.size() == 1u);
  BOOST_TEST(order->files[0].path == "/a/b");
  BOOST_TEST(order->files[0].mode == 0755u);
  BOOST_TEST(order->files[0].uid == 5u);
  names_field(with(R"("files":{"a":)" + file + "}"), "files.a");
  names_field(with(R"("files":{"/a/":)" + file + "}"), "files./a/");
  names_field(with(R"("files":{"/a":{"uuid":"x"}})"), "files./a.uuid");
  names_field(with(R"("files":{"/a":{}})"), "files./a.uuid");
  names_field(with(R"("files":{"/a":"x"})"), "files./a");
}

BOOST_AUTO_TEST_CASE(modes_are_octal_text_or_the_bits_themselves) {
  auto mode = [](const std::string& value) {
    auto order = parsed(with(
        R"("files":{"/a":{"uuid":"00000000-0000-4000-8000-000000000001","mode":)" + value + "}}"));
    return order ? static_cast<int>(order->files[0].mode) : -1;
  };
  BOOST_TEST(mode(R"("0644")") == 0644);
  BOOST_TEST(mode(R"("755")") == 0755);
  BOOST_TEST(mode(R"("0o644")") == 0644);
  BOOST_TEST(mode(R"("0o104755")") == 04755);
  BOOST_TEST(mode("420") == 0644);
  BOOST_TEST(mode("null") == 0644);
  for (auto bad : {R"("")", R"("0898")", R"("rw")", "-1", "1e3", "true", R"("7777777")"}) {
    BOOST_TEST(mode(bad) == -1, bad);
  }
}

BOOST_AUTO_TEST_CASE(stdin_is_decoded_and_limited) {
  auto order = parsed(with(R"("stdin":{"value":"AAE=","encoding":"base64","close":false})"));
  BOOST_REQUIRE(order.has_value());
  BOOST_TEST(order->stdin.bytes == std::string("\0\1", 2));
  BOOST_TEST(order->stdin.is_base64);
  BOOST_TEST(!order->stdin.close);
  names_field(with(R"("stdin":{"value":")" + std::string((12u << 20) + 1, 'x') + "\"}"),
              "stdin.value");
}

BOOST_AUTO_TEST_CASE(texts_that_no_frame_to_the_guest_could_hold_are_refused) {
  std::string args;
  for (int i = 0; i < 4097; ++i) {
    args += i == 0 ? "\"x\"" : ",\"x\"";
  }
  names_field(with("\"args\":[" + args + "]"), "args");
  auto half = std::string(600'000, 'a');
  auto text = refusal_text(with("\"args\":[\"" + half + "\"],\"env\":{\"A\":\"" + half + "\"}"));
  BOOST_TEST(text.find("together") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_smaller_layer_limit_counts) {
  auto order = parsed(with(R"("resources_limits":{"max_layer_bytes":12884901888})"));
  BOOST_TEST(order->layer_bytes_max == 1u << 30);
  order = parsed(with(R"("resources_limits":{"max_layer_bytes":1000})"));
  BOOST_TEST(order->layer_bytes_max == 1000u);
}

BOOST_AUTO_TEST_CASE(only_registry_references_are_imported) {
  auto reference = [](std::string_view url) {
    auto out = registry_reference(url);
    return out ? *out : std::string{};
  };
  BOOST_TEST(reference("docker://busybox") == "docker://busybox");
  BOOST_TEST(reference("docker://localhost:5000/a/b:1.0") == "docker://localhost:5000/a/b:1.0");
  BOOST_TEST(reference("oci://quay.io/x/y") == "docker://quay.io/x/y");
  BOOST_TEST(reference("python:3.12") == "docker://python:3.12");
  auto digest = "docker://a/b@sha256:" + std::string(64, 'a');
  BOOST_TEST(reference(digest) == digest);
  for (auto bad :
       {"", "docker://", "docker:///etc", "dir:/etc/x", "oci:/etc/x", "oci-archive:///x",
        "file:///etc/passwd", "docker://-option", "docker://a b", "docker://a/../b",
        "docker://host:port/x", "docker://a@sha256:12", "docker://a:", "docker://A/B",
        "docker://a/b:ta g", "--help", "docker://host:5000/", "docker-daemon:x:latest"}) {
    BOOST_TEST(reference(bad).empty(), bad);
  }
}

BOOST_AUTO_TEST_CASE(tags_are_words_with_separators_inside) {
  for (auto good : {"a", "busybox:latest", "x/y_z-1.0", "A@b"}) {
    BOOST_TEST(is_tag(good), good);
  }
  for (auto bad : {"", "a:", "a/", "a b", "a\n", "\xC3\xA4"}) {
    BOOST_TEST(!is_tag(bad), bad);
  }
  BOOST_TEST(is_tag(std::string(256, 'a')));
  BOOST_TEST(!is_tag(std::string(257, 'a')));
}

BOOST_AUTO_TEST_CASE(targets_are_split_before_they_are_decoded) {
  auto target = parse_target("/v1/a%2Fb/?path=/etc/x&tag=a:b%20c+d&flag&bad=%zz");
  BOOST_REQUIRE(target.has_value());
  BOOST_TEST(target->segments.size() == 3u);
  BOOST_TEST(target->segments[1] == "a/b");
  BOOST_TEST(target->segments[2].empty());
  BOOST_TEST(*target->query.find("path") == "/etc/x");
  BOOST_TEST(*target->query.find("tag") == "a:b c d");
  BOOST_TEST(*target->query.find("bad") == "%zz");
  BOOST_TEST(*target->query.flag("flag"));
  BOOST_TEST(!*target->query.flag("absent"));
  BOOST_TEST(target->query.flag("tag").has_error());
  BOOST_TEST(!target->query.find("nothing").has_value());

  BOOST_TEST(parse_target("http://host:1/v1/x?y")->segments[0] == "v1");
  BOOST_TEST(parse_target("http://host")->segments.size() == 1u);
  BOOST_TEST(parse_target("*").error().status == 404u);
  BOOST_TEST(parse_target("/%G0").error().status == 400u);
}
