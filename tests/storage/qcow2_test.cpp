#define BOOST_TEST_MODULE qcow2
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/tables.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/storage/scratch.hpp"

#include <boost/json.hpp>

#include <cstring>
#include <functional>
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
    BOOST_REQUIRE(q::create_overlay(path_of(image), parent, disk_bytes));
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

/// A disk with every kind of content: data over an L1 boundary, holes, written zeros, two pieces of
/// data in one cluster, and an end inside a cluster.
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
  q::store_be(bytes, at, value);
}

/// The bytes of a fresh overlay of 1 GiB over `parent`.
std::vector<std::byte> overlay_bytes(const uuid& parent) {
  scratch dir;
  BOOST_REQUIRE(q::create_overlay(dir / "o", parent, 1024 * mib));
  return read_file(dir / "o");
}

result<q::header> parse(const std::vector<std::byte>& bytes) {
  return q::parse_header(std::span{bytes}.first(std::min(bytes.size(), q::header_area_bytes)),
                         bytes.size(), "image");
}

/// A reader over bytes in memory whose parents are the given ones.
result<std::vector<std::byte>> read_first_cluster(std::vector<std::byte> top,
                                                  std::map<uuid, std::vector<std::byte>> others) {
  auto disk = q::reader::open(q::bytes_in_memory("top", std::move(top)),
                              [&](const uuid& image) -> result<std::unique_ptr<q::byte_source>> {
                                auto found = others.find(image);
                                if (found == others.end()) {
                                  return fail(ec::not_found, "no image " + image.text());
                                }
                                return q::bytes_in_memory(image.text(), found->second);
                              });
  if (!disk) {
    return disk.error();
  }
  std::vector<std::byte> out(cluster);
  if (auto done = (*disk)->read(0, out); !done) {
    return done.error();
  }
  return out;
}

} // namespace

