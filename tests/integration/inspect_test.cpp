#define BOOST_TEST_MODULE inspect
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace coppice::test;
namespace json = boost::json;

/// One daemon for all of these, and an image that a guest has filled.
struct shared_daemon {
  shared_daemon() {
    folder = new state_folder;
    server = new node{folder->path()};
    auto base = server->import_busybox();
    auto done = server->shell(
        base, "mkdir -p /usr/data/deep && cd /usr/data && "
              "for i in $(seq 300); do seq $i > deep/f$i; done && "
              "dd if=/dev/urandom of=big bs=1M count=24 2>/dev/null && "
              "dd if=/dev/urandom of=sparse bs=4k count=3 seek=5000 2>/dev/null && "
              "ln big again && ln -s deep/f1 link && mkfifo pipe && mknod null c 1 3 && "
              "chmod 4750 deep/f7 && chown 1234:5678 deep/f8 && "
              "printf 'x\\nneedle one\\ny\\n' > deep/f9 && printf 'bin\\0needle\\n' > bin && "
              "find /usr -type f | sort | xargs sha256sum && "
              "find /usr | sort | xargs stat -c '%n %f %u %g' ");
    BOOST_REQUIRE(exit_code_of(done) == 0);
    facts = stdout_of(done);
    image = result_image_of(done);
  }
  ~shared_daemon() {
    delete server;
    delete folder;
  }
  static inline state_folder* folder = nullptr;
  static inline node* server = nullptr;
  static inline std::string image;
  static inline std::string facts; ///< what the guest saw
};

node& server() {
  return *shared_daemon::server;
}

http_answer get(const std::string& what) {
  return server().connect().get("/v1/inspect/" + shared_daemon::image + what);
}

std::string read_all(const std::string& command) {
  std::string out;
  auto* pipe = ::popen(command.c_str(), "r");
  BOOST_REQUIRE(pipe);
  std::vector<char> buffer(65536);
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.append(buffer.data(), n);
  }
  BOOST_TEST(::pclose(pipe) == 0, command);
  return out;
}

/// The processes that read images.
std::set<pid_t> readers() {
  std::set<pid_t> out;
  for (auto pid : descendants_of(server().pid())) {
    auto arguments = arguments_of(pid);
    if (arguments.size() >= 2 && arguments[1] == "inspect-worker") {
      out.insert(pid);
    }
  }
  return out;
}

