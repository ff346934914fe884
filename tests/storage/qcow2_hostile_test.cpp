#define BOOST_TEST_MODULE qcow2_hostile
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/tables.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/empty_overlay.hpp"

#include <cctype>
#include <cstring>
#include <functional>
#include <map>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
namespace q = coppice::storage::qcow2;

namespace {

constexpr std::uint64_t mib = 1024 * 1024;
constexpr std::uint64_t cluster = q::cluster_bytes_written;

template <class T>
void patch(std::vector<std::byte>& bytes, std::size_t at, T value) {
  store_be(bytes, at, value);
}

/// The bytes of a fresh overlay of 1 GiB over `parent`.
std::vector<std::byte> overlay_bytes(const uuid& parent) {
  scratch dir;
  make_empty_overlay(dir / "o", parent, 1024 * mib);
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
      {u32(f::l1_size, 1), ec::damaged, "the disk needs 512"},
      {u64(f::l1_table_offset, cluster + 512), ec::damaged, "misaligned"},
      {u64(f::l1_table_offset, 0), ec::damaged, "L1 table at 0"},
      {u64(f::l1_table_offset, 1ull << 50), ec::damaged, "outside"},
      {u64(f::l1_table_offset, ~0ull << 12), ec::damaged, "outside"},
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
      {u32(q::header_length_written, q::extension::checksums), ec::damaged, "takes 5 bytes"},
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
  for (std::size_t size : {0u, 3u, 103u, 104u, 200u, 4096u, 8192u, 16383u}) {
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
  BOOST_REQUIRE(shouted != id); // a version-4 id of digits alone does not happen
  for (auto name :
       {std::string{"/etc/shadow"}, std::string{".qcow2"}, std::string{}, id, id + ".overlay",
        "./" + id + ".qcow2", "/" + id + ".qcow2", "../images/" + id + ".qcow2", id + ".qcow2\n",
        "json:{\"file\":\"" + id + "\"}", "nbd:" + id + ".qcow2", shouted + ".qcow2",
        q::backing_name(uuid{}), q::backing_name(image) + std::string(1, '\0')}) {
    BOOST_CHECK_MESSAGE(!q::image_of_backing_name(name), name);
  }
}

BOOST_AUTO_TEST_CASE(a_backing_name_of_a_host_file_is_refused_and_not_repeated) {
  auto parent = uuid::random();
  auto bytes = overlay_bytes(parent);
  auto name = q::backing_name(parent);
  std::string host = "/etc/shadow";
  host.resize(name.size(), '/');
  auto at = load_be<std::uint64_t>(bytes, q::field::backing_file_offset);
  std::memcpy(bytes.data() + at, host.data(), host.size());
  auto outcome = parse(bytes);
  check_fails(outcome, ec::unsupported, "not an image of the store");
  BOOST_TEST(outcome.error().text.find("shadow") == std::string::npos);
}

// -- hostile tables
// ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_l1_entry_that_leads_astray_is_damage) {
  const auto good = overlay_bytes(uuid::random());
  for (std::uint64_t entry :
       {1ull, 512ull, 1ull << 40, 1ull << 62, 1ull << 56, 4ull << q::cluster_bits_written}) {
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
