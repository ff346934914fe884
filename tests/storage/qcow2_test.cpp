#define BOOST_TEST_MODULE qcow2
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/tables.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/empty_overlay.hpp"

#include <boost/json.hpp>

#include <cstring>
#include <map>
#include <random>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
namespace q = coppice::storage::qcow2;

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t cluster = q::cluster_bytes_written;

/// A folder images/ with a few files, as the store has it.
struct image_folder {
  image_folder() {
    std::filesystem::create_directory(dir / "images");
  }

  std::filesystem::path path_of(const uuid& image) const {
    return dir / "images" / (image.text() + ".qcow2");
  }

  q::reader::open_parent parents() {
    return [this](const uuid& image) {
      ++opened[image];
      return q::open_bytes(path_of(image));
    };
  }

  std::unique_ptr<q::reader> open(const uuid& image, q::reader_limits limits = {}) {
    auto out = q::reader::open(q::open_bytes(path_of(image)).value(), parents(), limits);
    BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
    return std::move(*out);
  }

  void make_overlay(const uuid& image, const uuid& parent, std::uint64_t disk_bytes) {
    make_empty_overlay(path_of(image), parent, disk_bytes);
  }

  void qemu_io(const uuid& image, const std::string& commands) {
    must("qemu-io -f qcow2 " + commands + " " + path_of(image).string());
  }

  void check_by_qemu(const uuid& image) {
    auto report = boost::json::parse(
        must("qemu-img check -f qcow2 --output=json " + path_of(image).string()));
    BOOST_TEST(report.at("check-errors").as_int64() == 0);
    BOOST_TEST(!report.as_object().contains("corruptions"));
    BOOST_TEST(!report.as_object().contains("leaks"));
  }

  scratch dir;
  std::map<uuid, int> opened;
};

/// The same bytes through our reader, in pieces of odd sizes, as in the raw file.
void check_reads_like(block_source& disk, const std::filesystem::path& raw) {
  auto expected = file::open(raw, O_RDONLY);
  BOOST_REQUIRE(expected);
  BOOST_REQUIRE_EQUAL(disk.size_bytes(), expected->size_bytes().value());
  std::vector<std::byte> a(5 * mib + 512);
  std::vector<std::byte> b(a.size());
  for (std::uint64_t at = 0; at < disk.size_bytes();) {
    auto length = std::min<std::uint64_t>(a.size(), disk.size_bytes() - at);
    auto ours = std::span{a}.first(length);
    auto done = disk.read(at, ours);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    BOOST_REQUIRE(expected->read_at(at, std::span{b}.first(length)));
    BOOST_REQUIRE_MESSAGE(std::memcmp(a.data(), b.data(), length) == 0,
                          "content differs in the " << length << " bytes from " << at);
    at += length;
  }
}

std::vector<std::byte> random_bytes(std::size_t size) {
  std::mt19937_64 random{size};
  std::vector<std::byte> out(size);
  for (auto& b : out) {
    b = static_cast<std::byte>(random());
  }
  return out;
}

/// A disk with every kind of content: data over an L2 boundary, holes, written zeros, clusters that
/// are partly data, and an end inside a cluster.
void make_raw(const std::filesystem::path& path) {
  auto size = 530 * mib + 5 * 512;
  make_sparse(path, size);
  write_at(path, 512 * mib - 3 * cluster, random_bytes(7 * cluster));
  write_at(path, 4096, random_bytes(512));
  write_at(path, 40 * kib, random_bytes(20 * kib));
  write_at(path, 100 * mib, std::vector<std::byte>(9 * cluster));
  write_at(path, 300 * mib + 12 * kib, random_bytes(3 * mib));
  write_at(path, size - 512, random_bytes(512));
}

template <class T>
void patch(std::vector<std::byte>& bytes, std::size_t at, T value) {
  store_be(bytes, at, value);
}

} // namespace

// -- writing
// -----------------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(an_overlay_is_read_back_as_the_header_that_was_written, image_folder) {
  auto parent = uuid::random();
  auto child = uuid::random();
  make_overlay(child, parent, 64 * 1024 * mib);
  auto found = q::read_header(*q::open_bytes(path_of(child)).value());
  BOOST_REQUIRE(found);
  BOOST_CHECK(*found == empty_overlay_header(parent, 64 * 1024 * mib));
}

