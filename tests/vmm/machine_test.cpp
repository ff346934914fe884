#define BOOST_TEST_MODULE vmm_machine
#include <boost/test/unit_test.hpp>

#include "vmm/machine.hpp"

#include "tests/vmm/machine_watch.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>

using namespace coppice;
using namespace coppice::tests;
using namespace coppice::vmm;

namespace {

using said = std::vector<std::string>;

struct guard_setup {
  guard_setup() {
    set_guard_program(GUARD_HOST);
  }
};

BOOST_TEST_GLOBAL_FIXTURE(guard_setup);

/// A folder with a "kernel" that tells the fake QEMU what to do.
struct fixture {
  fixture() {
    char path[] = "/tmp/coppice-machine-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(path) != nullptr);
    folder = path;
    std::ofstream{folder / "initramfs"} << "x";
    options.qemu = FAKE_QEMU;
    options.kernel = folder / "kernel";
    options.initramfs = folder / "initramfs";
  }
  ~fixture() {
    std::filesystem::remove_all(folder);
  }

  void start(const std::string& behaviour) {
    std::ofstream{options.kernel} << behaviour;
    auto out = machine::start(loop, options, file_disk(folder / "disk"), watch.callbacks());
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out.has_error() ? out.error().text : std::string{}));
    vm = *out;
  }

  bool failure_has(const std::string& text) {
    BOOST_TEST_INFO("failure: " << watch.failure());
    return watch.failure().find(text) != std::string::npos;
  }

  std::filesystem::path folder;
  machine_options options;
  machine_watch watch;
  event_loop loop;
  std::shared_ptr<machine> vm;
};

} // namespace

BOOST_FIXTURE_TEST_CASE(ready_then_quit_then_gone, fixture) {
  start("ready");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST(((*watch.last_message().view()).getReady().getKernel() == "6.1.0"));
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(messages_travel_both_ways, fixture) {
  start("echo");
  BOOST_REQUIRE(watch.wait_for("ready"));
  auto order = make_frame<proto::ToGuest>([](auto root) {
    root.setRun(1);
    root.setPoweroff();
  });
  BOOST_REQUIRE(vm->send(order));
  BOOST_REQUIRE(watch.wait_for("message"));
  // The guest answered with the number of words that it had read from the frame's header.
  BOOST_TEST((*watch.last_message().view()).getRun() == order.words().size());
  vm->consumed(watch.last_message().bytes().size());
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "message", "gone"}));
  BOOST_TEST((vm->send(order).error().code == ec::closed));
}

BOOST_FIXTURE_TEST_CASE(a_quit_that_takes_too_long_becomes_a_kill, fixture) {
  options.quit_timeout = std::chrono::milliseconds{100};
  start("stubborn");
  BOOST_REQUIRE(watch.wait_for("ready"));
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone killed"}));
}

BOOST_FIXTURE_TEST_CASE(kill_is_no_failure, fixture) {
  start("ready");
  BOOST_REQUIRE(watch.wait_for("ready"));
  vm->kill();
  vm->kill();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone killed"}));
}

BOOST_FIXTURE_TEST_CASE(a_stop_before_ready_is_answered_as_a_failure, fixture) {
  start("silent");
  vm->kill();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("stopped by request"));
}

BOOST_FIXTURE_TEST_CASE(the_boot_deadline_ends_a_silent_guest, fixture) {
  options.boot_timeout = std::chrono::milliseconds{300};
  start("silent");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("did not report ready within 0.3 s"));
  BOOST_TEST(failure_has("Linux version 6.1\nbooting"));
}

BOOST_FIXTURE_TEST_CASE(a_qemu_that_dies_says_so_in_its_own_words, fixture) {
  start("dies");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone"}));
  BOOST_TEST(failure_has("QEMU ended with status 1: qemu: cannot do that"));
}

BOOST_FIXTURE_TEST_CASE(a_panic_is_told_with_the_consoles_last_lines, fixture) {
  start("panics");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone"}));
  BOOST_TEST(failure_has("the guest ended by itself (guest-reset), QEMU ended with status 0"));
  BOOST_TEST(failure_has("Kernel panic - not syncing: ?[1mno init"));
}

BOOST_FIXTURE_TEST_CASE(death_after_ready_is_one_failure, fixture) {
  start("ready-then-dies");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("QEMU was ended by signal 15 (SIGTERM)"));
  BOOST_TEST(failure_has("last words"));
}

BOOST_FIXTURE_TEST_CASE(a_guest_that_speaks_out_of_turn_is_killed, fixture) {
  start("early");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("spoke before it was ready"));
}

BOOST_FIXTURE_TEST_CASE(garbage_on_the_channel_is_a_failure, fixture) {
  start("garbage");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("the guest broke the protocol: frame of"));
}

BOOST_FIXTURE_TEST_CASE(a_bad_message_after_ready_is_not_delivered, fixture) {
  start("ready-then-garbage");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("output.spid: out of range"));
}

BOOST_FIXTURE_TEST_CASE(a_second_ready_is_a_failure, fixture) {
  start("ready-twice");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("a second time"));
}

BOOST_FIXTURE_TEST_CASE(an_accelerator_that_gives_up_is_noticed_at_once, fixture) {
  start("internal-error");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("internal error"));
}

BOOST_FIXTURE_TEST_CASE(destroying_the_handle_ends_the_process, fixture) {
  start("ready");
  BOOST_REQUIRE(watch.wait_for("ready"));
  vm.reset();
  BOOST_REQUIRE(watch.wait_for("gone killed"));
}

BOOST_FIXTURE_TEST_CASE(a_loop_may_end_right_after_the_handle, fixture) {
  std::ofstream{options.kernel} << "ready";
  int guard = -1;
  {
    event_loop short_lived;
    auto out = machine::start(short_lived, options, file_disk(folder / "disk"), watch.callbacks());
    BOOST_REQUIRE(out.has_value());
    guard = (*out)->pid();
    BOOST_REQUIRE(watch.wait_for("ready"));
  }
  BOOST_TEST(!std::filesystem::exists("/proc/" + std::to_string(guard))); // ended and reaped
}

BOOST_FIXTURE_TEST_CASE(missing_ingredients_are_named_with_their_remedy, fixture) {
  auto failure_of = [&](const machine_options& o) {
    auto out = machine::start(loop, o, file_disk(folder / "disk"), watch.callbacks());
    BOOST_REQUIRE(!out);
    BOOST_TEST((out.error().code == ec::missing));
    return out.error().text;
  };
  BOOST_TEST(failure_of(options).find("configs/guest/prepare.sh") != std::string::npos);
  std::ofstream{options.kernel} << "ready";
  auto no_initramfs = options;
  no_initramfs.initramfs = folder / "nowhere";
  BOOST_TEST(failure_of(no_initramfs).find("vm.initramfs") != std::string::npos);
  auto no_qemu = options;
  no_qemu.qemu = "qemu-system-nothing";
  BOOST_TEST(failure_of(no_qemu).find("install the package qemu-system-x86") != std::string::npos);
  BOOST_TEST(watch.said().empty());
}
