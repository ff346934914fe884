#define BOOST_TEST_MODULE sealed_file
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/storage/made_sealed.hpp"

#include <boost/json.hpp>

#include <cstring>
#include <random>
#include <string>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
namespace q = coppice::storage::qcow2;

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;

/// A cluster of the disk, by bytes.
constexpr cluster_number at(std::uint64_t offset) {
  return static_cast<cluster_number>(offset / cluster_bytes);
}

struct folder {
  std::filesystem::path path_of(const uuid& image) const {
    return dir / (image.text() + ".qcow2");
  }

  void check_by_qemu(const uuid& image) {
    auto report = boost::json::parse(
        must("qemu-img check -f qcow2 --output=json " + path_of(image).string()));
    BOOST_TEST(report.at("check-errors").as_int64() == 0);
    BOOST_TEST(!report.as_object().contains("corruptions"));
    BOOST_TEST(!report.as_object().contains("leaks"));
  }

  /// That the range of an image's disk has one byte all over, through the chain.
  void check_pattern(const uuid& image, const std::string& pattern, const std::string& range) {
    auto said = must("qemu-io -r -f qcow2 -c 'read -P " + pattern + " " + range + "' " +
                     path_of(image).string());
    BOOST_TEST(said.find("Pattern verification failed") == std::string::npos, said);
  }

  void check_same(const std::filesystem::path& raw, const uuid& image) {
    BOOST_TEST(
        must("qemu-img compare -f raw -F qcow2 " + raw.string() + " " + path_of(image).string())
            .find("identical") != std::string::npos);
  }

  q::sealed_content read_back(const uuid& image) {
    auto source = q::open_bytes(path_of(image)).value();
    auto found = q::read_sealed(*source);
    BOOST_REQUIRE_MESSAGE(found, (found ? "" : found.error().text));
    auto intact = q::verify_content(*source, *found);
    BOOST_REQUIRE_MESSAGE(intact, (intact ? "" : intact.error().text));
    return std::move(*found);
  }

  void check_read_back(const uuid& image, const made_sealed& made) {
    auto found = read_back(image);
    BOOST_CHECK(found.own == made.own());
    BOOST_CHECK(found.checksums == made.checksums());
    BOOST_TEST(found.data_end == made.data_end());
  }

  scratch dir;
};

} // namespace

BOOST_AUTO_TEST_CASE(the_checksum_is_crc_32c_by_instruction_and_by_tables) {
  auto digits = bytes_of("123456789");
  BOOST_TEST(q::checksum(digits) == 0xe3069283u);
  BOOST_TEST(q::checksum_by_tables(digits) == 0xe3069283u);
  BOOST_TEST(q::checksum_by_tables({}) == 0u);
  std::mt19937 random{1};
  std::vector<std::byte> bytes(5000);
  for (auto& b : bytes) {
    b = static_cast<std::byte>(random());
  }
  for (int i = 0; i < 500; ++i) {
    auto start = random() % 40;
    auto piece = std::span{bytes}.subspan(start, random() % (bytes.size() - start));
    BOOST_REQUIRE_EQUAL(q::checksum(piece), q::checksum_by_tables(piece));
  }
}

// -- what qemu says
// ----------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(a_delta_of_five_clusters_in_three_regions_takes_64_kib_at_most, folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  made_sealed root{64 * gib};
  root.data(at(40 * gib), 0x40);
  root.write_to(path_of(base));
  made_sealed delta{64 * gib, base};
  delta.data(0, 0x01).data(at(1 * mib), 0x02).data(at(17 * gib), 0x03);
  delta.data(at(17 * gib) + 1, 0x04).data(at(33 * gib), 0x05);
  delta.write_to(path_of(child));
  must("sync -f " + path_of(child).string());

  auto allocated = file::open(path_of(child), O_RDONLY)->allocated_bytes().value();
  BOOST_TEST_MESSAGE("five clusters in three regions take " << allocated / kib << " KiB");
  BOOST_TEST(allocated <= 64 * kib);
  check_by_qemu(child);
  check_read_back(child, delta);
  check_pattern(child, "1", "0 4k");
  check_pattern(child, "0", "4k 100k");
  check_pattern(child, "2", "1M 4k");
  check_pattern(child, "3", "17G 4k");
  check_pattern(child, "4", std::to_string(17 * gib + 4096) + " 4k");
  check_pattern(child, "5", "33G 4k");
  check_pattern(child, "0x40", "40G 4k");

  auto map =
      boost::json::parse(must("qemu-img map -f qcow2 --output=json " + path_of(child).string()));
  std::size_t own = 0;
  for (const auto& run : map.as_array()) {
    own += run.at("depth").as_int64() == 0 && run.at("data").as_bool() ? 1u : 0u;
  }
  BOOST_TEST(own == 4u); // two of the five are one run
}

