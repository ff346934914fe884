#include "vmm/agent/mount_table.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(mount_table)

BOOST_AUTO_TEST_CASE(lines_of_the_kernel_are_read_with_their_escapes) {
  auto mounts = parse_mountinfo("22 1 254:0 / /mnt rw,noatime - ext4 /dev/vda rw\n"
                                "31 22 0:25 / /mnt/a\\040b\\134c rw shared:1 - tmpfs x rw\n");
  BOOST_REQUIRE(mounts.size() == 2u);
  BOOST_TEST(mounts[0].id == 22u);
  BOOST_TEST(mounts[0].device_major == 254u);
  BOOST_TEST(mounts[0].device_minor == 0u);
  BOOST_TEST(mounts[0].target == "/mnt");
  BOOST_TEST(mounts[1].target == "/mnt/a b\\c");
}

BOOST_AUTO_TEST_CASE(malformed_and_cut_lines_are_left_out) {
  BOOST_TEST(parse_mountinfo("").empty());
  BOOST_TEST(
      parse_mountinfo("\n\nx y z\n1 2 3 4 5\n1 2 a:b / /x\nx 2 0:1 / /x\n1 2 0:1 /\n").empty());
  BOOST_TEST(parse_mountinfo("22 1 254:0 / /mnt rw").empty());
}

BOOST_AUTO_TEST_CASE(only_whole_escapes_are_taken_as_such) {
  BOOST_TEST(unescape_mount_path("\\040") == " ");
  BOOST_TEST(unescape_mount_path("a\\04") == "a\\04");
  BOOST_TEST(unescape_mount_path("a\\09x") == "a\\09x");
  BOOST_TEST(unescape_mount_path("\\") == "\\");
}

BOOST_AUTO_TEST_CASE(swaps_come_without_the_heading) {
  auto swaps = parse_swaps(
      "Filename\tType\tSize\n/mnt/my\\040swap  file 20476 0 -2\n/dev/vdb partition 1 0 -3\n");
  BOOST_REQUIRE(swaps.size() == 2u);
  BOOST_TEST(swaps[0] == "/mnt/my swap");
  BOOST_TEST(swaps[1] == "/dev/vdb");
  BOOST_TEST(parse_swaps("Filename\tType\n").empty());
}

BOOST_AUTO_TEST_SUITE_END()
