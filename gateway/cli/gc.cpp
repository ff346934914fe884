#include "gateway/cli/command.hpp"
#include "gateway/cli/gc_run.hpp"
#include "gateway/cli/units.hpp"
#include "storage/catalog.hpp"
#include "storage/retention.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace coppice::cli {
namespace {

using storage::image_fate;
using storage::keeper;

struct gc_options {
  config_options config;
  bool dry_run = false;
  bool yes = false;
  bool verbose = false;
};

/// What the policy says of all images.
struct verdict {
  struct sum {
    std::uint64_t images = 0;
    std::uint64_t own_bytes = 0;
  };
  std::array<sum, static_cast<std::size_t>(keeper::none) + 1> by_reason;
  std::vector<image_fate> chosen; ///< children before their parents
};

std::string counted(std::uint64_t n, const char* one, const char* many) {
  return std::to_string(n) + " " + (n == 1 ? one : many);
}

void print_image(const char* verb, const image_fate& image) {
  std::printf("%s %s  %s  %s  %s%s%s\n", verb, image.id.text().c_str(), image.project.c_str(),
              human_size(image.own_bytes).c_str(), std::string{text_of(image.why)}.c_str(),
              image.tag.empty() ? "" : ", tag ", image.tag.c_str());
}

result<verdict> judge(const storage::catalog& records, const settings& values, bool is_verbose) {
  storage::retention_policy policy;
  policy.keep_tagged = values.gc.keep_tagged;
  policy.keep_leaves = values.gc.keep_leaves;
  policy.keep_younger_than = values.gc.keep_younger_than;
  policy.keep = values.gc.keep;
  auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count();
  verdict out;
  auto judged = storage::judge_images(records, policy, now, [&](image_fate image) {
    auto& sum = out.by_reason[static_cast<std::size_t>(image.why)];
    sum.images += 1;
    sum.own_bytes += image.own_bytes;
    if (image.why == keeper::none) {
      out.chosen.push_back(std::move(image));
    } else if (is_verbose) {
      print_image("keep  ", image);
    }
  });
  if (!judged) {
    return judged.error();
  }
  std::stable_sort(out.chosen.begin(), out.chosen.end(),
                   [](const image_fate& a, const image_fate& b) { return a.depth > b.depth; });
  return out;
}

void print_verdict(const verdict& what, const storage::reclaim_forecast& gain) {
  for (const auto& image : what.chosen) {
    print_image("delete", image);
  }
  for (std::size_t i = 0; i + 1 < what.by_reason.size(); ++i) {
    const auto& sum = what.by_reason[i];
    if (sum.images != 0) {
      std::printf("keep   %s, %s of their own: %s\n",
                  counted(sum.images, "image", "images").c_str(), human_size(sum.own_bytes).c_str(),
                  std::string{text_of(static_cast<keeper>(i))}.c_str());
    }
  }
  const auto& sum = what.by_reason.back();
  std::printf("delete %s, %s of their own: kept by nothing\n",
              counted(sum.images, "image", "images").c_str(), human_size(sum.own_bytes).c_str());
  std::printf(
      "gives back %s (%llu bytes): %s in %s that nothing needs any more, %s in %s that stay "
      "for images above them\n",
      human_size(gain.file_bytes + gain.punched_bytes).c_str(),
      static_cast<unsigned long long>(gain.file_bytes + gain.punched_bytes),
      human_size(gain.file_bytes).c_str(), counted(gain.files, "file", "files").c_str(),
      human_size(gain.punched_bytes).c_str(), counted(gain.punched_files, "file", "files").c_str());
}

int run_deletion(const settings& values, const verdict& what) {
  std::fflush(stdout);
  auto done = delete_images(values, what.chosen);
  if (!done) {
    return failed(done.error().text);
  }
  for (const auto& text : done->refusals) {
    std::printf("kept   %s\n", text.c_str());
  }
  std::printf("deleted %s", counted(done->deleted, "image", "images").c_str());
  if (done->kept != 0) {
    std::printf(", kept %s", counted(done->kept, "that came into use or was gone",
                                     "that came into use or were gone")
                                 .c_str());
  }
  if (done->was_daemon) {
    std::printf("; the daemon is giving the space back\n");
  } else {
    std::printf("; %s given back\n", human_size(done->freed_bytes).c_str());
  }
  return 0;
}

int collect(const gc_options& options, const std::vector<std::string>& extras) {
  auto values = options.config.load(extras);
  if (!values) {
    return failed(values.error().text);
  }
  std::error_code ignored;
  if (!std::filesystem::exists(values->state_dir / "catalog", ignored)) {
    return failed("there is no store in " + values->state_dir.string() +
                  ": name its folder with --state-dir");
  }
  verdict what;
  {
    // Closed before anything is deleted: a process may have a catalog open only once.
    auto records = storage::catalog::open(values->state_dir / "catalog");
    if (!records) {
      return failed(records.error().text);
    }
    auto judged = judge(**records, *values, options.verbose);
    if (!judged) {
      return failed(judged.error().text);
    }
    what = std::move(*judged);
    std::unordered_set<uuid> ids;
    for (const auto& image : what.chosen) {
      ids.insert(image.id);
    }
    auto gain = storage::forecast_reclaim(**records, values->state_dir / "images", ids);
    if (!gain) {
      return failed(gain.error().text);
    }
    print_verdict(what, *gain);
  }
  if (options.dry_run) {
    std::printf("nothing was deleted: --dry-run\n");
    return 0;
  }
  if (!values->gc.enabled && !options.yes) {
    std::printf("nothing was deleted: set gc.enabled = true, or call this with --yes\n");
    return 0;
  }
  return run_deletion(*values, what);
}

} // namespace

void add_gc(CLI::App& app, int& status) {
  auto* command = app.add_subcommand(
      "gc",
      "Delete images that the policy in the settings does not keep, and give back their space");
  auto options = std::make_shared<gc_options>();
  options->config.add_to(*command);
  command->add_flag("--dry-run", options->dry_run,
                    "Only show what would go, why, and for how much");
  command->add_flag("--yes", options->yes, "Delete though gc.enabled is false");
  command->add_flag("--verbose", options->verbose, "Also list every image that is kept");
  command->allow_extras();
  command->footer("Works while the daemon runs, which then does the deleting, and while it does "
                  "not.\nThe policy is section [gc] of the settings; any of its keys can be given "
                  "here: --gc.keep_leaves=false");
  command->callback(
      [command, options, &status] { status = collect(*options, command->remaining()); });
}

} // namespace coppice::cli
