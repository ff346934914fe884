#include "protocol/records.capnp.h"
#include "storage/catalog_usage.hpp"
#include "storage/error.hpp"
#include "storage/fsck_records.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace coppice::storage {

namespace {

/// So often is a count begun that commits keep from being finished.
constexpr unsigned tries_max = 3;

struct sums {
  std::uint64_t images = 0;
  std::uint64_t image_bytes = 0;
  std::uint64_t files = 0;
  std::uint64_t file_bytes = 0;

  friend bool operator==(const sums&, const sums&) = default;
};

std::string text_of(const sums& s) {
  return std::to_string(s.images) + " images of " + std::to_string(s.image_bytes) + " bytes, " +
         std::to_string(s.files) + " files of " + std::to_string(s.file_bytes) + " bytes";
}

} // namespace

/// The totals of projects from `first` on: what is stored, and what the records add up to.
class record_proof::totals {
public:
  totals(std::string first, std::size_t projects_max)
      : first_{std::move(first)}, projects_max_{std::max<std::size_t>(projects_max, 1)} {}

  void clear() {
    projects_.clear();
    end_.reset();
  }

  void put_stored(std::string_view project, std::optional<sums> stored) {
    if (auto* of = find(project)) {
      of->is_odd = !stored;
      of->stored = stored.value_or(sums{});
    }
  }

  void add(std::string_view project, const usage_change& by) {
    if (auto* of = find(project)) {
      of->counted.images += static_cast<std::uint64_t>(by.images);
      of->counted.image_bytes += static_cast<std::uint64_t>(by.image_bytes);
      of->counted.files += static_cast<std::uint64_t>(by.files);
      of->counted.file_bytes += static_cast<std::uint64_t>(by.file_bytes);
    }
  }

  /// Nothing: it is not a number, which is told where its row is looked at.
  void put_stored_keys(std::string_view project, std::optional<std::uint64_t> stored) {
    if (auto* of = find(project)) {
      of->stored_keys = stored;
    }
  }

  void add_key(std::string_view project) {
    if (auto* of = find(project)) {
      ++of->keys;
    }
  }

  template <class Tell>
  void compare(Tell&& tell) const {
    for (const auto& [project, of] : projects_) {
      if (of.stored_keys && *of.stored_keys != of.keys) {
        tell("catalog: project " + printable(project) + " is said to have " +
             std::to_string(*of.stored_keys) + " Idempotency-Keys; there are " +
             std::to_string(of.keys));
      }
      const auto name = "catalog: the totals of project " + printable(project);
      if (of.is_odd) {
        tell(name + " are not a record");
      } else if (of.stored != of.counted) {
        tell(name + " say " + text_of(of.stored) + "; its records add up to " +
             text_of(of.counted));
      }
    }
  }

  const std::string& first() const {
    return first_;
  }
  /// Where the next ones begin; nothing: there are none.
  const std::optional<std::string>& end() const {
    return end_;
  }

private:
  struct project_totals {
    sums stored;
    sums counted;
    bool is_odd = false;
    std::optional<std::uint64_t> stored_keys = 0;
    std::uint64_t keys = 0;
  };

  /// Null: of another pass. When there is no room, the last ones are left to the next pass.
  project_totals* find(std::string_view project) {
    if (project < first_ || (end_ && project >= *end_)) {
      return nullptr;
    }
    auto at = projects_.find(project);
    if (at == projects_.end()) {
      at = projects_.emplace(project, project_totals{}).first;
      if (projects_.size() > projects_max_) {
        auto last = std::prev(projects_.end());
        end_ = last->first;
        const bool is_own = last == at;
        projects_.erase(last);
        if (is_own) {
          return nullptr;
        }
      }
    }
    return &at->second;
  }

  std::string first_;
  std::size_t projects_max_;
  std::optional<std::string> end_;
  std::map<std::string, project_totals, std::less<>> projects_;
};

