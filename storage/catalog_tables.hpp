#pragma once

#include "protocol/frame.hpp"
#include "protocol/result.hpp"
#include "storage/lmdb.hpp"

#include <kj/exception.h>

#include <cstring>
#include <string>
#include <string_view>

/// The tables of the catalog (what is in them: storage/catalog_keys.hpp) and how a record gets into
/// one and out again. Used by catalog.cpp and its parts only.
namespace coppice::storage {

struct tables {
  lmdb::table meta = 0;
  lmdb::table tokens = 0;
  lmdb::table images = 0;
  lmdb::table image_index = 0;
  lmdb::table tags = 0;
  lmdb::table image_tags = 0;
  lmdb::table sources = 0;
  lmdb::table operations = 0;
  lmdb::table operation_details = 0;
  lmdb::table operation_index = 0;
  lmdb::table unfinished = 0;
  lmdb::table events = 0;
  lmdb::table event_logs = 0;
  lmdb::table output_heads = 0;
  lmdb::table files = 0;
  lmdb::table file_ids = 0;
  lmdb::table file_index = 0;
  lmdb::table indexes = 0;
  lmdb::table index_users = 0;
  lmdb::table image_files = 0;
  lmdb::table image_file_children = 0;
  lmdb::table dead_image_files = 0;
  lmdb::table usage = 0;
  lmdb::table image_users = 0;
  lmdb::table blob_users = 0;
  lmdb::table request_keys = 0;
  lmdb::table request_key_ages = 0;

  static constexpr unsigned count_max = 32;

  /// Of keys and tables. Records evolve by themselves: their schemas only gain fields.
  ///   2  image_files and what belongs to them
  ///   3  event_logs, output_heads; records in file_index
  ///   4  usage
  ///   5  image_users, blob_users
  ///   6  request_keys, request_key_ages
  static constexpr std::uint64_t schema_version = 6;

  /// Opens all and makes the missing ones.
  /// unsupported: a newer version wrote this catalog; nothing is changed then.
  static result<tables> open(lmdb::transaction& in);

  /// Which version wrote the catalog; 0: it is new. unsupported, damaged.
  static result<std::uint64_t> version(lmdb::transaction& in, lmdb::table meta);
  static void set_version(lmdb::transaction& in, lmdb::table meta);

  /// Opens all and changes nothing. unsupported: another version wrote this catalog.
  static result<tables> open_read_only(lmdb::transaction& in);
};

/// The record in a value, copied (values in the map are not aligned). Empty: a failure, which the
/// transaction remembers.
template <class T>
frame<T> record_in(lmdb::transaction& in, std::string_view value) {
  if (value.empty() || value.size() % sizeof(capnp::word) != 0) {
    in.fail_with(fail(ec::damaged, "the catalog has a record of " + std::to_string(value.size()) +
                                       " bytes, which is not a message"));
    return {};
  }
  ++lmdb::counts_of_thread().records;
  auto words = kj::heapArray<capnp::word>(value.size() / sizeof(capnp::word));
  std::memcpy(words.begin(), value.data(), value.size());
  return frame<T>{kj::mv(words)};
}

/// The record of that key. Empty: there is none, or a failure.
template <class T>
frame<T> load(lmdb::transaction& in, lmdb::table from, std::string_view key) {
  auto value = in.get(from, key);
  return value ? record_in<T>(in, *value) : frame<T>{};
}

template <class T>
void store(lmdb::transaction& in, lmdb::table into, std::string_view key, const frame<T>& record) {
  auto bytes = record.bytes();
  in.put(into, key, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

inline std::string_view view_of(capnp::Text::Reader text) {
  return {text.begin(), text.size()};
}

inline std::string_view view_of(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

/// Runs `body`; a message that contradicts itself is `damaged` instead of an exception.
template <class T, class Body>
result<T> guarded(const char* what, Body&& body) {
  try {
    return body();
  } catch (const kj::Exception& e) {
    return fail(ec::damaged,
                std::string{what} + ": malformed message: " + e.getDescription().cStr());
  }
}

} // namespace coppice::storage
