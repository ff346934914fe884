#pragma once

#include "tests/vmm/template_fixture.hpp"

#include <sstream>

namespace coppice::tests {

/// Runs the program `features` in a guest of two processors: what a container image expects of a
/// kernel must be there, built in or as a module.
struct kernel_fixture : template_fixture {
  kernel_fixture() {
    options.memory_mib = 512;
    options.cpus = 2;
    BOOST_REQUIRE(shell("mkdir -p root/tmp root/bin && cp '" FEATURES "' root/features && "
                        "mke2fs -q -F -t ext4 -O ^has_journal -b 4096 -d root raw 64M"));
  }

  void use(const std::filesystem::path& guest_dir) {
    options.kernel = guest_dir / "vmlinux";
    options.initramfs = guest_dir / "initramfs.cpio";
  }

  /// The lines that say what is missing.
  std::string missing() {
    BOOST_REQUIRE(shell("rm -f disk && qemu-img convert -f raw -O qcow2 raw disk && "
                        "qemu-img resize -q disk 64G"));
    auto one = start(vmm::file_disk(folder / "disk"), nullptr);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    one->timeout_ms = 300'000;
    one->begin("/features");
    const auto done = one->end(std::chrono::minutes{6});
    BOOST_REQUIRE_MESSAGE(done.failure.empty(), done.failure + done.output + done.errors);
    BOOST_TEST(done.is_clean);
    one->vm->quit();
    BOOST_REQUIRE(one->wait_gone());
    std::istringstream lines{done.output};
    std::string out;
    std::size_t found = 0;
    bool is_complete = false;
    for (std::string line; std::getline(lines, line);) {
      found += line.starts_with("ok ") ? 1 : 0;
      out += line.starts_with("missing ") ? "\n" + line : "";
      is_complete = is_complete || line == "end";
    }
    BOOST_TEST(done.output.find(", 2 cpus\n") != std::string::npos, done.output);
    BOOST_TEST(is_complete, done.output + done.errors);
    BOOST_TEST(found > 130u);
    BOOST_TEST_MESSAGE(found << " features found");
    return out;
  }
};

} // namespace coppice::tests