BOOST_FIXTURE_TEST_CASE(a_delta_of_one_cluster_takes_seven_or_eight, folder) {
  auto child = uuid::random();
  made_sealed delta{64 * gib, uuid::random()};
  delta.data(at(30 * gib), 1).write_to(path_of(child));
  must("sync -f " + path_of(child).string());
  // Header, a piece of the L1, data, L2, reference counts, their table, checksums; and perhaps one
  // of ext4 where it found no room in one piece.
  BOOST_TEST(file::open(path_of(child), O_RDONLY)->allocated_bytes().value() <= 8 * cluster_bytes);
}

BOOST_FIXTURE_TEST_CASE(data_in_any_order_zeros_and_holes_read_as_they_were_written, folder) {
  constexpr auto disk_bytes = 300 * mib + 512; // ends inside a cluster
  constexpr auto clusters = at(disk_bytes) + 1;
  std::mt19937 random{7};
  auto flat = dir / "flat";
  make_sparse(flat, disk_bytes);
  std::optional<uuid> parent;
  for (int layer = 0; layer < 3; ++layer) {
    auto image = uuid::random();
    made_sealed made{disk_bytes, parent};
    made.hole(3);
    for (int i = 0; i < 60; ++i) {
      auto guest = static_cast<cluster_number>(random() % (clusters - 20));
      auto count = static_cast<cluster_number>(1 + random() % 15);
      switch (random() % 3) {
      case 0:
        made.zeros(guest, count);
        break;
      case 1:
        made.data(guest + 1, static_cast<std::uint8_t>(random())); // backwards
        made.data(guest, static_cast<std::uint8_t>(random()));
        break;
      default:
        for (cluster_number j = 0; j < count; ++j) {
          made.data(guest + j, static_cast<std::uint8_t>(random()));
        }
        made.hole(count % 4);
      }
    }
    made.write_to(path_of(image));
    made.apply_to(flat);
    check_by_qemu(image);
    check_same(flat, image);
    check_read_back(image, made);
    BOOST_CHECK(read_back(image).parent == parent);
    BOOST_TEST(read_back(image).disk_bytes == disk_bytes);
    parent = image;
  }
}

BOOST_FIXTURE_TEST_CASE(a_file_without_changes_is_an_image_too, folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  made_sealed root{64 * gib};
  root.data(5, 0x77).write_to(path_of(base));
  made_sealed nothing{64 * gib, base};
  nothing.hole(2000); // all that was written turned out equal to the parent's
  nothing.write_to(path_of(child));
  check_by_qemu(child);
  check_read_back(child, nothing);
  check_pattern(child, "0x77", "20k 4k");
}

BOOST_FIXTURE_TEST_CASE(refcount_blocks_without_a_count_are_left_out, folder) {
  auto image = uuid::random();
  // Data 600 MiB apart in a file of 6 GiB: 10 of some 770 blocks, and a table of two clusters.
  made_sealed made{64 * gib};
  for (std::uint8_t i = 1; i <= 10; ++i) {
    made.data(at(i * gib), i).hole(at(600 * mib));
  }
  made.write_to(path_of(image));
  check_by_qemu(image);
  check_read_back(image, made);
  check_pattern(image, "10", "10G 4k");
  auto allocated = file::open(path_of(image), O_RDONLY)->allocated_bytes().value();
  BOOST_TEST(allocated <= 4 * kib * (1 + 10 + 10 + 10 + 12 + 2 + 1 + 4)); // 4: ext4's own tree
}

