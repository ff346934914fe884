#define BOOST_TEST_MODULE vmm_template
#include <boost/test/unit_test.hpp>

#include "tests/vmm/template_fixture.hpp"

#include <boost/asio/post.hpp>

#include <sys/mman.h>
#include <sys/resource.h>

#include <csignal>
#include <map>
#include <set>
#include <sstream>
#include <thread>

// Builds real templates and restores real guests from them.

using namespace coppice;
using namespace coppice::tests;
using namespace coppice::vmm;

namespace {

using clock_type = std::chrono::system_clock;

std::map<std::string, std::string> fields_of(const std::string& text) {
  std::map<std::string, std::string> out;
  std::istringstream in{text};
  for (std::string name, value; in >> name >> value;) {
    out[name] = value;
  }
  return out;
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock_type::now().time_since_epoch())
      .count();
}

/// The guard's only child is QEMU.
int qemu_pid(int guard) {
  std::ifstream children{"/proc/" + std::to_string(guard) + "/task/" + std::to_string(guard) +
                         "/children"};
  int out = -1;
  children >> out;
  return out;
}

/// Each with what it leads to, so that one too many has a name.
std::map<std::string, std::string> open_descriptors() {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code closed;
    out[entry.path().filename()] = std::filesystem::read_symlink(entry.path(), closed);
  }
  return out;
}

