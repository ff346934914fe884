#define BOOST_TEST_MODULE cli
#include <boost/test/unit_test.hpp>

#include "gateway/cli/admin_client.hpp"
#include "gateway/cli/captured.hpp"
#include "gateway/cli/checkup.hpp"
#include "gateway/cli/new_token.hpp"
#include "gateway/cli/privileges.hpp"
#include "tests/support/certificate.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

using namespace coppice;
using namespace coppice::cli;
using namespace std::chrono_literals;

namespace {

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

/// A folder of its own for each test.
struct folder {
  std::filesystem::path path;

  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "coppice-cli-XXXXXX").string();
    BOOST_TEST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~folder() {
    std::filesystem::remove_all(path);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
};

/// Answers one request on a unix socket with the given bytes and keeps what it was asked.
class one_answer {
public:
  one_answer(const std::filesystem::path& socket, std::string bytes) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket.c_str(), sizeof(address.sun_path) - 1);
    BOOST_TEST_REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
                       0);
    BOOST_TEST_REQUIRE(::listen(listener_, 1) == 0);
    thread_ = std::thread{[this, answer = std::move(bytes)] {
      serve(answer);
    }};
  }

  /// What was asked, after the answer went out and the peer closed.
  std::string request() {
    thread_.join();
    ::close(listener_);
    return request_;
  }

private:
  void serve(const std::string& answer) {
    int peer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    std::array<char, 4096> buffer{};
    bool is_answered = answer.empty();
    while (true) {
      auto count = ::read(peer, buffer.data(), buffer.size());
      if (count <= 0) {
        break;
      }
      request_.append(buffer.data(), static_cast<std::size_t>(count));
      if (!is_answered && request_.find("\r\n\r\n") != request_.npos) {
        is_answered = ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL) > 0;
      }
    }
    ::close(peer);
  }

  int listener_ = -1;
  std::string request_;
  std::thread thread_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(token)

BOOST_FIXTURE_TEST_CASE(a_new_token_is_found_by_its_digest_with_what_was_asked, folder) {
  auto catalog = storage::catalog::open(path);
  BOOST_TEST_REQUIRE(catalog.has_value(), catalog.error().text);
  token_request request;
  request.project = "team-1";
  request.expires_in = 3600s;
  request.permissions = {"list", "spawn_disposable"};
  auto text = create_token(**catalog, request);
  BOOST_TEST_REQUIRE(text.has_value(), text.error().text);
  BOOST_TEST(text->size() == 8u + 64u);

  auto digest = token_digest(*text);
  auto query = make_frame<proto::FindToken>(
      [&](auto root) { root.setSha256(kj::arrayPtr(digest.data(), digest.size())); });
  auto found = (*catalog)->find_token(*query.view());
  BOOST_TEST_REQUIRE(found.has_value(), found.error().text);
  auto record = found->view();
  BOOST_TEST(record->getProject().cStr() == std::string{"team-1"});
  BOOST_TEST(record->getExpiresAtUnixNs() - record->getCreatedAtUnixNs() == 3'600'000'000'000);
  BOOST_TEST(record->getMayList());
  BOOST_TEST(record->getMaySpawnDisposable());
  BOOST_TEST(!record->getMaySpawn());
  BOOST_TEST(!record->getMayImport());
  BOOST_TEST(!record->getMayCancel());
  BOOST_TEST(!record->getMaySetImageTag());
}

BOOST_FIXTURE_TEST_CASE(two_tokens_differ_and_the_default_may_everything_for_ever, folder) {
  auto catalog = storage::catalog::open(path);
  BOOST_TEST_REQUIRE(catalog.has_value(), catalog.error().text);
  auto first = create_token(**catalog, {});
  auto second = create_token(**catalog, {});
  BOOST_TEST_REQUIRE((first && second));
  BOOST_TEST(*first != *second);
  auto digest = token_digest(*first);
  auto query = make_frame<proto::FindToken>(
      [&](auto root) { root.setSha256(kj::arrayPtr(digest.data(), digest.size())); });
  auto found = (*catalog)->find_token(*query.view());
  BOOST_TEST_REQUIRE(found.has_value(), found.error().text);
  auto record = found->view();
  BOOST_TEST(record->getProject().cStr() == std::string{"default"});
  BOOST_TEST(record->getExpiresAtUnixNs() == 0);
  BOOST_TEST((record->getMayImport() && record->getMaySpawn() && record->getMayCancel()));
}

BOOST_FIXTURE_TEST_CASE(unknown_permissions_and_bad_projects_are_refused, folder) {
  auto catalog = storage::catalog::open(path);
  BOOST_TEST_REQUIRE(catalog.has_value(), catalog.error().text);
  auto token = create_token(**catalog, {"default", 0s, {"list", "root"}});
  BOOST_TEST_REQUIRE(token.has_error());
  BOOST_TEST(says(token.error().text, "unknown permission 'root'; there are import"),
             token.error().text);
  for (auto project : {"", "a/b", "UPPER", "has space"}) {
    BOOST_TEST(create_token(**catalog, {project, 0s, {}}).has_error(), project);
  }
}

