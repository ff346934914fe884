#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

/// Which images a garbage collection keeps, and what the others give back.
///
/// Problem: a search makes thousands of images and most are never looked at again; which may go is
/// the operator's choice, and before anything goes he wants to see what, why, and for how much.
///
/// Guarantee: an image is kept if any rule says so; everything else is named for deletion. Nothing
/// is changed here. The catalog may change meanwhile: who deletes must be ready to be refused.
namespace coppice::storage {

struct retention_policy {
  bool keep_tagged = true;
  std::chrono::seconds keep_younger_than{7 * 86'400}; ///< 0: young ones go too
  bool keep_leaves = true;                            ///< images without a live descendant
  std::vector<std::string> keep;                      ///< ids, or tags in any project
};

/// Why an image is kept: the first rule that holds, in this order.
enum class keeper : std::uint8_t {
  named,  ///< the policy names it or one of its tags
  tagged, ///< it has a tag
  in_use, ///< an operation that has not ended was given it
  young,  ///< made lately
  leaf,   ///< nothing live was branched from it
  none,   ///< nothing keeps it
};

std::string_view text_of(keeper why);

struct image_fate {
  uuid id;
  std::string project;
  std::string tag; ///< any one; empty: none
  std::uint32_t depth = 0;
  std::uint64_t own_bytes = 0; ///< of its file, when it was made
  keeper why = keeper::none;
};

/// Calls `each` for every image of every project.
result<void> judge_images(const catalog& records, const retention_policy& policy,
                          std::int64_t now_unix_ns, const std::function<void(image_fate)>& each);

/// What deleting some images gives back.
struct reclaim_forecast {
  std::uint64_t files = 0; ///< go with their last descendant
  std::uint64_t file_bytes = 0;
  std::uint64_t punched_files = 0; ///< stay for a descendant, without what nobody sees
  std::uint64_t punched_bytes = 0;
};

/// For `images` (live ones, to be deleted) and what was deleted before and still has something to
/// give. `folder`: of the files of images. Reads the tables of each file that stays.
result<reclaim_forecast> forecast_reclaim(const catalog& records,
                                          const std::filesystem::path& folder,
                                          const std::unordered_set<uuid>& images);

} // namespace coppice::storage
