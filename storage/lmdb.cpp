#include "storage/lmdb.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace coppice::storage::lmdb {

namespace {

thread_local read_counts counts;

MDB_val to_val(std::string_view bytes) {
  return {bytes.size(), const_cast<char*>(bytes.data())};
}

std::string_view to_view(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}

/// New files count only once their folder is on the disk as well.
result<void> sync_folder(const std::filesystem::path& dir) {
  int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    return io_failure(errno, "open " + dir.string());
  }
  int error_number = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error_number != 0) {
    return io_failure(error_number, "fsync " + dir.string());
  }
  return {};
}

/// A data file with nothing in it, durable but for its name.
result<void> make_empty(const std::string& path) {
  ::unlink(path.c_str()); // of a start that was cut short
  MDB_env* raw = nullptr;
  if (int code = mdb_env_create(&raw); code != 0) {
    return failure_of(code, path);
  }
  int code = mdb_env_open(raw, path.c_str(), MDB_NOSUBDIR | MDB_NOLOCK, 0600);
  code = code != 0 ? code : mdb_env_sync(raw, 1);
  mdb_env_close(raw);
  if (code != 0) {
    return failure_of(code, "create " + path);
  }
  return {};
}

/// LMDB gives a new file its name before its first two pages are on the disk, and refuses to open
/// it when a power cut has come between. So it gets its name from us, when it is whole.
result<void> make_data_file(const std::filesystem::path& dir) {
  const auto path = (dir / "data.mdb").string();
  if (::access(path.c_str(), F_OK) == 0) {
    return {};
  }
  const int lock = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0 || ::flock(lock, LOCK_EX) != 0) {
    auto failed = io_failure(errno, "lock " + dir.string());
    ::close(lock);
    return failed;
  }
  result<void> done;
  if (::access(path.c_str(), F_OK) != 0) { // else another process was sooner
    const auto unnamed = (dir / "data.mdb.new").string();
    done = make_empty(unnamed);
    if (done && ::renameat2(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE)) {
      done = io_failure(errno, "rename " + unnamed);
    }
  }
  ::close(lock);
  return done;
}

/// Less is left than a commit writes.
bool is_full(const std::string& path) {
  constexpr std::uint64_t commit_bytes = 1u << 20;
  struct statvfs now {};
  return ::statvfs(path.c_str(), &now) == 0 && now.f_bavail * now.f_frsize < commit_bytes;
}

result<void> make_folder(const std::filesystem::path& dir) {
  if (::mkdir(dir.c_str(), 0700) == 0) {
    return sync_folder((dir / "..").lexically_normal());
  }
  return errno == EEXIST ? result<void>{} : io_failure(errno, "create " + dir.string());
}

/// LMDB opens its data file inheritable: every child would get the catalog, writable.
result<void> close_on_exec(MDB_env* env, const std::string& path) {
  int fd = -1;
  if (int code = mdb_env_get_fd(env, &fd); code != 0) {
    return failure_of(code, path);
  }
  int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
    return io_failure(errno, "set close-on-exec on " + path);
  }
  return {};
}

} // namespace

failure failure_of(int code, const std::string& what) {
  const std::string text = what + ": " + mdb_strerror(code);
  switch (code) {
  case MDB_MAP_FULL:
    return fail(ec::no_space, text + "; the catalog has reached the size it was opened with");
  case ENOSPC:
  case EDQUOT:
    return fail(ec::no_space, text + "; free space on the disk of the state folder");
  case MDB_NOTFOUND:
    return fail(ec::not_found, text);
  case MDB_CORRUPTED:
  case MDB_PAGE_NOTFOUND:
  case MDB_INVALID:
    return fail(ec::damaged, text);
  case MDB_VERSION_MISMATCH:
    return fail(ec::unsupported, text);
  case MDB_PANIC:
    return fail(ec::io, text + "; an earlier write failed half way, restart the daemon");
  case MDB_READERS_FULL:
    return fail(ec::io, text + "; too many reads at once");
  case ENOMEM:
    return fail(ec::io, text + "; is the address space limited (ulimit -v)?");
  default:
    return code > 0 ? io_failure(code, what) : fail(ec::io, text);
  }
}

