#define BOOST_TEST_MODULE catalog_listing
#include "catalog_fixture.hpp"

#include "storage/lmdb.hpp"

#include <map>
#include <optional>
#include <random>
#include <set>

namespace coppice::storage {

using status = proto::OperationStatus;
using kind = proto::OperationKind;

namespace {

constexpr const char* projects[] = {"default", "defaul", "default.2", "z"};
constexpr status statuses[] = {status::PENDING, status::ASSIGNED, status::EXECUTING,
                               status::SUCCESS, status::FAILED,   status::CANCELLED};

/// Few times for many rows: ties everywhere; and both ends of what a time can be.
constexpr std::int64_t times[] = {INT64_MIN, -5, -1, 0, 1, 2, 3, 1'700'000'000'000'000'000,
                                  INT64_MAX};

class dice {
public:
  explicit dice(unsigned seed) : random_{seed} {}

  std::uint64_t below(std::uint64_t end) {
    return random_() % end;
  }
  bool one_in(std::uint64_t n) {
    return below(n) == 0;
  }
  template <class T, std::size_t N>
  const T& of(const T (&all)[N]) {
    return all[below(N)];
  }
  std::string tag() {
    std::string text;
    const auto bytes = 1 + below(one_in(20) ? 256 : 4);
    while (text.size() < bytes) {
      text += "ab:\xff"[below(4)];
    }
    return text;
  }

private:
  std::mt19937_64 random_;
};

/// What is asked of any listing.
struct asked {
  const char* project = "default";
  std::uint32_t limit = 1000;
  std::uint64_t offset = 0;
  std::int64_t since = INT64_MIN;
  std::int64_t until = INT64_MAX;

  static asked any(dice& d) {
    asked a;
    a.project = d.of(projects);
    a.limit = static_cast<std::uint32_t>(d.one_in(3) ? 1000 : d.below(12));
    a.offset = d.one_in(2) ? 0 : d.below(40);
    if (d.one_in(2)) {
      a.since = d.of(times);
    }
    if (d.one_in(2)) {
      a.until = d.of(times);
    }
    return a;
  }

  template <class Builder>
  void fill(Builder to) const {
    to.setProject(project);
    to.setLimit(limit);
    to.setOffset(offset);
    to.setSinceUnixNs(since);
    to.setUntilUnixNs(until);
  }

  bool has(std::int64_t time) const {
    return since <= time && time <= until;
  }

  template <class T>
  std::vector<T> page(std::vector<T> rows) const {
    rows.erase(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(
                                                std::min<std::uint64_t>(offset, rows.size())));
    rows.resize(std::min<std::size_t>(rows.size(), limit));
    return rows;
  }
};

/// What one read took.
struct cost_of {
  lmdb::read_counts before = lmdb::counts_of_thread();

