#define BOOST_TEST_MODULE kill
#include "tests/integration/node.hpp"
#include "tests/integration/told_facts.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace coppice::test;
namespace fs = std::filesystem;
namespace json = boost::json;
using fate = told_facts::fate;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

constexpr int clients = 4;
constexpr const char* running_max = "--vm.running_max=3";

/// Each run replaces this file, so that what its parent has of it may be given back one day.
constexpr const char* replaced_file = "/root/last";
constexpr std::size_t replaced_bytes = 256u << 10;

/// What is written reaches the disk before the run ends: kills find overlays with something in
/// them.
json::object run_of(const std::string& image, const std::string& file) {
  return {{"command", "echo -n " + file + " > /root/" + file + "; yes " + file + " | head -c " +
                          std::to_string(replaced_bytes) + " > " + replaced_file +
                          "; sync; sleep 0.3"},
          {"shell", true},
          {"image", image}};
}

std::string replaced_content(const std::string& file) {
  std::string out;
  while (out.size() < replaced_bytes) {
    out += file + "\n";
  }
  out.resize(replaced_bytes);
  return out;
}

// -- the load ------------------------------------------------------------------------------------

std::optional<std::string> image_made_by(const json::object& operation) {
  return status_of(operation) == "SUCCESS" ? std::optional{result_image_of(operation)}
                                           : std::nullopt;
}

bool is_over(const json::object& operation) {
  auto status = status_of(operation);
  return status == "FAILED" || status == "SUCCESS";
}

void run_once(http_client& client, told_facts& told, std::minstd_rand& random,
              const std::string& file) {
  auto parent = told.take_parent(random);
  auto answer = client.post("/v1/instances", json::value(run_of(parent, file)));
  if (answer.status != 201) {
    told.complain("a run on " + parent + ": " + std::to_string(answer.status) + answer.body);
    return;
  }
  std::string operation{answer.json().at("uuid").as_string()};
  told.accepted(operation, parent, file);
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
    auto now = client.get("/v1/operations/" + operation).json().as_object();
    if (is_over(now)) {
      told.ended(operation, image_made_by(now));
      return;
    }
  }
}

void delete_once(http_client& client, told_facts& told, std::minstd_rand& random) {
  if (auto doomed = told.take_doomed(random)) {
    auto answer = client.request("DELETE", "/v1/images/" + *doomed);
    if (answer.status == 204) {
      told.told_deleted(*doomed);
    } else {
      told.complain("DELETE of " + *doomed + ": " + std::to_string(answer.status) + answer.body);
    }
  }
}

/// Runs and deletes, one after the other, until the daemon is gone.
void work(http_client& client, told_facts& told, unsigned seed) {
  std::minstd_rand random{seed};
  try {
    for (int number = 0;; ++number) {
      run_once(client, told, random, "f" + std::to_string(seed) + "-" + std::to_string(number));
      if (random() % 2 == 0) {
        delete_once(client, told, random);
      }
    }
  } catch (const std::exception&) {
    // the daemon was killed
  }
}

/// Works, and kills the daemon at some moment behind the first new image and the first deletion of
/// the round; in every second round while a deletion is under way. Gives the daemon's children.
std::vector<pid_t> work_until_killed(node& server, told_facts& told, unsigned round) {
  std::minstd_rand random{round + 1};
  auto before = told.so_far();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < clients; ++i) {
    std::shared_ptr<http_client> client{new http_client(server.connect())};
    threads.emplace_back(
        [client, &told, round, i] { work(*client, told, 1000 * (round + 1) + i); });
  }
  auto has_begun = told.wait_for(patience(), [&](const told_facts::counts& now) {
    return now.succeeded > before.succeeded &&
           now.leaves_deleted + now.inner_deleted > before.leaves_deleted + before.inner_deleted;
  });
  // Any moment of the runs that are under way then; or of a deletion, from its request to what is
  // done behind its answer.
  auto is_cut = round % 2 == 1;
  if (!is_cut || (random() >> 4) % 2 == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds{(random() >> 4) % 3000});
  }
  if (is_cut) {
    has_begun = told.wait_for_deletion(patience()) && has_begun;
    // Most often within the first of these milliseconds, in which it is answered.
    std::this_thread::sleep_for(std::chrono::microseconds{(8000u >> (random() >> 4) % 8)});
  }
  ::kill(server.pid(), SIGSTOP); // so that no child comes while they are counted
  auto children = descendants_of(server.pid());
  server.kill();
  for (auto& t : threads) {
    t.join();
  }
  BOOST_TEST(has_begun, "no run ended or no image was deleted in round " << round);
  for (const auto& complaint : told.take_complaints()) {
    BOOST_ERROR(complaint);
  }
  return children;
}

