#include "vmm/agent/oom_counter.hpp"

#include <boost/test/unit_test.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include <string_view>

using coppice::agent::descriptor;
using coppice::agent::parse_oom_kills;

BOOST_AUTO_TEST_SUITE(oom_counter)

BOOST_AUTO_TEST_CASE(the_kernels_count_is_found_among_the_others) {
  BOOST_TEST(parse_oom_kills("nr_free_pages 5\noom_kill 3\nnuma_hit 7\n").value() == 3u);
  BOOST_TEST(parse_oom_kills("oom_kill 0").value() == 0u);
}

BOOST_AUTO_TEST_CASE(a_kernel_that_does_not_count_is_no_error) {
  for (const char* text : {"", "\n", "oom_kill_total 3\n", "x oom_kill 3\n", "oom_kill \n",
                           "oom_kill x\n", "oom_kill 3 4\n", "oom_kill"}) {
    BOOST_TEST(!parse_oom_kills(text).has_value(), text);
  }
}

BOOST_AUTO_TEST_CASE(nothing_was_killed_since_a_moment_ago) {
  coppice::agent::oom_counter counter;
  BOOST_TEST(!counter.take_one());
}

BOOST_AUTO_TEST_CASE(each_that_was_killed_is_taken_once) {
  const auto file = ::memfd_create("vmstat", MFD_CLOEXEC);
  auto count = [&](std::string_view text) {
    BOOST_REQUIRE(::pwrite(file, text.data(), text.size(), 0) == ssize_t(text.size()));
  };
  count("oom_kill 5\n");
  coppice::agent::oom_counter counter{descriptor{file}};
  BOOST_TEST(!counter.take_one());
  count("oom_kill 7\n");
  BOOST_TEST(counter.take_one());
  BOOST_TEST(counter.take_one());
  BOOST_TEST(!counter.take_one());
  count("oom_kill 8\n");
  BOOST_TEST(counter.take_one());
}

BOOST_AUTO_TEST_SUITE_END()
