#define BOOST_TEST_MODULE sealed_file_hostile
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/qcow2/header.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/storage/made_sealed.hpp"
#include "tests/support/empty_overlay.hpp"

#include <string>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
namespace q = coppice::storage::qcow2;

namespace {

constexpr std::uint64_t mib = 1024 * 1024;
constexpr std::uint64_t disk_bytes = 3000 * mib; // an L1 of three clusters, not all used

using bytes = std::vector<std::byte>;

/// A file with two L2 tables, a hole, zeros, and the places of what it consists of.
struct good_file {
  good_file() : made{disk_bytes, uuid::random()} {
    made.data(7, 1).data(3, 2).hole(1).data(4, 3).zeros(20, 2).data(300'000, 4);
    content = made.bytes();
    auto head = q::read_header(*q::bytes_in_memory("image", content)).value();
    l2 = made.data_end() * cluster_bytes;
    refcount_block = l2 + 2 * cluster_bytes;
    refcount_table = head.refcount_table_offset;
    checksums = head.checksums->offset_bytes;
    BOOST_REQUIRE_EQUAL(refcount_table, refcount_block + cluster_bytes);
    BOOST_REQUIRE_EQUAL(checksums, refcount_table + cluster_bytes);
    BOOST_REQUIRE_EQUAL(content.size(), checksums + cluster_bytes);
  }

  made_sealed made;
  bytes content;
  std::uint64_t l1 = cluster_bytes;
  std::uint64_t data = q::data_begin(disk_bytes) * cluster_bytes;
  std::uint64_t l2 = 0;
  std::uint64_t refcount_block = 0;
  std::uint64_t refcount_table = 0;
  std::uint64_t checksums = 0;
  /// Of the header: the backing format comes first, then the place of the checksums.
  std::uint64_t checksums_extension = q::header_length_written + 16;
};

result<q::sealed_content> read(bytes content) {
  return q::read_sealed(*q::bytes_in_memory("image", std::move(content)));
}

template <class T>
void patch(bytes& target, std::uint64_t at, T value) {
  store_be(target, static_cast<std::size_t>(at), value);
}

bool same(const q::sealed_content& a, const q::sealed_content& b) {
  return a.disk_bytes == b.disk_bytes && a.parent == b.parent && a.own == b.own &&
         a.data_end == b.data_end && a.checksums == b.checksums;
}

} // namespace

BOOST_FIXTURE_TEST_CASE(a_table_that_was_not_written_so_is_refused_with_the_reason, good_file) {
  BOOST_REQUIRE(read(content));
  BOOST_REQUIRE_EQUAL(load_be<std::uint32_t>(content, checksums_extension),
                      q::extension::checksums);
  const auto entry = l2 + 3 * q::entry_bytes; // of guest cluster 3
  const auto first = data | q::entry_copied;
  struct lie {
    std::uint64_t at;
    std::uint64_t value;
    ec code;
    const char* reason;
  };
  namespace f = q::field;
  const std::vector<lie> lies{
      // L1
      {l1, 0, ec::damaged, "reference counts differ"},
      {l1, l2, ec::damaged, "not where it was written"},
      {l1, (l2 + cluster_bytes) | q::entry_copied, ec::damaged, "not where it was written"},
      {l1, (l2 + 512) | q::entry_copied, ec::damaged, "not where it was written"},
      {l1, 1, ec::damaged, "not where it was written"},
      {l1, cluster_bytes | q::entry_copied, ec::damaged, "not where it was written"},
      {l1 + 8, l2 | q::entry_copied, ec::damaged, "not where it was written"},
      {l1 + 8 * 1500, l2 | q::entry_copied, ec::damaged, "not where it was written"},
      // L2
      {entry, data, ec::damaged, "is none that was written"},
      {entry, first | 2, ec::damaged, "is none that was written"},
      {entry, first | q::l2_reads_as_zeros, ec::damaged, "is none that was written"},
      {entry, first | q::l2_compressed, ec::damaged, "is none that was written"},
      {entry, first | 1ull << 57, ec::damaged, "is none that was written"},
      {entry, first + 512, ec::damaged, "leads out of the data"},
      {entry, q::entry_copied, ec::damaged, "leads out of the data"},
      {entry, cluster_bytes | q::entry_copied, ec::damaged, "leads out of the data"},
      {entry, (data - cluster_bytes) | q::entry_copied, ec::damaged, "leads out of the data"},
      {entry, l2 | q::entry_copied, ec::damaged, "leads out of the data"},
      {entry, 1ull << 50 | q::entry_copied, ec::damaged, "leads out of the data"},
      {entry, first, ec::damaged, "used twice"},
      {l2 + cluster_bytes + 8 * (300'000 % 512), 0, ec::damaged, "is empty"},
      // reference counts
      {refcount_block, 0x0001000100010000, ec::damaged, "reference counts differ"},
      {refcount_block, 0x0002000100010001, ec::damaged, "reference counts differ"},
      {refcount_block + 4088, 1, ec::damaged, "reference counts differ"},
      {entry, first + 2 * cluster_bytes, ec::damaged, "reference counts differ"},
      {refcount_table, 0, ec::damaged, "not where it was written"},
      {refcount_table, refcount_block + 1, ec::damaged, "refcount table differs"},
      {refcount_table, refcount_table, ec::damaged, "refcount table differs"},
      {refcount_table + 8, refcount_block, ec::damaged, "not where it was written"},
      // header
      {f::l1_table_offset, 2 * cluster_bytes, ec::damaged, "its header"},
      {f::refcount_table_offset, refcount_block, ec::damaged, "not where it was written"},
      {f::refcount_table_offset, cluster_bytes, ec::damaged, "no room"},
      {f::compatible_features, 1, ec::damaged, "its header"},
      {f::size, disk_bytes + 512, ec::damaged, "the disk needs"},
      {f::size, disk_bytes / 4, ec::damaged, "the disk needs"},
      {2000, 1, ec::damaged, "its header"},
      // checksums
      {checksums_extension, 0, ec::unsupported, "has no checksums"},
      {checksums_extension + 8, checksums - cluster_bytes, ec::damaged, "its header"},
      {checksums_extension + 8, checksums + 8, ec::damaged, "misaligned"},
      {checksums_extension + 8, 1ull << 60, ec::damaged, "outside"},
      {checksums_extension + 8, 0, ec::damaged, "misaligned"},
      {checksums_extension + 16, 3, ec::damaged, "has 3 checksums for 4"},
      {checksums_extension + 16, 5, ec::damaged, "has 5 checksums for 4"},
      {checksums_extension + 16, ~0ull, ec::damaged, "outside"},
      {checksums + 16, 1, ec::damaged, "behind its checksums"},
  };
  for (const auto& each : lies) {
    BOOST_TEST_CONTEXT(each.at << " " << each.value) {
      auto told = content;
      patch(told, each.at, each.value);
      check_fails(read(told), each.code, each.reason);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(a_file_that_is_cut_or_longer_is_refused, good_file) {
  for (auto size : {std::size_t{0}, std::size_t{100}, std::size_t{4096}, data, l2, refcount_block,
                    refcount_table, checksums, content.size() - 1}) {
    BOOST_TEST_CONTEXT(size) {
      auto cut = content;
      cut.resize(size);
      auto outcome = read(cut);
      BOOST_REQUIRE(!outcome);
      BOOST_CHECK(outcome.error().code == ec::damaged);
    }
  }
  for (auto more : {std::size_t{1}, std::size_t{4096}}) {
    auto longer = content;
    longer.resize(longer.size() + more);
    check_fails(read(longer), ec::damaged, "end");
  }
}

/// Nothing but the data itself may change without being either refused or seen.
BOOST_FIXTURE_TEST_CASE(no_bit_of_the_metadata_can_turn_unnoticed, good_file) {
  auto before = read(content).value();
  std::size_t refused = 0;
  std::size_t seen = 0;
  for (std::size_t at = 0; at < content.size(); at += at < 300 ? 1 : 5) {
    if (at >= data && at < l2) {
      continue;
    }
    auto turned = content;
    turned[at] ^= static_cast<std::byte>(1u << at % 8);
    auto found = read(std::move(turned));
    BOOST_REQUIRE_MESSAGE(!found || !same(*found, before), "byte " << at);
    ++(found ? seen : refused);
  }
  BOOST_TEST(refused > 6000u);
  BOOST_TEST(seen > 3u); // checksums and digits of the parent's name
}

BOOST_AUTO_TEST_CASE(an_overlay_and_a_file_of_qemu_are_no_sealed_files) {
  scratch dir;
  make_empty_overlay(dir / "overlay", uuid::random(), disk_bytes);
  check_fails(q::read_sealed(*q::open_bytes(dir / "overlay").value()), ec::unsupported,
              "no checksums");
  must("qemu-img create -q -f qcow2 " + (dir / "large").string() + " 1G");
  check_fails(q::read_sealed(*q::open_bytes(dir / "large").value()), ec::unsupported,
              "another size");
  must("qemu-img create -q -f qcow2 -o cluster_size=4k " + (dir / "small").string() + " 1G");
  check_fails(q::read_sealed(*q::open_bytes(dir / "small").value()), ec::unsupported,
              "no checksums");
}

/// A file of 16 TiB of holes that claims all it may: refused after a few megabytes were looked at.
BOOST_AUTO_TEST_CASE(a_giant_disk_in_a_sparse_file_costs_little) {
  scratch dir;
  q::header head;
  head.disk_bytes = q::disk_bytes_max;
  head.l1_entries =
      static_cast<std::uint32_t>(q::l1_entries_for(head.disk_bytes, head.cluster_bits));
  head.l1_offset = cluster_bytes;
  head.refcount_table_offset = (8ull << 40) + 64 * mib;
  head.refcount_table_clusters =
      static_cast<std::uint32_t>(q::refcount_table_bytes_max / cluster_bytes);
  head.checksums = q::checksum_place{(8ull << 40) + 128 * mib, 1ull << 31};
  make_sparse(dir / "giant", (8ull << 40) + 128 * mib + (8ull << 30));
  write_at(dir / "giant", 0, q::encode_header(head));
  auto giant = q::open_bytes(dir / "giant").value();
  check_fails(q::read_sealed(*giant), ec::damaged, "its header");
  // And one L2 table that is a hole.
  bytes entry(8);
  patch(entry, 0, (head.refcount_table_offset - cluster_bytes) | q::entry_copied);
  write_at(dir / "giant", cluster_bytes, entry);
  check_fails(q::read_sealed(*giant), ec::damaged, "is empty");
  head.disk_bytes += 512;
  write_at(dir / "giant", 0, q::encode_header(head));
  check_fails(q::read_sealed(*giant), ec::too_large, "disk of");
}
