#define BOOST_TEST_MODULE vmm_boot
#include <boost/test/unit_test.hpp>

#include "vmm/machine.hpp"

#include "tests/vmm/machine_watch.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

// Boots real guests with the real agent. COPPICE_GUEST_DIR names another folder with the kernel
// and initramfs than the build's own.

using namespace coppice;
using namespace coppice::tests;
using namespace coppice::vmm;

namespace {

using said = std::vector<std::string>;
constexpr std::chrono::seconds boot_patience{90};

struct guard_setup {
  guard_setup() {
    set_guard_program(GUARD_HOST);
  }
};

BOOST_TEST_GLOBAL_FIXTURE(guard_setup);

struct fixture {
  fixture() {
    const char* given = std::getenv("COPPICE_GUEST_DIR");
    const std::filesystem::path folder = given != nullptr ? given : GUEST_DIR;
    options.kernel = folder / "vmlinux";
    options.initramfs = folder / "initramfs.cpio";
    BOOST_REQUIRE_MESSAGE(std::filesystem::exists(options.kernel),
                          "build the target guest or set COPPICE_GUEST_DIR");
  }

  void start(disk_attachment disk = no_disk()) {
    auto out = machine::start(loop, options, std::move(disk), watch.callbacks());
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out.has_error() ? out.error().text : std::string{}));
    vm = *out;
  }

  machine_options options;
  machine_watch watch;
  event_loop loop;
  std::shared_ptr<machine> vm;
};

/// The guard's only child is QEMU.
int qemu_pid(int guard) {
  std::ifstream children{"/proc/" + std::to_string(guard) + "/task/" + std::to_string(guard) +
                         "/children"};
  int out = -1;
  children >> out;
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_CASE(a_guest_boots_reports_and_quits, fixture) {
  start();
  BOOST_REQUIRE_MESSAGE(watch.wait_for("ready", boot_patience), watch.failure());
  BOOST_TEST(((*watch.last_message().view()).getReady().getMachine() == "x86_64"));
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(an_overlay_is_opened_with_its_relative_backing_file, fixture) {
  char path[] = "/tmp/coppice,overlay-XXXXXX";
  BOOST_REQUIRE(::mkdtemp(path) != nullptr);
  const std::filesystem::path folder = path;
  const auto in_folder = "cd '" + folder.string() + "' && ";
  BOOST_REQUIRE(std::system((in_folder + "qemu-img create -q -f qcow2 base 64G && "
                                         "qemu-img create -q -f qcow2 -b base -F qcow2 overlay")
                                .c_str()) == 0);
  start(file_disk(folder / "overlay"));
  BOOST_REQUIRE_MESSAGE(watch.wait_for("ready", boot_patience), watch.failure());
  // While it runs nobody else may write; once it is gone the disk is closed.
  const auto check = in_folder + "qemu-img check -q overlay 2>/dev/null";
  BOOST_TEST(std::system(check.c_str()) != 0);
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST(std::system(check.c_str()) == 0);
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
  std::filesystem::remove_all(folder);
}

BOOST_FIXTURE_TEST_CASE(a_killed_qemu_is_a_failure_and_then_gone, fixture) {
  start();
  BOOST_REQUIRE_MESSAGE(watch.wait_for("ready", boot_patience), watch.failure());
  const int qemu = qemu_pid(vm->pid());
  BOOST_REQUIRE(qemu > 1);
  BOOST_REQUIRE(::kill(qemu, SIGKILL) == 0);
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(watch.failure().find("SIGKILL") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_guest_without_an_init_fails_with_its_panic, fixture) {
  char path[] = "/tmp/coppice-no-init-XXXXXX";
  const int file = ::mkstemp(path);
  BOOST_REQUIRE(file >= 0);
  ::close(file);
  options.initramfs = path;
  start();
  BOOST_REQUIRE(watch.wait_for("gone", boot_patience));
  std::filesystem::remove(path);
  BOOST_TEST((watch.said().front() == "failed"));
  BOOST_TEST_INFO(watch.failure());
  BOOST_TEST(watch.failure().find("Kernel panic") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_kernel_that_is_none_fails_and_does_not_hang, fixture) {
  char path[] = "/tmp/coppice-no-kernel-XXXXXX";
  const int file = ::mkstemp(path);
  BOOST_REQUIRE(file >= 0);
  BOOST_REQUIRE(::write(file, std::string(64 << 10, 'k').data(), 64 << 10) == 64 << 10);
  ::close(file);
  options.kernel = path;
  options.boot_timeout = std::chrono::seconds{10};
  start();
  BOOST_REQUIRE(watch.wait_for("gone", boot_patience));
  std::filesystem::remove(path);
  BOOST_TEST(watch.said().front() == "failed");
  BOOST_TEST_INFO(watch.failure());
  BOOST_TEST(watch.failure().find("QEMU ended with status 1") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(the_probe_comes_to_a_verdict_within_its_deadline, fixture) {
  const auto begin = std::chrono::steady_clock::now();
  const auto verdict = probe_accelerator(loop, options, std::chrono::seconds{10});
  const auto took = std::chrono::steady_clock::now() - begin;
  BOOST_TEST_MESSAGE(verdict.reason);
  BOOST_TEST(!verdict.reason.empty());
  BOOST_TEST((took < std::chrono::seconds{15}));
  BOOST_TEST(
      (verdict.accel == accelerator::kvm || verdict.reason.starts_with("KVM is not used: ")));
}