  std::uint64_t records() const {
    return lmdb::counts_of_thread().records - before.records;
  }
  std::uint64_t steps() const {
    return lmdb::counts_of_thread().steps - before.steps;
  }
  std::uint64_t look_ups() const {
    return lmdb::counts_of_thread().look_ups - before.look_ups;
  }
};

/// Takes out a record for each row (or one that it had to look for), and steps over what is left
/// out in front.
void check_cost(const cost_of& cost, std::size_t rows, const asked& a) {
  BOOST_CHECK_LE(cost.records(), std::max<std::size_t>(rows, 1));
  BOOST_CHECK_LE(cost.steps(), rows + a.offset + 2);
}

struct operation_row {
  std::string project;
  status now;
  kind what;
  std::int64_t created;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(against_a_model, catalog_fixture)

BOOST_AUTO_TEST_CASE(any_page_of_operations_is_what_filtering_all_of_them_gives) {
  dice d{1};
  std::map<std::uint64_t, operation_row> model;
  write([&](catalog::transaction& t) {
    for (std::uint64_t n = 1; n <= 600; ++n) {
      operation_of one{n, d.of(times), status::PENDING, d.of(projects),
                       d.one_in(3) ? kind::IMAGE_IMPORT : kind::INSTANCE};
      REQUIRE_OK(t.put_operation(*one.record().view()));
      // Through other states to its own: rows of the states between must not stay.
      one.status = d.of(statuses);
      auto between = one;
      between.status = status::EXECUTING;
      REQUIRE_OK(t.put_operation(*between.record().view()));
      if (one.status >= status::SUCCESS) {
        auto end = make_frame<proto::FinishOperation>(
            [&](proto::FinishOperation::Builder to) { one.fill(to.initRecord()); });
        REQUIRE_OK(t.finish_operation(*end.view()));
      } else {
        REQUIRE_OK(t.put_operation(*one.record().view()));
      }
      model.emplace(n, operation_row{one.project, one.status, one.kind, one.created});
    }
  });
  for (int round = 0; round < 3000; ++round) {
    const auto a = asked::any(d);
    const auto by_status = d.one_in(2) ? std::optional{d.of(statuses)} : std::nullopt;
    const auto by_kind = d.one_in(2)
                             ? std::optional{d.one_in(2) ? kind::INSTANCE : kind::IMAGE_IMPORT}
                             : std::nullopt;
    std::vector<std::uint64_t> expected;
    for (const auto& [id, row] : model) {
      if (row.project == a.project && a.has(row.created) && (!by_status || row.now == *by_status) &&
          (!by_kind || row.what == *by_kind)) {
        expected.push_back(id);
      }
    }
    std::stable_sort(expected.begin(), expected.end(), [&](std::uint64_t l, std::uint64_t r) {
      return model.at(l).created > model.at(r).created;
    });
    expected = a.page(std::move(expected));
    const cost_of cost;
    const auto got = operations([&](proto::ListOperations::Builder to) {
      a.fill(to);
      to.setFilterStatus(by_status.has_value());
      to.setStatus(by_status.value_or(status::PENDING));
      to.setFilterKind(by_kind.has_value());
      to.setKind(by_kind.value_or(kind::INSTANCE));
    });
    CHECK_SAME(got, expected);
    check_cost(cost, got.size(), a);
  }
}

namespace {

struct image_model {
  struct row {
    std::string project;
    std::int64_t created;
    std::set<std::string> tags;
  };
  std::map<std::uint64_t, row> images;

  void tag(std::uint64_t id, const std::string& tag) {
    auto& to = images.at(id);
    for (auto& [other, image] : images) {
      if (image.project == to.project) {
        image.tags.erase(tag);
      }
    }
    to.tags.insert(tag);
  }

  struct filters {
    bool tagged = false;
    std::string prefix;
    std::uint64_t id = 0;
  };

