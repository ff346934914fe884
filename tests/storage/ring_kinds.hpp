#pragma once

#include "storage/ring/io.hpp"
#include "storage/ring/ring.hpp"
#include "tests/storage/scratch.hpp"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>

#include <iostream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

/// All that a ring promises is promised by both: each case runs with each.
namespace coppice::storage::test {

struct ring_kind {
  const char* name;
  std::unique_ptr<ring> (*make)(unsigned size); ///< entries, or threads
};

inline std::ostream& operator<<(std::ostream& out, const ring_kind& kind) {
  return out << kind.name;
}

inline std::vector<ring_kind> ring_kinds() {
  std::vector<ring_kind> out{{"threads", make_thread_ring}};
  if (auto obstacle = uring_obstacle(); obstacle.empty()) {
    out.push_back({"io_uring", make_uring});
  } else {
    std::cerr << "\n*** SKIPPED: every case with io_uring: " << obstacle << "\n\n";
  }
  return out;
}

/// Requests that count their ends.
struct counted : io_request {
  explicit counted(call kind) {
    what = kind;
    done = [](io_request& ended) {
      ++static_cast<counted&>(ended).ends;
    };
  }
  int ends = 0;
};

inline void turn_until_done(ring& on) {
  while (on.pending() > 0) {
    on.turn();
  }
}

/// An open file of a test.
inline int must_open(ring& on, const std::string& path, int flags = O_RDWR | O_CREAT) {
  auto fd = io::run(on, io::open(on, path, flags));
  BOOST_REQUIRE_MESSAGE(fd, (fd ? std::string{} : fd.error().text));
  return *fd;
}

} // namespace coppice::storage::test
