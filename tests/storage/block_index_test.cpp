#define BOOST_TEST_MODULE block_index
#include "storage/disk/block_index.hpp"
#include "storage/disk/index_codec.hpp"
#include "storage/error.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

using index_ptr = std::shared_ptr<const block_index>;
using bytes = std::vector<std::byte>;

uuid image_number(std::uint64_t n) {
  return {0xaaaa000000004000ull, 0x8000000000000000ull | n};
}

/// Where one cluster of the disk is: the image (0: zeros) and the place in its file.
struct place {
  std::uint64_t image = 0;
  cluster_number file = 0;

  friend bool operator==(const place&, const place&) = default;
};

/// A whole disk, cluster by cluster.
using disk = std::vector<place>;

disk read_all(const block_index& index, std::size_t clusters) {
  disk out;
  while (out.size() < clusters) {
    auto run = index.find(static_cast<cluster_number>(out.size()),
                          static_cast<cluster_number>(clusters - out.size()));
    BOOST_REQUIRE_GT(run.count, 0);
    BOOST_REQUIRE_LE(run.count, clusters - out.size());
    for (cluster_number i = 0; i < run.count; ++i) {
      out.push_back(run.file ? place{run.file->lo & 0xffffffff, run.file_cluster + i} : place{});
    }
  }
  return out;
}

disk changed(disk parent, std::uint64_t image, const std::vector<own_extent>& own) {
  for (const auto& e : own) {
    for (cluster_number i = 0; i < e.count; ++i) {
      parent[e.guest + i] = e.file == own_extent::zeros ? place{} : place{image, e.file + i};
    }
  }
  return parent;
}

struct random_changes {
  std::mt19937 random;
  std::size_t clusters;

  cluster_number below(std::size_t n) {
    return static_cast<cluster_number>(random() % n);
  }

  /// Sorted and disjoint; some lie side by side, some go on in the file, some are zeros.
  std::vector<own_extent> make(std::size_t extents_max, cluster_number count_max) {
    std::vector<own_extent> own;
    const auto extents = below(extents_max + 1);
    cluster_number file = 65;
    std::size_t at = 0;
    for (cluster_number i = 0; i < extents; ++i) {
      at += below(4) == 0 ? 0 : below(2 * clusters / (extents + 1));
      const auto count = 1 + below(count_max);
      if (at + count > clusters) {
        break;
      }
      file += below(3) == 0 ? below(50) : 0;
      const bool is_zeros = below(4) == 0;
      own.push_back({static_cast<cluster_number>(at), count, is_zeros ? own_extent::zeros : file});
      file += is_zeros ? 0 : count;
      at += count;
    }
    if (below(8) == 0) { // the pieces of a file in any order
      std::vector<own_extent> shuffled = own;
      std::shuffle(shuffled.begin(), shuffled.end(), random);
      cluster_number next = 65;
      for (const auto& e : shuffled) {
        auto same = std::find(own.begin(), own.end(), e);
        if (e.file != own_extent::zeros) {
          same->file = next;
          next += e.count;
        }
      }
    }
    return own;
  }
};

index_ptr decoded(std::uint64_t image, const bytes& from, index_ptr checkpoint) {
  auto back = block_index::decode(image_number(image), from, std::move(checkpoint));
  BOOST_REQUIRE_MESSAGE(back, back.error().text);
  return *back;
}

cluster_number end_of(const disk& all) {
  auto last = std::find_if(all.rbegin(), all.rend(), [](const place& p) { return p.image != 0; });
  return static_cast<cluster_number>(all.rend() - last);
}

bool is_damaged(const uuid& image, const bytes& from, index_ptr checkpoint = nullptr) {
  auto read = block_index::decode(image, from, std::move(checkpoint));
  return !read && read.error().code == make_error_code(ec::damaged) && !read.error().text.empty();
}

} // namespace

BOOST_AUTO_TEST_SUITE(finding)

