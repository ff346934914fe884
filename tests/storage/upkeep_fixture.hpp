#pragma once

#include "storage/catalog.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/fsck.hpp"
#include "storage/fsck_blobs.hpp"
#include "storage/lmdb.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "tests/storage/disk_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <openssl/sha.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace coppice::storage::test {

/// A state folder with real images and uploads, as a daemon leaves it.
struct store_fixture : disk_fixture {
  using index_pointer = std::shared_ptr<const block_index>;

  scratch state;
  std::unique_ptr<catalog> records;

  store_fixture() {
    std::filesystem::create_directory(state / "blobs");
    std::filesystem::create_directory_symlink(dir.path(), state / "images");
    reopen();
  }

  void reopen() {
    records.reset();
    auto opened = catalog::open(state / "catalog");
    BOOST_REQUIRE_MESSAGE(opened, opened.error().text);
    records = std::move(*opened);
  }

  template <class Body>
  void commit(Body&& body) {
    auto t = records->begin();
    BOOST_REQUIRE(t);
    auto done = body(*t);
    BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().text));
    BOOST_REQUIRE(t->commit());
  }

  void record(const uuid& id, const uuid& parent, const index_pointer& index) {
    auto image = make_frame<proto::ImageRecord>([&](auto to) {
      id.to(to.initId());
      to.setProject("default");
      to.setSizeBytes(4096);
      parent.to(to.initParent());
    });
    auto stored = make_frame<proto::ImageIndex>([&](auto to) {
      index->checkpoint().to(to.initCheckpoint());
      auto bytes = index->encode();
      to.setExtents({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
    });
    auto i = image.view();
    auto x = stored.view();
    commit([&](catalog::transaction& t) { return t.put_image(*i, *x); });
  }

  void forget(const uuid& id) {
    commit([&](catalog::transaction& t) { return t.delete_image("default", id); });
  }

  using clusters = std::map<cluster_number, std::uint8_t>;

  index_pointer import(const uuid& id, const clusters& changed) {
    auto index = base(id, changed);
    record(id, {}, index);
    return index;
  }

  index_pointer child(const uuid& id, const uuid& parent, const index_pointer& below,
                      const clusters& changed) {
    auto disk = branch(id, below);
    for (auto [guest, value] : changed) {
      BOOST_TEST(write(*disk, guest, cluster_of(value)) == 0);
    }
    auto index = sealed(*disk, parent).index;
    record(id, parent, index);
    return index;
  }

  /// Gives the upload's file.
  std::filesystem::path upload(const std::string& text, bool is_recorded = true) {
    catalog::sha256 digest{};
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
    auto file = state / "blobs" / blob_file_name(digest);
    std::ofstream{file} << text;
    if (is_recorded) {
      record_upload(digest, text.size());
    }
    return file;
  }

  void record_upload(const catalog::sha256& digest, std::uint64_t size,
                     const std::string& project = "default") {
    auto put = make_frame<proto::PutFile>([&](auto to) {
      auto r = to.initRecord();
      uuid::random().to(r.initId());
      r.setProject(project);
      r.setSha256({digest.data(), digest.size()});
      r.setSizeBytes(size);
    });
    auto view = put.view();
    commit([&](catalog::transaction& t) { return t.put_file(*view); });
  }

  std::vector<std::string> lines;
  fsck_summary found;

  bool check(fsck_options how = {}) {
    lines.clear();
    auto done =
        fsck(*records, state.path(), how, [&](const std::string& l) { lines.push_back(l); });
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    found = *done;
    BOOST_TEST(found.problems == lines.size());
    return lines.empty();
  }

  bool scrub() {
    fsck_options how;
    how.scrub = true;
    return check(how);
  }

  /// Exactly one problem, and its line has all of these.
  bool says(const std::vector<std::string>& parts) const {
    auto all = std::all_of(parts.begin(), parts.end(), [&](const std::string& p) {
      return lines.size() == 1 && lines[0].find(p) != std::string::npos;
    });
    if (!all) {
      for (const auto& l : lines) {
        BOOST_TEST_MESSAGE("told: " << l);
      }
    }
    return all;
  }

  static void flip(const std::filesystem::path& file, std::uint64_t offset) {
    BOOST_REQUIRE(::chmod(file.c_str(), 0600) == 0);
    {
      std::fstream f{file, std::ios::in | std::ios::out | std::ios::binary};
      f.seekg(static_cast<std::streamoff>(offset));
      auto byte = static_cast<char>(f.get());
      f.seekp(static_cast<std::streamoff>(offset));
      f.put(static_cast<char>(byte ^ 0x10));
      BOOST_REQUIRE(f.good());
    }
    BOOST_REQUIRE(::chmod(file.c_str(), 0400) == 0);
  }

  /// Changes a table behind the catalog's back.
  void forge(const char* table,
             const std::function<void(lmdb::transaction&, lmdb::table)>& change) {
    records.reset();
    {
      auto env = lmdb::environment::open(state / "catalog", {1u << 30, 32, 16});
      BOOST_REQUIRE(env);
      ::mdb_env_set_flags(env->handle(), MDB_NOSYNC, 1); // no power is cut here
      auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
      BOOST_REQUIRE(t);
      auto opened = t->open_table(table);
      BOOST_REQUIRE(opened);
      change(*t, *opened);
      BOOST_REQUIRE(t->commit());
    }
    reopen();
  }

  using row = std::pair<std::string, std::string>;

  std::vector<row> rows_of(const char* table) {
    std::vector<row> rows;
    forge(table, [&](lmdb::transaction& t, lmdb::table all) {
      lmdb::cursor at{t, all};
      for (bool more = at.seek({"\0", 1}); more; more = at.next()) {
        rows.emplace_back(at.key(), at.value());
      }
    });
    return rows;
  }

  void put(const char* table, const std::string& key, const std::string& value = {}) {
    forge(table, [&](lmdb::transaction& t, lmdb::table all) { t.put(all, key, value); });
  }

  void erase(const char* table, const std::string& key) {
    forge(table, [&](lmdb::transaction& t, lmdb::table all) { t.erase(all, key); });
  }

  /// With that row too many, exactly one problem is told; without it none.
  bool says_of_stray(const char* table, const std::string& key,
                     const std::vector<std::string>& what, const std::string& value = {}) {
    put(table, key, value);
    check();
    const bool is_told = says(what);
    erase(table, key);
    BOOST_TEST(check());
    return is_told;
  }
};

} // namespace coppice::storage::test
