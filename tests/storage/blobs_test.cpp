#define BOOST_TEST_MODULE blobs
#include "storage/blobs.hpp"
#include "storage/error.hpp"
#include "storage/ring/io.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/support/faulty_ring.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using call = io_request::call;

namespace {

// sha256sum
const std::string name_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const std::string name_of_nothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::vector<std::byte> copy_of(std::string_view text) {
  auto bytes = bytes_of(text);
  return {bytes.begin(), bytes.end()};
}

struct blobs_fixture {
  blobs_fixture() {
    std::filesystem::create_directory(dir / "blobs");
    std::filesystem::create_directory(dir / "uploads");
  }
  ~blobs_fixture() {
    io.calm();
    io.release();
    stop();
  }

  template <class T>
  T run(task<T> work) {
    return io::run<T>(io, std::move(work));
  }
  /// Goes on until it can no further; the outcome is there when it comes.
  template <class T>
  std::shared_ptr<std::optional<T>> begin(task<T> work) {
    auto out = std::make_shared<std::optional<T>>();
    start(std::move(work), [out](T value) { out->emplace(std::move(value)); });
    io.turn_until_held();
    return out;
  }
  void release() {
    io.calm();
    io.release();
    io.turn_until_held();
  }

  std::uint64_t upload() {
    auto number = run(files.begin());
    BOOST_REQUIRE_MESSAGE(number, (number ? "" : number.error().text));
    return *number;
  }
  result<void> append(std::uint64_t number, std::string_view text) {
    return run(files.append(number, copy_of(text)));
  }
  result<stored_blob> finish(std::uint64_t number) {
    return run(files.finish(number));
  }
  /// All of an upload; the first failure.
  result<stored_blob> store(std::string_view text) {
    auto number = run(files.begin());
    if (!number) {
      return number.error();
    }
    for (std::size_t at = 0; at < text.size(); at += 2) {
      if (auto done = append(*number, text.substr(at, 2)); !done) {
        return done.error();
      }
    }
    return finish(*number);
  }
  void stop() {
    run(files.stop());
  }

  std::filesystem::path file_of(const std::string& name) const {
    return dir / "blobs" / name;
  }
  bool is_nothing_in(const char* folder) const {
    return std::filesystem::is_empty(dir / folder);
  }

