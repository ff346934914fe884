#define BOOST_TEST_MODULE ring_io
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "tests/storage/ring_kinds.hpp"
#include "tests/support/faulty_ring.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using call = io_request::call;

namespace {

const auto kinds = ring_kinds();

/// A ring that fails on demand and a file opened through it; the log begins behind that.
struct faulty_file {
  faulty_file() : on{make_thread_ring(2)}, path{dir / "the file"}, fd{must_open(on, path)} {
    on.clear_log();
  }
  ~faulty_file() {
    ::close(fd);
  }
  std::string content() const {
    auto bytes = read_file(path);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::vector<call> calls_made() const {
    std::vector<call> out;
    for (const auto& one : on.log()) {
      out.push_back(one.what);
    }
    return out;
  }

  scratch dir;
  faulty_ring on;
  std::string path;
  int fd;
};

task<result<std::string>> copy_by_tasks(ring& on, std::string path) {
  auto opening = io::open(on, path, O_RDWR | O_CREAT);
  auto fd = co_await opening;
  if (!fd) {
    co_return fd.error();
  }
  std::string text = "through several tasks";
  auto writing = io::write(on, *fd, 4096, bytes_of(text), path);
  auto written = co_await writing;
  std::string back(text.size(), ' ');
  auto reading = io::read(on, *fd, 4096, std::as_writable_bytes(std::span{back}), path);
  auto was_read = co_await reading;
  auto closing = io::close(on, *fd);
  co_await closing;
  if (!written) {
    co_return written.error();
  }
  if (!was_read) {
    co_return was_read.error();
  }
  co_return back;
}

} // namespace

BOOST_DATA_TEST_CASE(a_task_is_made_of_tasks, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  BOOST_CHECK_EQUAL(io::run(*on, copy_by_tasks(*on, dir / "f")).value(), "through several tasks");
  check_fails(io::run(*on, copy_by_tasks(*on, dir / "none/f")), ec::not_found, "none/f");
}

BOOST_DATA_TEST_CASE(a_hole_reads_as_zeros_and_gives_its_space_back, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  std::string name = dir / "f";
  auto fd = must_open(*on, name);
  std::vector<std::byte> data(1 << 20, std::byte{7});
  BOOST_REQUIRE(io::run(*on, io::write(*on, fd, 0, data, name)));
  BOOST_REQUIRE(io::run(*on, io::sync_data(*on, fd, name)));
  auto before = io::run(*on, io::status(*on, fd, name)).value();
  BOOST_REQUIRE(io::run(*on, io::punch_hole(*on, fd, 1 << 18, 1 << 19, name)));
  auto after = io::run(*on, io::status(*on, fd, name)).value();
  BOOST_CHECK_EQUAL(before.size_bytes, 1u << 20);
  BOOST_CHECK_EQUAL(after.size_bytes, 1u << 20);
  BOOST_CHECK_EQUAL(before.allocated_bytes - after.allocated_bytes, 1u << 19);
  std::vector<std::byte> back(data.size());
  BOOST_REQUIRE(io::run(*on, io::read(*on, fd, 0, back, name)));
  std::fill_n(data.begin() + (1 << 18), 1 << 19, std::byte{0});
  BOOST_CHECK(back == data);
  ::close(fd);
}

BOOST_DATA_TEST_CASE(a_rename_touches_no_name_that_exists, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  std::string from = dir / "from";
  std::string to = dir / "to";
  write_at(from, 0, bytes_of("new"));
  write_at(to, 0, bytes_of("old"));
  check_fails(io::run(*on, io::rename(*on, from, to)), ec::conflict, to);
  BOOST_CHECK(std::ranges::equal(read_file(to), bytes_of("old")));
  BOOST_CHECK(io::run(*on, io::remove(*on, to)).value());
  BOOST_CHECK(!io::run(*on, io::remove(*on, to)).value());
  BOOST_CHECK(io::run(*on, io::rename(*on, from, to)));
  BOOST_CHECK(std::ranges::equal(read_file(to), bytes_of("new")));
  BOOST_CHECK(io::run(*on, io::sync_directory(*on, dir.path())));
  check_fails(io::run(*on, io::sync_directory(*on, to)), ec::io, to);
  check_fails(io::run(*on, io::remove(*on, dir.path())), ec::io, dir.path().string());
}

BOOST_DATA_TEST_CASE(a_link_is_not_opened_and_no_child_inherits, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  std::string name = dir / "f";
  auto fd = must_open(*on, name, O_RDWR | O_CREAT | O_EXCL);
  BOOST_CHECK_EQUAL(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  check_fails(io::run(*on, io::open(*on, name, O_RDWR | O_CREAT | O_EXCL)), ec::conflict, name);
  std::filesystem::create_symlink(name, dir / "link");
  std::string link = dir / "link";
  check_fails(io::run(*on, io::open(*on, link, O_RDONLY)), ec::io, link);
  io::run(*on, io::close(*on, fd));
  BOOST_CHECK_EQUAL(::fcntl(fd, F_GETFD), -1);
}

BOOST_DATA_TEST_CASE(a_read_behind_the_end_is_a_failure, kinds, kind) {
  scratch dir;
  auto on = kind.make(4);
  std::string name = dir / "f";
  write_at(name, 0, bytes_of("12345"));
  auto fd = must_open(*on, name);
  std::vector<std::byte> out(8);
  check_fails(io::run(*on, io::read(*on, fd, 0, out, name)), ec::io, "at 5");
  // What io_uring would take for "where the file is".
  check_fails(io::run(*on, io::read(*on, fd, ~0ull, out, name)), ec::io, name);
  check_fails(io::run(*on, io::write(*on, fd, ~0ull - 3, out, name)), ec::io, name);
  check_fails(io::run(*on, io::write_durably(*on, fd, ~0ull, out, name)), ec::io, name);
  ::close(fd);
}

BOOST_FIXTURE_TEST_CASE(short_writes_and_reads_go_on, faulty_file) {
  on.cut(calls(call::write), 1, 3, 2);
  on.cut(calls(call::read), 1, 1, faulty_ring::for_ever);
  BOOST_REQUIRE(io::run(on, io::write(on, fd, 0, bytes_of("0123456789"), path)));
  BOOST_CHECK_EQUAL(content(), "0123456789");
  BOOST_REQUIRE_EQUAL(on.log().size(), 3u);
  BOOST_CHECK_EQUAL(on.log()[2].offset, 6u);
  BOOST_CHECK_EQUAL(on.log()[2].length, 4u);
  BOOST_CHECK_EQUAL(on.log()[2].name, path);
  std::string back(10, ' ');
  BOOST_REQUIRE(io::run(on, io::read(on, fd, 0, std::as_writable_bytes(std::span{back}), path)));
  BOOST_CHECK_EQUAL(back, "0123456789");
  BOOST_CHECK_EQUAL(on.log().size(), 13u);
}

BOOST_FIXTURE_TEST_CASE(a_durable_write_is_one_pair, faulty_file) {
  BOOST_REQUIRE(io::run(on, io::write_durably(on, fd, 0, bytes_of("abc"), path)));
  BOOST_CHECK(calls_made() == (std::vector{call::write, call::sync_data}));
  BOOST_CHECK(on.log()[1].is_linked);
}

BOOST_FIXTURE_TEST_CASE(a_durable_write_that_ends_short_is_synced_when_all_is_written,
                        faulty_file) {
  on.cut(calls(call::write), 1, 1);
  on.fail(calls(call::write), 2, EINTR);
  BOOST_REQUIRE(io::run(on, io::write_durably(on, fd, 0, bytes_of("abc"), path)));
  BOOST_CHECK_EQUAL(content(), "abc");
  BOOST_CHECK(calls_made() == (std::vector{call::write, call::sync_data, call::write, call::write,
                                           call::sync_data}));
}

BOOST_FIXTURE_TEST_CASE(a_failed_write_is_never_called_durable, faulty_file) {
  on.fail(calls(call::write), 1, ENOSPC);
  check_fails(io::run(on, io::write_durably(on, fd, 8, bytes_of("abc"), path)), ec::no_space,
              path + " at 8");
  on.cut(calls(call::write), 1, 1);
  on.fail(calls(call::write), 2, EDQUOT);
  check_fails(io::run(on, io::write_durably(on, fd, 8, bytes_of("abc"), path)), ec::no_space,
              path + " at 9");
  on.cut(calls(call::write), 1, 0);
  check_fails(io::run(on, io::write(on, fd, 0, bytes_of("abc"), path)), ec::io, path);
}

BOOST_FIXTURE_TEST_CASE(a_failed_sync_is_not_tried_again, faulty_file) {
  on.fail(calls(call::sync_data), 1, EIO);
  check_fails(io::run(on, io::write_durably(on, fd, 0, bytes_of("abc"), path)), ec::io, path);
  BOOST_CHECK_EQUAL(on.log().size(), 2u);
  on.fail(calls(call::sync_data), 1, EIO);
  check_fails(io::run(on, io::sync_data(on, fd, path)), ec::io, path);
  BOOST_CHECK_EQUAL(on.log().size(), 3u);
}

BOOST_FIXTURE_TEST_CASE(interrupted_calls_are_tried_again_but_not_for_ever, faulty_file) {
  on.fail(any(), 1, EINTR);
  BOOST_CHECK(io::run(on, io::sync_data(on, fd, path)));
  on.fail(any(), 1, EAGAIN);
  BOOST_CHECK(io::run(on, io::write_durably(on, fd, 0, bytes_of("abc"), path)));
  on.fail(any(), 1, EINTR);
  BOOST_CHECK(io::run(on, io::status(on, fd, path)));
  on.fail(any(), 1, EINTR, faulty_ring::for_ever);
  check_fails(io::run(on, io::write(on, fd, 0, bytes_of("abc"), path)), ec::io, path);
  check_fails(io::run(on, io::sync_data(on, fd, path)), ec::io, path);
  check_fails(io::run(on, io::open(on, path, O_RDONLY)), ec::io, path);
}

BOOST_FIXTURE_TEST_CASE(every_call_reports_a_full_disk_with_its_name, faulty_file) {
  on.fail(any(), 1, ENOSPC, faulty_ring::for_ever);
  std::string other = dir / "other";
  std::vector<std::byte> bytes(4);
  check_fails(io::run(on, io::open(on, other, O_CREAT | O_RDWR)), ec::no_space, other);
  check_fails(io::run(on, io::write(on, fd, 0, bytes, path)), ec::no_space, path);
  check_fails(io::run(on, io::sync_data(on, fd, path)), ec::no_space, path);
  check_fails(io::run(on, io::sync_directory(on, dir.path())), ec::no_space, dir.path().string());
  check_fails(io::run(on, io::punch_hole(on, fd, 0, 4096, path)), ec::no_space, path);
  check_fails(io::run(on, io::rename(on, path, other)), ec::no_space, other);
  check_fails(io::run(on, io::remove(on, path)), ec::no_space, path);
  check_fails(io::run(on, io::status(on, fd, path)), ec::no_space, path);
}

BOOST_FIXTURE_TEST_CASE(a_held_end_comes_after_later_ones, faulty_file) {
  on.hold(calls(call::write, "the file"), 1);
  std::vector<int> order;
  std::string name = path;
  start(io::write(on, fd, 0, bytes_of("a"), name), [&](result<void>) { order.push_back(1); });
  start(io::write(on, fd, 1, bytes_of("b"), name), [&](result<void>) { order.push_back(2); });
  on.turn_until_held();
  BOOST_CHECK_EQUAL(on.held(), 1u);
  BOOST_CHECK(order == (std::vector{2}));
  BOOST_CHECK_EQUAL(content(), "ab"); // it was carried out
  BOOST_CHECK_THROW(on.turn(), std::logic_error);
  on.release();
  on.turn();
  BOOST_CHECK(order == (std::vector{2, 1}));
  BOOST_CHECK_EQUAL(on.pending(), 0u);
}

BOOST_FIXTURE_TEST_CASE(faults_count_each_request_that_they_match, faulty_file) {
  on.cut(calls(call::write), 1, 1);
  on.fail(calls(call::write), 2, ENOSPC);
  check_fails(io::run(on, io::write(on, fd, 0, bytes_of("abc"), path)), ec::no_space, path);
  BOOST_CHECK_EQUAL(content(), "a");
  BOOST_CHECK(io::run(on, io::write(on, fd, 0, bytes_of("abc"), path)));
}

BOOST_FIXTURE_TEST_CASE(a_fault_of_the_first_of_a_pair_cancels_the_second, faulty_file) {
  std::string bytes = "abc";
  for (auto is_cut : {true, false}) {
    if (is_cut) {
      on.cut(calls(call::write), 1, 2);
    } else {
      on.fail(calls(call::write), 1, EIO);
    }
    counted write{call::write};
    write.fd = fd;
    write.buffer = bytes.data();
    write.length = bytes.size();
    counted sync{call::sync_data};
    sync.fd = fd;
    on.submit_linked(write, sync);
    turn_until_done(on);
    BOOST_CHECK_EQUAL(write.result, is_cut ? 2 : -EIO);
    BOOST_CHECK_EQUAL(sync.result, -ECANCELED);
    BOOST_CHECK_EQUAL(write.ends + sync.ends, 2);
  }
}
