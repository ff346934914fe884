#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace coppice::test {

/// What clients were told by a daemon that is killed at any moment.
///
/// Problem: clients work in parallel, and the kill cuts each of them off somewhere. Whatever was
/// answered before must stay true, and whatever was only asked for may have happened or not.
///
/// Guarantee: no image is given to a run and to a deletion at once, nor to a deletion while a run
/// on it may still be under way (a request that was never answered counts for ever): so the daemon
/// has no reason to refuse anything. Any thread.
class told_facts {
public:
  enum class fate {
    live,
    asked, ///< its DELETE was sent and not answered: it may be there or not
    deleted,
  };
  struct image {
    std::string id;
    std::string parent; ///< empty: the base
    std::string file;   ///< that the run which made it wrote, with its own name in it
    fate now = fate::live;
    std::size_t users = 0; ///< runs on it that may be under way
    std::size_t children = 0;
  };
  struct counts {
    std::size_t succeeded = 0;
    std::size_t failed = 0;
    std::size_t leaves_deleted = 0;
    std::size_t inner_deleted = 0;
    std::size_t cut_deleted = 0; ///< DELETEs that the kill cut off, and the image was gone
    std::size_t cut_live = 0;    ///< and the image was there
  };

  /// The base has a tag and is never deleted: that counts as a user.
  void begin_with(const std::string& base) {
    std::lock_guard lock{mutex_};
    images_[base] = image{base, {}, {}, fate::live, 1, 0};
    order_.push_back(base);
  }

  // -- runs --------------------------------------------------------------------------------------

  /// One of the last that are not being deleted, so that chains grow; for a run.
  std::string take_parent(std::minstd_rand& random) {
    std::lock_guard lock{mutex_};
    std::vector<image*> found;
    for (auto id = order_.rbegin(); id != order_.rend() && found.size() < 6; ++id) {
      if (auto& i = images_.at(*id); i.now == fate::live) {
        found.push_back(&i);
      }
    }
    auto* chosen = found[pick(random, found.size())]; // the base is always there
    ++chosen->users;
    return chosen->id;
  }
  /// A 201: the operation is there for ever. `file`: what it will write.
  void accepted(const std::string& operation, const std::string& parent, const std::string& file) {
    std::lock_guard lock{mutex_};
    open_[operation] = {parent, file};
  }
  /// `made`: its new image; none: it failed. Only the first time counts.
  void ended(const std::string& operation, const std::optional<std::string>& made) {
    std::lock_guard lock{mutex_};
    auto found = open_.find(operation);
    if (found == open_.end()) {
      return;
    }
    auto [parent, file] = found->second;
    open_.erase(found);
    --images_.at(parent).users;
    if (made) {
      ++images_.at(parent).children;
      images_[*made] = image{*made, parent, file, fate::live, 0, 0};
      order_.push_back(*made);
    }
    ++(made ? counts_.succeeded : counts_.failed);
    changed_.notify_all();
  }
  /// Operations whose end nobody was told.
  std::vector<std::string> open_operations() const {
    std::lock_guard lock{mutex_};
    std::vector<std::string> out;
    for (const auto& [operation, order] : open_) {
      out.push_back(operation);
    }
    return out;
  }

  // -- deletions ---------------------------------------------------------------------------------

  /// Some image that nobody works on, for a DELETE; an inner node of the tree or a leaf, whichever
  /// was less often deleted. None: there is none now.
  std::optional<std::string> take_doomed(std::minstd_rand& random) {
    std::lock_guard lock{mutex_};
    std::vector<image*> inner;
    std::vector<image*> leaves;
    for (auto& [id, i] : images_) {
      if (i.now == fate::live && i.users == 0) {
        (i.children != 0 ? inner : leaves).push_back(&i);
      }
    }
    const auto wants_inner = counts_.inner_deleted <= counts_.leaves_deleted;
    const auto& from =
        wants_inner ? (inner.empty() ? leaves : inner) : (leaves.empty() ? inner : leaves);
    if (from.empty()) {
      return {};
    }
    auto* chosen = from[pick(random, from.size())];
    chosen->now = fate::asked;
    ++deletions_begun_;
    changed_.notify_all();
    return chosen->id;
  }
  /// A 204.
  void told_deleted(const std::string& id) {
    std::lock_guard lock{mutex_};
    auto& gone = images_.at(id);
    gone.now = fate::deleted;
    ++(gone.children != 0 ? counts_.inner_deleted : counts_.leaves_deleted);
    newly_deleted_.push_back(id);
    changed_.notify_all();
  }
  /// What became of an image whose DELETE was cut off. From now on it is a fact.
  void found(const std::string& id, bool is_there) {
    std::lock_guard lock{mutex_};
    images_.at(id).now = is_there ? fate::live : fate::deleted;
    if (!is_there) {
      newly_deleted_.push_back(id);
    }
    ++(is_there ? counts_.cut_live : counts_.cut_deleted);
  }

  // -- for who looks -----------------------------------------------------------------------------

  /// In the order in which they were told; the base first.
  std::vector<image> images() const {
    std::lock_guard lock{mutex_};
    std::vector<image> out;
    for (const auto& id : order_) {
      out.push_back(images_.at(id));
    }
    return out;
  }
  /// Deleted since the last call.
  std::vector<std::string> take_newly_deleted() {
    std::lock_guard lock{mutex_};
    return std::exchange(newly_deleted_, {});
  }
  /// Parent first, without the base, deleted ones too.
  std::vector<image> ancestors_of(const image& of) const {
    std::lock_guard lock{mutex_};
    std::vector<image> out;
    for (auto at = of.parent; !at.empty() && !images_.at(at).parent.empty();
         at = images_.at(at).parent) {
      out.push_back(images_.at(at));
    }
    return out;
  }
  counts so_far() const {
    std::lock_guard lock{mutex_};
    return counts_;
  }
  /// Waits until `claim` holds of what was told so far; gives whether it does.
  template <class Claim>
  bool wait_for(std::chrono::seconds limit, Claim&& claim) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, limit, [&] { return claim(counts_); });
  }
  /// Waits for the next DELETE to be sent.
  bool wait_for_deletion(std::chrono::seconds limit) {
    std::unique_lock lock{mutex_};
    const auto before = deletions_begun_;
    return changed_.wait_for(lock, limit, [&] { return deletions_begun_ != before; });
  }

  /// An answer that contradicts what was told; checks of a test are for its first thread only.
  void complain(std::string text) {
    std::lock_guard lock{mutex_};
    complaints_.push_back(std::move(text));
  }
  std::vector<std::string> take_complaints() {
    std::lock_guard lock{mutex_};
    return std::exchange(complaints_, {});
  }

private:
  static std::size_t pick(std::minstd_rand& random, std::size_t count) {
    return std::uniform_int_distribution<std::size_t>{0, count - 1}(random);
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, image> images_;
  std::vector<std::string> order_;
  std::map<std::string, std::pair<std::string, std::string>>
      open_; ///< parent and file by operation
  counts counts_;
  std::size_t deletions_begun_ = 0;
  std::vector<std::string> newly_deleted_;
  std::vector<std::string> complaints_;
};

} // namespace coppice::test
