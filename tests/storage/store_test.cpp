#define BOOST_TEST_MODULE store
#include <boost/test/unit_test.hpp>

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/ext4_superblock.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/writer.hpp"
#include "storage/store.hpp"
#include "tests/storage/engine_calls.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <set>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
namespace q = coppice::storage::qcow2;

namespace {

/// Offset of s_state in the disk: 1024 + 0x3a.
constexpr std::uint64_t state_offset = 1024 + 0x3a;

std::unique_ptr<store> open_store(const std::filesystem::path& dir) {
  auto opened = store::open(dir);
  BOOST_REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().text));
  return std::move(*opened);
}

/// A raw ext4 of the one disk size, as an import makes it.
void make_file_system(const std::filesystem::path& raw, const std::string& features) {
  make_sparse(raw, limits::disk_bytes);
  must("/sbin/mkfs.ext4 -q -F -O " + features +
       " -E assume_storage_prezeroed=1,nodiscard -b 4096 " + raw.string());
}

struct opened_store {
  opened_store() {
    make_file_system(dir / "raw", "^has_journal");
  }

  /// An overlay as an import leaves it.
  uuid import() {
    auto image = uuid::random();
    auto done = q::write_from_raw(dir / "raw", files->overlay_path(image));
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    return image;
  }

  uuid sealed_import() {
    auto image = import();
    auto done = seal_import(*disks, image);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    return image;
  }

  void patch_overlay(const uuid& overlay, std::uint64_t offset, std::uint64_t value) {
    std::array<std::byte, 8> bytes{};
    store_be(bytes, 0, value);
    write_at(files->overlay_path(overlay), offset, bytes);
  }

  scratch dir;
  std::unique_ptr<store> files = open_store(dir / "state");
  std::unique_ptr<engine> disks = start_engine(dir / "state" / "images", options_in(dir / "state"));
};

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  BOOST_REQUIRE_EQUAL(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

} // namespace

// -- the folder
// --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_second_store_on_the_same_folder_is_refused_by_the_pid_of_the_first) {
  scratch dir;
  {
    auto first = open_store(dir / "state");
    check_fails(store::open(dir / "state"), ec::in_use, "pid " + std::to_string(::getpid()));
  }
  BOOST_CHECK(store::open(dir / "state"));
}

BOOST_AUTO_TEST_CASE(folders_are_made_for_the_owner_alone) {
  scratch dir;
  auto opened = open_store(dir / "state");
  for (auto name : {"", "images", "blobs", "uploads", "tmp", "catalog"}) {
    BOOST_TEST(mode_of(dir / "state" / name) == mode_t{0700}, name);
  }
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_is_named) {
  scratch dir;
  check_fails(store::open(dir / "missing" / "state"), ec::not_found, "missing/state");
}

BOOST_FIXTURE_TEST_CASE(leftovers_are_removed_and_recorded_images_are_not, opened_store) {
  auto kept = sealed_import();
  auto unrecorded = sealed_import();
  auto half = import();
  auto state = dir / "state";
  write_at(state / "uploads" / "7", 0, bytes_of("half"));
  std::filesystem::create_directories(state / "tmp" / "import" / "blobs");
  write_at(state / "tmp" / "import" / "blobs" / "x", 0, bytes_of("x"));
  write_at(state / "images" / "README", 0, bytes_of("not ours"));
  write_at(state / "images" / "precious.overlay", 0, bytes_of("not ours"));
  write_at(files->overlay_path(uuid::random()).string() + ".raw", 0, bytes_of("of an import"));
  std::set<uuid> asked;
  const std::string known_blob(64, 'a');
  const std::string lost_blob(64, '7');
  write_at(state / "blobs" / known_blob, 0, bytes_of("known"));
  write_at(state / "blobs" / lost_blob, 0, bytes_of("lost"));
  write_at(state / "blobs" / std::string(64, 'A'), 0, bytes_of("not ours"));
  std::set<int> asked_for_blobs;
  auto removed = files->remove_leftovers(
      [&](const uuid& image) {
        asked.insert(image);
        return image == kept;
      },
      [&](const store::sha256& digest) {
        asked_for_blobs.insert(digest[31]);
        return digest[0] == 0xaa;
      });
  BOOST_REQUIRE(removed);
  BOOST_TEST(*removed == 6u);
  BOOST_CHECK((asked_for_blobs == std::set<int>{0xaa, 0x77}));
  BOOST_CHECK(std::filesystem::exists(state / "blobs" / known_blob));
  BOOST_CHECK(!std::filesystem::exists(state / "blobs" / lost_blob));
  BOOST_CHECK(std::filesystem::exists(state / "blobs" / std::string(64, 'A')));
  BOOST_CHECK((asked == std::set<uuid>{kept, unrecorded}));
  BOOST_CHECK(std::filesystem::exists(files->image_path(kept)));
  BOOST_CHECK(!std::filesystem::exists(files->image_path(unrecorded)));
  BOOST_CHECK(!std::filesystem::exists(files->overlay_path(half)));
  BOOST_CHECK(std::filesystem::is_empty(state / "uploads"));
  BOOST_CHECK(std::filesystem::is_empty(state / "tmp"));
  // The image and what is not ours: all that is left.
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator{state / "images"}) {
    left.insert(entry.path().filename().string());
  }
  BOOST_CHECK(
      (left == std::set<std::string>{kept.text() + ".qcow2", "README", "precious.overlay"}));
}