read_counts& counts_of_thread() {
  return counts;
}

// -- environment ---------------------------------------------------------------------------------

environment::environment(MDB_env* handle, std::string path)
    : handle_{handle}, path_{std::move(path)} {}

environment::environment(environment&& other) noexcept
    : handle_{std::exchange(other.handle_, nullptr)}, path_{std::move(other.path_)} {}

environment::~environment() {
  if (handle_ != nullptr) {
    mdb_env_close(handle_);
  }
}

result<environment> environment::open(const std::filesystem::path& dir, const options& chosen) {
  if (!chosen.is_read_only) {
    if (auto made = make_folder(dir); !made) {
      return made.error();
    }
    if (auto made = make_data_file(dir); !made) {
      return made.error();
    }
  }
  MDB_env* raw = nullptr;
  if (int code = mdb_env_create(&raw); code != 0) {
    return failure_of(code, dir.string());
  }
  environment env{raw, dir.string()};
  int code = mdb_env_set_mapsize(raw, chosen.map_bytes);
  code = code != 0 ? code : mdb_env_set_maxdbs(raw, chosen.tables_max);
  code = code != 0 ? code : mdb_env_set_maxreaders(raw, chosen.readers_max);
  // MDB_NOTLS: a read belongs to its transaction, since actors hop between threads.
  const unsigned flags =
      (chosen.is_read_only ? MDB_RDONLY : 0u) | (chosen.is_private ? MDB_NOLOCK : 0u);
  code = code != 0 ? code : mdb_env_open(raw, dir.c_str(), MDB_NOTLS | flags, 0600);
  if (code != 0) {
    return failure_of(code, "open the catalog " + dir.string());
  }
  if (auto closed = close_on_exec(raw, env.path_); !closed) {
    return closed.error();
  }
  // A reader that was killed would pin its pages for ever.
  int dead = 0;
  if (code = mdb_reader_check(raw, &dead); code != 0) {
    return failure_of(code, "check the readers of " + env.path_);
  }
  if (!chosen.is_read_only) {
    if (auto synced = sync_folder(dir); !synced) {
      return synced.error();
    }
  }
  return env;
}

result<void> environment::copy_to(const std::filesystem::path& dir) const {
  if (int code = mdb_env_copy2(handle_, dir.c_str(), MDB_CP_COMPACT); code != 0) {
    return failure_of(code, "copy the catalog to " + dir.string());
  }
  // The copy is written past the page cache or not, and never synced.
  const auto data = dir / "data.mdb";
  int fd = ::open(data.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    return io_failure(errno, "open " + data.string());
  }
  int error_number = ::fchmod(fd, 0600) == 0 && ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error_number != 0) {
    return io_failure(error_number, "sync " + data.string());
  }
  return sync_folder(dir);
}

// -- transaction ---------------------------------------------------------------------------------

transaction::transaction(MDB_txn* handle, std::string path)
    : handle_{handle}, path_{std::move(path)} {}

transaction::transaction(transaction&& other) noexcept
    : handle_{std::exchange(other.handle_, nullptr)}, path_{std::move(other.path_)},
      failed_{std::move(other.failed_)} {}

transaction::~transaction() {
  if (handle_ != nullptr) {
    mdb_txn_abort(handle_);
  }
}

result<transaction> transaction::begin(const environment& env, mode wanted) {
  MDB_txn* raw = nullptr;
  const unsigned flags = wanted == mode::read ? MDB_RDONLY : 0;
  int code = mdb_txn_begin(env.handle(), nullptr, flags, &raw);
  if (code == MDB_READERS_FULL) {
    int dead = 0;
    mdb_reader_check(env.handle(), &dead);
    code = mdb_txn_begin(env.handle(), nullptr, flags, &raw);
  }
  if (code != 0) {
    return failure_of(code, "begin a transaction in " + env.path());
  }
  return transaction{raw, env.path()};
}

