#define BOOST_TEST_MODULE deletion
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>

using namespace coppice::test;
namespace fs = std::filesystem;

namespace {

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

http_answer remove(const node& server, const std::string& image) {
  return server.connect().request("DELETE", "/v1/images/" + image);
}

std::string why_not(const http_answer& answer) {
  BOOST_TEST(answer.status == 409u, answer.body);
  auto body = answer.json().as_object();
  return {body.at("error").as_string().data(), body.at("error").as_string().size()};
}

std::set<std::string> image_files(const fs::path& state) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator{state / "images"}) {
    out.insert(entry.path().stem().string());
  }
  return out;
}

std::uint64_t allocated(const fs::path& state, const std::string& image) {
  struct stat now {};
  auto path = state / "images" / (image + ".qcow2");
  return ::stat(path.c_str(), &now) == 0 ? static_cast<std::uint64_t>(now.st_blocks) * 512 : 0;
}

bool is_sound(const fs::path& state, const std::string& image) {
  auto path = state / "images" / (image + ".qcow2");
  return std::system(("qemu-img check -q " + path.string()).c_str()) == 0;
}

/// A file of that many MiB that no compression of any layer makes smaller.
std::string fill(const std::string& name, int mib) {
  return "dd if=/dev/urandom of=/" + name + " bs=1M count=" + std::to_string(mib) +
         " 2>/dev/null; sha256sum /" + name;
}

/// Proves the store, while the daemon is at it and when it has ended.
void check_store_and_stop(node& server) {
  auto proof = server.command("fsck --scrub");
  BOOST_TEST(says(proof, "\nclean\n"), proof);
  BOOST_TEST(server.stop() == 0);
  proof = server.command("fsck --scrub");
  BOOST_TEST(says(proof, "\nclean\n"), proof);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_parent_is_deleted_and_its_children_go_on_through_a_restart) {
  state_folder folder;
  std::string base;
  std::string child;
  std::string parent;
  std::string kept_sum;
  std::uint64_t before = 0;
  {
    node server{folder.path()};
    base = server.import_busybox();
    auto made = server.shell(base, fill("kept", 2) + "; " + fill("replaced", 8));
    parent = result_image_of(made);
    kept_sum = stdout_of(made).substr(0, 64);
    child = result_image_of(server.shell(parent, "rm /replaced; echo child > /mark"));
    before = allocated(folder.path(), parent);

    BOOST_TEST(says(why_not(remove(server, base)), "busybox:latest"));
    // In use by what waits and by what runs.
    auto running =
        server.spawn({{"command", "echo begun; sleep 1000"}, {"shell", true}, {"image", parent}});
    BOOST_TEST(says(why_not(remove(server, parent)), running));
    server.wait_for(running, {"EXECUTING"});
    BOOST_TEST(says(why_not(remove(server, parent)), running));
    BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + running).status / 100 == 2u);
    BOOST_TEST(remove(server, parent).status == 204u); // though its VM may still be going
    BOOST_TEST(remove(server, parent).status == 404u);
    eventually("what nobody sees of the parent is given back",
               [&] { return allocated(folder.path(), parent) + (7u << 20) < before; });
    BOOST_TEST(is_sound(folder.path(), child));
    auto done = server.shell(child, "sha256sum /kept; cat /mark; ls /replaced 2>&1");
    BOOST_TEST(stdout_of(done).substr(0, 64) == kept_sum);
    BOOST_TEST(says(stdout_of(done), "child\n"));
    auto refused = server.connect().post(
        "/v1/instances",
        boost::json::object{{"command", "true"}, {"shell", true}, {"image", parent}});
    BOOST_TEST(refused.status == 404u, refused.body);
    auto proof = server.command("fsck --scrub");
    BOOST_TEST(says(proof, "1 files of deleted ones"), proof);
    server.kill();
  }
  BOOST_TEST((image_files(folder.path()).contains(parent)));
  node server{folder.path()};
  auto sum = stdout_of(server.shell(child, "sha256sum /kept")).substr(0, 64);
  BOOST_TEST(sum == kept_sum);
  auto read = server.connect().get("/v1/inspect/" + child + "/download?path=/mark");
  BOOST_TEST(read.body == "child\n");
  // A reader that has had all it asked for holds nothing up.
  BOOST_TEST(remove(server, child).status == 204u);
  // Runs that only read made no image, so nothing stands on the child.
  eventually("only what is needed is left", [&] {
    auto files = image_files(folder.path());
    return files.contains(base) && !files.contains(child) && !files.contains(parent);
  });
  check_store_and_stop(server);
}

BOOST_AUTO_TEST_CASE(an_image_that_is_being_read_is_not_deleted) {
  state_folder folder;
  node server{folder.path()};
  auto image = result_image_of(server.shell(server.import_busybox(), fill("large", 64)));
  auto reader = server.connect();
  reader.send("GET /v1/inspect/" + image +
              "/download?path=/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " +
              server.token() + "\r\n\r\n");
  // Far more than sockets hold: the server is still at it.
  eventually("the reading has begun", [&] {
    auto answer = remove(server, image);
    return says(why_not(answer), "read");
  });
  reader.close();
  eventually("the reading has ended", [&] { return remove(server, image).status == 204u; });
  check_store_and_stop(server);
}

BOOST_AUTO_TEST_CASE(gc_deletes_by_policy_while_the_daemon_runs_and_while_it_does_not) {
  state_folder folder;
  std::string base;
  std::string middle;
  std::string leaf;
  std::string other_leaf;
  const std::string now = " --gc.keep_younger_than=0";
  {
    node server{folder.path()};
    base = server.import_busybox();
    middle = result_image_of(server.shell(base, fill("replaced", 4)));
    leaf = result_image_of(server.shell(middle, "rm /replaced; echo leaf > /mark"));
    other_leaf = result_image_of(server.shell(base, fill("other", 4)));
    auto said = server.command("gc --dry-run");
    BOOST_TEST(says(said, "delete 0 images"), said);
    BOOST_TEST(says(said, "younger"), said);
    said = server.command("gc" + now); // not enabled
    BOOST_TEST(says(said, "delete " + middle), said);
    BOOST_TEST(says(said, "nothing was deleted"), said);
    BOOST_TEST(says(said, "1 image, "), said);
    said = server.command("gc --yes" + now);
    BOOST_TEST(says(said, "deleted 1 image"), said);
    BOOST_TEST(says(said, "the daemon"), said);
    eventually("what nobody sees of it is given back",
               [&] { return allocated(folder.path(), middle) < (2u << 20); });
    BOOST_TEST(stdout_of(server.shell(leaf, "cat /mark")) == "leaf\n");
    check_store_and_stop(server);
    said = server.command("gc --gc.enabled=true --gc.keep_leaves=false --gc.keep=" + leaf + now);
    BOOST_TEST(says(said, "deleted 1 image"), said);
    BOOST_TEST(says(said, "given back"), said);
  }
  BOOST_TEST((image_files(folder.path()) == std::set<std::string>{base, middle, leaf}));
  BOOST_TEST(is_sound(folder.path(), leaf));
  node again{folder.path()};
  BOOST_TEST(stdout_of(again.shell(leaf, "cat /mark")) == "leaf\n");
  check_store_and_stop(again);
}