std::string text_of(const std::map<std::string, std::string>& descriptors) {
  std::string out;
  for (const auto& [number, target] : descriptors) {
    out += number + " " + target + "\n";
  }
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(templates, template_fixture)

BOOST_AUTO_TEST_CASE(siblings_share_nothing_that_must_be_their_own) {
  const int siblings = std::getenv("COPPICE_TEST_FULL") != nullptr ? 1000 : 10;
  make_base();
  auto made = must_build();
  BOOST_TEST_MESSAGE("memory " << (made->ram_allocated_bytes() >> 20) << " MiB, state "
                               << made->state_bytes() << " bytes");
  std::map<std::string, std::set<std::string>> seen;
  for (int i = 0; i < siblings; ++i) {
    const auto overlay = "overlay-" + std::to_string(i);
    const auto path = make_overlay(overlay);
    auto one = start(file_disk(path), made);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    const auto before_ms = now_ms();
    const auto done = one->run("/sibling", "host-" + std::to_string(i));
    const auto after_ms = now_ms();
    BOOST_REQUIRE_MESSAGE(done.exit_code == 0, done.failure + done.errors);
    BOOST_TEST(done.is_clean);
    one->vm->quit();
    BOOST_REQUIRE(one->wait_gone());
    BOOST_TEST(one->failure() == "");
    BOOST_TEST(sample_of(overlay) == done.output);
    std::filesystem::remove(path);
    auto fields = fields_of(done.output);
    for (const char* name : {"random", "urandom", "at_random", "uuid", "boot_id", "temporary"}) {
      BOOST_TEST(fields[name] != "none");
      BOOST_TEST(seen[name].insert(fields[name]).second, name << ' ' << fields[name]);
    }
    BOOST_TEST(fields["host"] == "host-" + std::to_string(i));
    const auto guest_ms = std::stoll(fields["clock"]);
    BOOST_TEST(guest_ms >= before_ms - 1000);
    BOOST_TEST(guest_ms <= after_ms + 1000);
  }
}

BOOST_AUTO_TEST_CASE(a_kept_template_restores_as_a_new_one_does) {
  make_base();
  auto made = must_build();
  auto store = template_store::open(folder / "kept", {1u << 30});
  BOOST_REQUIRE(store.has_value());
  BOOST_REQUIRE(store->save(*made).has_value());
  BOOST_TEST(store->bytes() < made->ram_allocated_bytes() + (1u << 20));
  made.reset();
  auto ingredients = collect_ingredients(options);
  BOOST_REQUIRE(ingredients.has_value());
  auto kept = store->load(*ingredients);
  BOOST_REQUIRE_MESSAGE(kept.found, kept.refused);
  auto one = start(file_disk(make_overlay("overlay")), kept.found);
  BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
  const auto done = one->run("/sibling");
  BOOST_TEST(done.exit_code == 0);
  one->vm->quit();
  BOOST_REQUIRE(one->wait_gone());
  BOOST_TEST(sample_of("overlay") == done.output);
}

BOOST_AUTO_TEST_CASE(siblings_differ_also_where_the_kernel_would_not_reseed_by_itself) {
  // A young kernel renews its generator's seed once a second, which hides that nobody else does. At
  // twelve seconds it takes six; the run that fails (there is no disk) draws a boot id and so makes
  // the seed young, just before the save.
  make_base();
  vm_template::parts parts;
  parts.ingredients = *collect_ingredients(options);
  parts.ram.reset(::memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  parts.state.reset(::memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  BOOST_REQUIRE(::ftruncate(parts.ram.get(), off_t{options.memory_mib} << 20) == 0);
  auto saved = guest::make();
  auto started = machine::start(loop, options, template_mould{parts.ram.get(), parts.state.get()},
                                saved->callbacks());
  BOOST_REQUIRE(started.has_value());
  saved->own(*started);
  BOOST_REQUIRE_MESSAGE(saved->wait_ready(), saved->failure());
  parts.ready = saved->ready();
  std::this_thread::sleep_for(std::chrono::seconds{12}); // of the guest's own time
  BOOST_TEST(saved->run("/none").failure.find("mount: ") == 0u);
  BOOST_REQUIRE(ask(*saved, &machine::save).has_value());
  saved->vm->quit();
  BOOST_REQUIRE(saved->wait_gone());
  auto made = vm_template::make(std::move(parts));
  BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? std::string{} : made.error().text));
  std::map<std::string, std::set<std::string>> seen;
  for (int i = 0; i < 3; ++i) {
    auto one = start(file_disk(make_overlay("overlay-" + std::to_string(i))), *made);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    one->skip_runs(1);
    const auto done = one->run("/sibling");
    BOOST_REQUIRE_MESSAGE(done.exit_code == 0, done.failure + done.errors);
    auto fields = fields_of(done.output);
    for (const char* name : {"random", "urandom", "at_random", "uuid", "boot_id", "temporary"}) {
      BOOST_TEST(seen[name].insert(fields[name]).second, name << ' ' << fields[name]);
    }
  }
}

BOOST_AUTO_TEST_CASE(without_fresh_randomness_no_process_starts) {
  make_base();
  auto one = start(file_disk(make_overlay("overlay")), must_build());
  BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
  one->begin("/sibling", "guest", 16);
  const auto refused = one->end();
  BOOST_TEST(refused.failure.find("prepare: seeding the random pool") == 0u, refused.failure);
  BOOST_TEST(refused.output == "");
  BOOST_TEST(one->run("/sibling").exit_code == 0); // and it is as good as before
}

BOOST_AUTO_TEST_CASE(a_paused_guest_goes_on_where_it_was) {
  make_base();
  auto one = start(file_disk(make_overlay("overlay")), must_build());
  BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
  for (int i = 0; i < 3; ++i) {
    BOOST_REQUIRE(ask(*one, &machine::pause).has_value());
    BOOST_REQUIRE(ask(*one, &machine::resume).has_value());
  }
  BOOST_REQUIRE(ask(*one, &machine::pause).has_value());
  one->begin("/sibling"); // waits in the channel
  BOOST_REQUIRE(ask(*one, &machine::resume).has_value());
  const auto done = one->end();
  BOOST_TEST(done.exit_code == 0);
  BOOST_TEST(done.is_clean);
  // A paused one closes its disk too.
  BOOST_REQUIRE(ask(*one, &machine::pause).has_value());
  one->vm->quit();
  BOOST_REQUIRE(one->wait_gone());
  BOOST_TEST(one->failure() == "");
  BOOST_TEST(sample_of("overlay") == done.output);
}

BOOST_AUTO_TEST_CASE(a_paused_guest_that_is_killed_or_halted_from_outside_is_noticed) {
  auto made = must_build();
  options.look_interval = std::chrono::milliseconds{100};
  options.order_timeout = std::chrono::seconds{2};
  for (const int signal : {SIGKILL, SIGSTOP}) {
    auto one = start(no_disk(), made);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    BOOST_REQUIRE(ask(*one, &machine::pause).has_value());
    const int qemu = qemu_pid(one->vm->pid());
    BOOST_REQUIRE(qemu > 1);
    BOOST_REQUIRE(::kill(qemu, signal) == 0);
    BOOST_REQUIRE(one->wait_gone());
    BOOST_TEST(one->failure().find(signal == SIGKILL ? "SIGKILL" : "no sign of life") !=
                   std::string::npos,
               one->failure());
  }
}

BOOST_AUTO_TEST_CASE(state_that_is_cut_off_is_a_clear_failure_of_that_vm) {
  auto made = must_build();
  // As it would be without the digest: the first half of the state only.
  vm_template::parts parts;
  parts.ingredients = made->ingredients();
  parts.ready = made->ready();
  parts.ram = *made->open_ram();
  parts.state.reset(::memfd_create("cut", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const auto whole = *made->open_state();
  std::string half(made->state_bytes() / 2, '\0');
  BOOST_REQUIRE(::pread(whole.get(), half.data(), half.size(), 0) ==
                static_cast<ssize_t>(half.size()));
  BOOST_REQUIRE(::write(parts.state.get(), half.data(), half.size()) ==
                static_cast<ssize_t>(half.size()));
  auto cut = vm_template::make(std::move(parts));
  BOOST_REQUIRE_MESSAGE(cut.has_value(), (cut ? std::string{} : cut.error().text));
  auto one = start(no_disk(), *cut);
  BOOST_TEST(!one->wait_ready());
  BOOST_REQUIRE(one->wait_gone());
  BOOST_TEST(one->failure().find("QEMU ended with status 1") != std::string::npos, one->failure());
  // The template itself took no harm.
  auto other = start(no_disk(), made);
  BOOST_TEST(other->wait_ready());
}

BOOST_AUTO_TEST_CASE(a_build_without_memory_fails_clearly_and_leaves_nothing) {
  rlimit old{};
  BOOST_REQUIRE(::getrlimit(RLIMIT_AS, &old) == 0);
  rlimit small = old;
  small.rlim_cur = 192u << 20; // inherited by QEMU; the test itself has more mapped already
  auto ingredients = collect_ingredients(options);
  BOOST_REQUIRE(ingredients.has_value());
  using outcome = result<std::shared_ptr<const vm_template>>;
  std::map<std::string, std::string> before;
  for (int round = 0; round < 3; ++round) {
    auto told = std::make_shared<std::promise<outcome>>();
    BOOST_REQUIRE(::setrlimit(RLIMIT_AS, &small) == 0);
    auto started =
        template_build::start(loop, options, *ingredients, std::chrono::minutes{1},
                              [told](outcome made) { told->set_value(std::move(made)); });
    BOOST_REQUIRE(::setrlimit(RLIMIT_AS, &old) == 0);
    BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? std::string{} : started.error().text));
    auto made = told->get_future().get();
    BOOST_REQUIRE(!made.has_value());
    BOOST_TEST(made.error().text.starts_with("building a template: QEMU ended with status"),
               made.error().text);
    started->reset();
    // The loop lets go of the last descriptors after it has told.
    std::promise<void> turned;
    boost::asio::post(loop.context(), [&] { turned.set_value(); });
    turned.get_future().get();
    if (round == 0) {
      before = open_descriptors(); // the loop has some of its own once it is used
    }
    const auto now = open_descriptors();
    BOOST_TEST(now.size() == before.size(), "before:\n"
                                                << text_of(before) << "now:\n"
                                                << text_of(now));
  }
}

BOOST_AUTO_TEST_CASE(a_build_has_a_deadline_and_can_be_called_off) {
  auto late = build(std::chrono::milliseconds{200});
  BOOST_REQUIRE(!late.has_value());
  BOOST_TEST((late.error().code == ec::timeout));
  auto ingredients = collect_ingredients(options);
  BOOST_REQUIRE(ingredients.has_value());
  using outcome = result<std::shared_ptr<const vm_template>>;
  auto told = std::make_shared<std::promise<outcome>>();
  auto started = template_build::start(loop, options, *ingredients, std::chrono::minutes{1},
                                       [told](outcome made) { told->set_value(std::move(made)); });
  BOOST_REQUIRE(started.has_value());
  started->reset(); // the handle alone
  auto ended = told->get_future().get();
  BOOST_REQUIRE(!ended.has_value());
  BOOST_TEST((ended.error().code == ec::exited));
}

BOOST_AUTO_TEST_CASE(a_qemu_that_dies_while_building_is_a_clear_failure) {
  options.kernel = folder / "kernel";
  std::ofstream{options.kernel} << std::string(64 << 10, 'k');
  auto made = build();
  BOOST_REQUIRE(!made.has_value());
  BOOST_TEST((made.error().code == ec::exited));
  BOOST_TEST(made.error().text.starts_with("building a template: QEMU ended with status 1"),
             made.error().text);
}

BOOST_AUTO_TEST_SUITE_END()
