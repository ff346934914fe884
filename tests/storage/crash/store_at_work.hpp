#pragma once

#include "protocol/frame.hpp"
#include "storage/catalog.hpp"
#include "storage/disk/engine.hpp"
#include "storage/disk/index_cache.hpp"
#include "storage/disk/overlay.hpp"
#include "storage/disk/seal.hpp"
#include "storage/reclaimer.hpp"
#include "storage/store.hpp"
#include "tests/storage/crash/trace.hpp"
#include "tests/storage/disk_fixture.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace coppice::storage::test::crash {

/// A store as the daemon finds it after a crash.
struct recovered {
  std::filesystem::path root;
  std::unique_ptr<store> files;
  std::unique_ptr<catalog> records;
  std::unique_ptr<index_cache> indexes;
};

/// What the disk of an image shows: clusters that are not zeros.
struct image_content {
  std::map<cluster_number, std::uint8_t> disk; ///< all bytes of it have that value
  bool has_superblock = true;                  ///< cluster 0 is clean_superblock(1, writes)
  std::uint32_t superblock_writes = 0;
  std::vector<cluster_number> looked_at; ///< read after each crash; the others are only counted

  content cluster(cluster_number guest) const;
};

/// A store that works while it is recorded, and all that it has told its clients.
///
/// The order of calls is the daemon's: actors/instance, actors/operation and actors/import.
class store_at_work {
public:
  explicit store_at_work(const std::filesystem::path& root);

  const std::filesystem::path& root() const {
    return root_;
  }

  void open();
  void close();

  /// From now on everything goes into `into`.
  void record(trace& into);

  // -- work ---------------------------------------------------------------------------------------

  struct change {
    std::map<cluster_number, std::uint8_t> written;
    std::vector<cluster_number> written_twice; ///< with other bytes before
    std::vector<cluster_number> trimmed;
    std::vector<cluster_number> spots; ///< of `written` that are read after each crash; empty: all
  };

  struct sealed_run {
    uuid image;
    uuid parent;
    uuid operation;
    sealed_image sealed;
  };

  /// PENDING, durable.
  uuid begin_operation();

  /// Runs on that image, all at the same time; their seals, too.
  std::vector<sealed_run> run(const std::vector<std::pair<uuid, change>>& runs);

  /// Their records and images in one commit, then they are told to clients.
  void finish(const std::vector<sealed_run>& runs);

  /// begin_operation, run, finish.
  uuid branch(const uuid& parent, const change& what);

  /// An image without a parent, as its worker leaves it; sealed and committed.
  uuid import(const std::map<cluster_number, std::uint8_t>& clusters);

  bool is_checkpoint(const uuid& image);

  void upload(const std::string& bytes);

  /// The record, then the files that nothing needs any more.
  void remove_image(const uuid& image);

  /// Punches what no live image sees out of a deleted image's file.
  void reclaim(const uuid& image);

  /// A commit of other records.
  void write_events(const uuid& operation, unsigned count);
  void fail_operation(const uuid& operation);
  void tag(const uuid& image, const std::string& name);

  // -- after a crash ------------------------------------------------------------------------------

  /// Recovers the store in `root` and says what is wrong with it, if anything: what was told to
  /// clients before the `notes` -th note is there, and so on.
  std::string judge(const std::filesystem::path& root, std::size_t notes) const;

private:
  using claim = std::function<std::string(const recovered&)>;

  /// Takes back with an empty claim.
  void told(const std::string& what, claim check);
  void told_image(const uuid& image);
  void told_operation(const uuid& operation, std::initializer_list<proto::OperationStatus> in);

  std::string judge_images(const recovered& found) const;
  std::string judge_image(const recovered& found, const uuid& image) const;
  static std::string judge_files(const recovered& found);

  std::filesystem::path root_;
  trace* trace_ = nullptr;
  std::unique_ptr<store> files_;
  std::shared_ptr<catalog> records_;
  std::shared_ptr<engine> disks_; ///< for the reclaimer
  std::unique_ptr<reclaimer> space_;
  std::unique_ptr<index_cache> indexes_;
  std::unique_ptr<ring> ring_;
  std::unique_ptr<sealed_files> sealed_;
  std::unique_ptr<directory_sync> names_;
  std::map<uuid, image_content> images_;
  std::vector<std::pair<std::string, claim>> notes_;
  std::int64_t now_ = 1000;
};

} // namespace coppice::storage::test::crash
