#define BOOST_TEST_MODULE guest_kernel
#include <boost/test/unit_test.hpp>

#include "tests/guest/kernel_fixture.hpp"

BOOST_FIXTURE_TEST_CASE(the_packaged_kernel_has_what_container_images_expect,
                        coppice::tests::kernel_fixture) {
  const auto lacking = missing();
  BOOST_TEST(lacking.empty(), lacking);
}