  scratch dir;
  std::chrono::steady_clock::time_point now{};
  faulty_ring io{disk_fixture::default_ring()};
  blobs files{io, {dir / "blobs", dir / "uploads", 1u << 20, [this] {
                     return now;
                   }}};
};

std::vector<std::string> durable_steps(const faulty_ring& of) {
  std::vector<std::string> out;
  for (const auto& one : of.log()) {
    auto name = std::filesystem::path{one.name}.filename().string();
    if (one.what == call::sync_data || one.what == call::sync) {
      out.push_back("sync " + name);
    } else if (one.what == call::rename) {
      out.push_back("rename " + name);
    }
  }
  return out;
}

bool can_fail(const faulty_ring::entry& one) {
  return one.what != call::close; // whose result nobody can do anything about
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(blobs_suite, blobs_fixture)

BOOST_AUTO_TEST_CASE(the_same_bytes_are_stored_once_under_their_digest) {
  for (int round = 0; round < 2; ++round) {
    auto number = upload();
    BOOST_REQUIRE(append(number, "a"));
    BOOST_REQUIRE(append(number, "bc"));
    auto done = finish(number);
    BOOST_REQUIRE(done);
    BOOST_TEST(blobs::name_of(done->digest) == name_of_abc);
    BOOST_CHECK((blobs::digest_of(name_of_abc) == done->digest));
    BOOST_TEST(done->size_bytes == 3u);
    check_fails(append(number, "d"), ec::not_found, "no upload");
    check_fails(finish(number), ec::not_found, "no upload");
    BOOST_TEST((read_file(file_of(name_of_abc)) == copy_of("abc")));
    BOOST_TEST(is_nothing_in("uploads"));
  }
  struct stat status {};
  BOOST_REQUIRE_EQUAL(::stat(file_of(name_of_abc).c_str(), &status), 0);
  BOOST_TEST((status.st_mode & 07777) == mode_t{0400});
}

BOOST_AUTO_TEST_CASE(a_blob_is_durable_before_its_name_and_its_name_before_the_answer) {
  for (auto round : {1, 2}) {
    io.clear_log();
    BOOST_REQUIRE(store("abc"));
    auto number = std::to_string(round);
    // The second time the name is there already; it is made durable all the same.
    BOOST_TEST(durable_steps(io) ==
                   (std::vector<std::string>{"sync " + number, "rename " + number, "sync blobs"}),
               boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(an_empty_upload_is_a_blob_too) {
  auto done = finish(upload());
  BOOST_REQUIRE(done);
  BOOST_TEST(blobs::name_of(done->digest) == name_of_nothing);
  BOOST_CHECK(run(files.read(done->digest, 0, 10))->empty());
}

BOOST_AUTO_TEST_CASE(a_blob_is_read_in_pieces_and_ends_with_an_empty_one) {
  auto digest = store("0123456789")->digest;
  auto text = [&](std::uint64_t offset) {
    auto piece = run(files.read(digest, offset, 4)).value();
    return std::string{reinterpret_cast<const char*>(piece.data()), piece.size()};
  };
  BOOST_TEST(text(0) == "0123");
  BOOST_TEST(text(8) == "89");
  BOOST_TEST(text(10) == "");
  BOOST_TEST(text(~std::uint64_t{0}) == "");
  check_fails(run(files.read({}, 0, 4)), ec::not_found, "blobs");
}

BOOST_AUTO_TEST_CASE(an_upload_beyond_its_limit_is_gone_with_its_file) {
  blobs small{io, {dir / "blobs", dir / "uploads", 4, [this] {
                     return now;
                   }}};
  auto number = run(small.begin()).value();
  BOOST_REQUIRE(run(small.append(number, copy_of("1234"))));
  check_fails(run(small.append(number, copy_of("5"))), ec::too_large, "4 bytes");
  check_fails(run(small.append(number, {})), ec::not_found, "no upload");
  BOOST_CHECK(is_nothing_in("uploads"));
}

BOOST_AUTO_TEST_CASE(an_aborted_upload_leaves_nothing) {
  auto number = upload();
  BOOST_CHECK(run(files.abort(number)));
  BOOST_CHECK(run(files.abort(number)));
  check_fails(finish(number), ec::not_found, "no upload");
  BOOST_CHECK(is_nothing_in("uploads"));
}

BOOST_AUTO_TEST_CASE(without_a_folder_nothing_is_uploaded) {
  blobs none{io, {}};
  check_fails(run(none.begin()), ec::unsupported, "nothing can be uploaded");
}

// -- many at once --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(when_all_places_are_taken_only_the_longest_idle_upload_gives_way) {
  std::vector<std::uint64_t> uploads;
  for (std::size_t i = 0; i < blobs::uploads_max; ++i) {
    uploads.push_back(upload());
  }
  now += blobs::idle_min - std::chrono::seconds{1};
  check_fails(run(files.begin()), ec::busy, "64 uploads");
  BOOST_REQUIRE(append(uploads[0], "busy"));
  now += std::chrono::seconds{1};
  BOOST_CHECK(run(files.begin()));
  BOOST_CHECK(append(uploads[0], "still here"));
  check_fails(append(uploads[1], "gone"), ec::not_found, "no upload");
  BOOST_CHECK(!std::filesystem::exists(dir / "uploads" / std::to_string(uploads[1])));
  BOOST_CHECK(append(uploads[2], "still here"));
}

BOOST_AUTO_TEST_CASE(an_upload_with_a_piece_in_the_air_is_not_idle_and_keeps_its_place) {
  std::vector<std::uint64_t> uploads;
  for (std::size_t i = 0; i < blobs::uploads_max; ++i) {
    uploads.push_back(upload());
  }
  io.hold(calls(call::write), 1);
  auto slow = begin(files.append(uploads[0], copy_of("slow")));
  now += 2 * blobs::idle_min;
  BOOST_REQUIRE_EQUAL(io.held(), 1u);
  auto first = begin(files.begin());
  BOOST_REQUIRE(first->has_value());
  BOOST_CHECK((*first)->has_value());
  check_fails(append(uploads[1], "gone"), ec::not_found, "no upload");
  release();
  BOOST_REQUIRE(slow->has_value());
  BOOST_CHECK((*slow)->has_value());
  BOOST_CHECK(finish(uploads[0]));
}

BOOST_AUTO_TEST_CASE(places_are_taken_before_the_disk_has_answered) {
  std::vector<std::shared_ptr<std::optional<result<std::uint64_t>>>> begun;
  io.hold(calls(call::open), 1, faulty_ring::for_ever);
  for (std::size_t i = 0; i < blobs::uploads_max; ++i) {
    begun.push_back(begin(files.begin()));
  }
  auto refused = begin(files.begin());
  BOOST_REQUIRE(refused->has_value());
  check_fails(**refused, ec::busy, "64 uploads");
  release();
  for (auto& each : begun) {
    BOOST_REQUIRE(each->has_value());
    BOOST_CHECK((*each)->has_value());
  }
}

BOOST_AUTO_TEST_CASE(a_second_call_while_a_piece_is_in_the_air_is_refused_and_harms_nothing) {
  auto number = upload();
  io.hold(calls(call::write), 1);
  auto first = begin(files.append(number, copy_of("ab")));
  BOOST_REQUIRE(!first->has_value());
  auto second = begin(files.append(number, copy_of("XX")));
  BOOST_REQUIRE(second->has_value());
  check_fails(**second, ec::conflict, "being written");
  auto early = begin(files.finish(number));
  BOOST_REQUIRE(early->has_value());
  check_fails(**early, ec::conflict, "being written");
  release();
  BOOST_REQUIRE(first->has_value());
  BOOST_REQUIRE((*first)->has_value());
  BOOST_REQUIRE(append(number, "c"));
  auto done = finish(number);
  BOOST_REQUIRE(done);
  BOOST_TEST(blobs::name_of(done->digest) == name_of_abc);
}

BOOST_AUTO_TEST_CASE(an_abort_while_a_piece_is_in_the_air_takes_the_file_when_that_has_ended) {
  auto number = upload();
  io.hold(calls(call::write), 1);
  auto piece = begin(files.append(number, copy_of("ab")));
  auto aborted = begin(files.abort(number));
  BOOST_REQUIRE(aborted->has_value());
  BOOST_TEST(!is_nothing_in("uploads")); // the descriptor is in use
  check_fails(run(files.append(number, {})), ec::not_found, "no upload");
  release();
  BOOST_REQUIRE(piece->has_value());
  check_fails(**piece, ec::gone, "given up");
  BOOST_TEST(is_nothing_in("uploads"));
  check_fails(finish(number), ec::not_found, "no upload");
}

BOOST_AUTO_TEST_CASE(an_upload_that_is_being_removed_is_not_there_any_more) {
  auto number = upload();
  io.hold(calls(call::remove), 1);
  auto gone = begin(files.abort(number));
  BOOST_REQUIRE(!gone->has_value());
  auto late = begin(files.append(number, copy_of("x")));
  BOOST_REQUIRE(late->has_value());
  check_fails(**late, ec::not_found, "no upload");
  release();
  BOOST_REQUIRE(gone->has_value());
}

BOOST_AUTO_TEST_CASE(an_upload_that_is_being_finished_cannot_be_aborted) {
  auto number = upload();
  BOOST_REQUIRE(append(number, "abc"));
  io.hold(calls(call::sync_data), 1);
  auto done = begin(files.finish(number));
  BOOST_CHECK(run(files.abort(number)));
  BOOST_REQUIRE(!done->has_value());
  release();
  BOOST_REQUIRE(done->has_value());
  BOOST_CHECK((*done)->has_value());
  BOOST_CHECK(std::filesystem::exists(file_of(name_of_abc)));
}

BOOST_AUTO_TEST_CASE(a_stop_waits_for_what_is_in_the_air_and_leaves_no_upload) {
  auto writing = upload();
  auto finishing = upload();
  upload(); // idle
  BOOST_REQUIRE(append(finishing, "abc"));
  io.hold([](const auto& one) { return one.what == call::write || one.what == call::sync_data; }, 1,
          2);
  auto piece = begin(files.append(writing, copy_of("ab")));
  auto done = begin(files.finish(finishing));
  bool is_stopped = false;
  start([](blobs& of, bool& flag) -> task<void> {
    co_await of.stop();
    flag = true;
  }(files, is_stopped));
  io.turn_until_held();
  BOOST_REQUIRE_EQUAL(io.held(), 2u);
  BOOST_TEST(!is_stopped);
  release();
  BOOST_TEST(is_stopped);
  BOOST_REQUIRE(piece->has_value());
  check_fails(**piece, ec::gone, "given up");
  BOOST_REQUIRE(done->has_value());
  BOOST_CHECK((*done)->has_value());
  BOOST_TEST(is_nothing_in("uploads"));
}

// -- faults --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_upload_in_which_any_request_fails_leaves_nothing_and_is_told) {
  BOOST_REQUIRE(store("abc"));
  const auto asked = io.log();
  BOOST_REQUIRE(std::filesystem::remove(file_of(name_of_abc)));
  const auto requests =
      static_cast<std::size_t>(std::count_if(asked.begin(), asked.end(), can_fail));
  BOOST_REQUIRE_EQUAL(requests, 7u); // open, two writes, sync, rename, open and sync of the folder
  for (int fault : {ENOSPC, EIO}) {
    for (std::size_t nth = 1; nth <= requests; ++nth) {
      BOOST_TEST_CONTEXT("errno " << fault << " at request " << nth) {
        io.fail(can_fail, nth, fault);
        auto done = store("abc");
        io.calm();
        check_fails(done, fault == ENOSPC ? ec::no_space : ec::io,
                    nth < 5 ? "uploads" : (nth == 5 ? "rename" : "blobs"));
        BOOST_TEST(is_nothing_in("blobs"));
        BOOST_TEST(is_nothing_in("uploads"));
      }
    }
  }
  BOOST_CHECK(store("abc"));
  BOOST_CHECK(std::filesystem::exists(file_of(name_of_abc)));
}

BOOST_AUTO_TEST_CASE(a_write_that_is_cut_short_is_written_to_its_end) {
  io.cut(calls(call::write), 1, 1);
  BOOST_REQUIRE(store("abc"));
  BOOST_TEST((read_file(file_of(name_of_abc)) == copy_of("abc")));
}

BOOST_AUTO_TEST_CASE(a_name_is_not_taken_back_from_an_upload_of_the_same_bytes) {
  auto one = upload();
  auto other = upload();
  BOOST_REQUIRE(append(one, "abc"));
  BOOST_REQUIRE(append(other, "abc"));
  // The first has its name and cannot make it durable; the second finds it meanwhile.
  auto of_folder = [](const faulty_ring::entry& what) {
    return what.what == call::sync;
  };
  io.hold(calls(call::open, "blobs"), 1);
  io.fail(of_folder, 1, EIO);
  auto first = begin(files.finish(one));
  auto second = begin(files.finish(other));
  BOOST_REQUIRE(!first->has_value());
  BOOST_REQUIRE(!second->has_value());
  io.release();
  io.turn_until_held();
  BOOST_REQUIRE(first->has_value());
  BOOST_REQUIRE(second->has_value());
  check_fails(**first, ec::io, "blobs");
  BOOST_CHECK((*second)->has_value());
  BOOST_TEST((read_file(file_of(name_of_abc)) == copy_of("abc")));
  BOOST_TEST(is_nothing_in("uploads"));
}

BOOST_AUTO_TEST_CASE(known_content_keeps_its_name_when_it_cannot_be_made_durable_again) {
  BOOST_REQUIRE(store("abc"));
  io.fail(calls(call::sync), 1, EIO);
  check_fails(store("abc"), ec::io, "blobs");
  BOOST_TEST((read_file(file_of(name_of_abc)) == copy_of("abc")));
  BOOST_TEST(is_nothing_in("uploads"));
}

BOOST_AUTO_TEST_SUITE_END()
