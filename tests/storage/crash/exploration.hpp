#pragma once

#include "tests/storage/crash/disk_model.hpp"
#include "tests/storage/crash/trace.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

namespace coppice::storage::test::crash {

/// Every disk that a power cut may leave behind a trace, and what is wrong with it.
///
/// At every step: nothing of what is not durable survives, all of it, all but each single atom, and
/// `random_subsets` (32) drawn from a seed. States that were seen with the same notes are not
/// judged again.
class exploration {
public:
  static constexpr std::size_t random_subsets_default = 32;

  /// Judges the folder of a state; `notes` were told when the power was cut. Empty: all is well.
  using judge = std::function<std::string(const std::filesystem::path&, std::size_t notes)>;

  /// `first`: a copy of the recorded folder as it was before the first step; states are built in
  /// `work`, beside it.
  exploration(const trace& of, std::filesystem::path first, std::map<std::string, ino_t> inodes,
              std::filesystem::path work, judge by);

  void random_subsets(std::size_t at_each_point) {
    random_subsets_ = at_each_point;
  }

  /// How the recorded folder is now other than the trace says; empty: nothing was missed.
  std::string missed() const;

  struct figures {
    std::size_t steps = 0;
    std::size_t points = 0; ///< at which the power was cut
    std::size_t states = 0;
    std::size_t distinct = 0;
    std::vector<std::string> findings; ///< at most `findings_max`
  };

  static constexpr std::size_t findings_max = 5;

  /// `ignored`: these syncs do nothing. Ends when `findings_enough` were made.
  figures run(const std::set<std::size_t>& ignored = {},
              std::size_t findings_enough = findings_max);

  /// Steps that make something durable.
  std::vector<std::size_t> syncs() const;

  /// `run` with those syncs left out, in a process of its own, since a store that was spoilt may
  /// well take its reader with it. The finding, or how the process died; empty: nobody noticed.
  std::string finding_without(const std::set<std::size_t>& syncs);

private:
  void cut(const disk_model& at, const trace::event& behind, bool thorough);
  void look_at(const disk_model& at, const std::vector<bool>& survives, const std::string& how);

  const trace& trace_;
  std::filesystem::path first_;
  std::map<std::string, ino_t> inodes_;
  std::filesystem::path work_;
  judge judge_;
  figures so_far_;
  std::size_t notes_ = 0;
  std::size_t random_subsets_ = random_subsets_default;
  std::size_t findings_enough_ = findings_max;
  std::string behind_;
  std::unordered_set<std::uint64_t> seen_;
};

} // namespace coppice::storage::test::crash
