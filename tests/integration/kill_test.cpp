#define BOOST_TEST_MODULE kill
#include "tests/integration/node.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace coppice::test;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

constexpr int clients = 4;
constexpr const char* running_max = "--vm.running_max=3";

/// What the daemon has told: from then on it must stay true.
class told_facts {
public:
  struct image {
    std::string id;
    std::string file; ///< written by the run that made it, with its own name in it
  };

  /// A 201: the operation is there for ever. `file`: what it will write.
  void accepted(const std::string& operation, const std::string& file) {
    std::lock_guard lock{mutex_};
    operations_[operation] = file;
  }
  void succeeded(const std::string& operation, const std::string& id) {
    std::lock_guard lock{mutex_};
    if (images_.try_emplace(id, image{id, operations_.at(operation)}).second) {
      order_.push_back(id);
    }
  }
  /// One of the last, so that chains grow, or the base.
  std::string some_image(std::minstd_rand& random, const std::string& base) {
    std::lock_guard lock{mutex_};
    auto n = random() % 8;
    return n < order_.size() && n < 6 ? order_[order_.size() - 1 - n] : base;
  }
  std::map<std::string, std::string> operations() {
    std::lock_guard lock{mutex_};
    return operations_;
  }
  std::vector<image> images() {
    std::lock_guard lock{mutex_};
    std::vector<image> out;
    for (const auto& id : order_) {
      out.push_back(images_.at(id));
    }
    return out;
  }

private:
  std::mutex mutex_;
  std::map<std::string, std::string> operations_;
  std::map<std::string, image> images_;
  std::vector<std::string> order_;
};

json::object run_of(const std::string& image, const std::string& file) {
  return {{"command", "echo -n " + file + " > /root/" + file}, {"shell", true}, {"image", image}};
}

/// Spawns runs one after the other, until the daemon is gone.
void work(http_client& client, told_facts& told, const std::string& base, unsigned seed) {
  std::minstd_rand random{seed};
  try {
    for (int number = 0;; ++number) {
      auto file = "f" + std::to_string(seed) + "-" + std::to_string(number);
      auto answer =
          client.post("/v1/instances", json::value(run_of(told.some_image(random, base), file)));
      if (answer.status != 201) {
        continue;
      }
      std::string operation{answer.json().at("uuid").as_string()};
      told.accepted(operation, file);
      for (auto is_over = false; !is_over;) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
        auto now = client.get("/v1/operations/" + operation).json().as_object();
        auto status = status_of(now);
        is_over = status == "FAILED" || status == "SUCCESS";
        if (status == "SUCCESS") {
          told.succeeded(operation, result_image_of(now));
        }
      }
    }
  } catch (const std::exception&) {
    // the daemon was killed
  }
}

std::set<std::string> overlay_names(const fs::path& state) {
  std::set<std::string> out;
  for (const auto& entry : fs::directory_iterator{state / "images"}) {
    auto name = entry.path().filename().string();
    if (name.find(".overlay") != name.npos) {
      out.insert(name);
    }
  }
  return out;
}

/// Works, and kills the daemon at some moment behind the first new image. Gives its children.
std::vector<pid_t> work_until_killed(node& server, told_facts& told, const std::string& base,
                                     unsigned round) {
  std::minstd_rand random{round + 1};
  auto before = told.images().size();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < clients; ++i) {
    std::shared_ptr<http_client> client{new http_client(server.connect())};
    threads.emplace_back(
        [client, &told, &base, round, i] { work(*client, told, base, 1000 * (round + 1) + i); });
  }
  auto deadline = std::chrono::steady_clock::now() + patience();
  while (told.images().size() == before && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  // Any moment of the runs that are under way then.
  std::this_thread::sleep_for(std::chrono::milliseconds{(random() >> 4) % 3000});
  ::kill(server.pid(), SIGSTOP); // so that no child comes while they are counted
  auto children = descendants_of(server.pid());
  server.kill();
  for (auto& t : threads) {
    t.join();
  }
  BOOST_TEST(told.images().size() > before, "no run ended in round " << round);
  return children;
}

void check_image(http_client& client, const told_facts::image& image) {
  auto answer = client.get("/v1/inspect/" + image.id + "/download?path=/root/" + image.file);
  BOOST_TEST(answer.status == 200u,
             "image " << image.id << " answered " << answer.status << ": " << answer.body);
  BOOST_TEST(answer.body == image.file);
}

/// What was accepted has ended or ends now, and says why if it failed.
std::pair<std::size_t, std::size_t> check_operations(node& server, told_facts& told) {
  std::size_t succeeded = 0;
  std::size_t failed = 0;
  for (const auto& [operation, file] : told.operations()) {
    auto now = server.wait(operation);
    if (status_of(now) == "SUCCESS") {
      told.succeeded(operation, result_image_of(now));
      ++succeeded;
    } else {
      BOOST_TEST(status_of(now) == "FAILED");
      BOOST_TEST(!error_of(now).empty(), "operation " << operation << " failed without a reason");
      ++failed;
    }
  }
  return {succeeded, failed};
}

bool knows_fsck() {
  auto line = program().string() + " --help | grep -q '^  fsck '";
  return std::system(line.c_str()) == 0;
}

} // namespace

BOOST_AUTO_TEST_CASE(nothing_that_was_told_is_lost_when_the_daemon_is_killed_under_load) {
  const unsigned rounds = is_full ? 100 : 10;
  state_folder folder;
  told_facts told;
  std::string base;
  std::minstd_rand random{7};
  std::size_t left_over = 0;
  for (unsigned round = 0; round <= rounds; ++round) {
    auto before = fs::exists(folder.path() / "images") ? overlay_names(folder.path())
                                                       : std::set<std::string>{};
    left_over += before.size();
    node server{folder.path(), {running_max}};
    if (round == 0) {
      base = server.import_busybox();
    }
    for (const auto& name : overlay_names(folder.path())) {
      BOOST_TEST(!before.contains(name), name << " was left by the daemon before");
    }
    auto images = told.images();
    auto client = server.connect();
    if (round == rounds) {
      auto [succeeded, failed] = check_operations(server, told);
      images = told.images();
      for (const auto& image : images) {
        check_image(client, image);
      }
      std::cout << "killed " << rounds << " times: " << succeeded << " operations succeeded, "
                << failed << " failed with a reason, " << images.size() << " images are whole; "
                << left_over << " overlays were left and removed\n";
      BOOST_TEST(overlays_in(folder.path()) == 0u);
      BOOST_TEST(server.stop() == 0);
      break;
    }
    for (std::size_t i = 0; i < std::min<std::size_t>(images.size(), 4); ++i) {
      check_image(client, images[i < 2 ? images.size() - 1 - i : random() % images.size()]);
    }
    auto children = work_until_killed(server, told, base, round);
    eventually("every child of the killed daemon is gone", [&] {
      return std::none_of(children.begin(), children.end(),
                          [](pid_t pid) { return ::kill(pid, 0) == 0; });
    });
  }
  if (knows_fsck()) {
    auto line = program().string() + " fsck --state-dir=" + folder.path().string();
    BOOST_TEST(std::system(line.c_str()) == 0);
  }
}
