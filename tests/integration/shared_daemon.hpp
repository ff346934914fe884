#pragma once

#include "tests/integration/node.hpp"

#include <string>
#include <utility>
#include <vector>

/// One daemon with the base image for all cases of a test program, which only add to it:
///
///     struct two_slots : shared_daemon {
///       two_slots() : shared_daemon{{"--vm.running_max=2"}} {}
///     };
///     BOOST_TEST_GLOBAL_FIXTURE(two_slots);
namespace coppice::test {

class shared_daemon {
public:
  explicit shared_daemon(std::vector<std::string> arguments = {}) {
    folder = new state_folder;
    server = new node{folder->path(), std::move(arguments)};
    base = server->import_busybox();
  }
  ~shared_daemon() {
    delete server;
    delete folder;
  }
  shared_daemon(const shared_daemon&) = delete;
  shared_daemon& operator=(const shared_daemon&) = delete;

  static inline state_folder* folder = nullptr;
  static inline node* server = nullptr;
  static inline std::string base;
};

inline node& server() {
  return *shared_daemon::server;
}

inline const std::string& base() {
  return shared_daemon::base;
}

} // namespace coppice::test
