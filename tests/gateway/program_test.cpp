#define BOOST_TEST_MODULE program
#include <boost/test/unit_test.hpp>

#include "gateway/cli/captured.hpp"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace coppice::cli;
using namespace std::chrono_literals;

// The program as an operator meets it, without a daemon: what it prints and how it exits.

namespace {

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

captured_run run_program(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), COPPICE_PROGRAM);
  return capture(arguments, 60s);
}

struct folder {
  std::filesystem::path path;

  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "coppice-program-XXXXXX").string();
    BOOST_TEST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~folder() {
    std::filesystem::remove_all(path);
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
};

} // namespace

BOOST_AUTO_TEST_CASE(version_and_help_exit_with_0_and_show_no_internal_command) {
  auto version = run_program({"--version"});
  BOOST_TEST(version.exit_code == 0);
  BOOST_TEST(version.output.starts_with("coppice "), version.output);
  auto help = run_program({"--help"});
  BOOST_TEST(help.exit_code == 0);
  for (auto command : {"serve", "token", "import", "doctor", "settings"}) {
    BOOST_TEST(says(help.output, std::string{"\n  "} + command + " "), command);
  }
  BOOST_TEST(!says(help.output, "worker"), help.output);
  BOOST_TEST(!says(help.output, "guard"), help.output);
}

BOOST_AUTO_TEST_CASE(wrong_usage_exits_with_2) {
  BOOST_TEST(run_program({}).exit_code == 2);
  BOOST_TEST(run_program({"bogus"}).exit_code == 2);
  BOOST_TEST(run_program({"import"}).exit_code == 2);
  BOOST_TEST(run_program({"token", "create", "--bogus"}).exit_code == 2);
}

BOOST_AUTO_TEST_CASE(serve_help_explains_every_setting) {
  auto help = run_program({"serve", "--help"});
  BOOST_TEST(help.exit_code == 0);
  BOOST_TEST(says(help.output, "--http.listen=127.0.0.1:8080"), help.output);
  BOOST_TEST(says(help.output, "--vm.boot_timeout=1m\n        (duration, 1s to 1h)"), help.output);
}

BOOST_FIXTURE_TEST_CASE(a_wrong_configuration_ends_serve_with_file_line_and_remedy, folder) {
  std::ofstream{path / "x.ini"} << "[vm]\ncpu = 2\n";
  auto run = run_program({"serve", "--config", (path / "x.ini").string()});
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(run.output == "coppice: " + (path / "x.ini").string() +
                               ":2: unknown key vm.cpu; the nearest is vm.cpus. 'coppice serve "
                               "--help' lists all keys\n");
}

BOOST_FIXTURE_TEST_CASE(settings_prints_what_is_in_effect_and_can_be_read_back, folder) {
  auto printed = run_program({"settings", "--vm.cpus=3", "--state-dir", "/srv/x"});
  BOOST_TEST(printed.exit_code == 0);
  BOOST_TEST(says(printed.output, "\ncpus = 3\n"), printed.output);
  std::ofstream{path / "x.ini"} << printed.output;
  auto again = run_program({"settings", "--config", (path / "x.ini").string()});
  BOOST_TEST(again.exit_code == 0);
  BOOST_TEST(again.output == printed.output);
  BOOST_TEST(says(again.output, "\nstate_dir = /srv/x\n"), again.output);
}

BOOST_FIXTURE_TEST_CASE(a_token_file_is_private_and_replaced_as_a_whole, folder) {
  auto file = path / "token";
  auto make = [&] {
    return run_program({"token", "create", "--state-dir", (path / "state").string(), "--output",
                        file.string(), "--project", "team-1"});
  };
  auto read = [&] {
    std::ifstream in{file};
    return std::string{std::istreambuf_iterator<char>{in}, {}};
  };
  auto run = make();
  BOOST_TEST_REQUIRE(run.exit_code == 0, run.output);
  struct stat info {};
  BOOST_TEST_REQUIRE(::stat(file.c_str(), &info) == 0);
  BOOST_TEST((info.st_mode & 07777u) == 0600u);
  auto first = read();
  BOOST_TEST(first.size() == 8u + 64u + 1u);
  BOOST_TEST(!says(run.output, first.substr(0, 72)), "the token must not be shown as well");
  BOOST_TEST(make().exit_code == 0);
  BOOST_TEST(read() != first);
  BOOST_TEST_REQUIRE(::stat((path / "state").c_str(), &info) == 0);
  BOOST_TEST((info.st_mode & 07777u) == 0700u);
}

BOOST_FIXTURE_TEST_CASE(a_token_that_cannot_be_kept_is_an_error, folder) {
  auto state = (path / "state").string();
  auto run =
      run_program({"token", "create", "--state-dir", state, "--output", "/nonexistent/token"});
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "/nonexistent/token"), run.output);
  run = run_program({"token", "create", "--state-dir", state, "--expires-in", "30"});
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "--expires-in must be a duration with a unit"), run.output);
}

BOOST_FIXTURE_TEST_CASE(import_says_what_is_wrong_with_its_source_and_how_to_start_the_daemon,
                        folder) {
  auto import = [&](const std::string& source) {
    return run_program({"import", source, "--state-dir", path.string()});
  };
  auto run = import("oci:/nonexistent/layout");
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "/nonexistent/layout is not the folder of an OCI layout"),
             run.output);
  run = import("busybox");
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "give oci:PATH or docker://HOST/NAME:TAG"), run.output);
  std::ofstream{path / "oci-layout"} << "{}";
  run = import("oci:" + path.string());
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "Start it with 'coppice serve'"), run.output);
}

BOOST_FIXTURE_TEST_CASE(doctor_exits_with_1_and_names_the_remedy_when_something_is_missing,
                        folder) {
  auto run = run_program({"doctor", "--state-dir", path.string(), "--vm.qemu=/nonexistent/qemu"});
  BOOST_TEST(run.exit_code == 1);
  BOOST_TEST(says(run.output, "FAIL  qemu          /nonexistent/qemu"), run.output);
  BOOST_TEST(says(run.output, "-> apt-get install qemu-system-x86"), run.output);
  BOOST_TEST(says(run.output, "ok    state folder  " + path.string()), run.output);
}