/// Blocks and table count themselves, so their number jumps where the file ends near a block's
/// border (2,048 clusters).
BOOST_FIXTURE_TEST_CASE(reference_counts_are_right_wherever_the_metadata_begins, folder) {
  for (cluster_number end = 2030; end <= 2060; ++end) {
    auto image = uuid::random();
    made_sealed made{gib};
    made.data(1, 1).hole(end - made.data_end() - 1).data(900, 2);
    BOOST_REQUIRE_EQUAL(made.data_end(), end);
    made.write_to(path_of(image));
    check_read_back(image, made);
    if (end >= 2040 && end <= 2050) {
      check_by_qemu(image);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(a_chain_of_600_files_is_read_by_qemu, folder) {
  std::vector<uuid> chain;
  std::optional<uuid> parent;
  for (std::uint32_t depth = 0; depth < 600; ++depth) {
    made_sealed made{64 * mib, parent};
    made.data(depth, static_cast<std::uint8_t>(1 + depth % 250));
    chain.push_back(uuid::random());
    made.write_to(path_of(chain.back()));
    parent = chain.back();
  }
  auto info = boost::json::parse(must("qemu-img info -U --backing-chain -f qcow2 --output=json " +
                                      path_of(chain.back()).string()));
  BOOST_TEST(info.as_array().size() == 600u);
  std::string reads;
  for (auto depth : {0u, 1u, 299u, 598u, 599u}) {
    reads += " -c 'read -P " + std::to_string(1 + depth % 250) + " " + std::to_string(depth * 4) +
             "k 4k'";
  }
  auto said = must("qemu-io -r -f qcow2" + reads + " " + path_of(chain.back()).string());
  BOOST_TEST(said.find("failed") == std::string::npos, said);

  // And by our reader, in the memory of a few layers.
  q::reader_limits limits;
  limits.open_files_max = 10;
  limits.l1_bytes_max = 16 * kib;
  limits.l2_bytes_max = 16 * kib;
  auto disk = q::reader::open(
      q::open_bytes(path_of(chain.back())).value(),
      [&](const uuid& image) { return q::open_bytes(path_of(image)); }, limits);
  BOOST_REQUIRE(disk);
  for (auto depth : {0u, 599u, 1u, 598u, 299u}) {
    std::vector<std::byte> out(cluster_bytes);
    auto done = (*disk)->read(depth * cluster_bytes, out);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    BOOST_CHECK(out == std::vector<std::byte>(
                           cluster_bytes, std::byte{static_cast<std::uint8_t>(1 + depth % 250)}));
  }
}

// -- reading back
// ------------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(an_import_is_a_sealed_file, folder) {
  auto image = uuid::random();
  auto raw = dir / "raw";
  make_sparse(raw, 64 * gib);
  std::vector<std::byte> data(9 * mib + 4096);
  std::mt19937_64 random{3};
  for (auto& b : data) {
    b = static_cast<std::byte>(random());
  }
  std::fill_n(data.begin() + 2 * mib, mib + 100, std::byte{0}); // zeros that are written down
  write_at(raw, 3 * mib - 4096, data);
  write_at(raw, 63 * gib, bytes_of("far"));
  BOOST_REQUIRE(q::write_from_raw(raw, path_of(image)));
  check_by_qemu(image);
  check_same(raw, image);
  auto found = read_back(image);
  BOOST_CHECK(!found.parent);
  BOOST_TEST(found.own.size() == 3u);
  BOOST_TEST(found.checksums.size() == at(9 * mib) + 1 - at(mib) + 1);
}

BOOST_AUTO_TEST_CASE(a_changed_byte_of_data_is_found_but_not_where_data_was_given_back) {
  made_sealed made{gib};
  made.data(700, 1).data(3, 2).hole(2).data(4, 3).data(5, 4).zeros(9, 3);
  auto good = made.bytes();
  auto content = q::read_sealed(*q::bytes_in_memory("image", good)).value();
  BOOST_CHECK(q::verify_content(*q::bytes_in_memory("image", good), content));
  auto begin = q::data_begin(gib);
  for (cluster_number i : {0u, 1u, 4u, 5u}) {
    auto bytes = good;
    bytes[(begin + i) * cluster_bytes + 17] ^= std::byte{1};
    auto source = q::bytes_in_memory("image", bytes);
    check_fails(q::verify_content(*source, content), ec::damaged,
                "the data at " + std::to_string((begin + i) * cluster_bytes));
    using holes = std::vector<own_extent>;
    BOOST_CHECK(q::verify_content(*source, content, holes{{77, 1, begin + i}}));
    BOOST_CHECK(q::verify_content(*source, content, holes{{0, 100, begin + 1}, {0, 3, begin}}));
    BOOST_CHECK(!q::verify_content(*source, content, holes{{0, 1, begin + i + 1}}));
    BOOST_CHECK(!q::verify_content(*source, content, holes{{0, 5, own_extent::zeros}}));
  }
  // What follows a part that was given back is looked at.
  auto second = good;
  second[(begin + 5) * cluster_bytes] ^= std::byte{1};
  check_fails(q::verify_content(*q::bytes_in_memory("image", second), content, {{0, 1, begin + 4}}),
              ec::damaged, "checksum");
  // What no entry leads to is not looked at.
  good[(begin + 2) * cluster_bytes] = std::byte{1};
  BOOST_CHECK(q::verify_content(*q::bytes_in_memory("image", good), content));
}