std::string error_text(const http_answer& answer) {
  return std::string{answer.json().at("error").as_string()};
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(shared_daemon);

BOOST_AUTO_TEST_CASE(an_archive_holds_what_the_guest_saw) {
  auto archive = get("/archive?path=/usr");
  BOOST_REQUIRE(archive.status == 200u);
  BOOST_TEST(archive.header("Content-Type") == "application/x-tar");
  BOOST_TEST((get("/archive?path=/usr").body == archive.body)); // every time the same
  const auto place = shared_daemon::folder->path() / "unpacked";
  std::filesystem::create_directories(place);
  std::ofstream{place / "a.tar", std::ios::binary} << archive.body;
  auto seen = read_all("cd " + place.string() +
                       " && tar --numeric-owner -xpf a.tar && find usr -type f | sort | "
                       "sed 's|^|./|' | xargs sha256sum | sed 's|[.]/usr|/usr|' && "
                       "find usr | sort | xargs stat -c '%n %f %u %g' | sed 's|^|/|'");
  BOOST_TEST(seen == shared_daemon::facts);
  std::filesystem::remove_all(place);
}

BOOST_AUTO_TEST_CASE(a_download_is_what_the_guest_wrote) {
  const auto place = shared_daemon::folder->path() / "content";
  for (const auto* path : {"/usr/data/big", "/usr/data/sparse", "/usr/data/link"}) {
    auto answer = get(std::string{"/download?path="} + path);
    BOOST_REQUIRE(answer.status == 200u);
    std::ofstream{place, std::ios::binary} << answer.body;
    auto digest = read_all("sha256sum " + place.string()).substr(0, 64);
    BOOST_TEST((shared_daemon::facts.find(digest) != std::string::npos), path);
  }
  auto whole = get("/download?path=/usr/data/big").body;
  auto part = server().connect().request(
      "GET", "/v1/inspect/" + shared_daemon::image + "/download?path=/usr/data/big", {},
      {{"Range", "bytes=4095-9000001"}});
  BOOST_TEST(part.status == 206u);
  BOOST_TEST((part.body == whole.substr(4095, 9'000'001 - 4095 + 1)));
  std::filesystem::remove(place);
}

BOOST_AUTO_TEST_CASE(a_search_finds_lines_and_leaves_out_binary_files) {
  auto answer = get("/grep?pattern=needle&path=/usr/data&before=1&after=1").json();
  BOOST_TEST(!answer.at("truncated").as_bool());
  const auto& matches = answer.at("matches").as_array();
  BOOST_REQUIRE(matches.size() == 3u);
  const auto& match = matches[1].as_object();
  BOOST_TEST(std::string{match.at("path").as_string()} == "/usr/data/deep/f9");
  BOOST_TEST(match.at("line_number").as_int64() == 2);
  BOOST_TEST(match.at("absolute_offset").as_int64() == 2);
  BOOST_TEST(std::string{match.at("line_text").as_string()} == "needle one\n");
  BOOST_TEST(match.at("line_bytes").is_null());
  BOOST_TEST(match.at("submatches").as_array().size() == 1u);
  BOOST_TEST(std::string{match.at("type").as_string()} == "match");
  BOOST_TEST(std::string{matches[0].at("type").as_string()} == "context");
  BOOST_TEST(get("/grep?pattern=nothing%20like%20that").json().at("matches").as_array().empty());
  BOOST_TEST(get("/grep?pattern=(").status == 400u);
  BOOST_TEST(get("/grep?pattern=x&path=/nowhere").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_reader_serves_the_next_request_too) {
  BOOST_TEST(get("/list?path=/").status == 200u);
  auto before = readers();
  BOOST_REQUIRE(!before.empty());
  for (int i = 0; i < 20; ++i) {
    BOOST_TEST(get("/list?path=/usr/data").status == 200u);
    BOOST_TEST(get("/list?path=/nowhere").status == 404u);
    BOOST_TEST(get("/download?path=/usr").status == 422u);
  }
  BOOST_TEST((readers() == before));
}

BOOST_AUTO_TEST_CASE(a_reader_that_is_killed_while_it_waits_costs_nothing) {
  BOOST_TEST(get("/list?path=/").status == 200u);
  auto killed = readers();
  BOOST_REQUIRE(!killed.empty());
  for (auto pid : killed) {
    ::kill(pid, SIGKILL);
  }
  eventually("the readers are gone", [&] {
    auto left = readers();
    return std::none_of(killed.begin(), killed.end(),
                        [&](pid_t pid) { return left.contains(pid); });
  });
  BOOST_TEST(get("/list?path=/").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_reader_that_hangs_costs_one_request) {
  BOOST_TEST(get("/list?path=/").status == 200u);
  auto stopped = readers();
  BOOST_REQUIRE(!stopped.empty());
  for (auto pid : stopped) {
    ::kill(pid, SIGSTOP);
  }
  auto answer = get("/list?path=/");
  BOOST_TEST(answer.status == 503u);
  BOOST_TEST((error_text(answer).find("did not answer within") != std::string::npos));
  BOOST_TEST(get("/list?path=/").status == 200u);
  for (auto pid : stopped) {
    ::kill(pid, SIGKILL);
  }
}

BOOST_AUTO_TEST_CASE(an_image_whose_reader_waits_can_be_deleted_at_once) {
  auto branch = result_image_of(server().shell(shared_daemon::image, "echo > /new"));
  BOOST_REQUIRE(!branch.empty());
  auto client = server().connect();
  BOOST_TEST(client.get("/v1/inspect/" + branch + "/list?path=/").status == 200u);
  BOOST_TEST(client.request("DELETE", "/v1/images/" + branch).status == 204u);
  BOOST_TEST(client.get("/v1/inspect/" + branch + "/list?path=/").status == 404u);
  BOOST_TEST(get("/list?path=/").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_branch_is_compared_with_what_it_came_from) {
  auto branch = result_image_of(server().shell(
      shared_daemon::image, "cd /usr/data && echo more >> deep/f2 && rm deep/f3 && mkdir new && "
                            "echo x > new/x && chmod 600 deep/f4 && touch deep/f5 && "
                            "printf 'X' | dd of=big bs=1 seek=5000000 conv=notrunc 2>/dev/null"));
  BOOST_REQUIRE(!branch.empty());
  auto client = server().connect();
  auto target = "/v1/images/" + shared_daemon::image + "/diff/" + branch;
  auto answer = client.get(target);
  BOOST_REQUIRE_MESSAGE(answer.status == 200u, answer.body);
  std::map<std::string, json::object> changes;
  const auto body = answer.json();
  for (const auto& change : body.at("changes").as_array()) {
    changes[std::string{change.at("path").as_string()}] = change.as_object();
  }
  auto kind = [&](const std::string& path) {
    return changes.contains(path) ? std::string{changes[path].at("change").as_string()} : "none";
  };
  BOOST_TEST(kind("/usr/data/deep/f1") == "none");
  BOOST_TEST(kind("/usr/data/deep/f2") == "changed");
  BOOST_TEST(changes["/usr/data/deep/f2"].at("content").as_bool());
  BOOST_TEST(kind("/usr/data/deep/f3") == "removed");
  BOOST_TEST(kind("/usr/data/deep/f4") == "changed");
  BOOST_TEST(!changes["/usr/data/deep/f4"].at("content").as_bool());
  BOOST_TEST(kind("/usr/data/deep/f5") == "none"); // only touched
  BOOST_TEST(kind("/usr/data/new") == "added");
  BOOST_TEST(kind("/usr/data/new/x") == "added");
  BOOST_TEST(changes["/usr/data/new/x"].at("new_size").as_int64() == 2);
  BOOST_TEST(kind("/usr/data/big") == "changed");
  BOOST_TEST(kind("/usr/data/again") == "changed"); // the same file
  auto text = client.get(target + "?text=1&path=/usr/data/deep/f2").body;
  BOOST_TEST(text == "--- a/usr/data/deep/f2\n+++ b/usr/data/deep/f2\n@@ -1,2 +1,3 @@\n 1\n 2\n"
                     "+more\n");
  BOOST_TEST(client.get("/v1/images/" + branch + "/diff/" + branch)
                 .json()
                 .at("changes")
                 .as_array()
                 .empty());
  BOOST_TEST(client.request("DELETE", "/v1/images/" + branch).status == 204u);
}

BOOST_AUTO_TEST_CASE(many_read_at_once) {
  const auto big = get("/download?path=/usr/data/big").body;
  std::vector<std::thread> clients;
  std::atomic<int> right{0};
  for (int i = 0; i < 12; ++i) {
    clients.emplace_back([&, i] {
      auto client = server().connect();
      auto prefix = "/v1/inspect/" + shared_daemon::image;
      for (int round = 0; round < 4; ++round) {
        if (i % 3 == 0) {
          right += client.get(prefix + "/download?path=/usr/data/big").body == big ? 1 : 0;
        } else if (i % 3 == 1) {
          right += client.get(prefix + "/list?path=/usr/data/deep").status == 200 ? 1 : 0;
        } else {
          right += client.get(prefix + "/grep?pattern=needle").status == 200 ? 1 : 0;
        }
      }
    });
  }
  for (auto& client : clients) {
    client.join();
  }
  BOOST_TEST(right == 48);
}

BOOST_AUTO_TEST_CASE(readers_go_when_nobody_needs_them) {
  BOOST_TEST(get("/list?path=/").status == 200u);
  eventually("no reader is left", [] { return readers().empty(); });
  BOOST_TEST(get("/list?path=/").status == 200u);
}