BOOST_FIXTURE_TEST_CASE(a_large_disk_has_an_l1_table_of_several_clusters, image_folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  const auto size = q::disk_bytes_max;
  must("qemu-img create -q -f qcow2 " + path_of(base).string() + " " + std::to_string(size));
  make_overlay(child, base, size);
  qemu_io(child, "-c 'write -P 7 " + std::to_string(size - cluster) + " 4k'");
  check_by_qemu(child);
  auto disk = open(child);
  std::vector<std::byte> end(cluster);
  BOOST_REQUIRE(disk->read(size - cluster, end));
  BOOST_CHECK(end == std::vector<std::byte>(cluster, std::byte{7}));
}

BOOST_FIXTURE_TEST_CASE(a_raw_disk_becomes_an_image_of_the_same_content, image_folder) {
  auto image = uuid::random();
  make_raw(dir / "raw");
  auto done = q::write_from_raw(dir / "raw", path_of(image));
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
  check_by_qemu(image);
  BOOST_TEST(must("qemu-img compare -f raw -F qcow2 " + (dir / "raw").string() + " " +
                  path_of(image).string())
                 .find("identical") != std::string::npos);
  check_reads_like(*open(image), dir / "raw");
  auto bytes = q::open_bytes(path_of(image)).value();
  BOOST_CHECK(q::check_tables(*bytes, q::read_header(*bytes).value()));
  // 7 + 1 + 5 + 768 + 1 clusters of data, L2 tables for six parts of the disk, five of the file
  // itself and its checksums: neither holes nor written zeros are in it.
  BOOST_TEST(bytes->size_bytes() == (7 + 1 + 5 + 768 + 1 + 6 + 5) * cluster);
}

BOOST_FIXTURE_TEST_CASE(a_file_that_is_there_is_not_overwritten, image_folder) {
  auto image = uuid::random();
  write_at(path_of(image), 0, bytes_of("precious"));
  make_sparse(dir / "raw", mib);
  check_fails(q::write_from_raw(dir / "raw", path_of(image)), ec::conflict, "already");
  BOOST_TEST(read_file(path_of(image)).size() == 8u);
}

BOOST_FIXTURE_TEST_CASE(a_disk_of_a_bad_size_is_refused_and_leaves_no_file, image_folder) {
  auto image = uuid::random();
  make_sparse(dir / "odd", mib + 1);
  make_sparse(dir / "empty", 0);
  check_fails(q::write_from_raw(dir / "odd", path_of(image)), ec::unsupported, "sectors");
  check_fails(q::write_from_raw(dir / "empty", path_of(image)), ec::unsupported, "sectors");
  make_sparse(dir / "vast", q::disk_bytes_max + 512);
  check_fails(q::write_from_raw(dir / "vast", path_of(image)), ec::too_large, "more than");
  BOOST_CHECK(!std::filesystem::exists(path_of(image)));
}

// -- reading
// -----------------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(a_chain_of_five_reads_as_qemu_reads_it, image_folder) {
  std::vector<uuid> chain{uuid::random()};
  make_raw(dir / "raw");
  auto size = 530 * mib + 5 * 512;
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", path_of(chain.front())));
  static constexpr std::array writes{
      "-c 'write -P 0x11 0 64k' -c 'write -P 0x12 511M 2M' -c 'write -z 300M 1M'",
      "-c 'write -P 0x21 4k 4k' -c 'write -P 0x22 512M 4k' -c 'write -P 0x23 520M 300k'",
      "-c 'write -z 0 64k' -c 'write -P 0x31 301M 513k' -c 'discard 520M 128k'",
      "-c 'write -P 0x41 60k 8k' -c 'write -P 0x42 527M 2M' -c 'write -z -u 511M 512k'",
  };
  for (auto* commands : writes) {
    auto child = uuid::random();
    make_overlay(child, chain.back(), size);
    qemu_io(child, commands);
    check_by_qemu(child);
    chain.push_back(child);
  }
  auto flat = (dir / "flat").string();
  for (auto& image : chain) {
    must("qemu-img convert -f qcow2 -O raw " + path_of(image).string() + " " + flat);
    check_reads_like(*open(image), flat);
    auto bytes = q::open_bytes(path_of(image)).value();
    BOOST_CHECK(q::check_tables(*bytes, q::read_header(*bytes).value()));
  }
}