// -- what must be true
// -----------------------------------------------------------------------------

void check_file(http_client& client, const std::string& image, const std::string& path,
                const std::string& content) {
  auto answer = client.get("/v1/inspect/" + image + "/download?path=" + path);
  BOOST_TEST(answer.status == 200u, "image " << image << ", " << path << ": " << answer.status);
  BOOST_TEST((answer.body == content), "image " << image << ": " << path << " is another");
}

/// What its own run wrote, its parent's, and those of some further up, deleted or not.
void check_image(http_client& client, const told_facts& told, const told_facts::image& image,
                 std::minstd_rand& random) {
  if (image.parent.empty()) {
    return; // the base
  }
  check_file(client, image.id, "/root/" + image.file, image.file);
  check_file(client, image.id, replaced_file, replaced_content(image.file));
  auto ancestors = told.ancestors_of(image);
  for (std::size_t i = 0; i < std::min<std::size_t>(ancestors.size(), 4); ++i) {
    const auto& some = ancestors[i == 0 ? 0 : random() % ancestors.size()];
    check_file(client, image.id, "/root/" + some.file, some.file);
  }
}

void check_fsck(const node& server, const std::string& arguments = {}) {
  auto said = server.command("fsck" + arguments);
  BOOST_TEST(said.find("\nclean\n") != said.npos, said);
}

/// Looks what became of deletions that were cut off; then each image must be as it was told.
void check_images(const node& server, told_facts& told, std::minstd_rand& random) {
  auto client = server.connect();
  auto status_of_image = [&](const std::string& id) {
    return client.get("/v1/images/" + id).status;
  };
  std::set<std::string> to_read; ///< and the children of these
  for (const auto& image : told.images()) {
    if (image.now == fate::asked) {
      auto status = status_of_image(image.id);
      BOOST_TEST((status == 200u || status == 404u), image.id << ": " << status);
      told.found(image.id, status == 200u);
      to_read.insert(image.id);
    }
  }
  for (const auto& id : told.take_newly_deleted()) {
    to_read.insert(id);
  }
  auto images = told.images();
  for (const auto& image : images) {
    auto expected = image.now == fate::deleted ? 404u : 200u;
    BOOST_TEST(status_of_image(image.id) == expected, "image " << image.id << " of " << image.file);
    if (image.now == fate::deleted && random() % 8 == 0) {
      BOOST_TEST(client.get("/v1/inspect/" + image.id + "/list?path=/").status == 404u);
    }
  }
  for (std::size_t i = 0; i < std::min<std::size_t>(images.size(), 6); ++i) {
    to_read.insert(images[i < 3 ? images.size() - 1 - i : random() % images.size()].id);
  }
  for (const auto& image : images) {
    if (image.now == fate::live && (to_read.contains(image.id) || to_read.contains(image.parent))) {
      check_image(client, told, image, random);
    }
  }
}

/// What was accepted says how it ended, and why if it failed; with `wait` it has to end.
void check_operations(const node& server, told_facts& told, bool wait) {
  auto client = server.connect();
  for (const auto& operation : told.open_operations()) {
    auto now = wait ? server.wait(operation)
                    : client.get("/v1/operations/" + operation).json().as_object();
    if (is_over(now)) {
      told.ended(operation, image_made_by(now));
      BOOST_TEST((status_of(now) == "SUCCESS" || !error_of(now).empty()),
                 "operation " << operation << " failed without a reason");
    } else {
      BOOST_TEST(!wait, "operation " << operation << " is " << status_of(now));
    }
  }
}

// -- the end
// ---------------------------------------------------------------------------------------

std::set<std::string> files_in(const fs::path& state) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator{state / "images"}) {
    out.insert(entry.path().filename().string());
  }
  return out;
}

std::set<std::string> overlay_names(const fs::path& state) {
  auto names = files_in(state);
  std::erase_if(names, [](const auto& name) { return name.find(".overlay") == name.npos; });
  return names;
}

std::uint64_t allocated_bytes(const fs::path& file) {
  struct stat now {};
  return ::stat(file.c_str(), &now) == 0 ? static_cast<std::uint64_t>(now.st_blocks) * 512 : 0;
}

