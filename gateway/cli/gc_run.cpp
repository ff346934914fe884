#include "gateway/cli/gc_run.hpp"

#include "gateway/cli/admin_client.hpp"
#include "storage/catalog.hpp"
#include "storage/disk/engine.hpp"
#include "storage/error.hpp"
#include "storage/reclaimer.hpp"
#include "storage/store.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <unordered_set>
#include <utility>

namespace coppice::cli {
namespace {

constexpr std::size_t refusals_shown = 20;
constexpr std::chrono::seconds answer_deadline{60};

/// One durable transaction: a few milliseconds in which nobody else writes.
constexpr std::size_t deletions_at_once = 256;

void note_refusal(gc_outcome& out, std::string text) {
  ++out.kept;
  if (out.refusals.size() < refusals_shown) {
    out.refusals.push_back(std::move(text));
  }
}

std::string error_in(const admin_client::answer& answer) {
  boost::system::error_code error;
  auto value = boost::json::parse(answer.body, error);
  auto* text = !error && value.is_object() ? value.as_object().if_contains("error") : nullptr;
  return text && text->is_string() ? std::string{text->as_string()}
                                   : "status " + std::to_string(answer.status);
}

result<gc_outcome> delete_through_daemon(const settings& values,
                                         const std::vector<storage::image_fate>& images) {
  gc_outcome out;
  out.was_daemon = true;
  // A tag that was set meanwhile saves its image, if the policy keeps tagged ones.
  const std::string query = values.gc.keep_tagged ? "" : "?with_tags=true";
  for (const auto& image : images) {
    admin_client daemon{values.admin_socket_path(), image.project};
    auto answer =
        daemon.request("DELETE", "/v1/images/" + image.id.text() + query, "", answer_deadline);
    if (!answer) {
      return answer.error();
    }
    if (answer->status == 204) {
      ++out.deleted;
    } else if (answer->status == 404 || answer->status == 409) {
      note_refusal(out, error_in(*answer));
    } else {
      return failure{std::make_error_code(std::errc::io_error),
                     "after " + std::to_string(out.deleted) + " deletions: " + error_in(*answer)};
    }
  }
  return out;
}

/// The store while no daemon has it.
class own_store {
public:
  own_store(std::shared_ptr<storage::catalog> records, std::shared_ptr<storage::engine> disks,
            storage::with_tags tags)
      : records_{std::move(records)}, space_{records_, std::move(disks)}, tags_{tags} {}

  result<void> erase(const std::vector<storage::image_fate>& images, std::size_t begin,
                     std::size_t end, gc_outcome& out) {
    auto writing = records_->begin();
    if (!writing) {
      return writing.error();
    }
    std::uint64_t deleted = 0;
    for (auto i = begin; i < end; ++i) {
      auto done = writing->delete_image(images[i].project, images[i].id, tags_);
      if (done) {
        ++deleted;
        gone_.insert(gone_.end(), done->gone.begin(), done->gone.end());
      } else if (done.error().code == storage::ec::not_found ||
                 done.error().code == storage::ec::conflict) {
        note_refusal(out, done.error().text);
      } else {
        return done.error();
      }
    }
    if (auto durable = writing->commit(); !durable) {
      return durable.error();
    }
    out.deleted += deleted;
    return {};
  }

  /// Of what was deleted now and before. What fails is left to the next start of the daemon.
  result<void> give_back(gc_outcome& out) {
    for (const auto& image : gone_) {
      auto freed = space_.remove(image);
      if (!freed) {
        return freed.error();
      }
      out.freed_bytes += *freed;
    }
    for (uuid last;;) {
      auto page = records_->list_dead_files(last);
      if (!page) {
        return page.error();
      }
      if (page->empty()) {
        return {};
      }
      for (const auto& image : *page) {
        auto freed = space_.punch(image);
        if (!freed) {
          return freed.error();
        }
        out.freed_bytes += *freed;
      }
      last = page->back();
    }
  }

private:
  std::shared_ptr<storage::catalog> records_;
  storage::reclaimer space_;
  storage::with_tags tags_;
  std::vector<uuid> gone_;
};

result<gc_outcome> delete_ourselves(const settings& values,
                                    const std::vector<storage::image_fate>& images) {
  auto opened = storage::catalog::open(values.state_dir / "catalog");
  if (!opened) {
    return opened.error();
  }
  std::shared_ptr<storage::catalog> records{std::move(*opened)};
  storage::engine::options how;
  how.loops = 1;
  auto started = storage::engine::start(
      values.state_dir / "images",
      [records](const uuid& image) { return records->get_index(image); }, how);
  if (!started) {
    return started.error();
  }
  own_store store{records, std::move(*started),
                  values.gc.keep_tagged ? storage::with_tags::no : storage::with_tags::yes};
  gc_outcome out;
  for (std::size_t begin = 0; begin < images.size(); begin += deletions_at_once) {
    const auto end = std::min(images.size(), begin + deletions_at_once);
    if (auto done = store.erase(images, begin, end, out); !done) {
      return done.error();
    }
  }
  if (auto done = store.give_back(out); !done) {
    return done.error();
  }
  return out;
}

} // namespace

result<gc_outcome> delete_images(const settings& values,
                                 const std::vector<storage::image_fate>& images) {
  auto lock = storage::store::open(values.state_dir);
  if (lock) {
    return delete_ourselves(values, images);
  }
  if (lock.error().code == storage::ec::in_use) {
    return delete_through_daemon(values, images);
  }
  return lock.error();
}

} // namespace coppice::cli