BOOST_AUTO_TEST_CASE(an_import_has_its_runs_and_zeros_between) {
  const std::vector<own_extent> own{
      {10, 5, 65}, {15, 5, 70}, {20, 1, 80}, {30, 3, own_extent::zeros}};
  auto index = block_index::of_import(image_number(1), own);
  auto run = index->find(12, 100);
  BOOST_REQUIRE(run.file);
  BOOST_CHECK(*run.file == image_number(1));
  BOOST_CHECK_EQUAL(run.file_cluster, 67);
  BOOST_CHECK_EQUAL(run.count, 8); // two runs that go on in disk and file are one
  BOOST_CHECK_EQUAL(index->find(12, 2).count, 2);
  BOOST_CHECK(!index->find(0, 100).file);
  BOOST_CHECK_EQUAL(index->find(0, 100).count, 10);
  BOOST_CHECK_EQUAL(index->find(21, 1u << 31).count, 1u << 31);
  BOOST_CHECK_EQUAL(index->end(), 21);
  BOOST_CHECK(!index->checkpoint());
}

BOOST_AUTO_TEST_CASE(zeros_hide_the_parents_data_and_vanish_over_nothing) {
  const std::vector<own_extent> base{{100, 10, 65}, {200, 10, 75}};
  auto parent = block_index::of_import(image_number(1), base);
  const std::vector<own_extent> own{{0, 50, own_extent::zeros}, {90, 1000, own_extent::zeros}};
  auto child = block_index::of_child(parent, image_number(2), own);
  BOOST_CHECK(child->checkpoint() == image_number(1));
  BOOST_CHECK(!child->find(105, 1).file);
  BOOST_CHECK_EQUAL(child->end(), 0);
  unsigned seen = 0;
  child->for_each([&](cluster_number, const block_index::run&) { ++seen; });
  BOOST_CHECK_EQUAL(seen, 0);
  // One run says it all: nothing between needs to be told apart.
  const std::vector<own_extent> less{{90, 120, own_extent::zeros}};
  BOOST_CHECK_EQUAL(child->encode().size(),
                    block_index::of_child(parent, image_number(2), less)->encode().size());
  const std::vector<own_extent> again{{150, 1, 65}};
  auto grandchild = block_index::of_child(child, image_number(3), again);
  BOOST_CHECK_EQUAL(grandchild->end(), 151);
  BOOST_CHECK(grandchild->find(150, 9).file && *grandchild->find(150, 9).file == image_number(3));
}

BOOST_AUTO_TEST_CASE(adjacent_zeros_of_two_generations_are_one_run) {
  const std::vector<own_extent> base{{0, 20, 65}};
  auto parent = block_index::of_import(image_number(1), base);
  const std::vector<own_extent> first{{0, 10, own_extent::zeros}};
  const std::vector<own_extent> second{{10, 10, own_extent::zeros}};
  auto two = block_index::of_child(block_index::of_child(parent, image_number(2), first),
                                   image_number(3), second);
  const std::vector<own_extent> both{{0, 20, own_extent::zeros}};
  BOOST_CHECK(two->encode() == block_index::of_child(parent, image_number(3), both)->encode());
}

BOOST_AUTO_TEST_CASE(the_last_cluster_that_has_a_number_is_found) {
  const std::vector<own_extent> base{{0, 3, 65}, {own_extent::zeros - 2, 2, own_extent::zeros - 2}};
  auto index = block_index::of_import(image_number(1), base);
  BOOST_CHECK_EQUAL(index->end(), own_extent::zeros);
  auto same = decoded(1, index->encode(), nullptr);
  BOOST_CHECK_EQUAL(same->find(own_extent::zeros - 1, 1).file_cluster, own_extent::zeros - 1);
}