BOOST_AUTO_TEST_CASE(the_digest_is_sha_256) {
  auto digest = token_digest("abc");
  BOOST_TEST(digest[0] == 0xba);
  BOOST_TEST(digest[31] == 0xad);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(capturing)

BOOST_AUTO_TEST_CASE(output_and_exit_code_are_given) {
  auto run = capture({"sh", "-c", "echo out; echo err >&2; exit 3"}, 20s);
  BOOST_TEST(run.was_started);
  BOOST_TEST(run.exit_code == 3);
  BOOST_TEST(run.output == "out\nerr\n");
}

BOOST_AUTO_TEST_CASE(a_missing_program_is_not_started) {
  auto run = capture({"no-such-program-of-coppice"}, 20s);
  BOOST_TEST(!run.was_started);
  BOOST_TEST(run.output == "No such file or directory");
}

BOOST_AUTO_TEST_CASE(a_program_that_hangs_is_killed_at_the_deadline) {
  auto began = std::chrono::steady_clock::now();
  auto run = capture({"sleep", "1000"}, 50ms);
  BOOST_TEST(run.was_started);
  BOOST_TEST(run.exit_code == -1);
  BOOST_TEST((std::chrono::steady_clock::now() - began < 60s));
}

BOOST_AUTO_TEST_CASE(a_flood_of_output_is_cut) {
  auto run = capture({"sh", "-c", "yes | head -c 1000000"}, 20s);
  BOOST_TEST(run.exit_code == 0);
  BOOST_TEST(run.output.size() == 65'536u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(admin)

BOOST_FIXTURE_TEST_CASE(the_answer_and_the_project_go_through, folder) {
  one_answer server{path / "s", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"};
  admin_client client{path / "s", "team-1"};
  auto answer = client.request("POST", "/admin/import", R"({"a":1})", 20s);
  auto asked = server.request();
  BOOST_TEST_REQUIRE(answer.has_value(), answer.error().text);
  BOOST_TEST(answer->status == 201u);
  BOOST_TEST(answer->body == "{}");
  BOOST_TEST(says(asked, "POST /admin/import HTTP/1.1\r\n"), asked);
  BOOST_TEST(says(asked, "Project: team-1\r\n"), asked);
  BOOST_TEST(says(asked, "Content-Length: 7\r\n"), asked);
  BOOST_TEST(says(asked, "\r\n\r\n{\"a\":1}"), asked);
}

BOOST_FIXTURE_TEST_CASE(without_a_daemon_the_error_says_how_to_start_one, folder) {
  admin_client client{path / "s", "default"};
  auto answer = client.request("GET", "/healthz", "", 20s);
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST(says(answer.error().text, "coppice serve"), answer.error().text);
  BOOST_TEST(says(answer.error().text, (path / "s").string()), answer.error().text);
}

BOOST_FIXTURE_TEST_CASE(a_silent_daemon_is_given_up_at_the_deadline, folder) {
  one_answer server{path / "s", ""};
  auto answer = admin_client{path / "s", "default"}.request("GET", "/healthz", "", 1s);
  server.request();
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST(says(answer.error().text, "did not answer GET /healthz"), answer.error().text);
}

BOOST_FIXTURE_TEST_CASE(an_answer_without_end_is_refused, folder) {
  one_answer server{path / "s", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"};
  auto answer = admin_client{path / "s", "default"}.request("GET", "/x", "", 20s);
  server.request();
  BOOST_TEST_REQUIRE(answer.has_error());
}

BOOST_AUTO_TEST_CASE(a_path_too_long_for_a_socket_is_an_error) {
  auto answer = admin_client{"/" + std::string(200, 'x'), "default"}.request("GET", "/", "", 1s);
  BOOST_TEST_REQUIRE(answer.has_error());
  BOOST_TEST(says(answer.error().text, "too long"), answer.error().text);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(doctor)

BOOST_FIXTURE_TEST_CASE(a_folder_that_is_not_there_yet_is_judged_by_what_is_above_it, folder) {
  settings values;
  values.state_dir = path / "a" / "b";
  auto findings = check_state_folder(values);
  BOOST_TEST_REQUIRE(findings.size() == 4u);
  BOOST_TEST((findings[0].level == verdict::ok), findings[0].text);
  BOOST_TEST(says(findings[0].text, "will be made"), findings[0].text);
  BOOST_TEST(!std::filesystem::exists(path / "a"));
}

BOOST_FIXTURE_TEST_CASE(a_folder_that_others_can_read_is_warned_about, folder) {
  settings values;
  values.state_dir = path;
  BOOST_TEST((check_state_folder(values)[0].level == verdict::ok));
  ::chmod(path.c_str(), 0755);
  auto finding = check_state_folder(values)[0];
  BOOST_TEST((finding.level == verdict::warn));
  BOOST_TEST(says(finding.remedy, "chmod 700"), finding.remedy);
}

BOOST_AUTO_TEST_CASE(what_is_missing_is_named_with_its_remedy) {
  settings values;
  values.vm.qemu = "/nonexistent/qemu";
  values.vm.kernel = "/nonexistent/vmlinux";
  values.import.skopeo = "/nonexistent/skopeo";
  for (const auto& finding :
       {check_qemu(values), check_guest_files(values), check_helpers(values)}) {
    BOOST_TEST((finding.level != verdict::ok), finding.subject);
    BOOST_TEST(says(finding.text, "/nonexistent/"), finding.text);
    BOOST_TEST(!finding.remedy.empty(), finding.subject);
  }
  // An image can be imported from a folder without skopeo; nothing runs without QEMU or a kernel.
  BOOST_TEST((check_qemu(values).level == verdict::fail));
  BOOST_TEST((check_guest_files(values).level == verdict::fail));
  BOOST_TEST((check_helpers(values).level == verdict::warn));
}

BOOST_AUTO_TEST_CASE(a_daemon_without_jails_works_and_is_told_what_it_gives_up) {
  settings values;
  values.daemon.user = "0";
  auto findings = check_jail(values, "/nonexistent/coppice");
  BOOST_TEST_REQUIRE(!findings.empty());
  for (const auto& finding : findings) {
    BOOST_TEST((finding.level == verdict::warn), finding.subject);
    BOOST_TEST(!finding.remedy.empty(), finding.subject);
  }
  BOOST_TEST(says(findings.back().text, "see its files"), findings.back().text);
}

BOOST_AUTO_TEST_CASE(the_daemons_user_is_named_numbered_or_the_first_of_the_range) {
  settings values;
  values.daemon.user = "root";
  auto user = find_daemon_user(values);
  BOOST_TEST_REQUIRE(user.has_value());
  BOOST_TEST(user->uid == 0u);
  values.daemon.user = "123456789";
  user = find_daemon_user(values);
  BOOST_TEST_REQUIRE(user.has_value());
  BOOST_TEST(user->uid == 123'456'789u);
  BOOST_TEST(user->gid == 123'456'789u);
  BOOST_TEST(user->name == "");
  values.daemon.user = "no-such-user-here";
  user = find_daemon_user(values);
  BOOST_TEST_REQUIRE(user.has_error());
  BOOST_TEST(says(user.error().text, "no-such-user-here"), user.error().text);
  values.daemon.user = "";
  user = find_daemon_user(values);
  BOOST_TEST_REQUIRE(user.has_value());
  BOOST_TEST((user->name == "coppice" || user->uid == values.jail.uid_first));
  auto config = launcher_config_of(values, *user, "/program");
  BOOST_TEST(config.uid_first == values.jail.uid_first + 1); // the daemon's is no jail's
  BOOST_TEST(config.uid_first + config.uid_count == values.jail.uid_first + values.jail.uid_count);
}

BOOST_AUTO_TEST_CASE(a_certificate_is_looked_at_with_its_key) {
  const folder made;
  const auto good = coppice::test::make_certificate(made.path, "good", 100L * 86'400);
  const auto other = coppice::test::make_certificate(made.path, "other", 100L * 86'400);
  const auto early = coppice::test::make_certificate(made.path, "early", 100L * 86'400, 7'200);
  const auto short_lived = coppice::test::make_certificate(made.path, "short", 86'400);
  const auto judged = [](const std::filesystem::path& certificate,
                         const std::filesystem::path& key) {
    settings values;
    values.http.tls_certificate = certificate;
    values.http.tls_key = key;
    return check_certificate(values);
  };
  auto found = judged(good.certificate, good.key);
  BOOST_REQUIRE(found.size() == 1u);
  BOOST_TEST((found[0].level == verdict::ok));
  found = judged(short_lived.certificate, short_lived.key);
  BOOST_REQUIRE(found.size() == 1u);
  BOOST_TEST((found[0].level == verdict::warn));
  found = judged(early.certificate, early.key);
  BOOST_REQUIRE(found.size() == 1u);
  BOOST_TEST((found[0].level == verdict::fail));
  found = judged(good.certificate, other.key);
  BOOST_REQUIRE(found.size() == 2u);
  BOOST_TEST((found[1].level == verdict::fail));
  found = judged(good.certificate, good.certificate);
  BOOST_REQUIRE(found.size() == 2u);
  BOOST_TEST((found[1].level == verdict::fail));
}

BOOST_AUTO_TEST_SUITE_END()
