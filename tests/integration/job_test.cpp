#define BOOST_TEST_MODULE job
#include "tests/integration/shared_daemon.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <map>
#include <string>
#include <vector>

namespace {

using namespace coppice::test;
namespace json = boost::json;

struct three_slots : shared_daemon {
  three_slots() : shared_daemon{{"--vm.running_max=3"}} {}
};

std::string listing(const std::string& image, const std::string& path) {
  auto answer = server().connect().get("/v1/inspect/" + image + "/list?path=" + path);
  BOOST_REQUIRE_MESSAGE(answer.status == 200, answer.body);
  return answer.body;
}

std::string content(const std::string& image, const std::string& path) {
  auto answer = server().connect().get("/v1/inspect/" + image + "/download?path=" + path);
  BOOST_REQUIRE_MESSAGE(answer.status == 200, path << ": " << answer.body);
  return answer.body;
}

std::string upload(const std::string& bytes) {
  auto answer = server().connect().request("POST", "/v1/files", bytes,
                                           {{"Content-Type", "application/octet-stream"}});
  BOOST_REQUIRE_MESSAGE(answer.status == 201, answer.body);
  return std::string{answer.json().at("uuid").as_string()};
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(three_slots);

BOOST_AUTO_TEST_CASE(a_command_runs_and_leaves_a_new_image) {
  auto done = server().shell(base(), "echo hello; echo oops >&2; echo kept > /root/f; exit 3");
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(stdout_of(done) == "hello\n");
  BOOST_TEST(stderr_of(done) == "oops\n");
  BOOST_TEST(exit_code_of(done) == 3);
  auto image = result_image_of(done);
  BOOST_REQUIRE(!image.empty());
  BOOST_TEST(image != base());
  BOOST_TEST(content(image, "/root/f") == "kept\n");
  auto info = server().connect().get("/v1/inspect/" + image + "/").json();
  BOOST_TEST(info.at("operation_uuid") == done.at("uuid"));
}

BOOST_AUTO_TEST_CASE(branches_of_a_prepared_image_run_side_by_side_and_change_only_themselves) {
  auto base_before = listing(base(), "/");
  auto prepared = result_image_of(server().shell(
      base(), "mkdir /app && echo 'answer=0' > /app/config && "
              "printf '#!/bin/sh\\ngrep -qx answer=42 /app/config\\n' > /app/check && "
              "chmod +x /app/check"));
  BOOST_REQUIRE(!prepared.empty());
  auto prepared_before = listing(prepared, "/app");

  std::map<std::string, std::string> operations; // by candidate
  for (const char* candidate : {"41", "42", "43"}) {
    operations[candidate] =
        server().spawn({{"command", "sed -i s/answer=.*/answer=" + std::string{candidate} +
                                        "/ /app/config; /app/check && echo passed || echo failed"},
                        {"shell", true},
                        {"image", prepared}});
  }
  std::map<std::string, std::string> images;
  for (const auto& [candidate, operation] : operations) {
    auto done = server().wait(operation);
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(stdout_of(done) == (candidate == "42" ? "passed\n" : "failed\n"));
    images[candidate] = result_image_of(done);
  }
  for (const auto& [candidate, image] : images) {
    BOOST_TEST(content(image, "/app/config") == "answer=" + candidate + "\n");
  }
  BOOST_TEST(content(prepared, "/app/config") == "answer=0\n");
  BOOST_TEST(listing(prepared, "/app") == prepared_before);
  BOOST_TEST(listing(base(), "/") == base_before);
  // Rolling back is running from the older image.
  BOOST_TEST(stdout_of(server().shell(prepared, "cat /app/config")) == "answer=0\n");
}

BOOST_AUTO_TEST_CASE(the_environment_of_a_run_is_what_the_request_says) {
  auto file = upload("from a file\n");
  json::object files;
  files["/data/in/put"] = json::object{{"uuid", file}, {"uid", 7}, {"gid", 8}, {"mode", "0640"}};
  auto done = server().run({{"command", "sh"},
                            {"args", json::array{"-c", "id -u; id -g; pwd; echo $COLOUR; hostname; "
                                                       "cat; stat -c '%u %g %a' /data/in/put; "
                                                       "cat /data/in/put 2>&1"}},
                            {"image", "tag:busybox:latest"},
                            {"uid", 7},
                            {"gid", 9},
                            {"cwd", "/tmp"},
                            {"hostname", "box"},
                            {"env", json::object{{"COLOUR", "green"}}},
                            {"files", files},
                            {"stdin", json::object{{"value", "typed\n"}}}});
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(stdout_of(done) == "7\n9\n/tmp\ngreen\nbox\ntyped\n7 8 640\nfrom a file\n");
}

BOOST_AUTO_TEST_CASE(a_preserved_environment_is_there_in_later_runs_though_no_file_has_changed) {
  auto kept = result_image_of(server().run({{"command", "true"},
                                            {"image", base()},
                                            {"env", json::object{{"COLOUR", "green"}}},
                                            {"preserve_env", true}}));
  BOOST_REQUIRE(!kept.empty());
  BOOST_TEST(kept != base());
  auto later = server().shell(kept, "echo $COLOUR");
  BOOST_TEST(stdout_of(later) == "green\n");
  BOOST_TEST(result_image_of(later) == kept);
}

BOOST_AUTO_TEST_CASE(a_command_that_is_not_there_is_exit_127_with_the_reason) {
  auto done = server().run({{"command", "no-such-program"}, {"image", base()}});
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(exit_code_of(done) == 127);
  BOOST_TEST(stderr_of(done).find("no-such-program") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_command_over_its_time_is_killed_and_what_it_wrote_is_kept) {
  auto done = server().run({{"command", "echo early > /root/early; sleep 1000"},
                            {"shell", true},
                            {"image", base()},
                            {"timeout", 2}});
  BOOST_TEST(status_of(done) == "SUCCESS");
  const auto& state = done.at("metadata").at("result").at("state").as_object();
  BOOST_TEST(state.at("timed_out").as_bool());
  BOOST_TEST(state.at("signal").to_number<int>() == 9);
  BOOST_TEST(exit_code_of(done) == -1);
  BOOST_TEST(content(result_image_of(done), "/root/early") == "early\n");
}

BOOST_AUTO_TEST_CASE(output_over_the_limit_is_counted_dropped_and_never_blocks_the_guest) {
  auto done = server().run({{"command", "yes | head -c 3000000; echo done > /root/done"},
                            {"shell", true},
                            {"image", base()},
                            {"truncate_output_at", 1000}});
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(stdout_of(done).size() == 1000u);
  BOOST_TEST(done.at("metadata").at("result").at("stdout").at("truncated").as_bool());
  BOOST_TEST(content(result_image_of(done), "/root/done") == "done\n");
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_plain_text_come_back_the_same) {
  auto done = server().shell(base(), "printf 'a\\000\\377b'");
  BOOST_TEST(stdout_of(done) == (std::string{"a\0\377b", 4}));
}

BOOST_AUTO_TEST_CASE(a_disposable_run_keeps_nothing) {
  auto done = server().run(
      {{"command", "touch /x"}, {"shell", true}, {"image", base()}, {"disposable", true}});
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(done.at("result_image_uuid").is_null());
}

BOOST_AUTO_TEST_CASE(what_a_command_leaves_running_or_mounted_does_not_keep_the_image_back) {
  auto done = server().shell(base(), "mkdir /m && mount -t tmpfs none /m && echo lost > /m/f; "
                                     "(trap '' TERM HUP; exec sleep 1000 > /m/g) & echo up");
  BOOST_TEST(status_of(done) == "SUCCESS");
  BOOST_TEST(stdout_of(done) == "up\n");
  auto image = result_image_of(done);
  BOOST_REQUIRE(!image.empty());
  BOOST_TEST(listing(image, "/m").find("\"files\":[]") != std::string::npos);
}

// The disk is the root of the guest's mounts while a command runs, so user namespaces can be had;
// whatever is done to that root, the image is closed and kept.
BOOST_AUTO_TEST_CASE(what_a_command_does_to_its_root_does_not_keep_the_image_back) {
  for (const char* change :
       {"unshare -U true", "mount --make-rshared /", "mount -o bind / /mnt", "umount -l /",
        "mkdir -p /a && mount -t tmpfs none / && mount --make-rshared /",
        "mount --make-rshared / && mkdir -p /b && mount -t tmpfs none /b && mount --bind /b "
        "/proc"}) {
    auto done = server().shell(base(), std::string{"mkdir -p /mnt; echo kept > /kept; "} + change);
    BOOST_TEST_INFO(change << ": " << error_of(done));
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(exit_code_of(done) == 0, change << ": " << stderr_of(done));
    auto image = result_image_of(done);
    BOOST_REQUIRE_MESSAGE(!image.empty(), change);
    BOOST_TEST(stdout_of(server().shell(image, "cat /kept")) == "kept\n", change);
  }
}

BOOST_AUTO_TEST_CASE(networking_is_accepted_and_not_given) {
  auto client = server().connect();
  auto answer = client.post(
      "/v1/instances", json::value(json::object{{"command", "cat /proc/net/dev"},
                                                {"shell", true},
                                                {"image", base()},
                                                {"networking", json::object{{"enabled", true}}}}));
  BOOST_REQUIRE(answer.status == 201u);
  auto echo = answer.json();
  BOOST_TEST(!echo.at("networking").at("enabled").as_bool());
  auto done = server().wait(std::string{echo.at("uuid").as_string()});
  auto devices = stdout_of(done);
  BOOST_TEST(devices.find("lo:") != std::string::npos);
  BOOST_TEST(devices.find("eth") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_image_cannot_be_seen_from_another_project) {
  auto other = server().token("other");
  auto client = server().connect();
  auto answer = client.request("GET", "/v1/inspect/" + base() + "/list?path=/", {}, {});
  BOOST_TEST(answer.status == 200u);
  header_list as_other{{"Authorization", "Bearer " + other}};
  BOOST_TEST(client.request("GET", "/v1/inspect/" + base() + "/list?path=/", {}, as_other).status ==
             404u);
  BOOST_TEST(client
                 .request("POST", "/v1/instances",
                          json::serialize(json::object{{"command", "true"}, {"image", base()}}),
                          as_other)
                 .status == 404u);
}
