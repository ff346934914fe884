#include "actors/image_places.hpp"

#include "protocol/limits.hpp"
#include "protocol/uuid.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace coppice;
using storage::cluster_bytes;

struct part {
  std::string data;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool is_zeros = false;
};

frame<proto::InspectAnswer> told(const std::vector<part>& parts) {
  return make_frame<proto::InspectAnswer>([&](auto root) {
    auto list = root.initParts(static_cast<unsigned>(parts.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      list[i].setData(
          {reinterpret_cast<const capnp::byte*>(parts[i].data.data()), parts[i].data.size()});
      list[i].setOffset(parts[i].offset);
      list[i].setBytes(parts[i].bytes);
      list[i].setZeros(parts[i].is_zeros);
    }
  });
}

struct fixture {
  uuid parent = uuid::random();
  uuid child = uuid::random();
  std::shared_ptr<const storage::block_index> index = make_index();

  /// Clusters 10 to 19 of the parent's file, 12 and 13 changed by the child, 14 trimmed.
  std::shared_ptr<const storage::block_index> make_index() const {
    std::vector<storage::own_extent> below{{10, 10, 100}};
    std::vector<storage::own_extent> above{{12, 2, 500}, {14, 1, storage::own_extent::zeros}};
    return storage::block_index::of_child(storage::block_index::of_import(parent, below), child,
                                          above);
  }

  result<void> add(image_places& to, const std::vector<part>& parts) const {
    auto answer = told(parts);
    auto view = answer.view();
    return to.add(view->getParts());
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(image_places_suite, fixture)

BOOST_AUTO_TEST_CASE(places_on_the_disk_become_places_in_files) {
  image_places places{index, 5 * cluster_bytes + 10};
  BOOST_REQUIRE(add(
      places, {{"head", 11 * cluster_bytes + 100, 5 * cluster_bytes, false}, {"", 0, 10, true}}));
  auto chunk = places.take();
  auto view = chunk.view();
  auto parts = view->getParts();
  BOOST_REQUIRE(parts.size() == 5u);
  struct place {
    uuid file;
    std::uint64_t offset;
    std::uint64_t bytes;
  };
  const place expected[]{{parent, 101 * cluster_bytes + 100, cluster_bytes - 100},
                         {child, 500 * cluster_bytes, 2 * cluster_bytes},
                         {{}, 0, cluster_bytes},
                         {parent, 105 * cluster_bytes, cluster_bytes + 100},
                         {{}, 0, 10}};
  for (unsigned i = 0; i < parts.size(); ++i) {
    BOOST_TEST((uuid{parts[i].getFileHi(), parts[i].getFileLo()} == expected[i].file), i);
    BOOST_TEST(parts[i].getOffset() == expected[i].offset, i);
    BOOST_TEST(parts[i].getBytes() == expected[i].bytes, i);
    BOOST_TEST(parts[i].getData().size() == (i == 0 ? 4u : 0u), i);
  }
  BOOST_TEST(places.empty());
  BOOST_TEST(places.may_end());
}

BOOST_AUTO_TEST_CASE(a_reader_cannot_name_what_is_not_on_the_disk) {
  for (const auto& lie : std::vector<part>{{"", limits::disk_bytes, 1, false},
                                           {"", limits::disk_bytes - 1, 2, false},
                                           {"", UINT64_MAX, 2, false},
                                           {"", 1, UINT64_MAX, false}}) {
    image_places places{index, std::nullopt};
    BOOST_TEST(add(places, {lie}).has_error());
  }
}

BOOST_AUTO_TEST_CASE(a_reader_tells_neither_more_nor_less_than_it_announced) {
  image_places places{index, 100};
  BOOST_REQUIRE(add(places, {{"", 0, 60, false}}));
  BOOST_TEST(!places.may_end());
  BOOST_TEST(add(places, {{"", 0, 41, false}}).has_error());
  image_places whole{index, 100};
  BOOST_REQUIRE(add(whole, {{"", 0, 100, true}}));
  BOOST_TEST(whole.may_end());
  image_places any{index, std::nullopt};
  BOOST_TEST(any.may_end());
}

BOOST_AUTO_TEST_CASE(a_list_of_nothings_is_no_longer_than_its_message) {
  // The list's head is the last word of this: how many elements, each of no words.
  const auto empty = told({});
  constexpr std::size_t words = 200'000;
  auto large = kj::heapArray<capnp::word>(words + 1);
  std::memset(large.begin(), 0, large.size() * sizeof(capnp::word));
  std::memcpy(large.begin(), empty.words().begin(), empty.bytes().size());
  auto numbers = reinterpret_cast<std::uint32_t*>(large.begin());
  const auto head = 2 * (empty.words().size() - 1);
  numbers[1] = words;
  numbers[head] = 300'000u << 2;
  numbers[head + 1] = 0;
  const frame<proto::InspectAnswer> many{kj::mv(large)};
  auto view = many.view();
  BOOST_REQUIRE(view->getParts().size() == 300'000u);
  image_places places{index, std::nullopt};
  BOOST_TEST(places.add(view->getParts()).has_error());
  BOOST_TEST(places.empty());
}

BOOST_AUTO_TEST_CASE(scattered_content_comes_in_several_messages) {
  std::vector<storage::own_extent> own;
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    own.push_back({i, 1, 100 + 2 * i});
  }
  image_places places{storage::block_index::of_import(parent, own), 20'000 * cluster_bytes};
  BOOST_REQUIRE(add(places, {{"", 0, 20'000 * cluster_bytes, false}}));
  std::uint64_t bytes = 0;
  int messages = 0;
  for (; !places.empty(); ++messages) {
    auto chunk = places.take();
    auto view = chunk.view();
    for (auto p : view->getParts()) {
      bytes += p.getBytes();
    }
  }
  BOOST_TEST(bytes == 20'000 * cluster_bytes);
  BOOST_TEST(messages == 3);
}

BOOST_AUTO_TEST_SUITE_END()