// -- sealing
// -----------------------------------------------------------------------------------------

BOOST_FIXTURE_TEST_CASE(a_sealed_import_is_read_only_and_has_the_content, opened_store) {
  auto image = import();
  auto done = seal_import(*disks, image);
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
  BOOST_TEST(done->own_bytes > 0u);
  BOOST_TEST(done->own_bytes < 64u << 20);
  BOOST_CHECK(!std::filesystem::exists(files->overlay_path(image)));
  BOOST_TEST(mode_of(files->image_path(image)) == mode_t{0400});
  BOOST_TEST(must("qemu-img compare -f raw -F qcow2 " + (dir / "raw").string() + " " +
                  files->image_path(image).string())
                 .find("identical") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_sealed_import_has_an_index_of_its_own, opened_store) {
  auto image = import();
  auto done = seal_import(*disks, image);
  BOOST_REQUIRE(done);
  BOOST_REQUIRE(done->index);
  BOOST_TEST((*done->index->find(0, 1).file == image));
}

BOOST_FIXTURE_TEST_CASE(a_file_system_that_was_not_unmounted_is_not_sealed, opened_store) {
  for (auto [state, reason] : {std::pair{0, "not cleanly unmounted"}, std::pair{3, "errors"},
                               std::pair{5, "not cleanly unmounted"}}) {
    write_at(dir / "raw", state_offset, std::array{static_cast<std::byte>(state), std::byte{0}});
    check_fails(seal_import(*disks, import()), ec::not_clean, reason);
  }
}

BOOST_FIXTURE_TEST_CASE(a_file_system_with_a_journal_is_not_sealed, opened_store) {
  std::filesystem::remove(dir / "raw");
  make_file_system(dir / "raw", "has_journal");
  check_fails(seal_import(*disks, import()), ec::unsupported, "journal");
  // s_feature_incompat at 0x60: set the bit that a kernel sets while it has the journal open.
  auto opened = file::open(dir / "raw", O_RDWR);
  std::array<std::byte, 1> incompat{};
  BOOST_REQUIRE(opened->read_at(1024 + 0x60, incompat));
  incompat[0] |= std::byte{4};
  BOOST_REQUIRE(opened->write_at(1024 + 0x60, incompat));
  check_fails(seal_import(*disks, import()), ec::not_clean, "recovery");
}

BOOST_FIXTURE_TEST_CASE(a_file_system_larger_than_its_disk_is_not_sealed, opened_store) {
  write_at(dir / "raw", 1024 + 0x150, std::array{std::byte{1}}); // s_blocks_count_hi
  check_fails(seal_import(*disks, import()), ec::damaged, "larger than its disk");
}

BOOST_FIXTURE_TEST_CASE(an_import_whose_file_was_altered_is_not_sealed, opened_store) {
  struct lie {
    std::size_t field;
    std::uint64_t value;
    ec code;
    const char* reason;
  };
  for (auto& each :
       {lie{q::field::incompatible_features, q::incompatible_external_data, ec::unsupported,
            "external data"},
        lie{q::field::incompatible_features, q::incompatible_dirty, ec::damaged, "dirty"},
        lie{q::field::size, limits::disk_bytes / 2, ec::damaged, ""},
        lie{q::field::l1_table_offset, 2 * q::cluster_bytes_written, ec::damaged, ""},
        lie{q::cluster_bytes_written, 512, ec::damaged, ""}}) {
    BOOST_TEST_CONTEXT(each.field << " " << each.reason) {
      auto image = import();
      patch_overlay(image, each.field, each.value);
      check_fails(seal_import(*disks, image), each.code, each.reason);
      BOOST_CHECK(!std::filesystem::exists(files->image_path(image)));
    }
  }
}

BOOST_FIXTURE_TEST_CASE(sealing_never_replaces_an_image, opened_store) {
  auto image = sealed_import();
  auto before = read_file(files->image_path(image));
  BOOST_REQUIRE(q::write_from_raw(dir / "raw", files->overlay_path(image)));
  check_fails(seal_import(*disks, image), ec::conflict, "already");
  BOOST_CHECK(read_file(files->image_path(image)) == before);
}

BOOST_FIXTURE_TEST_CASE(sealing_what_is_not_there_is_not_found, opened_store) {
  check_fails(seal_import(*disks, uuid::random()), ec::not_found, ".overlay");
}

BOOST_FIXTURE_TEST_CASE(discard_removes_overlay_and_unrecorded_image_and_is_fine_twice,
                        opened_store) {
  auto base = sealed_import();
  auto unsealed = import();
  BOOST_CHECK(discard(*disks, unsealed));
  BOOST_CHECK(!std::filesystem::exists(files->overlay_path(unsealed)));
  BOOST_CHECK(discard(*disks, base));
  BOOST_CHECK(!std::filesystem::exists(files->image_path(base)));
  BOOST_CHECK(discard(*disks, base));
}
