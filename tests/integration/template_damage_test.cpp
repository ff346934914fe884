#define BOOST_TEST_MODULE template_damage
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"
#include "vmm/sha256.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <vector>

// A template that is no good costs a boot and a line in the log, never a run.

using namespace coppice::test;
namespace fs = std::filesystem;

namespace {

/// Where what is (vmm/template_file.hpp).
constexpr std::size_t key_offset = 16;
constexpr std::size_t ready_bytes_offset = 64;
constexpr std::size_t header_bytes = 96;
constexpr std::size_t digest_bytes = 32;

using arguments = std::vector<std::string>;

/// No VM waits: each run starts from the template itself, or boots.
arguments with(arguments further) {
  further.insert(further.end(), {"--pool.ceiling=0", "--daemon.user=root", "--vm.accelerator=tcg"});
  return further;
}

void wait_for_line(const node& server, const std::string& text, std::size_t count = 1) {
  eventually("the log has " + text, [&] { return count_of(server.log(), text) >= count; });
}

std::string way_of(const boost::json::object& operation) {
  return std::string{operation.at("metrics").at("vm_start").as_string()};
}

/// What the log warns of that has to do with templates.
std::vector<std::string> complaints_of(const node& server) {
  auto lines = lines_of(server.log());
  std::erase_if(lines, [](const std::string& line) {
    return line.find("level=warn") == line.npos || line.find("template") == line.npos;
  });
  return lines;
}

fs::path kept_template(const fs::path& state) {
  fs::path out;
  for (const auto& entry : fs::directory_iterator{state / "templates"}) {
    BOOST_TEST(out.empty(), "there is more than one template");
    out = entry.path();
  }
  BOOST_REQUIRE(!out.empty());
  return out;
}

/// The bytes of the file are changed as `how` says; its owner and its name stay.
void damage(const fs::path& file, const std::function<void(std::string&)>& how) {
  auto bytes = text_of(file);
  how(bytes);
  std::ofstream out{file, std::ios::binary | std::ios::trunc};
  out << bytes;
}

/// As if it had always been so.
void sign(std::string& bytes) {
  const auto content = bytes.size() - digest_bytes;
  coppice::vmm::sha256 hash;
  hash.add(std::as_bytes(std::span{bytes.data(), content}));
  const auto digest = hash.finish();
  std::memcpy(bytes.data() + content, digest.data(), digest_bytes);
}

/// Lets it have what it has. Only its own user may do that, also where root may not.
bool takes_no_more_memory(pid_t qemu) {
  const auto uid = static_cast<uid_t>(uid_of(qemu));
  const auto gid = static_cast<gid_t>(std::stoul(status_of_process(qemu, "Gid")));
  const pid_t helper = ::fork();
  if (helper == 0) {
    const rlimit nothing{0, 0};
    const bool is_done = ::setresgid(gid, gid, gid) == 0 && ::setresuid(uid, uid, uid) == 0 &&
                         ::prlimit(qemu, RLIMIT_AS, &nothing, nullptr) == 0;
    ::_exit(is_done ? 0 : 1);
  }
  int status = -1;
  return helper > 0 && ::waitpid(helper, &status, 0) == helper && status == 0;
}

/// A state folder with a base image and a template that was kept.
struct kept_fixture {
  kept_fixture() {
    node server{folder.path(), with({})};
    base = server.import_busybox();
    run_works(server);
    wait_for_line(server, "\"template made\"");
    uses_template(server);
    BOOST_TEST(server.stop() == 0);
    file = kept_template(folder.path());
  }

  std::string run_works(const node& server) const {
    auto done = server.shell(base, "echo works");
    BOOST_TEST(status_of(done) == "SUCCESS", error_of(done));
    BOOST_TEST(stdout_of(done) == "works\n");
    return way_of(done);
  }

  /// Soon after it was logged: it is kept first.
  void uses_template(const node& server) const {
    eventually("a run starts from the template", [&] { return run_works(server) == "template"; });
  }

  /// After a start: one line says `why`, all runs succeed, and there is a new template.
  void check_is_made_anew(const std::string& why) const {
    node server{folder.path(), with({})};
    run_works(server); // while it is noticed or made
    wait_for_line(server, "\"template made\"");
    uses_template(server);
    const auto said = complaints_of(server);
    BOOST_REQUIRE(said.size() == 1u);
    BOOST_TEST(said.front().find(why) != std::string::npos, said.front());
    BOOST_TEST(count_of(server.log(), "\"template loaded\"") == 0u);
    BOOST_TEST(server.stop() == 0);
  }

