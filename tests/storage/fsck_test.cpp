#define BOOST_TEST_MODULE fsck
#include "tests/storage/upkeep_fixture.hpp"

#include <linux/falloc.h>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// A base, a child, a grandchild, an upload.
struct family : store_fixture {
  uuid base_id = uuid::random();
  uuid child_id = uuid::random();
  uuid last_id = uuid::random();
  index_pointer base_index = import(base_id, {{5, 1}, {6, 2}, {7, 3}});
  index_pointer child_index = child(child_id, base_id, base_index, {{6, 9}, {100'000, 4}});
  index_pointer last_index = child(last_id, child_id, child_index, {{7, 8}, {5, 0}});
  std::filesystem::path blob = upload("an upload");

  static std::uint64_t data_begin() {
    return std::uint64_t{qcow2::data_begin(disk_bytes)} * cluster_bytes;
  }
};

void touch(const std::filesystem::path& file) {
  std::ofstream{file} << "x";
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(fsck_suite, family)

BOOST_AUTO_TEST_CASE(a_store_that_is_whole_is_found_so_and_counted) {
  BOOST_TEST(scrub());
  BOOST_TEST(found.images == 3u);
  BOOST_TEST(found.deleted_files == 0u);
  BOOST_TEST(found.uploads == 1u);
  BOOST_TEST(found.upload_bytes == 9u);
  BOOST_TEST(found.file_bytes > 0u);
  // four clusters of the base (one is the superblock), two of the child, one of the last
  BOOST_TEST(found.scrubbed_bytes == 7 * cluster_bytes + 9);
}

BOOST_AUTO_TEST_CASE(a_missing_file_is_named) {
  std::filesystem::remove(file_of(child_id));
  BOOST_TEST(!check());
  BOOST_TEST(says({child_id.text() + ".qcow2: missing"}));
}

BOOST_AUTO_TEST_CASE(a_file_without_a_record_is_named) {
  auto stranger = uuid::random();
  std::filesystem::copy_file(file_of(child_id), file_of(stranger));
  BOOST_TEST(!check());
  BOOST_TEST(says({stranger.text() + ".qcow2: the catalog has no record"}));
}

BOOST_AUTO_TEST_CASE(anything_else_among_the_files_is_named) {
  touch(dir / "notes.txt");
  BOOST_TEST(!check());
  BOOST_TEST(says({"notes.txt"}));
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_of_data_is_found_by_a_scrub_with_its_place) {
  flip(file_of(child_id), data_begin() + 123);
  BOOST_TEST(check());
  BOOST_TEST(!scrub());
  BOOST_TEST(says({child_id.text() + ".qcow2", "the data at " + std::to_string(data_begin())}));
}

BOOST_AUTO_TEST_CASE(a_flipped_bit_in_each_metadata_cluster_is_found_without_a_scrub) {
  auto file = file_of(base_id);
  auto size = std::filesystem::file_size(file);
  auto data_end = data_begin() + 4 * cluster_bytes;
  std::vector<std::uint64_t> places{0, cluster_bytes + 1, data_begin() - 1};
  for (auto at = data_end; at < size; at += cluster_bytes) {
    places.push_back(at + 3);
  }
  BOOST_TEST(places.size() > 5u);
  for (auto at : places) {
    flip(file, at);
    // A flipped checksum is one that differs from its data.
    BOOST_TEST((at + cluster_bytes > size ? !scrub() : !check()), "offset " << at);
    BOOST_TEST(says({base_id.text()}));
    flip(file, at);
  }
  BOOST_TEST(scrub());
}

BOOST_AUTO_TEST_CASE(a_truncated_file_is_named) {
  auto file = file_of(child_id);
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - cluster_bytes);
  ::chmod(file.c_str(), 0400);
  BOOST_TEST(!check());
  BOOST_TEST(says({child_id.text() + ".qcow2"}));
}

BOOST_AUTO_TEST_CASE(a_file_that_others_may_write_is_named) {
  ::chmod(file_of(child_id).c_str(), 0644);
  BOOST_TEST(!check());
  BOOST_TEST(says({child_id.text() + ".qcow2", "mode"}));
}

BOOST_AUTO_TEST_CASE(a_wrong_parent_is_named_with_both) {
  // Valid in itself, over another base: as if two files had been exchanged.
  auto other_base = uuid::random();
  import(other_base, {{ 5, 1 }});
  forge("image_files", [&](lmdb::transaction& t, lmdb::table all) {
    t.put(all, keys::of(child_id), keys::of(other_base));
  });
  BOOST_TEST(!check());
  BOOST_TEST(lines.size() >= 1u);
  BOOST_TEST(lines[0].find(base_id.text()) != std::string::npos);
  BOOST_TEST(lines[0].find(other_base.text()) != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_parent_that_is_not_on_record_is_named) {
  forge("image_files",
        [&](lmdb::transaction& t, lmdb::table all) { t.erase(all, keys::of(base_id)); });
  BOOST_TEST(!check());
  BOOST_TEST(std::any_of(lines.begin(), lines.end(), [&](const std::string& l) {
    return l.find(child_id.text()) != std::string::npos && l.find("stands") != std::string::npos;
  }));
  BOOST_TEST(std::any_of(lines.begin(), lines.end(), [&](const std::string& l) {
    return l.find("image " + base_id.text() + " has no file on record") != std::string::npos;
  }));
}

BOOST_AUTO_TEST_CASE(a_missing_index_is_named_and_its_children_are_still_proved) {
  forge("indexes",
        [&](lmdb::transaction& t, lmdb::table all) { t.erase(all, keys::of(child_id)); });
  BOOST_TEST(!check());
  BOOST_TEST(says({"block index of image " + child_id.text()}));
}

BOOST_AUTO_TEST_CASE(an_altered_index_is_named) {
  forge("indexes", [&](lmdb::transaction& t, lmdb::table all) {
    auto bytes = std::string{*t.get(all, keys::of(last_id))};
    bytes[bytes.size() - 9] = static_cast<char>(bytes[bytes.size() - 9] ^ 1);
    t.put(all, keys::of(last_id), bytes);
  });
  BOOST_TEST(!check());
  BOOST_TEST(says({"block index of image " + last_id.text()}));
}

BOOST_AUTO_TEST_CASE(an_index_that_is_valid_and_wrong_is_named_with_the_place) {
  // As if a bug had left a cluster out: the same checkpoint, a right checksum.
  auto forged = block_index::of_child(
      child_index, last_id, std::vector<own_extent>{{5, 1, own_extent::zeros}}); // 7 is missing
  auto record = make_frame<proto::ImageIndex>([&](auto to) {
    forged->checkpoint().to(to.initCheckpoint());
    auto bytes = forged->encode();
    to.setExtents({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
  });
  forge("indexes", [&](lmdb::transaction& t, lmdb::table all) {
    auto b = record.bytes();
    t.put(all, keys::of(last_id), {reinterpret_cast<const char*>(b.data()), b.size()});
  });
  BOOST_TEST(!check());
  BOOST_TEST(says({last_id.text(), "at " + std::to_string(7 * cluster_bytes), base_id.text()}));
}

BOOST_AUTO_TEST_CASE(an_altered_upload_is_found_by_a_scrub_and_a_shorter_one_at_once) {
  flip(blob, 2);
  BOOST_TEST(check());
  BOOST_TEST(!scrub());
  BOOST_TEST(says({blob.filename().string(), "SHA-256"}));
  std::filesystem::permissions(blob, std::filesystem::perms::owner_all);
  std::filesystem::resize_file(blob, 3);
  BOOST_TEST(!check());
  BOOST_TEST(says({blob.filename().string(), "3 bytes"}));
  std::filesystem::remove(blob);
  BOOST_TEST(!check());
  BOOST_TEST(says({blob.filename().string(), "missing"}));
}

BOOST_AUTO_TEST_CASE(an_upload_without_a_record_is_named_but_not_one_of_another_project) {
  catalog::sha256 same{};
  SHA256(reinterpret_cast<const unsigned char*>("two"), 3, same.data());
  upload("two", false);
  record_upload(same, 3, "zebra");
  BOOST_TEST(check());
  auto lost = upload("lost", false);
  BOOST_TEST(!check());
  BOOST_TEST(says({lost.filename().string(), "no record"}));
}

BOOST_AUTO_TEST_CASE(a_deleted_image_is_proved_but_for_what_nobody_sees) {
  forget(child_id);
  BOOST_TEST(scrub());
  BOOST_TEST(found.deleted_files == 1u);
  forget(base_id);
  BOOST_TEST(scrub());
  // Cluster 6 of the base was replaced by the child, 5 and 7 by the last: nobody sees them.
  auto file = file_of(base_id);
  for (cluster_number unseen : {1u, 2u, 3u}) {
    ::chmod(file.c_str(), 0600);
    auto fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    BOOST_REQUIRE(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(data_begin() + unseen * cluster_bytes),
                              cluster_bytes) == 0);
    ::close(fd);
    ::chmod(file.c_str(), 0400);
  }
  BOOST_TEST(scrub());
  flip(file, data_begin()); // the superblock, which the last one still has
  BOOST_TEST(!scrub());
  BOOST_TEST(says({base_id.text(), "the data at " + std::to_string(data_begin())}));
}

BOOST_AUTO_TEST_CASE(overlays_belong_only_to_a_daemon_that_runs) {
  touch(dir / (uuid::random().text() + ".overlay"));
  BOOST_TEST(!check());
  BOOST_TEST(says({".overlay: left over"}));
  fsck_options how;
  how.is_daemon_running = [] {
    return true;
  };
  BOOST_TEST(check(how));
  BOOST_TEST(found.overlays == 1u);
}

BOOST_AUTO_TEST_CASE(what_a_daemon_is_just_removing_is_looked_at_again) {
  // Record first, file after: fsck may see the file in between.
  auto leaving = last_id;
  forget(leaving);
  unsigned waits = 0;
  fsck_options how;
  how.is_daemon_running = [] {
    return true;
  };
  how.wait = [&] {
    ++waits;
    std::filesystem::remove(file_of(leaving));
  };
  BOOST_TEST(check(how));
  BOOST_TEST(waits == 1u);
}

BOOST_AUTO_TEST_CASE(what_a_daemon_has_just_made_may_get_its_record_later) {
  auto made = uuid::random();
  auto index = base(made, {{5, 1}});
  fsck_options how;
  how.is_daemon_running = [] {
    return true;
  };
  how.wait = [&] {
    record(made, {}, index);
  };
  BOOST_TEST(check(how));
  BOOST_TEST(found.images == 3u); // it came after its page was read
}

BOOST_AUTO_TEST_CASE(what_nobody_comes_for_is_told_in_the_end) {
  touch(dir / "notes.txt");
  struct timespec old[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  ::utimensat(AT_FDCWD, (dir / "notes.txt").c_str(), old, 0);
  fsck_options how;
  bool is_running = true;
  how.is_daemon_running = [&] {
    return is_running;
  };
  how.wait = [&] {
    is_running = false;
  };
  BOOST_TEST(!check(how));
  BOOST_TEST(says({"notes.txt"}));
}

BOOST_AUTO_TEST_CASE(a_chain_of_deleted_images_is_walked_without_their_indexes) {
  auto at = last_id;
  auto index = last_index;
  std::vector<uuid> between;
  for (std::uint8_t i = 0; i < 40; ++i) {
    auto next = uuid::random();
    index = child(next, at, index, {{200u + i, static_cast<std::uint8_t>(i + 1)}});
    between.push_back(next);
    at = next;
  }
  between.pop_back();
  for (const auto& id : between) {
    forget(id);
  }
  BOOST_TEST(scrub());
  BOOST_TEST(found.deleted_files == between.size());
  flip(file_of(between[20]), cluster_bytes * 2); // its L1 table
  BOOST_TEST(!check());
}

BOOST_AUTO_TEST_SUITE_END()
