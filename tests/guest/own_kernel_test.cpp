#define BOOST_TEST_MODULE guest_own_kernel
#include <boost/test/unit_test.hpp>

#include "tests/guest/kernel_fixture.hpp"

#include <iostream>

// Building that kernel takes too long for every run of the tests: the full run does it first.

BOOST_FIXTURE_TEST_CASE(the_kernel_of_our_own_has_what_container_images_expect,
                        coppice::tests::kernel_fixture) {
  const auto own = options.kernel.parent_path() / "own";
  if (!std::filesystem::exists(own / "vmlinux")) {
    std::cout << "SKIPPED: the guest kernel of our own is not built here: "
                 "configs/guest/kernel.sh or tests/run.sh full\n";
    return;
  }
  use(own);
  const auto lacking = missing();
  BOOST_TEST(lacking.empty(), lacking);
}
