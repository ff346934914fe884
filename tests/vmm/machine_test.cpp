#define BOOST_TEST_MODULE vmm_machine
#include <boost/test/unit_test.hpp>

#include "vmm/machine.hpp"

#include "tests/vmm/guest_messages.hpp"
#include "tests/vmm/machine_watch.hpp"
#include "vmm/template.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>

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

  /// Restores from a template whose "state" tells the fake QEMU what to do.
  void restore(const std::string& behaviour) {
    std::ofstream{options.kernel} << "ready";
    auto ingredients = collect_ingredients(options);
    BOOST_REQUIRE(ingredients.has_value());
    vm_template::parts parts;
    parts.ingredients = *ingredients;
    parts.ram.reset(::memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    parts.state.reset(::memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    parts.ready = ready_message();
    BOOST_REQUIRE(::ftruncate(parts.ram.get(), off_t{options.memory_mib} << 20) == 0);
    BOOST_REQUIRE(::write(parts.state.get(), behaviour.data(), behaviour.size()) ==
                  static_cast<ssize_t>(behaviour.size()));
    auto made = vm_template::make(std::move(parts));
    BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? std::string{} : made.error().text));
    options.from = *made;
    std::filesystem::remove(options.kernel); // not needed any more
    auto out = machine::start(loop, options, no_disk(), watch.callbacks());
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out.has_error() ? out.error().text : std::string{}));
    vm = *out;
  }

  /// Gives an order and waits for its answer.
  result<void> ask(void (machine::*order)(machine::answer)) {
    auto answered = std::make_shared<std::promise<result<void>>>();
    (vm.get()->*order)([answered](result<void> how) { answered->set_value(std::move(how)); });
    return answered->get_future().get();
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

BOOST_FIXTURE_TEST_CASE(a_guest_that_lost_its_timer_is_booted_anew, fixture) {
  start("loses-timer");
  BOOST_REQUIRE(watch.wait_for("ready"));
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(a_guest_is_not_ready_without_its_timer, fixture) {
  start("ready-without-timer"); // a second time after the reset, which would be a failure
  BOOST_REQUIRE(watch.wait_for("ready"));
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(a_guest_that_loses_its_timer_again_and_again_is_a_failure, fixture) {
  start("loses-timers");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST(failure_has("at each of 4 boots"));
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

BOOST_FIXTURE_TEST_CASE(a_guest_pauses_and_resumes_as_often_as_it_is_told, fixture) {
  start("ready");
  BOOST_REQUIRE(watch.wait_for("ready"));
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(ask(&machine::pause).has_value());
    BOOST_TEST(ask(&machine::resume).has_value());
  }
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(an_order_that_does_not_fit_is_refused_and_changes_nothing, fixture) {
  start("ready");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST((ask(&machine::resume).error().code == ec::refused));
  BOOST_TEST((ask(&machine::save).error().code == ec::refused)); // without a mould
  BOOST_TEST(ask(&machine::pause).has_value());
  BOOST_TEST((ask(&machine::pause).error().code == ec::refused));
  vm->quit(); // a paused one closes its disk as well
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
  BOOST_TEST((ask(&machine::pause).error().code == ec::refused));
}

BOOST_FIXTURE_TEST_CASE(an_order_that_is_not_carried_out_fails_in_time, fixture) {
  options.order_timeout = std::chrono::milliseconds{200};
  start("does-not-pause");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST((ask(&machine::pause).error().code == ec::exited));
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("did not pause the guest within 0.2 s"));
}

BOOST_FIXTURE_TEST_CASE(a_guest_that_never_resumes_is_a_failure, fixture) {
  options.order_timeout = std::chrono::milliseconds{200};
  start("does-not-resume");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST(ask(&machine::pause).has_value());
  BOOST_TEST((ask(&machine::resume).error().code == ec::exited));
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("did not resume the guest"));
}

BOOST_FIXTURE_TEST_CASE(a_stop_that_nobody_ordered_is_a_fault_also_after_a_resume, fixture) {
  start("stops-again");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST(ask(&machine::pause).has_value());
  static_cast<void>(ask(&machine::resume));
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("internal error"));
}

BOOST_FIXTURE_TEST_CASE(a_paused_vm_without_a_sign_of_life_is_a_failure, fixture) {
  options.look_interval = std::chrono::milliseconds{50};
  options.order_timeout = std::chrono::milliseconds{200};
  start("mute");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST(ask(&machine::pause).has_value());
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "failed", "gone killed"}));
  BOOST_TEST(failure_has("no sign of life"));
}

BOOST_FIXTURE_TEST_CASE(an_open_order_is_answered_when_the_vm_is_killed, fixture) {
  start("does-not-pause");
  BOOST_REQUIRE(watch.wait_for("ready"));
  auto answered = std::make_shared<std::promise<result<void>>>();
  vm->pause([answered](result<void> how) { answered->set_value(std::move(how)); });
  vm->kill();
  BOOST_TEST((answered->get_future().get().error().code == ec::exited));
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone killed"}));
}

BOOST_FIXTURE_TEST_CASE(a_restored_guest_is_ready_with_the_message_of_its_template, fixture) {
  restore("works");
  BOOST_REQUIRE(watch.wait_for("ready"));
  BOOST_TEST(((*watch.last_message().view()).getReady().getKernel() == "6.1.0"));
  BOOST_TEST(ask(&machine::pause).has_value());
  BOOST_TEST(ask(&machine::resume).has_value());
  vm->quit();
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"ready", "gone"}));
}

BOOST_FIXTURE_TEST_CASE(a_restore_that_fails_is_told_in_the_words_of_qemu, fixture) {
  restore("dies");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone"}));
  BOOST_TEST(failure_has("QEMU ended with status 1: qemu: load of migration failed"));
}

BOOST_FIXTURE_TEST_CASE(a_refused_restore_is_a_failure, fixture) {
  restore("refused");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("QEMU refused an order: GenericError: no such file"));
}

BOOST_FIXTURE_TEST_CASE(a_restore_that_fails_and_lives_on_is_ended, fixture) {
  restore("fails");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("could not restore the guest"));
}

BOOST_FIXTURE_TEST_CASE(a_restore_has_a_deadline, fixture) {
  options.restore_timeout = std::chrono::milliseconds{300};
  restore("hangs");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("not restored within 0.3 s"));
}

BOOST_FIXTURE_TEST_CASE(a_restored_guest_does_not_announce_itself, fixture) {
  restore("speaks");
  BOOST_REQUIRE(watch.wait_for("gone"));
  BOOST_TEST((watch.said() == said{"failed", "gone killed"}));
  BOOST_TEST(failure_has("spoke before it was ready"));
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
