#define BOOST_TEST_MODULE ring_pair
#include <boost/test/unit_test.hpp>

#include "tests/storage/ring_kinds.hpp"

#include <dlfcn.h>
#include <liburing.h>
#include <unistd.h>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

// A kernel without memory takes some of what it is given and leaves the rest for later. This
// definition takes the place of liburing's for this program, and is such a kernel.

namespace {

unsigned taken_max = 0; ///< of the next call; 0: all

} // namespace

extern "C" int io_uring_submit_and_wait(io_uring* on, unsigned ends) {
  static auto real = reinterpret_cast<decltype(&io_uring_submit_and_wait)>(
      ::dlsym(RTLD_NEXT, "io_uring_submit_and_wait"));
  if (taken_max == 0) {
    return real(on, ends);
  }
  auto tail = std::exchange(on->sq.sqe_tail, *on->sq.khead + std::exchange(taken_max, 0));
  auto status = real(on, 0);
  on->sq.sqe_tail = tail;
  return status;
}

BOOST_AUTO_TEST_CASE(a_pair_that_the_kernel_took_half_of_is_not_run_to_its_end) {
  if (auto obstacle = uring_obstacle(); !obstacle.empty()) {
    std::cerr << "\n*** SKIPPED: " << obstacle << "\n\n";
    return;
  }
  scratch dir;
  auto on = make_uring(4);
  auto fd = must_open(*on, dir / "f");
  std::string bytes = "abc";
  std::vector<counted> writes(3, counted{io_request::call::write});
  for (std::size_t i = 0; i < writes.size(); ++i) {
    writes[i].fd = fd;
    writes[i].offset = i;
    writes[i].buffer = &bytes[i];
    writes[i].length = 1;
  }
  on->submit_linked(writes[0], writes[1]);
  on->submit(writes[2]);
  taken_max = 1;
  turn_until_done(*on);
  BOOST_CHECK_EQUAL(taken_max, 0u);
  BOOST_CHECK_EQUAL(writes[0].result, 1);
  BOOST_CHECK_EQUAL(writes[1].result, -ECANCELED);
  BOOST_CHECK_EQUAL(writes[2].result, 1);
  BOOST_CHECK_EQUAL(writes[0].ends + writes[1].ends + writes[2].ends, 3);
  auto content = read_file(dir / "f");
  BOOST_CHECK(std::ranges::equal(content, bytes_of({"a\0c", 3})));
  ::close(fd);
}