// -- writing
// -----------------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(a_new_overlay_is_small_and_what_qemu_calls_clean, image_folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  make_sparse(dir / "raw", 64 * 1024 * mib);
  write_at(dir / "raw", 5 * cluster, bytes_of("base"));
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", path_of(base)));
  make_overlay(child, base, 64 * 1024 * mib);

  check_by_qemu(base);
  check_by_qemu(child);
  auto info =
      boost::json::parse(must("qemu-img info -f qcow2 --output=json " + path_of(child).string()));
  BOOST_TEST(info.at("virtual-size").as_int64() == 64ll << 30);
  BOOST_TEST(info.at("cluster-size").as_int64() == 65536);
  BOOST_TEST(info.at("backing-filename").as_string() == "../images/" + base.text() + ".qcow2");
  BOOST_TEST(info.at("backing-filename-format").as_string() == "qcow2");
  BOOST_TEST(file::open(path_of(child), O_RDONLY)->allocated_bytes().value() <= 16 * kib);
  BOOST_TEST(must("qemu-img compare -f qcow2 -F qcow2 " + path_of(base).string() + " " +
                  path_of(child).string())
                 .find("identical") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(an_overlay_is_read_back_as_the_header_that_was_written, image_folder) {
  auto parent = uuid::random();
  auto child = uuid::random();
  make_overlay(child, parent, 64 * 1024 * mib);
  auto found = q::read_header(*q::open_bytes(path_of(child)).value());
  BOOST_REQUIRE(found);
  BOOST_CHECK(*found == q::overlay_header(parent, 64 * 1024 * mib));
}

BOOST_FIXTURE_TEST_CASE(a_large_disk_has_an_l1_table_of_several_clusters, image_folder) {
  auto base = uuid::random();
  auto child = uuid::random();
  auto size = q::disk_bytes_max;
  must("qemu-img create -q -f qcow2 " + path_of(base).string() + " " + std::to_string(size));
  make_overlay(child, base, size);
  qemu_io(child, "-c 'write -P 7 " + std::to_string(size - cluster) + " 64k'");
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
  // 7 + 1 + 49 + 1 clusters of data, L2 tables for two parts of the disk, four of the file
  // itself: neither holes nor written zeros are in it.
  BOOST_TEST(bytes->size_bytes() == (7 + 1 + 49 + 1 + 2 + 4) * cluster);
}

BOOST_FIXTURE_TEST_CASE(a_file_that_is_there_is_not_overwritten, image_folder) {
  auto image = uuid::random();
  write_at(path_of(image), 0, bytes_of("precious"));
  make_sparse(dir / "raw", mib);
  check_fails(q::create_overlay(path_of(image), uuid::random(), mib), ec::conflict, "already");
  check_fails(q::write_from_raw(dir / "raw", path_of(image)), ec::conflict, "already");
  BOOST_TEST(read_file(path_of(image)).size() == 8u);
}

BOOST_FIXTURE_TEST_CASE(a_disk_of_a_bad_size_is_refused_and_leaves_no_file, image_folder) {
  auto image = uuid::random();
  make_sparse(dir / "odd", mib + 1);
  make_sparse(dir / "empty", 0);
  check_fails(q::write_from_raw(dir / "odd", path_of(image)), ec::unsupported, "sectors");
  check_fails(q::write_from_raw(dir / "empty", path_of(image)), ec::unsupported, "sectors");
  check_fails(q::create_overlay(path_of(image), uuid::random(), q::disk_bytes_max + 512),
              ec::too_large, "more than");
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

// -- hostile headers
// ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_header_that_says_what_we_never_wrote_is_refused_with_the_reason) {
  struct lie {
    std::function<void(std::vector<std::byte>&)> tell;
    ec code;
    const char* reason;
  };
  auto u32 = [](std::size_t at, std::uint32_t v) {
    return [=](std::vector<std::byte>& b) {
      patch(b, at, v);
    };
  };
  auto u64 = [](std::size_t at, std::uint64_t v) {
    return [=](std::vector<std::byte>& b) {
      patch(b, at, v);
    };
  };
  namespace f = q::field;
  const std::vector<lie> lies{
      {u32(f::magic, 0x7f454c46), ec::damaged, "not a qcow2"},
      {u32(f::version, 2), ec::unsupported, "version 2"},
      {u32(f::cluster_bits, 8), ec::damaged, "cluster_bits 8"},
      {u32(f::cluster_bits, 0xffffffff), ec::damaged, "cluster_bits"},
      {u32(f::crypt_method, 2), ec::unsupported, "encrypted"},
      {u32(f::nb_snapshots, 1), ec::unsupported, "snapshots"},
      {u64(f::incompatible_features, q::incompatible_dirty), ec::damaged, "dirty"},
      {u64(f::incompatible_features, q::incompatible_corrupt), ec::damaged, "corrupt"},
      {u64(f::incompatible_features, q::incompatible_external_data), ec::unsupported,
       "external data"},
      {u64(f::incompatible_features, q::incompatible_compression_type), ec::unsupported,
       "compression"},
      {u64(f::incompatible_features, q::incompatible_extended_l2), ec::unsupported, "extended L2"},
      {u64(f::incompatible_features, 1ull << 63), ec::unsupported, "unknown incompatible"},
      {u64(f::autoclear_features, 2), ec::unsupported, "autoclear"},
      {u64(f::size, 0), ec::damaged, "disk of 0"},
      {u64(f::size, 513), ec::damaged, "disk of 513"},
      {u64(f::size, 1ull << 62), ec::too_large, "disk of"},
      {u32(f::l1_size, 0xffffffff), ec::damaged, "L1 table of"},
      {u32(f::l1_size, 1), ec::damaged, "the disk needs 2"},
      {u64(f::l1_table_offset, cluster + 512), ec::damaged, "misaligned"},
      {u64(f::l1_table_offset, 0), ec::damaged, "L1 table at 0"},
      {u64(f::l1_table_offset, 1ull << 50), ec::damaged, "outside"},
      {u64(f::l1_table_offset, ~0ull << 16), ec::damaged, "outside"},
      {u32(f::refcount_order, 7), ec::damaged, "refcount_order"},
      {u32(f::refcount_table_clusters, 0), ec::damaged, "refcount table of"},
      {u32(f::refcount_table_clusters, 0xffffffff), ec::damaged, "refcount table of"},
      {u64(f::refcount_table_offset, 3), ec::damaged, "misaligned"},
      {u32(f::header_length, 72), ec::damaged, "header_length"},
      {u32(f::header_length, 0xfffffff8), ec::damaged, "header_length"},
      {u32(f::compression_type, 1u << 24), ec::unsupported, "compression"},
      {u32(q::header_length_written, q::extension::external_data_file), ec::unsupported,
       "external data"},
      {u32(q::header_length_written, q::extension::bitmaps), ec::unsupported, "bitmaps"},
      {u32(q::header_length_written, q::extension::encryption), ec::unsupported, "encrypted"},
      {u32(q::header_length_written, 0x12345678), ec::unsupported, "without its format"},
      {u32(q::header_length_written + 4, 0xffffffff), ec::damaged, "leaves the header"},
      {u32(q::header_length_written + 8, 0x72617700), ec::unsupported, "not qcow2"},
      {u64(f::backing_file_offset, 0), ec::damaged, "no backing file"},
      {u64(f::backing_file_offset, 1ull << 40), ec::damaged, "name leaves"},
      {u32(f::backing_file_size, 0xffffffff), ec::damaged, "name leaves"},
      {u32(f::backing_file_size, 1), ec::unsupported, "not an image of the store"},
  };
  const auto good = overlay_bytes(uuid::random());
  BOOST_REQUIRE(parse(good));
  for (auto& each : lies) {
    BOOST_TEST_CONTEXT(each.reason) {
      auto bytes = good;
      each.tell(bytes);
      check_fails(parse(bytes), each.code, each.reason);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_small_cluster_size_cannot_ask_for_a_giant_l1_table) {
  auto bytes = overlay_bytes(uuid::random());
  patch(bytes, q::field::cluster_bits, std::uint32_t{9});
  patch(bytes, q::field::size, q::disk_bytes_max);
  patch(bytes, q::field::l1_size, std::uint32_t{1u << 29});
  check_fails(parse(bytes), ec::too_large, "too large for its clusters");
}

BOOST_AUTO_TEST_CASE(a_truncated_file_is_refused_wherever_it_ends) {
  const auto good = overlay_bytes(uuid::random());
  for (std::size_t size : {0u, 3u, 103u, 104u, 200u, 65536u, 131072u, 262143u}) {
    auto bytes = good;
    bytes.resize(size);
    BOOST_TEST_CONTEXT(size) {
      auto outcome = parse(bytes);
      BOOST_REQUIRE(!outcome);
      BOOST_CHECK(outcome.error().code == ec::damaged);
    }
  }
}

BOOST_AUTO_TEST_CASE(only_the_one_spelling_of_an_image_of_the_store_is_a_backing_name) {
  auto image = uuid::random();
  auto id = image.text();
  BOOST_CHECK(q::image_of_backing_name(q::backing_name(image)) == image);
  auto shouted = id;
  for (auto& c : shouted) {
    c = static_cast<char>(std::toupper(c));
  }
  for (auto name : {std::string{"/etc/shadow"}, std::string{"../images/.qcow2"}, std::string{},
                    "../../images/" + id + ".qcow2", "/images/" + id + ".qcow2", "../images/" + id,
                    "../images/" + id + ".qcow2\n", "../images/../" + id + ".qcow2",
                    "json:{\"file\":\"" + id + "\"}", "../images/" + shouted + ".qcow2",
                    q::backing_name(uuid{}), q::backing_name(image) + std::string(1, '\0')}) {
    if (name == "../images/" + id + ".qcow2") {
      continue; // an id of digits alone has one spelling
    }
    BOOST_CHECK_MESSAGE(!q::image_of_backing_name(name), name);
  }
}

BOOST_AUTO_TEST_CASE(a_backing_name_of_a_host_file_is_refused_and_not_repeated) {
  auto parent = uuid::random();
  auto bytes = overlay_bytes(parent);
  auto name = q::backing_name(parent);
  std::string host = "/etc/shadow";
  host.resize(name.size(), '/');
  auto at = q::load_be<std::uint64_t>(bytes, q::field::backing_file_offset);
  std::memcpy(bytes.data() + at, host.data(), host.size());
  auto outcome = parse(bytes);
  check_fails(outcome, ec::unsupported, "not an image of the store");
  BOOST_TEST(outcome.error().text.find("shadow") == std::string::npos);
}

// -- hostile tables
// ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_l1_entry_that_leads_astray_is_damage) {
  const auto good = overlay_bytes(uuid::random());
  for (std::uint64_t entry : {1ull, 512ull, 1ull << 40, 1ull << 62, 1ull << 56, 4ull << 16}) {
    BOOST_TEST_CONTEXT(entry) {
      auto bytes = good;
      patch(bytes, cluster, entry);
      auto head = parse(bytes);
      BOOST_REQUIRE(head);
      check_fails(q::check_tables(*q::bytes_in_memory("image", bytes), *head), ec::damaged,
                  "image");
      check_fails(read_first_cluster(bytes, {}), ec::damaged, "top");
    }
  }
}

BOOST_AUTO_TEST_CASE(an_l2_entry_that_leads_astray_is_damage) {
  auto good = overlay_bytes(uuid::random());
  auto l2 = good.size();
  good.resize(l2 + cluster);
  patch(good, cluster, std::uint64_t{l2} | q::entry_copied);
  using lie = std::pair<std::uint64_t, const char*>;
  for (auto [entry, reason] :
       {lie{2, "reserved"}, lie{512, "misaligned"}, lie{1ull << 40, "outside"},
        lie{q::l2_compressed | cluster, "compressed"}, lie{1ull << 57, "reserved"},
        lie{1ull << 63, "offset 0"}, lie{513, "misaligned"}}) {
    BOOST_TEST_CONTEXT(entry) {
      auto bytes = good;
      patch(bytes, l2, entry);
      auto head = parse(bytes);
      BOOST_REQUIRE(head);
      check_fails(q::check_tables(*q::bytes_in_memory("image", bytes), *head), ec::damaged, reason);
      check_fails(read_first_cluster(bytes, {}), ec::damaged, reason);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_cluster_of_the_file_may_not_be_used_twice) {
  auto good = overlay_bytes(uuid::random());
  auto l2 = good.size();
  good.resize(l2 + 2 * cluster);
  patch(good, cluster, std::uint64_t{l2} | q::entry_copied);
  patch(good, l2, (l2 + cluster) | q::entry_copied);
  auto head = parse(good);
  BOOST_REQUIRE(head);
  BOOST_REQUIRE(q::check_tables(*q::bytes_in_memory("image", good), *head));
  for (auto again :
       {std::uint64_t{l2 + cluster}, std::uint64_t{l2}, cluster, head->refcount_table_offset}) {
    auto bytes = good;
    patch(bytes, l2 + 8, again | q::entry_copied);
    check_fails(q::check_tables(*q::bytes_in_memory("image", bytes), *head), ec::damaged, "twice");
  }
}

BOOST_AUTO_TEST_CASE(a_loop_in_the_chain_is_refused) {
  auto a = uuid::random();
  auto b = uuid::random();
  check_fails(read_first_cluster(overlay_bytes(a), {{a, overlay_bytes(b)}, {b, overlay_bytes(a)}}),
              ec::damaged, "its own ancestor");
  check_fails(read_first_cluster(overlay_bytes(a), {{a, overlay_bytes(a)}}), ec::damaged,
              "its own ancestor");
}

BOOST_AUTO_TEST_CASE(a_missing_parent_is_a_failure_and_not_zeros) {
  check_fails(read_first_cluster(overlay_bytes(uuid::random()), {}), ec::not_found, "no image");
}

BOOST_AUTO_TEST_CASE(a_link_in_place_of_a_file_is_not_followed) {
  scratch dir;
  write_at(dir / "secret", 0, bytes_of("x"));
  std::filesystem::create_symlink(dir / "secret", dir / "link");
  BOOST_CHECK(!q::open_bytes(dir / "link"));
  std::filesystem::create_directory(dir / "folder");
  check_fails(q::open_bytes(dir / "folder"), ec::damaged, "not a regular file");
}
