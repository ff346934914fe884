#include "actors/template_shelf.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <semaphore>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

using made_template = std::shared_ptr<const vmm::vm_template>;

/// A shelf whose templates are files of nothing, made when the test says so.
struct fixture {
  storage::test::scratch dir;
  vmm::machine_options options;
  std::atomic<std::chrono::steady_clock::duration> now{1000s};
  std::counting_semaphore<> may_make{0};
  std::counting_semaphore<> was_changed{0};
  std::atomic<bool> can_make{true};
  std::atomic<int> asked{0};
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();

  fixture() {
    options.qemu = (dir.path() / "qemu").string();
    options.kernel = dir.path() / "kernel";
    options.initramfs = dir.path() / "initramfs";
    options.memory_mib = 16;
    for (const auto& file :
         {std::filesystem::path{options.qemu}, options.kernel, options.initramfs}) {
      std::ofstream{file} << "content";
    }
    BOOST_REQUIRE(::chmod(options.qemu.c_str(), 0755) == 0);
  }

  made_template make() const {
    auto memory_file = [](off_t bytes) {
      vmm::unique_fd out{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
      BOOST_REQUIRE(::ftruncate(out.get(), bytes) == 0);
      return out;
    };
    vmm::vm_template::parts parts;
    parts.ingredients = *vmm::collect_ingredients(options);
    parts.ram = memory_file(16 << 20);
    parts.state = memory_file(4096);
    auto out = vmm::vm_template::make(std::move(parts));
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out ? std::string{} : out.error().text));
    return *out;
  }

  template_shelf::parts parts() {
    template_shelf::parts out;
    out.metrics = metrics;
    out.now = [this] {
      return std::chrono::steady_clock::time_point{now.load()};
    };
    out.make = [this](const vmm::machine_options&) -> made_template {
      ++asked;
      may_make.acquire();
      return can_make ? make() : nullptr;
    };
    return out;
  }

  /// The one under way is made, and the shelf has it.
  void let_make() {
    may_make.release();
    was_changed.acquire();
  }

  void listen(template_shelf& shelf) {
    shelf.on_change([this] { was_changed.release(); });
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(template_shelf_suite, fixture)

BOOST_AUTO_TEST_CASE(who_asks_first_waits_for_nothing_and_has_one_made) {
  template_shelf shelf{parts()};
  listen(shelf);
  BOOST_TEST(!shelf.find(options));
  BOOST_TEST(shelf.number_of(options) == 0u);
  let_make();
  BOOST_TEST(shelf.number_of(options) == 1u);
  auto first = shelf.find(options);
  BOOST_TEST(static_cast<bool>(first));
  for (int i = 0; i < 1000; ++i) {
    BOOST_TEST((shelf.find(options) == first)); // no limit
  }
  BOOST_TEST(asked == 1);
}

BOOST_AUTO_TEST_CASE(one_that_is_used_up_serves_until_the_next_is_there) {
  auto how = parts();
  how.uses_max = 3;
  template_shelf shelf{how};
  listen(shelf);
  BOOST_TEST(!shelf.find(options));
  let_make();
  for (int i = 0; i < 10; ++i) {
    BOOST_TEST(shelf.number_of(options) == 1u); // to ask for that is no use
  }
  auto first = shelf.find(options);
  BOOST_TEST((shelf.find(options) == first));
  BOOST_TEST(asked == 1);
  BOOST_TEST((shelf.find(options) == first)); // the third: the next is begun
  for (int i = 0; i < 10; ++i) {
    BOOST_TEST((shelf.find(options) == first));
  }
  let_make();
  BOOST_TEST(asked == 2);
  BOOST_TEST(shelf.number_of(options) == 2u);
  auto second = shelf.find(options);
  BOOST_TEST(static_cast<bool>(second));
  BOOST_TEST((second != first));
  BOOST_TEST((shelf.find(options) == second));
  BOOST_TEST(asked == 2); // counts from the beginning
}

BOOST_AUTO_TEST_CASE(one_that_is_too_old_serves_until_the_next_is_there) {
  auto how = parts();
  how.age_max = 60s;
  template_shelf shelf{how};
  listen(shelf);
  BOOST_TEST(!shelf.find(options));
  let_make();
  auto first = shelf.find(options);
  now = now.load() + 59s;
  BOOST_TEST(shelf.number_of(options) == 1u);
  BOOST_TEST(asked == 1);
  now = now.load() + 1s;
  BOOST_TEST(shelf.number_of(options) == 1u); // nobody starts a VM, and yet it is made anew
  BOOST_TEST((shelf.find(options) == first));
  let_make();
  BOOST_TEST(shelf.number_of(options) == 2u);
  BOOST_TEST((shelf.find(options) != first));
  BOOST_TEST(asked == 2);
}

BOOST_AUTO_TEST_CASE(one_past_its_limit_serves_on_where_no_other_can_be_made) {
  auto how = parts();
  how.uses_max = 1;
  {
    template_shelf shelf{how};
    listen(shelf);
    BOOST_TEST(!shelf.find(options));
    let_make();
    can_make = false;
    auto first = shelf.find(options);
    may_make.release();
    while (!test::has_line(metrics->text(), "coppice_templates_total{event=\"failed\"} 1")) {
      std::this_thread::yield();
    }
    BOOST_TEST((shelf.find(options) == first));
    BOOST_TEST(asked == 2); // not again at once
    now = now.load() + template_shelf::rest;
    can_make = true;
    BOOST_TEST((shelf.find(options) == first));
    let_make();
    BOOST_TEST((shelf.find(options) != first));
    may_make.release(); // of what the last find has asked for
  }
  BOOST_TEST(asked <= 4);
}

BOOST_AUTO_TEST_CASE(one_that_was_refused_is_not_given_while_the_next_is_made) {
  template_shelf shelf{parts()};
  listen(shelf);
  BOOST_TEST(!shelf.find(options));
  let_make();
  auto first = shelf.find(options);
  shelf.refuse(first, "a test");
  BOOST_TEST(!shelf.find(options));
  BOOST_TEST(test::has_line(metrics->text(), "coppice_templates_total{event=\"refused\"} 1"));
  let_make();
  BOOST_TEST((shelf.find(options) != first));
}

BOOST_AUTO_TEST_SUITE_END()
