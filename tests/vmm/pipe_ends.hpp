#pragma once

#include "vmm/unique_fd.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <unistd.h>

namespace coppice::vmm {

/// A pipe for a test; both ends close with it.
struct pipe_ends {
  pipe_ends() {
    int ends[2];
    BOOST_REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
  }
  unique_fd out;
  unique_fd in;
};

} // namespace coppice::vmm