BOOST_AUTO_TEST_CASE(random_generations_read_as_a_plain_array_says) {
  constexpr std::size_t clusters = 6000;
  constexpr std::uint64_t images = 2000;
  random_changes changes{std::mt19937{7}, clusters};
  struct known {
    index_ptr index;
    disk content;
    unsigned generation = 0;
  };
  std::map<std::uint64_t, known> all;
  unsigned checkpoints = 0;
  unsigned deepest = 0;
  for (std::uint64_t image = 1; image <= images; ++image) {
    const bool is_import = image == 1 || image % 500 == 0;
    known made;
    if (is_import) {
      const auto own = changes.make(400, 6);
      made = {block_index::of_import(image_number(image), own), changed(disk(clusters), image, own),
              0};
    } else {
      // The newest ones are the likeliest parents, so chains grow.
      const auto back = 1 + changes.below(std::min<std::uint64_t>(image - 1, 20));
      const auto& parent = all.at(image - back);
      const auto own = changes.make(image % 3 == 0 ? 80 : 6, image % 31 == 0 ? 300 : 4);
      made = {block_index::of_child(parent.index, image_number(image), own),
              changed(parent.content, image, own), parent.generation + 1};
      checkpoints += made.index->checkpoint() ? 0 : 1;
    }
    deepest = std::max(deepest, made.generation);
    BOOST_REQUIRE(read_all(*made.index, clusters) == made.content);
    BOOST_REQUIRE_EQUAL(made.index->end(), end_of(made.content));

    index_ptr checkpoint;
    if (auto id = made.index->checkpoint()) {
      checkpoint = all.at(id.lo & 0xffffffff).index;
    }
    const auto stored = made.index->encode();
    auto back = decoded(image, stored, checkpoint);
    BOOST_REQUIRE(read_all(*back, clusters) == made.content);
    BOOST_REQUIRE(back->encode() == stored);
    BOOST_REQUIRE_EQUAL(back->end(), made.index->end());
    all.emplace(image, std::move(made));
    all.erase(image > 21 && !all.at(image - 21).index->checkpoint() ? 0 : image - 21);
  }
  BOOST_TEST_MESSAGE(checkpoints << " checkpoints, " << deepest << " generations");
  BOOST_CHECK_GT(checkpoints, 1); // how many depends on the random ids
  BOOST_CHECK_GT(deepest, 30);
}

BOOST_AUTO_TEST_CASE(every_run_of_data_is_walked_once_and_in_order) {
  random_changes changes{std::mt19937{11}, 2000};
  auto own = changes.make(300, 5);
  auto content = changed(disk(2000), 1, own);
  auto index = block_index::of_import(image_number(1), own);
  for (std::uint64_t image = 2; image < 30; ++image) {
    own = changes.make(20, 20);
    content = changed(std::move(content), image, own);
    index = block_index::of_child(index, image_number(image), own);
  }
  disk walked(2000);
  cluster_number last_end = 0;
  index->for_each([&](cluster_number guest, const block_index::run& run) {
    BOOST_REQUIRE_GE(guest, last_end);
    last_end = guest + run.count;
    for (cluster_number i = 0; i < run.count; ++i) {
      walked[guest + i] = {run.file->lo & 0xffffffff, run.file_cluster + i};
    }
  });
  BOOST_CHECK(walked == content);
}

