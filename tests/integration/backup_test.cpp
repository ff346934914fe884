#define BOOST_TEST_MODULE backup
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <string>

using namespace coppice::test;

BOOST_AUTO_TEST_CASE(a_copy_of_a_busy_store_starts_and_has_everything) {
  state_folder folder;
  state_folder elsewhere;
  auto copy = elsewhere.path() / "copy";
  std::string base;
  std::string kept;
  std::string busy;
  {
    node server{folder.path()};
    base = server.import_busybox();
    kept = result_image_of(server.shell(base, "echo precious > /root/f"));
    BOOST_TEST(server.connect().request("POST", "/v1/files", "an upload").status == 201u);
    busy = server.spawn(
        {{"command", "echo begun > /root/g; sync; sleep 1000"}, {"shell", true}, {"image", kept}});
    server.wait_for(busy, {"EXECUTING"});

    server.command("backup " + copy.string());
    auto proof = server.command("fsck --scrub");
    BOOST_TEST(proof.find("clean") != std::string::npos, proof);
    BOOST_TEST(proof.find("2 images") != std::string::npos, proof);
    auto usage = server.command("usage");
    BOOST_TEST(usage.find("default") != std::string::npos, usage);

    auto now = server.connect().get("/v1/operations/" + busy).json().as_object();
    BOOST_TEST(status_of(now) == "EXECUTING"); // nobody was held up
    auto details = server.connect().get("/v1/images/" + kept).json();
    auto logical = details.at("logical_bytes").to_number<std::uint64_t>();
    auto shared = details.at("shared_bytes").to_number<std::uint64_t>();
    BOOST_TEST(logical > shared);
    BOOST_TEST(shared > 0u);
    BOOST_TEST(details.at("own_bytes").to_number<std::uint64_t>() >= logical - shared);
  }
  {
    node second{copy};
    BOOST_TEST(stdout_of(second.shell(kept, "cat /root/f")) == "precious\n");
    auto next = result_image_of(second.shell(kept, "echo more >> /root/f"));
    BOOST_TEST(stdout_of(second.shell(next, "cat /root/f")) == "precious\nmore\n");
    auto now = second.connect().get("/v1/operations/" + busy).json().as_object();
    BOOST_TEST(status_of(now) == "FAILED");
    auto listed = second.connect().get("/v1/files").json();
    BOOST_TEST(listed.at("files").as_array().size() == 1u);
    BOOST_TEST(second.stop() == 0);
    auto proof = second.command("fsck --scrub");
    BOOST_TEST(proof.find("clean") != std::string::npos, proof);
  }
}

BOOST_AUTO_TEST_CASE(fsck_tells_damage_by_its_exit_status) {
  state_folder folder;
  std::string base;
  {
    node server{folder.path()};
    base = server.import_busybox();
    BOOST_TEST(server.stop() == 0);
  }
  auto fsck = [&](const std::string& state) {
    auto line = program().string() + " fsck --state-dir=" + state + " >/dev/null 2>&1";
    auto status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  BOOST_TEST(fsck(folder.path().string()) == 0);
  std::filesystem::remove(folder.path() / "images" / (base + ".qcow2"));
  BOOST_TEST(fsck(folder.path().string()) == 1);
  BOOST_TEST(fsck((folder.path() / "nowhere").string()) == 2);
}
