#pragma once

#include "tests/integration/node.hpp"

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace coppice::test {

/// All that clients do with a daemon, well or badly, by several of them at once.
///
/// Guarantee: each lap does every kind of thing at least once; when it returns, whatever it began
/// has ended as it should have or is in the complaints, its images are deleted and its connections
/// closed. A daemon that does not answer is killed, so that no client waits for ever.
class mixed_load {
public:
  /// Uploads the files that runs use.
  mixed_load(node& server, std::string base);

  struct lap {
    std::map<std::string, std::size_t> done; ///< by the name of what was done
    std::vector<std::string> complaints;

    std::size_t sum() const;
  };

  /// Works for so long, and then until what is under way has ended. The same seed gives each client
  /// the same things to do.
  lap run(unsigned seed, std::chrono::seconds time) const;

private:
  node& server_;
  std::string base_;
};

} // namespace coppice::test