  strings page(const asked& a, const filters& f) const {
    struct found {
      std::int64_t created;
      std::uint64_t id;
      std::string tag;
    };
    std::vector<found> rows;
    for (const auto& [id, image] : images) {
      if (image.project != a.project || !a.has(image.created) || (f.id != 0 && id != f.id)) {
        continue;
      }
      if (image.tags.empty() && !f.tagged && f.prefix.empty()) {
        rows.push_back({image.created, id, ""});
      }
      for (const auto& tag : image.tags) {
        if (tag.starts_with(f.prefix)) {
          rows.push_back({image.created, id, tag});
        }
      }
    }
    std::sort(rows.begin(), rows.end(), [&](const found& l, const found& r) {
      if (!f.prefix.empty()) {
        return l.tag < r.tag;
      }
      return std::tuple{r.created, l.id, l.tag} < std::tuple{l.created, r.id, r.tag};
    });
    strings texts;
    for (const auto& one : a.page(std::move(rows))) {
      texts.push_back(std::to_string(one.id) + (one.tag.empty() ? "" : ":" + one.tag));
    }
    return texts;
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(any_page_of_images_is_what_filtering_all_of_them_gives) {
  dice d{2};
  image_model model;
  write([&](catalog::transaction& t) {
    for (std::uint64_t n = 1; n <= 300; ++n) {
      const image_of one{n, d.of(times), d.of(projects)};
      REQUIRE_OK(t.put_image(*one.record().view()));
      model.images[n] = {one.project, one.created, {}};
      for (auto tags = d.below(4); tags > 0; --tags) {
        const auto to = 1 + d.below(n);
        const auto tag = d.tag();
        REQUIRE_OK(tag_in(t, to, tag.c_str(), model.images.at(to).project.c_str()));
        model.tag(to, tag);
      }
      if (d.one_in(10)) {
        const auto from = 1 + d.below(n);
        auto& image = model.images.at(from);
        REQUIRE_OK(untag_in(t, from, "", image.project.c_str()));
        image.tags.clear();
      }
    }
  });
  for (int round = 0; round < 3000; ++round) {
    const auto a = asked::any(d);
    image_model::filters f;
    f.tagged = d.one_in(3);
    f.prefix = d.one_in(2) ? std::string{} : d.tag().substr(0, 2);
    f.id = d.one_in(4) ? 1 + d.below(310) : 0;
    const cost_of cost;
    const auto got = images([&](proto::ListImages::Builder to) {
      a.fill(to);
      to.setTaggedOnly(f.tagged);
      to.setTagPrefix(f.prefix);
      if (f.id != 0) {
        id_number(f.id).to(to.initId());
      }
    });
    CHECK_SAME(got, model.page(a, f));
    BOOST_CHECK_LE(cost.records(), got.size() + (f.id != 0 ? 1 : 0));
    if (f.prefix.empty() || (a.since == INT64_MIN && a.until == INT64_MAX)) {
      BOOST_CHECK_LE(cost.steps(), got.size() + a.offset + 2);
    }
  }
}

BOOST_AUTO_TEST_CASE(any_page_of_files_is_what_filtering_all_of_them_gives) {
  struct row {
    std::string project;
    std::string digest;
    std::int64_t updated;
  };
  dice d{3};
  std::map<std::uint64_t, row> model;
  auto digest_of = [](std::uint64_t n) {
    std::string digest(32, '\0');
    for (std::size_t i = 0; i < 8; ++i) {
      digest[i] = static_cast<char>(n * 0x9e3779b97f4a7c15ull >> (56 - 8 * i));
    }
    return digest;
  };
  auto upload = [&](catalog::transaction& t, std::uint64_t n, const row& file) {
    auto request = make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
      auto record = to.initRecord();
      id_number(n).to(record.initId());
      record.setProject(file.project);
      record.setSha256({reinterpret_cast<const kj::byte*>(file.digest.data()), 32});
      record.setUpdatedAtUnixNs(file.updated);
    });
    REQUIRE_OK(t.put_file(*request.view()));
  };
  write([&](catalog::transaction& t) {
    for (std::uint64_t n = 1; n <= 300; ++n) {
      model[n] = {d.of(projects), digest_of(n), d.of(times)};
      upload(t, n, model[n]);
      if (d.one_in(3)) { // the same bytes once more
        const auto again = 1 + d.below(n);
        model[again].updated = d.of(times);
        upload(t, again, model[again]);
      }
    }
  });
  for (int round = 0; round < 2000; ++round) {
    const auto a = asked::any(d);
    std::vector<std::uint64_t> expected;
    for (const auto& [id, file] : model) {
      if (file.project == a.project && a.has(file.updated)) {
        expected.push_back(id);
      }
    }
    std::sort(expected.begin(), expected.end(), [&](std::uint64_t l, std::uint64_t r) {
      const auto& left = model.at(l);
      const auto& right = model.at(r);
      return std::tie(right.updated, left.digest) < std::tie(left.updated, right.digest);
    });
    auto request = make_frame<proto::ListFiles>([&](proto::ListFiles::Builder to) { a.fill(to); });
    const cost_of cost;
    auto page = c->list_files(*request.view());
    REQUIRE_OK(page);
    numbers got;
    auto v = page->view();
    for (auto file : v->getRows()) {
      got.push_back(uuid::from(file.getId()).lo & 0xffffffff);
    }
    CHECK_SAME(got, a.page(std::move(expected)));
    check_cost(cost, got.size(), a);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(cost, catalog_fixture)

BOOST_AUTO_TEST_CASE(a_look_up_takes_out_the_same_in_a_large_catalog) {
  auto fill_up = [&](std::uint64_t from, std::uint64_t to) {
    write([&](catalog::transaction& t) {
      for (auto n = from; n < to; ++n) {
        const auto time = static_cast<std::int64_t>(n);
        REQUIRE_OK(t.put_image(*image_of{n, time}.record().view()));
        REQUIRE_OK(tag_in(t, n, ("t" + std::to_string(n)).c_str()));
        REQUIRE_OK(t.put_operation(*operation_of{n, time}.record().view()));
      }
    });
  };
  auto check = [&](std::uint64_t n) {
    {
      const cost_of cost;
      REQUIRE_OK(image(n));
      BOOST_CHECK_EQUAL(cost.records(), 1);
      BOOST_CHECK_EQUAL(cost.look_ups() + cost.steps(), 2);
    }
    {
      const cost_of cost;
      REQUIRE_OK(operation(n));
      BOOST_CHECK_EQUAL(cost.records(), 2); // the row and its heavy parts
      BOOST_CHECK_EQUAL(cost.look_ups() + cost.steps(), 2);
    }
    const cost_of cost;
    BOOST_CHECK_EQUAL(tagged(("t" + std::to_string(n)).c_str()), n);
    BOOST_CHECK_EQUAL(cost.records(), 1);
    BOOST_CHECK_EQUAL(cost.look_ups() + cost.steps(), 2);
  };
  fill_up(1, 100);
  check(50);
  fill_up(100, 10'000);
  check(50);
  check(9000);
}

/// 30,000 tagged images; every 10,000th tag begins with "rare", image n was made at n.
struct many_tags : catalog_fixture {
  many_tags() {
    write([&](catalog::transaction& t) {
      for (std::uint64_t n = 1; n <= 30'000; ++n) {
        REQUIRE_OK(t.put_image(*image_of{n, static_cast<std::int64_t>(n)}.record().view()));
        const auto tag = (n % 10'000 == 0 ? "rare-" : "many-") + std::to_string(n);
        REQUIRE_OK(tag_in(t, n, tag.c_str()));
      }
    });
  }

  std::uint64_t steps_for(const char* prefix, std::int64_t since, std::int64_t until,
                          const strings& expected) const {
    const cost_of cost;
    CHECK_SAME(images([&](proto::ListImages::Builder to) {
                 to.setTagPrefix(prefix);
                 to.setSinceUnixNs(since);
                 to.setUntilUnixNs(until);
                 to.setLimit(3);
               }),
               expected);
    BOOST_CHECK_EQUAL(cost.records(), expected.size());
    return cost.steps();
  }
};

BOOST_FIXTURE_TEST_CASE(a_prefix_and_a_time_cost_what_the_narrower_one_has, many_tags) {
  // Few of the prefix, all times.
  BOOST_CHECK_LE(
      steps_for("rare", 2, INT64_MAX, {"10000:rare-10000", "20000:rare-20000", "30000:rare-30000"}),
      5);
  // Nearly all of the prefix, few times; the first walk's steps are spent.
  BOOST_CHECK_LE(steps_for("many", 29'990, 29'991, {"29990:many-29990", "29991:many-29991"}), 4200);
  // In the order of tags all the same, not of times.
  BOOST_CHECK_LE(
      steps_for("many", 9'998, 10'002, {"10001:many-10001", "10002:many-10002", "9998:many-9998"}),
      4200);
  // Much of both and the rows at the end: right all the same.
  steps_for("many", 9'998, INT64_MAX, {"10001:many-10001", "10002:many-10002", "10003:many-10003"});
  steps_for("many", 29'999, INT64_MAX, {"29999:many-29999"});
  steps_for("many", 8'000, 9'999, {"8000:many-8000", "8001:many-8001", "8002:many-8002"});
  // More than either walk's first turn.
  steps_for("many", INT64_MIN + 1, INT64_MAX, {"1:many-1", "10:many-10", "100:many-100"});
  steps_for("many-9", 1, 25'000, {"9:many-9", "90:many-90", "900:many-900"});
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
