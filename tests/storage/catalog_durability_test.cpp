#define BOOST_TEST_MODULE catalog_durability
#include "catalog_fixture.hpp"

#include "storage/catalog_keys.hpp"
#include "storage/lmdb.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace coppice::storage {

using status = proto::OperationStatus;
using kind = proto::OperationKind;

namespace {

struct pipe_pair {
  pipe_pair() {
    BOOST_REQUIRE_EQUAL(::pipe2(ends.data(), O_CLOEXEC), 0);
  }
  pipe_pair(const pipe_pair&) = delete;
  pipe_pair& operator=(const pipe_pair&) = delete;
  ~pipe_pair() {
    close_reading();
    close_writing();
  }
  void close_reading() {
    close_end(0);
  }
  void close_writing() {
    close_end(1);
  }
  bool send(std::uint32_t number) const {
    return ::write(ends[1], &number, sizeof(number)) == sizeof(number);
  }
  /// Waits; nothing at the end.
  std::optional<std::uint32_t> receive() const {
    std::uint32_t number = 0;
    ssize_t n = 0;
    do {
      n = ::read(ends[0], &number, sizeof(number));
    } while (n < 0 && errno == EINTR);
    return n == sizeof(number) ? std::optional{number} : std::nullopt;
  }

  std::array<int, 2> ends{-1, -1};

private:
  void close_end(std::size_t i) {
    if (ends[i] >= 0) {
      ::close(ends[i]);
      ends[i] = -1;
    }
  }
};

/// A child process that runs `body` and exits with what that returns; killed with its owner.
class child {
public:
  template <class Body>
  explicit child(Body&& body) : pid_{::fork()} {
    BOOST_REQUIRE_GE(pid_, 0);
    if (pid_ == 0) {
      int code = 99;
      try {
        code = body();
      } catch (...) {
      }
      ::_exit(code);
    }
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() {
    if (pid_ > 0) {
      kill_and_wait();
    }
  }
  void kill_and_wait() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int state = 0;
    while (::waitpid(pid_, &state, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
  }

private:
  pid_t pid_;
};

/// Operation `n` with its image and the tag "latest", ended in one commit.
bool commit_run(catalog& c, std::uint64_t n) {
  auto t = c.begin();
  if (!t || !t->put_operation(*operation_of{n, 100}.record().view())) {
    return false;
  }
  auto end = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
    const auto time = static_cast<std::int64_t>(n);
    operation_of{n, 100, status::SUCCESS, "default", kind::INSTANCE, n}.fill(to.initRecord());
    to.initEvents(1)[0].initCompletion();
    auto image = image_of{n, time}.record();
    to.setImage(*image.view());
    to.setHasImage(true);
    to.setTag("latest");
  });
  return t->finish_operation(*end.view()) && t->commit();
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(durability, catalog_fixture)

BOOST_AUTO_TEST_CASE(what_a_killed_writer_acknowledged_is_all_there) {
  c.reset();
  std::uint64_t next = 1;
  for (unsigned acknowledged_before_kill : {1u, 7u, 40u, 41u}) {
    pipe_pair acknowledged;
    child writer{[&] {
      acknowledged.close_reading();
      auto mine = catalog::open(folder.path / "catalog");
      if (!mine) {
        return 1;
      }
      for (auto n = next;; ++n) {
        if (!commit_run(**mine, n) || !acknowledged.send(static_cast<std::uint32_t>(n))) {
          return 2;
        }
      }
    }};
    acknowledged.close_writing();
    std::uint64_t last = 0;
    for (unsigned i = 0; i < acknowledged_before_kill; ++i) {
      auto number = acknowledged.receive();
      BOOST_REQUIRE(number);
      last = *number;
    }
    writer.kill_and_wait();
    while (auto number = acknowledged.receive()) {
      last = *number;
    }
    c = open();
    const bool one_more = c->has_image(id_number(last + 1));
    BOOST_CHECK(!c->has_image(id_number(last + 2)));
    next = last + (one_more ? 2 : 1);
    for (std::uint64_t n = 1; n < next; ++n) {
      auto record = operation(n);
      REQUIRE_OK(record);
      BOOST_CHECK(record->view()->getStatus() == status::SUCCESS);
      BOOST_CHECK(c->has_image(id_number(n)));
      CHECK_SAME(events(n), numbers{0});
    }
    BOOST_CHECK(failed_with(operation(next), ec::not_found));
    BOOST_CHECK_EQUAL(tagged("latest"), next - 1);
    BOOST_CHECK_EQUAL(images([](auto to) { to.setLimit(1); }).at(0),
                      std::to_string(next - 1) + ":latest");
    CHECK_SAME(unfinished(), numbers{});
    // A writer that was killed does not lock out the next.
    BOOST_CHECK(commit_run(*c, next));
    ++next;
    c.reset();
  }
}

BOOST_AUTO_TEST_CASE(a_dropped_transaction_changes_nothing) {
  put(image_of{1, 100});
  {
    auto t = c->begin();
    REQUIRE_OK(t);
    REQUIRE_OK(t->put_image(*image_of{2, 200}.record().view()));
    REQUIRE_OK(t->put_operation(*operation_of{1, 100}.record().view()));
    REQUIRE_OK(append_in(*t, 1, 0, 2));
    REQUIRE_OK(tag_in(*t, 1, "x"));
  }
  CHECK_SAME(images([](auto) {}), strings{"1"});
  CHECK_SAME(unfinished(), numbers{});
  CHECK_SAME(events(1), numbers{});
  BOOST_CHECK_EQUAL(tagged("x"), 0);
}

BOOST_AUTO_TEST_CASE(a_refused_change_leaves_the_rest_of_the_transaction) {
  put(image_of{1, 100});
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.put_image(*image_of{2, 200}.record().view()));
    BOOST_CHECK(failed_with(t.put_image(*image_of{1, 300}.record().view()), ec::conflict));
    BOOST_CHECK(failed_with(tag_in(t, 9, "x"), ec::not_found));
    REQUIRE_OK(tag_in(t, 2, "x"));
  });
  CHECK_SAME(images([](auto) {}), strings{"2:x", "1"});
}

