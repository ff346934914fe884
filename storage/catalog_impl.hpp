#pragma once

#include "storage/catalog.hpp"
#include "storage/catalog_tables.hpp"
#include "storage/lmdb.hpp"

#include <atomic>
#include <thread>
#include <utility>

/// What `catalog` and its transaction own; for catalog.cpp, catalog_read.cpp, catalog_write.cpp.
namespace coppice::storage {

struct catalog::impl {
  impl(lmdb::environment opened, tables all) : env{std::move(opened)}, t{all} {}

  lmdb::environment env;
  tables t;
  /// Whose write transaction is open. A second one of the same thread would wait for itself.
  std::atomic<std::thread::id> writer{};

  /// Runs `body` in a read transaction of its own. The first failure of the transaction wins.
  template <class T, class Body>
  result<T> read(const char* what, Body&& body) const {
    auto begun = lmdb::transaction::begin(env, lmdb::mode::read);
    if (!begun) {
      return begun.error();
    }
    auto& in = *begun;
    auto answer = guarded<T>(what, [&]() -> result<T> { return body(in); });
    if (in.failed()) {
      return *in.failed();
    }
    return answer;
  }
};

} // namespace coppice::storage