BOOST_AUTO_TEST_CASE(data_and_own_clusters_are_counted) {
  const uuid first{1, 1};
  const uuid second{1, 2};
  const uuid third{1, 3};
  auto base = block_index::of_import(
      first, std::vector<own_extent>{{0, 10, 65}, {20, 10, 75}, {40, 5, own_extent::zeros}});
  BOOST_TEST(base->count().data == 20u);
  BOOST_TEST(base->count().own == 20u);
  // Hides 5 and 5 of the base with data, 2 with zeros, and adds 3.
  auto child = block_index::of_child(
      base, second, std::vector<own_extent>{{5, 8, 65}, {20, 5, 73}, {28, 2, own_extent::zeros}});
  BOOST_TEST(child->count().data == 20u + 3u - 2u);
  BOOST_TEST(child->count().own == 13u);
  auto last = block_index::of_child(child, third, std::vector<own_extent>{{20, 1, 65}});
  BOOST_TEST(last->count().data == 21u);
  BOOST_TEST(last->count().own == 1u);
  std::uint64_t walked = 0;
  last->for_each([&](cluster_number, const block_index::run& r) { walked += r.count; });
  BOOST_TEST(walked == last->count().data);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(size)

BOOST_AUTO_TEST_CASE(a_thousand_generations_store_little_beside_their_data) {
  constexpr std::size_t clusters = 1u << 19; // 2 GiB of it in use
  random_changes changes{std::mt19937{3}, clusters};
  std::vector<own_extent> base;
  cluster_number file = 65;
  for (cluster_number i = 0; i < 2000; ++i) {
    const auto count = 1 + changes.below(40);
    base.push_back({i * 250 + changes.below(200), count, file});
    file += count;
  }
  auto index = block_index::of_import(image_number(1), base);
  const auto base_bytes = index->encode().size();
  std::size_t index_bytes = 0;
  std::size_t data_bytes = 0;
  std::size_t largest = 0;
  unsigned checkpoints = 0;
  for (std::uint64_t image = 2; image <= 1001; ++image) {
    std::map<cluster_number, cluster_number> places;
    while (places.size() < 6) {
      places.emplace(changes.below(clusters / 8) * 8, changes.below(2) == 0 ? 1 : 2);
    }
    std::vector<own_extent> own;
    cluster_number at = 65;
    for (const auto& [guest, count] : places) {
      own.push_back({guest, count, at});
      at += count;
      data_bytes += count * cluster_bytes;
    }
    index = block_index::of_child(index, image_number(image), own);
    const auto stored = index->encode().size();
    index_bytes += stored;
    if (!index->checkpoint()) {
      ++checkpoints;
      largest = std::max(largest, stored);
    }
  }
  const auto share = static_cast<double>(index_bytes) / static_cast<double>(data_bytes);
  BOOST_TEST_MESSAGE("base " << base_bytes << " bytes; 1000 images: index " << index_bytes
                             << ", data " << data_bytes << ", share " << share << ", "
                             << checkpoints << " checkpoints, the largest " << largest);
  BOOST_CHECK_GT(checkpoints, 1);
  BOOST_CHECK_LE(share, 0.25);
}

BOOST_AUTO_TEST_CASE(the_memory_of_a_child_does_not_depend_on_its_base) {
  random_changes changes{std::mt19937{5}, 1u << 20};
  auto base = changes.make(20'000, 5);
  auto parent = block_index::of_import(image_number(1), base);
  const std::vector<own_extent> own{{7, 1, 65}};
  auto child = block_index::of_child(parent, image_number(2), own);
  BOOST_CHECK_LT(child->memory_bytes(), 1000);
  BOOST_CHECK_GT(parent->memory_bytes(), base.size() / 2 * 16);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(hostile_bytes)

namespace {

struct stored {
  index_ptr base = block_index::of_import(
      image_number(1), std::vector<own_extent>{{10, 5, 65}, {20, 300, 100}, {5000, 2, 80}});
  index_ptr child = block_index::of_child(
      base, image_number(2),
      std::vector<own_extent>{{12, 2, 70}, {21, 4, own_extent::zeros}, {30, 1, 66}});

  /// A checkpoint of image 1 out of these bytes, with a checksum that fits.
  static bytes made_of(std::initializer_list<unsigned> body, const uuid& checkpoint = {}) {
    bytes out;
    for (auto byte : body) {
      out.push_back(static_cast<std::byte>(byte));
    }
    append_checksum(out, image_number(1), checkpoint);
    return out;
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(any_altered_byte_and_any_cut_is_damaged, stored) {
  const auto good = child->encode();
  BOOST_REQUIRE(block_index::decode(image_number(2), good, base));
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto bad = good;
      bad[i] ^= static_cast<std::byte>(1u << bit);
      BOOST_REQUIRE(is_damaged(image_number(2), bad, base));
    }
    BOOST_REQUIRE(is_damaged(
        image_number(2), bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(i)), base));
  }
  auto longer = good;
  longer.push_back(std::byte{0});
  BOOST_CHECK(is_damaged(image_number(2), longer, base));
}

BOOST_FIXTURE_TEST_CASE(an_index_belongs_to_its_image_and_its_checkpoint, stored) {
  BOOST_CHECK(is_damaged(image_number(3), child->encode(), base));
  BOOST_CHECK(is_damaged(image_number(2), child->encode()));
  BOOST_CHECK(is_damaged(image_number(1), base->encode(), base));
  BOOST_CHECK(is_damaged(image_number(3), base->encode()));
  const std::vector<own_extent> own{{10, 5, 65}, {20, 300, 100}, {5000, 2, 80}};
  auto other = block_index::of_import(image_number(9), own);
  BOOST_CHECK(is_damaged(image_number(2), child->encode(), other));
  BOOST_CHECK(is_damaged(image_number(2), child->encode(), child));
}

BOOST_AUTO_TEST_CASE(runs_that_no_index_has_are_damaged) {
  // Version 1, checkpoint, one file, its id, one run: gap 10, 5 clusters of the next file, at 65.
#define FILE_7 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7
#define FILE_8 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8
  constexpr unsigned next_file = 3;
  constexpr unsigned other = 2;
  constexpr unsigned same = 1;
  const auto good = stored::made_of({1, 0, 1, FILE_7, 1, 10, 4 * 4 + next_file, 2, 1});
  BOOST_CHECK(is_damaged(image_number(1), good)); // 1: a byte behind the last run
  const auto fine = stored::made_of({1, 0, 1, FILE_7, 1, 10, 4 * 4 + next_file, 2});
  BOOST_CHECK(decoded(1, fine, nullptr)->find(14, 1).file_cluster == 5);
  auto damaged = [](std::initializer_list<unsigned> body) {
    return is_damaged(image_number(1), stored::made_of(body));
  };
  BOOST_CHECK(damaged({}));
  BOOST_CHECK(damaged({1, 0}));
  BOOST_CHECK(damaged({2, 0, 0, 0}));
  BOOST_CHECK(!damaged({1, 0, 0, 0}));
  // the file table
  BOOST_CHECK(damaged({1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, FILE_7, 0}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 0}));
  BOOST_CHECK(
      damaged({1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, next_file, 0}));
  BOOST_CHECK(damaged({1, 0, 2, FILE_7, FILE_7, 2, 1, next_file, 0, 1, next_file, 8}));
  BOOST_CHECK(!damaged({1, 0, 2, FILE_7, FILE_8, 2, 1, next_file, 0, 1, next_file, 8}));
  // how many runs
  BOOST_CHECK(damaged({1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 2, 10, next_file, 2}));
  // which file
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 10, same, 2}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 10, other, 0, 2}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 2, 1, next_file, 0, 1, next_file, 8}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 2, 1, next_file, 0, 1, other, 0, 8}));
  BOOST_CHECK(!damaged({1, 0, 1, FILE_7, 2, 1, next_file, 0, 1, same, 8}));
  // where: beyond the end of all disks and files, and before a file's begin
  BOOST_CHECK(!damaged({1, 0, 1, FILE_7, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, next_file, 2}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, next_file, 2}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 2}));
  BOOST_CHECK(!damaged({1, 0, 1, FILE_7, 1, 0, next_file, 0xfc, 0xff, 0xff, 0xff, 0x1f}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0, next_file, 0xfe, 0xff, 0xff, 0xff, 0x1f}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0, next_file, 1}));
  // numbers longer than they need be, or than any is
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0x81, 0, next_file, 2}));
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 1, next_file, 2}));
  // two runs that are one, and zeros over nothing
  BOOST_CHECK(damaged({1, 0, 1, FILE_7, 2, 1, next_file, 2, 0, same, 0}));
  BOOST_CHECK(damaged({1, 0, 0, 1, 0, 0}));
}

BOOST_FIXTURE_TEST_CASE(zeros_that_hide_nothing_are_damaged, stored) {
  auto changes = [&](std::initializer_list<unsigned> body) {
    bytes out = made_of(body, image_number(1));
    out.resize(out.size() - 4);
    append_checksum(out, image_number(2), image_number(1));
    return !is_damaged(image_number(2), out, base);
  };
  BOOST_CHECK(changes({1, 1, 0, 1, 10, 4 * 4}));        // [10, 15)
  BOOST_CHECK(!changes({1, 1, 0, 1, 9, 5 * 4}));        // [9, 15)
  BOOST_CHECK(!changes({1, 1, 0, 1, 10, 5 * 4}));       // [10, 16)
  BOOST_CHECK(changes({1, 1, 0, 1, 10, 10 * 4}));       // [10, 21): over two runs
  BOOST_CHECK(!changes({1, 1, 0, 2, 10, 4 * 4, 5, 0})); // [10, 15) and [20, 21)
  BOOST_CHECK(changes({1, 1, 0, 2, 10, 3 * 4, 6, 0}));  // [10, 14) and [20, 21)
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