BOOST_FIXTURE_TEST_CASE(a_parent_with_a_shorter_disk_reads_as_zeros_behind_its_end, image_folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  write_at(dir / "raw", 0, std::vector<std::byte>(96 * kib, std::byte{5}));
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", path_of(base)));
  make_overlay(child, base, mib);
  must("qemu-img convert -f qcow2 -O raw " + path_of(child).string() + " " +
       (dir / "flat").string());
  check_reads_like(*open(child), dir / "flat");
}

BOOST_FIXTURE_TEST_CASE(files_of_other_cluster_sizes_and_qemu_are_read, image_folder) {
  for (auto size : {"512", "4k", "2M"}) {
    auto image = uuid::random();
    must(std::string{"qemu-img create -q -f qcow2 -o cluster_size="} + size + " " +
         path_of(image).string() + " 20M");
    qemu_io(image, "-c 'write -P 1 1k 700k' -c 'write -P 2 9M 3M' -c 'write -z 10M 5k'");
    auto flat = (dir / "flat").string();
    must("qemu-img convert -f qcow2 -O raw " + path_of(image).string() + " " + flat);
    check_reads_like(*open(image), flat);
  }
}

BOOST_FIXTURE_TEST_CASE(a_deep_chain_is_read_with_few_open_files_and_little_cache, image_folder) {
  std::vector<uuid> chain{uuid::random()};
  std::vector<std::byte> expected(100 * cluster);
  write_at(dir / "raw", 0, std::vector<std::byte>(100 * cluster, std::byte{200}));
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", path_of(chain.front())));
  std::fill(expected.begin(), expected.end(), std::byte{200});
  for (std::uint8_t depth = 1; depth < 40; ++depth) {
    chain.push_back(uuid::random());
    make_overlay(chain.back(), chain[depth - 1u], 100 * cluster);
    // Each layer has one cluster of its own, put in by hand: data behind the tables, an L2 in
    // front.
    auto at = file::open(path_of(chain.back()), O_RDONLY)->size_bytes().value();
    std::vector<std::byte> l2(cluster);
    patch(l2, 2 * depth * q::entry_bytes, (at + cluster) | q::entry_copied);
    write_at(path_of(chain.back()), at, l2);
    write_at(path_of(chain.back()), at + cluster,
             std::vector<std::byte>(cluster, std::byte{depth}));
    std::vector<std::byte> l1(q::entry_bytes);
    patch(l1, 0, at | q::entry_copied);
    write_at(path_of(chain.back()), cluster, l1);
    std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(2 * depth * cluster), cluster,
                std::byte{depth});
  }
  q::reader_limits limits;
  limits.open_files_max = 3;
  limits.l2_bytes_max = 2 * cluster;
  auto disk = open(chain.back(), limits);
  BOOST_TEST(opened.size() == 0u); // no parent is opened before it is needed
  std::vector<std::byte> found(expected.size());
  for (int round = 0; round < 2; ++round) {
    auto done = disk->read(0, found);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    BOOST_CHECK(found == expected);
  }
  BOOST_TEST(opened[chain.front()] > 1); // it was closed and opened again

  limits.layers_max = 39;
  check_fails(open(chain.back(), limits)->read(0, found), ec::too_large, "deeper than 39");
}

BOOST_FIXTURE_TEST_CASE(a_read_behind_the_end_is_refused, image_folder) {
  auto image = uuid::random();
  make_sparse(dir / "raw", mib);
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", path_of(image)));
  auto disk = open(image);
  std::vector<std::byte> out(1024);
  BOOST_CHECK(disk->read(mib - 1024, out));
  check_fails(disk->read(mib - 1023, out), ec::damaged, "behind the end");
  check_fails(disk->read(~std::uint64_t{0}, out), ec::damaged, "behind the end");
}