void delete_all_but(const node& server, const std::set<std::string>& kept) {
  auto client = server.connect();
  for (bool has_more = true; has_more;) {
    has_more = false;
    auto page = client.get("/v1/images?limit=1000").json();
    for (const auto& row : page.at("images").as_array()) {
      std::string id{row.at("uuid").as_string()};
      if (!kept.contains(id)) {
        auto answer = client.request("DELETE", "/v1/images/" + id);
        BOOST_REQUIRE_MESSAGE(answer.status == 204, id << ": " << answer.body);
        has_more = true;
      }
    }
  }
}

void wait_until_idle(const node& server) {
  auto client = server.connect();
  for (const std::string status : {"PENDING", "ASSIGNED", "EXECUTING"}) {
    eventually("nothing is " + status, [&] {
      return client.get("/v1/operations?limit=1&status=" + status).json().as_array().empty();
    });
  }
}

/// Deletes all but the deepest image, then that too: each time only what is needed is left.
void check_that_space_is_given_back(const node& server, const fs::path& state, told_facts& told,
                                    std::minstd_rand& random) {
  auto images = told.images();
  const auto base = images.front();
  auto deepest = base;
  for (const auto& image : images) {
    if (image.now == fate::live &&
        told.ancestors_of(image).size() >= told.ancestors_of(deepest).size()) {
      deepest = image;
    }
  }
  delete_all_but(server, {base.id, deepest.id});
  auto ancestors = told.ancestors_of(deepest);
  std::set<std::string> needed{base.id + ".qcow2", deepest.id + ".qcow2"};
  for (const auto& image : ancestors) {
    needed.insert(image.id + ".qcow2");
  }
  eventually("files of deleted images are removed", [&] { return files_in(state) == needed; });
  eventually("what nobody sees of the others is given back", [&] {
    return std::all_of(ancestors.begin(), ancestors.end(), [&](const auto& image) {
      return allocated_bytes(state / "images" / (image.id + ".qcow2")) < replaced_bytes;
    });
  });
  auto client = server.connect();
  check_image(client, told, deepest, random);
  for (const auto& image : ancestors) {
    check_file(client, deepest.id, "/root/" + image.file, image.file);
  }
  check_fsck(server, " --scrub");
  std::cout << "one image is left, on " << ancestors.size() << " files of deleted ones\n";

  delete_all_but(server, {base.id});
  BOOST_TEST(client.request("DELETE", "/v1/images/" + base.id).status == 409u); // it has a tag
  eventually("only the base is left",
             [&] { return files_in(state) == std::set{base.id + ".qcow2"}; });
}

} // namespace

BOOST_AUTO_TEST_CASE(nothing_that_was_told_is_lost_when_the_daemon_is_killed_under_load) {
  const unsigned rounds = is_full ? 100 : 10;
  state_folder folder;
  told_facts told;
  std::minstd_rand random{7};
  std::size_t left_over = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    auto before = round == 0 ? std::set<std::string>{} : overlay_names(folder.path());
    left_over += before.size();
    node server{folder.path(), {running_max}};
    if (round == 0) {
      told.begin_with(server.import_busybox());
    }
    for (const auto& name : overlay_names(folder.path())) {
      BOOST_TEST(!before.contains(name), name << " was left by the daemon before");
    }
    check_operations(server, told, false);
    check_images(server, told, random);
    check_fsck(server);
    auto children = work_until_killed(server, told, round);
    eventually("every child of the killed daemon is gone", [&] {
      return std::none_of(children.begin(), children.end(),
                          [](pid_t pid) { return ::kill(pid, 0) == 0; });
    });
  }
  node server{folder.path(), {running_max}};
  check_operations(server, told, true);
  wait_until_idle(server); // what was accepted and never answered
  check_images(server, told, random);
  check_fsck(server, " --scrub");
  auto client = server.connect();
  for (const auto& image : told.images()) {
    if (image.now == fate::live) {
      check_image(client, told, image, random);
    }
  }
  auto sum = told.so_far();
  std::cout << "killed " << rounds << " times: " << sum.succeeded << " runs succeeded, "
            << sum.failed << " failed with a reason; " << sum.leaves_deleted << " leaves and "
            << sum.inner_deleted << " inner nodes were deleted; of the deletions cut off "
            << sum.cut_deleted << " had happened, " << sum.cut_live << " not; " << left_over
            << " overlays were left and removed\n";
  BOOST_TEST(sum.leaves_deleted > 0u);
  BOOST_TEST(sum.inner_deleted > 0u);
  BOOST_TEST(overlays_in(folder.path()) == 0u);
  check_that_space_is_given_back(server, folder.path(), told, random);
  check_fsck(server, " --scrub");
  BOOST_TEST(server.stop() == 0);
  check_fsck(server, " --scrub");
}
