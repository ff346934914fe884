#pragma once

#include "protocol/result.hpp"
#include "storage/error.hpp"

#include <lmdb.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

/// LMDB with owners.
///
/// Problem: LMDB's handles must be closed in the right order, each call may fail, and a failure in
/// the middle of a transaction makes the rest of it meaningless.
///
/// Guarantee: handles are closed by their owner's destructor. A transaction remembers its first
/// failure, does nothing more after it, and refuses to commit; so callers look once, at the end.
/// Keys and values that are handed out lie in the map: they hold until the next write of the same
/// transaction or its end, and are not aligned.
namespace coppice::storage::lmdb {

/// LMDB's own codes and errno, translated once.
failure failure_of(int code, const std::string& what);

/// What one thread has read so far. Tests and the benchmark use it to show that an answer costs the
/// same in a small and in a large catalog.
struct read_counts {
  std::uint64_t look_ups = 0; ///< entries asked for by key
  std::uint64_t steps = 0;    ///< moves of a cursor, which see keys
  std::uint64_t records = 0;  ///< values that were taken out as records
};
read_counts& counts_of_thread();

/// The environment of one folder. Once per process and folder: LMDB's locks demand it.
class environment {
public:
  struct options {
    std::size_t map_bytes = 0;
    unsigned tables_max = 0;
    unsigned readers_max = 0;
    bool is_read_only = false; ///< nothing is created but the lock file beside the data
    bool is_private = false;   ///< nobody else has it open: without a lock file
  };

  /// Opens or creates the files of `dir` with mode 0600; no descriptor survives an exec.
  static result<environment> open(const std::filesystem::path& dir, const options& chosen);

  environment(environment&& other) noexcept;
  environment& operator=(environment&&) = delete;
  ~environment();

  MDB_env* handle() const {
    return handle_;
  }

  /// Writes what is committed now as a new data file in `dir`, which must be an empty folder, and
  /// makes it durable. Others may write meanwhile.
  result<void> copy_to(const std::filesystem::path& dir) const;
  const std::string& path() const {
    return path_;
  }

private:
  environment(MDB_env* handle, std::string path);

  MDB_env* handle_;
  std::string path_;
};

using table = MDB_dbi;

enum class mode { read, write };

/// A write transaction begins and ends on one thread; a read transaction belongs to no thread, but
/// is used by one at a time.
class transaction {
public:
  static result<transaction> begin(const environment& env, mode wanted);

  transaction(transaction&& other) noexcept;
  transaction& operator=(transaction&&) = delete;
  /// Without commit: nothing happened.
  ~transaction();

  /// Only before any other thread uses the environment; the handle lasts as long as it, once the
  /// transaction is committed. not_found: it is not there and may not be made.
  result<table> open_table(const char* name, bool may_create = true);

  std::optional<std::string_view> get(table from, std::string_view key);
  bool has(table from, std::string_view key);
  void put(table into, std::string_view key, std::string_view value);
  /// What is not there is fine.
  void erase(table from, std::string_view key);

  /// How many entries a table has; costs nothing.
  std::uint64_t entries(table in);

  /// Durable when it returns. The transaction is over, whatever it answers.
  result<void> commit();

  MDB_txn* handle() const {
    return handle_;
  }

  /// Records a failure that the caller found in what it read.
  void fail_with(failure why);
  const std::optional<failure>& failed() const {
    return failed_;
  }

private:
  friend class cursor;
  transaction(MDB_txn* handle, std::string path);
  void note(int code, const char* what);

  MDB_txn* handle_;
  std::string path_;
  std::optional<failure> failed_;
};

/// Walks a table in key order. Its transaction outlives it.
class cursor {
public:
  cursor(transaction& owner, table over);
  cursor(const cursor&) = delete;
  cursor& operator=(const cursor&) = delete;
  ~cursor();

  /// To the first entry whose key is not before `key`. False: there is none, or a failure.
  bool seek(std::string_view key);
  bool next();

  std::string_view key() const {
    return key_;
  }
  std::string_view value() const {
    return value_;
  }

private:
  bool move(MDB_cursor_op how, std::string_view key);

  transaction& owner_;
  MDB_cursor* handle_ = nullptr;
  std::string_view key_;
  std::string_view value_;
};

} // namespace coppice::storage::lmdb