BOOST_AUTO_TEST_CASE(all_is_there_after_opening_again) {
  put(image_of{1, 100, "default", "sha256:aa"});
  put(operation_of{1, 100});
  write([](catalog::transaction& t) { REQUIRE_OK(append_in(t, 1, 0, 3)); });
  tag(1, "x");
  reopen();
  BOOST_CHECK_EQUAL(tagged("x"), 1);
  CHECK_SAME(events(1), numbers{0, 1, 2});
  CHECK_SAME(unfinished(), numbers{1});
  REQUIRE_OK(c->find_by_source("default", "sha256:aa"));
}

BOOST_AUTO_TEST_CASE(a_thread_cannot_wait_for_its_own_transaction) {
  {
    auto first = c->begin();
    REQUIRE_OK(first);
    BOOST_CHECK(failed_with(c->begin(), ec::conflict));
    auto moved = std::move(*first);
    BOOST_CHECK(failed_with(c->begin(), ec::conflict));
    REQUIRE_OK(moved.commit());
    // It is over, also while it is still there.
    BOOST_CHECK(failed_with(moved.commit(), ec::conflict));
    BOOST_CHECK(failed_with(moved.put_image(*image_of{1, 1}.record().view()), ec::conflict));
    REQUIRE_OK(c->begin());
  }
  REQUIRE_OK(c->begin());
}

BOOST_AUTO_TEST_CASE(another_process_writes_in_its_turn_while_this_one_has_it_open) {
  c.reset();
  pipe_pair go;
  pipe_pair answer;
  child other{[&] {
    go.close_writing();
    if (!go.receive()) { // the parent has it open
      return 1;
    }
    auto mine = catalog::open(folder.path / "catalog");
    if (!mine || !answer.send(1) || !go.receive()) { // the parent is in a transaction
      return 2;
    }
    auto t = (*mine)->begin();
    // Only who has waited for the parent's commit finds the operation.
    if (!t || !append_in(*t, 1, 0, 1) || !t->put_image(*image_of{7, 1}.record().view())) {
      return 3;
    }
    return t->commit() ? 0 : 4;
  }};
  c = open();
  BOOST_REQUIRE(go.send(1));
  answer.close_writing();
  BOOST_REQUIRE(answer.receive());
  {
    auto t = c->begin();
    REQUIRE_OK(t);
    REQUIRE_OK(t->put_operation(*operation_of{1, 100}.record().view()));
    BOOST_REQUIRE(go.send(2));
    REQUIRE_OK(t->commit());
  }
  BOOST_CHECK_EQUAL(other.wait(), 0);
  CHECK_SAME(events(1), numbers{0});
  REQUIRE_OK(image(7));
}

