#pragma once

#include "tests/storage/crash/trace.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace coppice::storage::test::crash {

inline constexpr std::size_t sector_bytes = 512;

/// A folder as a disk may show it after a power cut.
struct disk_state {
  /// Sectors by the number that `sectors` gave to their content.
  struct file {
    std::vector<std::uint32_t> sectors;
    std::uint64_t length = 0;
    bool is_touched = false; ///< by a step of the trace, or by whoever recovers a state
    std::string first_path;  ///< where it was at the beginning; empty: nowhere
  };
  struct entry {
    ino_t file = 0;
    bool is_directory = false;
  };

  std::map<std::string, entry> names;
  std::map<ino_t, std::shared_ptr<const file>> files;

  /// Names below a folder that is not there are not there either.
  bool is_reachable(const std::string& path) const;

  /// Equal states have equal ones.
  std::uint64_t fingerprint() const;
};

/// Contents of sectors, each once; 0 is zeros.
class sector_pool {
public:
  sector_pool();
  std::uint32_t number_of(const std::byte* content);
  const std::string& content_of(std::uint32_t number) const {
    return *contents_[number];
  }

private:
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::vector<const std::string*> contents_;
};

/// What is durable, and what may be or not, while a trace goes on.
///
/// A write may persist in any subset of its sectors, a file's length by itself, and so may each
/// name that was made or taken away (a rename: both by themselves); until a sync of the file or of
/// the folder that began when the call had ended, has ended itself. A write through O_DSYNC is such
/// a sync of what it writes. What is not durable is an *atom* here.
class disk_model {
public:
  /// Everything that was in the recorded folder at first is durable. `first`: a copy of it from
  /// then; `inodes`: its files' numbers in the trace.
  disk_model(const std::filesystem::path& first, const std::map<std::string, ino_t>& inodes);

  /// `ignored`: steps that are syncs, or durable writes, and do not make durable.
  void apply(const trace& of, const trace::event& happened, const std::set<std::size_t>& ignored);

  /// Atoms that may be lost now.
  std::size_t loose() const {
    return loose_.size();
  }
  const std::string& loose_text(std::size_t number) const {
    return loose_[number].text;
  }

  /// What the disk shows if those atoms survive for which `survives` says so.
  disk_state state(const std::vector<bool>& survives) const;

  /// Makes the folder `to`, which must not be there, and is on the same file system as a copy of
  /// the folder's first content, `first`: files that no step touched are linked from there.
  void build(const disk_state& shown, const std::filesystem::path& first,
             const std::filesystem::path& to) const;

  /// How the folder differs from what it would be if all survived; empty: it does not. For seeing
  /// that nothing was missed. LMDB's lock file, which is written through a map, is not looked at.
  std::string difference(const std::filesystem::path& root) const;

private:
  struct atom {
    enum class kind : std::uint8_t { sector, length, name, no_name } what = kind::sector;
    std::size_t step = 0;
    bool has_ended = false; ///< the call
    ino_t file = 0;
    std::uint64_t sector = 0;
    std::uint32_t content = 0;
    std::uint64_t length = 0;
    bool is_extension = false; ///< a length that only grows
    std::string path;
    bool is_directory = false;
    std::string text;
  };

  void begin(const step& s, std::size_t number);
  void make_durable(const std::vector<bool>& which);
  void add_write(const step& s, std::size_t number);
  void add_length(const step& s, std::size_t number, std::uint64_t length, bool is_extension);
  void add_name(const std::string& path, std::size_t number, const disk_state::entry& e,
                atom::kind what);
  static void apply(const atom& a, disk_state& to,
                    std::map<ino_t, std::shared_ptr<disk_state::file>>& changed);
  static void apply_all(const std::vector<atom>& atoms, const std::vector<bool>& which,
                        disk_state& to);
  std::vector<bool> belonging_to(const step& s) const;

  mutable sector_pool pool_;
  disk_state durable_;
  std::vector<atom> loose_;
  std::map<std::string, disk_state::entry> names_;          ///< as the running system sees them
  std::map<std::size_t, std::vector<std::size_t>> covered_; ///< sync -> steps that had ended
  std::map<ino_t, std::vector<std::uint32_t>> content_;     ///< as the running system sees it
};

} // namespace coppice::storage::test::crash