namespace {

std::optional<sums> stored_sums(lmdb::transaction& in, std::string_view value) {
  if (!is_message(value)) {
    return std::nullopt;
  }
  auto read = guarded<sums>("totals", [&]() -> result<sums> {
    const auto record = record_in<proto::ProjectUsage>(in, value);
    auto v = record.view();
    return sums{v->getImages(), v->getImageBytes(), v->getFiles(), v->getFileBytes()};
  });
  return read ? std::optional{*read} : std::nullopt;
}

} // namespace

result<void> record_proof::check_totals() {
  std::string first(1, '\0');
  for (bool more = true; more;) {
    totals counted{first, how_.projects_at_once};
    auto done = count(counted);
    for (unsigned tries = 1; tries < tries_max && done && *done == pass::given_up; ++tries) {
      counted.clear();
      done = count(counted);
    }
    if (!done) {
      return done.error();
    }
    if (*done == pass::given_up) {
      found_.are_totals_counted = false;
      return {};
    }
    counted.compare(problem_);
    more = counted.end().has_value();
    first = counted.end().value_or("");
  }
  return {};
}

result<record_proof::pass> record_proof::count(totals& into) const {
  return impl_.read<pass>("count totals", [&](lmdb::transaction& in) -> result<pass> {
    std::uint64_t rows = 0;
    lmdb::cursor at{in, impl_.t.usage};
    for (bool more = at.seek(into.first()); more; more = at.next()) {
      if (into.end() && at.key() >= *into.end()) {
        break;
      }
      into.put_stored(at.key(), stored_sums(in, at.value()));
      if (++rows % catalog::page_rows_max == 0 && !may_go_on(in)) {
        return pass::given_up;
      }
    }
    return add_records(in, into);
  });
}

/// A record that cannot be read is told where its row is looked at.
result<record_proof::pass> record_proof::add_records(lmdb::transaction& in, totals& into) const {
  auto add_all = [&](lmdb::table from, auto&& add) {
    lmdb::cursor at{in, from};
    std::uint64_t rows = 0;
    for (bool more = at.seek({"\0", 1}); more; more = at.next()) {
      if (is_message(at.value())) {
        static_cast<void>(guarded<void>("count totals", [&]() -> result<void> {
          add(at.value());
          return {};
        }));
      }
      if (++rows % catalog::page_rows_max == 0 && !may_go_on(in)) {
        return false;
      }
    }
    return true;
  };
  const bool is_whole = add_all(impl_.t.images,
                                [&](std::string_view value) {
                                  const auto record = record_in<proto::ImageRecord>(in, value);
                                  auto image = record.view();
                                  into.add(view_of(image->getProject()), usage_of(*image));
                                }) &&
                        add_all(impl_.t.files, [&](std::string_view value) {
                          const auto record = record_in<proto::FileRecord>(in, value);
                          auto file = record.view();
                          into.add(view_of(file->getProject()), usage_of(*file));
                        });
  return is_whole && count_keys(in, into) && may_go_on(in) ? pass::whole : pass::given_up;
}

/// False: it is given up.
bool record_proof::count_keys(lmdb::transaction& in, totals& into) const {
  lmdb::cursor at{in, impl_.t.request_keys};
  std::uint64_t rows = 0;
  for (bool more = at.seek({"\0", 1}); more; more = at.next()) {
    project_row row;
    if (!split(at.key(), 0, row)) {
      continue; // told where its row is looked at
    }
    if (row.rest.size() == keys::digest_bytes) {
      into.add_key(row.project);
    } else if (row.rest.empty()) {
      const bool is_number = at.value().size() == sizeof(std::uint64_t);
      into.put_stored_keys(row.project,
                           is_number ? std::optional{keys::number_of(at.value())} : std::nullopt);
    }
    if (++rows % catalog::page_rows_max == 0 && !may_go_on(in)) {
      return false;
    }
  }
  return true;
}

} // namespace coppice::storage