BOOST_AUTO_TEST_CASE(its_files_are_private_and_no_child_inherits_them) {
  const auto dir = std::filesystem::canonical(folder.path / "catalog");
  struct stat s {};
  BOOST_REQUIRE_EQUAL(::stat(dir.c_str(), &s), 0);
  BOOST_CHECK_EQUAL(s.st_mode & 0777, 0700);
  for (const char* name : {"data.mdb", "lock.mdb"}) {
    BOOST_REQUIRE_EQUAL(::stat((dir / name).c_str(), &s), 0);
    BOOST_CHECK_EQUAL(s.st_mode & 0777, 0600);
  }
  std::size_t open_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    if (gone || target.parent_path() != dir) {
      continue;
    }
    ++open_files;
    const int flags = ::fcntl(std::stoi(entry.path().filename()), F_GETFD);
    BOOST_CHECK_MESSAGE((flags & FD_CLOEXEC) != 0, target << " is inherited");
  }
  BOOST_CHECK_GE(open_files, 2);
}

BOOST_AUTO_TEST_CASE(a_catalog_of_a_newer_version_is_refused) {
  c.reset();
  auto write_version = [&](std::uint64_t version) {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
    REQUIRE_OK(t);
    auto meta = t->open_table("meta");
    REQUIRE_OK(meta);
    t->put(*meta, "schema", keys::big_endian(version));
    REQUIRE_OK(t->commit());
  };
  write_version(1000);
  BOOST_CHECK(failed_with(catalog::open(folder.path / "catalog"), ec::unsupported));
  write_version(1);
  REQUIRE_OK(catalog::open(folder.path / "catalog"));
}

BOOST_AUTO_TEST_CASE(a_full_catalog_says_so_and_keeps_what_it_has) {
  c.reset();
  const auto dir = folder.path / "small";
  auto put_large = [](catalog& into, std::uint64_t n) -> result<void> {
    auto t = into.begin();
    REQUIRE_OK(t);
    auto record = make_frame<proto::OperationRecord>([&](proto::OperationRecord::Builder to) {
      operation_of{n, 100}.fill(to);
      to.getRequest().getInstance().initStdin(100'000);
    });
    if (auto put = t->put_operation(*record.view()); !put) {
      BOOST_CHECK(!t->commit()); // must not keep a half
      return put.error();
    }
    return t->commit();
  };
  std::uint64_t n = 1;
  {
    auto small = catalog::open(dir, 1u << 20);
    REQUIRE_OK(small);
    auto last = put_large(**small, n);
    REQUIRE_OK(last);
    while (last && n < 100) {
      last = put_large(**small, ++n);
    }
    BOOST_CHECK(failed_with(last, ec::no_space));
    c = std::move(*small);
    BOOST_CHECK(failed_with(operation(n), ec::not_found));
    REQUIRE_OK(operation(n - 1));
    BOOST_CHECK_EQUAL(unfinished().size(), n - 1);
    c.reset();
  }
  auto larger = catalog::open(dir);
  REQUIRE_OK(larger);
  REQUIRE_OK(put_large(**larger, n));
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_no_space) {
  BOOST_CHECK(lmdb::failure_of(ENOSPC, "x").code == make_error_code(ec::no_space));
  BOOST_CHECK(lmdb::failure_of(EDQUOT, "x").code == make_error_code(ec::no_space));
  BOOST_CHECK(lmdb::failure_of(MDB_CORRUPTED, "x").code == make_error_code(ec::damaged));
}

BOOST_AUTO_TEST_CASE(damaged_records_are_failures_and_their_files_are_kept) {
  put(image_of{1, 100});
  put(image_of{2, 100});
  c.reset();
  {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
    auto table = t->open_table("images");
    REQUIRE_OK(table);
    t->put(*table, keys::of(id_number(1)), "seven b");
    // One segment of one word: a pointer to far outside of it.
    t->put(*table, keys::of(id_number(2)),
           std::string_view{"\0\0\0\0\1\0\0\0\xfc\xff\0\0\xff\0\xff\0", 16});
    REQUIRE_OK(t->commit());
  }
  c = open();
  BOOST_CHECK(failed_with(image(1), ec::damaged));
  BOOST_CHECK(failed_with(image(2), ec::damaged));
  BOOST_CHECK(c->has_image(id_number(1)));
  auto list = make_frame<proto::ListImages>([](proto::ListImages::Builder to) {
    to.setProject("default");
    to.setLimit(1);
  });
  BOOST_CHECK(failed_with(c->list_images(*list.view()), ec::damaged));
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_no_catalog_is_a_failure) {
  BOOST_CHECK(failed_with(catalog::open(folder.path / "no" / "such"), ec::not_found));
  const auto dir = folder.path / "other";
  BOOST_REQUIRE(std::filesystem::create_directory(dir));
  {
    int fd = ::open((dir / "data.mdb").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    BOOST_REQUIRE_GE(fd, 0);
    const std::string noise(8192, '#');
    BOOST_CHECK_EQUAL(::write(fd, noise.data(), noise.size()), 8192);
    ::close(fd);
  }
  BOOST_CHECK(failed_with(catalog::open(dir), ec::damaged));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