  state_folder folder;
  std::string base;
  fs::path file;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_kept_template_that_was_damaged_is_made_anew, kept_fixture) {
  damage(file, [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  check_is_made_anew("it is damaged: it has");
  damage(file, [](std::string& bytes) { bytes[bytes.size() / 2] ^= 1; });
  check_is_made_anew("it is damaged: its SHA-256 is another");
  damage(file, [](std::string& bytes) { bytes[key_offset] ^= 1; });
  check_is_made_anew("it was made of other ingredients (QEMU, kernel, agent, settings)");
  // What was made at last is good.
  node server{folder.path(), with({})};
  wait_for_line(server, "\"template loaded\"");
  uses_template(server);
  BOOST_TEST(complaints_of(server).empty());
}

BOOST_FIXTURE_TEST_CASE(a_template_that_cannot_be_restored_is_replaced_and_no_run_fails,
                        kept_fixture) {
  // What its digest cannot tell: it was wrong when it was saved.
  damage(file, [](std::string& bytes) {
    std::uint64_t ready_bytes = 0;
    std::memcpy(&ready_bytes, bytes.data() + ready_bytes_offset, sizeof(ready_bytes));
    const auto state = header_bytes + ready_bytes;
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(state + 4096), 4096, '\x5a');
    sign(bytes);
  });
  node server{folder.path(), with({})};
  wait_for_line(server, "\"template loaded\"");
  BOOST_TEST(run_works(server) == "cold"); // one attempt, then it boots
  wait_for_line(server, "\"template made\"");
  uses_template(server);
  const auto said = complaints_of(server);
  BOOST_REQUIRE(said.size() == 1u);
  BOOST_TEST(said.front().find("a VM could not start from its template") != std::string::npos,
             said.front());
}

BOOST_FIXTURE_TEST_CASE(another_kernel_has_a_template_of_its_own, kept_fixture) {
  const auto kernel = folder.path() / "vmlinux";
  fs::copy_file(program().parent_path() / "guest" / "vmlinux", kernel);
  const auto initramfs = program().parent_path() / "guest" / "initramfs.cpio";
  const auto other =
      with({"--vm.kernel=" + kernel.string(), "--vm.initramfs=" + initramfs.string()});
  for (int round = 0; round < 2; ++round) {
    node server{folder.path(), other};
    run_works(server);
    // The same content under another name is the same; a byte more is not.
    wait_for_line(server, round == 0 ? "\"template loaded\"" : "\"template made\"");
    uses_template(server);
    BOOST_TEST(count_of(server.log(), "\"template made\"") +
                   count_of(server.log(), "\"template loaded\"") ==
               1u);
    BOOST_TEST(complaints_of(server).empty());
    BOOST_TEST(server.stop() == 0);
    std::ofstream{kernel, std::ios::app} << 'x';
  }
}

BOOST_AUTO_TEST_CASE(without_memory_for_a_template_vms_boot) {
  state_folder folder;
  // The pool asks for a template at once; the first QEMU is the one that makes it.
  node server{folder.path(), {"--pool.floor=1", "--vm.accelerator=tcg", "--daemon.user=root"}};
  pid_t qemu = 0;
  eventually("a template is being made", [&] {
    const auto qemus = qemus_of(server.pid());
    qemu = qemus.empty() ? 0 : qemus.begin()->first;
    return qemu != 0;
  });
  BOOST_REQUIRE(takes_no_more_memory(qemu));
  wait_for_line(server, "no template: VMs boot");
  auto base = server.import_busybox();
  auto done = server.shell(base, "echo works");
  BOOST_TEST(status_of(done) == "SUCCESS", error_of(done));
  BOOST_TEST(way_of(done) == "cold");
  const auto said = complaints_of(server);
  BOOST_REQUIRE(said.size() == 1u);
  BOOST_TEST(said.front().find("building a template: QEMU ") != std::string::npos, said.front());
  BOOST_TEST(!is_alive(qemu));
  BOOST_TEST(fs::is_empty(folder.path() / "templates"));
}