result<table> transaction::open_table(const char* name, bool may_create) {
  table opened = 0;
  const unsigned flags = may_create ? MDB_CREATE : 0;
  if (int code = mdb_dbi_open(handle_, name, flags, &opened); code != 0) {
    return failure_of(code, "open table " + std::string{name} + " in " + path_);
  }
  return opened;
}

std::optional<std::string_view> transaction::get(table from, std::string_view key) {
  if (failed_) {
    return std::nullopt;
  }
  ++counts.look_ups;
  MDB_val k = to_val(key);
  MDB_val v{};
  int code = mdb_get(handle_, from, &k, &v);
  if (code == MDB_NOTFOUND) {
    return std::nullopt;
  }
  if (code != 0) {
    note(code, "read");
    return std::nullopt;
  }
  return to_view(v);
}

bool transaction::has(table from, std::string_view key) {
  return get(from, key).has_value();
}

void transaction::put(table into, std::string_view key, std::string_view value) {
  if (failed_) {
    return;
  }
  MDB_val k = to_val(key);
  MDB_val v = to_val(value);
  if (int code = mdb_put(handle_, into, &k, &v, 0); code != 0) {
    note(code, "write");
  }
}

void transaction::erase(table from, std::string_view key) {
  if (failed_) {
    return;
  }
  MDB_val k = to_val(key);
  if (int code = mdb_del(handle_, from, &k, nullptr); code != 0 && code != MDB_NOTFOUND) {
    note(code, "erase");
  }
}

std::uint64_t transaction::entries(table in) {
  MDB_stat found{};
  if (!failed_) {
    if (int code = mdb_stat(handle_, in, &found); code != 0) {
      note(code, "count");
    }
  }
  return found.ms_entries;
}

result<void> transaction::commit() {
  if (failed_) {
    mdb_txn_abort(std::exchange(handle_, nullptr));
    return *failed_;
  }
  if (int code = mdb_txn_commit(std::exchange(handle_, nullptr)); code != 0) {
    // LMDB says EIO of a write that was cut short, as happens when a disk becomes full.
    note(code == EIO && is_full(path_) ? ENOSPC : code, "commit");
    return *failed_;
  }
  return {};
}

void transaction::fail_with(failure why) {
  if (!failed_) {
    failed_ = std::move(why);
  }
}

void transaction::note(int code, const char* what) {
  fail_with(failure_of(code, std::string{what} + " in " + path_));
}

// -- cursor --------------------------------------------------------------------------------------

cursor::cursor(transaction& owner, table over) : owner_{owner} {
  if (owner_.failed_) {
    return;
  }
  if (int code = mdb_cursor_open(owner_.handle_, over, &handle_); code != 0) {
    handle_ = nullptr;
    owner_.note(code, "open a cursor");
  }
}

cursor::~cursor() {
  if (handle_ != nullptr) {
    mdb_cursor_close(handle_);
  }
}

bool cursor::seek(std::string_view key) {
  return move(MDB_SET_RANGE, key);
}

bool cursor::next() {
  return move(MDB_NEXT, {});
}

bool cursor::move(MDB_cursor_op how, std::string_view key) {
  if (handle_ == nullptr || owner_.failed_) {
    return false;
  }
  ++counts.steps;
  MDB_val k = to_val(key);
  MDB_val v{};
  int code = mdb_cursor_get(handle_, &k, &v, how);
  if (code == MDB_NOTFOUND) {
    return false;
  }
  if (code != 0) {
    owner_.note(code, "read");
    return false;
  }
  key_ = to_view(k);
  value_ = to_view(v);
  return true;
}

} // namespace coppice::storage::lmdb
