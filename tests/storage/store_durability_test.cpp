#define BOOST_TEST_MODULE store_durability
#include <boost/test/unit_test.hpp>

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/qcow2/writer.hpp"
#include "storage/store.hpp"
#include "tests/storage/scratch.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

// A file that has its name must be on the disk before the name is, and the name before the answer.
// The calls that make it so are recorded in their order: these definitions take the place of libc's
// for this program.

namespace {

struct recorder {
  std::vector<std::string> calls; ///< "sync NAME" and "rename NAME"
  std::string fail_sync_of;       ///< this sync fails with EIO
  std::size_t fail_nth = 0;       ///< of these calls, from 1 on, with `error_number`
  int error_number = 0;

  bool fails() {
    if (calls.size() == fail_nth) {
      errno = error_number;
    }
    return calls.size() == fail_nth;
  }
};

recorder recorded;

std::string name_of(int fd) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).filename().string();
}

} // namespace

extern "C" int fsync(int fd) {
  auto name = name_of(fd);
  recorded.calls.push_back("sync " + name);
  if (name == recorded.fail_sync_of) {
    errno = EIO;
    return -1;
  }
  if (recorded.fails()) {
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

extern "C" int renameat2(int from_dir, const char* from, int to_dir, const char* to,
                         unsigned flags) noexcept {
  recorded.calls.push_back("rename " + std::filesystem::path{from}.filename().string());
  if (recorded.fails()) {
    return -1;
  }
  return static_cast<int>(::syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
}

namespace {

struct opened_store {
  opened_store() : files{std::move(store::open(dir / "state").value())} {
    make_sparse(dir / "raw", limits::disk_bytes);
    must("/sbin/mkfs.ext4 -q -F -O ^has_journal -E assume_storage_prezeroed=1,nodiscard " +
         (dir / "raw").string());
    BOOST_REQUIRE(qcow2::write_from_raw(dir / "raw", files->overlay_path(image)));
    recorded = {};
  }

  scratch dir;
  std::unique_ptr<store> files;
  uuid image = uuid::random();
  std::string name = image.text() + ".overlay";
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_sealed_file_is_durable_before_its_name_and_its_name_before_the_answer,
                        opened_store) {
  BOOST_REQUIRE(files->seal_import(image));
  BOOST_TEST(recorded.calls ==
                 (std::vector<std::string>{"sync " + name, "rename " + name, "sync images"}),
             boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_file_that_cannot_be_made_durable_gets_no_name, opened_store) {
  recorded.fail_sync_of = name;
  BOOST_CHECK(!files->seal_import(image));
  BOOST_TEST(recorded.calls == std::vector<std::string>{"sync " + name},
             boost::test_tools::per_element());
  BOOST_CHECK(!std::filesystem::exists(files->image_path(image)));
}

BOOST_FIXTURE_TEST_CASE(a_name_that_cannot_be_made_durable_is_a_failure, opened_store) {
  recorded.fail_sync_of = "images";
  BOOST_CHECK(!files->seal_import(image));
  BOOST_CHECK(files->discard(image));
  BOOST_CHECK(!std::filesystem::exists(files->image_path(image)));
}

BOOST_FIXTURE_TEST_CASE(an_import_in_which_any_call_fails_leaves_no_image, opened_store) {
  std::size_t tried = 0;
  for (int error_number : {ENOSPC, EIO}) {
    for (std::size_t nth = 1; nth <= 3; ++nth) {
      recorded = {};
      recorded.fail_nth = nth;
      recorded.error_number = error_number;
      auto expected = error_number == ENOSPC ? ec::no_space : ec::io;
      check_fails(files->seal_import(image), make_error_code(expected), "images");
      recorded = {};
      BOOST_REQUIRE(files->discard(image));
      BOOST_TEST(std::filesystem::is_empty(dir / "state" / "images"));
      BOOST_REQUIRE(qcow2::write_from_raw(dir / "raw", files->overlay_path(image)));
      ++tried;
    }
  }
  recorded = {};
  BOOST_REQUIRE(files->seal_import(image));
  must("qemu-img check -q -f qcow2 " + files->image_path(image).string());
  BOOST_TEST_MESSAGE(tried << " faults");
}

BOOST_FIXTURE_TEST_CASE(a_blob_is_durable_before_its_name_and_its_name_before_the_answer,
                        opened_store) {
  for (auto round : {1, 2}) {
    auto upload = files->begin_blob().value();
    recorded = {};
    BOOST_REQUIRE(files->append_blob(upload, bytes_of("x")));
    BOOST_REQUIRE(files->finish_blob(upload));
    auto number = std::to_string(upload);
    // The second time the name is there already; it is made durable all the same.
    auto expected = std::vector<std::string>{"sync " + number, "rename " + number, "sync blobs"};
    if (round == 1) {
      expected.push_back("sync uploads");
    }
    BOOST_TEST(recorded.calls == expected, boost::test_tools::per_element());
  }
}
