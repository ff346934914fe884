#pragma once

#include "tests/vmm/guest_run.hpp"
#include "vmm/template_build.hpp"
#include "vmm/template_store.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

namespace coppice::tests {

/// A folder with an ext4 disk that holds the sibling program, and the guest of the build or of
/// COPPICE_GUEST_DIR.
struct template_fixture {
  template_fixture() {
    vmm::set_guard_program(GUARD_HOST);
    const char* given = std::getenv("COPPICE_GUEST_DIR");
    const std::filesystem::path guest_dir = given != nullptr ? given : GUEST_DIR;
    options.kernel = guest_dir / "vmlinux";
    options.initramfs = guest_dir / "initramfs.cpio";
    options.boot_timeout = std::chrono::seconds{90};
    BOOST_REQUIRE_MESSAGE(std::filesystem::exists(options.kernel),
                          "build the target guest or set COPPICE_GUEST_DIR");
    char path[] = "/tmp/coppice-template-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(path) != nullptr);
    folder = path;
  }
  ~template_fixture() {
    std::filesystem::remove_all(folder);
  }

  /// Runs a shell command in the folder.
  bool shell(const std::string& command) {
    return std::system(("cd '" + folder.string() + "' && " + command).c_str()) == 0;
  }

  void make_raw_disk() {
    BOOST_REQUIRE(shell("mkdir -p root/tmp root/proc root/sys root/dev && cp '" SIBLING
                        "' root/sibling && "
                        "mke2fs -q -F -t ext4 -O ^has_journal -b 4096 -d root raw 64M"));
  }

  void make_base() {
    make_raw_disk();
    BOOST_REQUIRE(
        shell("qemu-img convert -f raw -O qcow2 raw base && qemu-img resize -q base 64G"));
  }

  std::filesystem::path make_overlay(const std::string& name) {
    BOOST_REQUIRE(shell("qemu-img create -q -f qcow2 -b base -F qcow2 " + name));
    return folder / name;
  }

  /// What a guest left in /sample, and whether its file system is sound.
  std::string sample_of(const std::string& overlay) {
    const bool is_sound =
        shell("qemu-img check -q " + overlay + " && qemu-img convert -O raw " + overlay +
              " seen && e2fsck -fn seen > e2fsck.txt 2>&1 && "
              "debugfs -R 'cat /sample' seen > sample 2> /dev/null");
    BOOST_TEST(is_sound, overlay);
    std::ifstream in{folder / "sample"};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  result<std::shared_ptr<const vmm::vm_template>>
  build(std::chrono::milliseconds deadline = std::chrono::minutes{3}) {
    auto ingredients = vmm::collect_ingredients(options);
    if (!ingredients) {
      return ingredients.error();
    }
    using outcome = result<std::shared_ptr<const vmm::vm_template>>;
    auto told = std::make_shared<std::promise<outcome>>();
    auto started =
        vmm::template_build::start(loop, options, *ingredients, deadline,
                                   [told](outcome made) { told->set_value(std::move(made)); });
    if (!started) {
      return started.error();
    }
    return told->get_future().get();
  }

  std::shared_ptr<const vmm::vm_template> must_build() {
    auto made = build();
    BOOST_REQUIRE_MESSAGE(made.has_value(), (made ? std::string{} : made.error().text));
    return *made;
  }

  std::shared_ptr<guest> start(vmm::disk_attachment disk,
                               std::shared_ptr<const vmm::vm_template> from) {
    auto how = options;
    how.from = std::move(from);
    auto out = guest::make();
    auto started = vmm::machine::start(loop, how, std::move(disk), out->callbacks());
    BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? std::string{} : started.error().text));
    out->own(*started);
    return out;
  }

  /// Gives an order and waits for its answer.
  result<void> ask(guest& of, void (vmm::machine::*order)(vmm::machine::answer)) {
    auto answered = std::make_shared<std::promise<result<void>>>();
    (of.vm.get()->*order)([answered](result<void> how) { answered->set_value(std::move(how)); });
    return answered->get_future().get();
  }

  std::filesystem::path folder;
  vmm::machine_options options;
  vmm::event_loop loop;
};

} // namespace coppice::tests
