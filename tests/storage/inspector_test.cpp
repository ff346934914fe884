#define BOOST_TEST_MODULE inspector
#include <boost/test/unit_test.hpp>

#include "storage/qcow2/reader.hpp"
#include "tests/storage/ext4_judge.hpp"
#include "tests/storage/made_disk.hpp"

#include <random>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

// --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(an_imported_image_reads_as_it_was_packed) {
  namespace t = coppice::test;
  auto owned = t::regular("home/alice/note", std::string(300'000, 'n') + "end");
  owned.uid = 1000;
  owned.gid = 50;
  owned.permissions = 04750;
  owned.mtime = 5'000'000'000;
  judged_import made{{t::tar_of({
      t::regular("etc/passwd", "root:x:0:0\nalice:x:1000:1000:,,,:/home/alice:/bin/sh\n"),
      t::regular("etc/group", "staff:x:50:\n"),
      owned,
      t::hard_link("home/alice/again", "home/alice/note"),
      t::soft_link("home/alice/link", "note"),
      t::special("dev/null", S_IFCHR, 1, 3),
  })}};
  auto source = qcow2::reader::open(qcow2::open_bytes(made.qcow2()).value(),
                                    [](const uuid&) -> result<std::unique_ptr<qcow2::byte_source>> {
                                      return fail(ec::not_found, "no parent");
                                    });
  BOOST_REQUIRE(source);
  auto image = inspector::open(std::move(*source));
  BOOST_REQUIRE_MESSAGE(image, (image ? "" : image.error().text));

  auto home = list(**image, "/home/alice/");
  BOOST_REQUIRE_MESSAGE(home, (home ? "" : home.error().text));
  BOOST_CHECK_EQUAL(home->size(), 3);
  const auto& note = home->at("note");
  BOOST_CHECK_EQUAL(note.size_bytes, 300'003);
  BOOST_CHECK_EQUAL(note.uid, 1000);
  BOOST_CHECK_EQUAL(note.gid, 50);
  BOOST_CHECK_EQUAL(note.mode, S_IFREG | 04750u);
  BOOST_CHECK_EQUAL(note.mtime, 5'000'000'000);
  BOOST_CHECK_EQUAL(note.links, 2);
  BOOST_CHECK_EQUAL(note.owner, "alice");
  BOOST_CHECK_EQUAL(note.group, "staff");
  BOOST_CHECK_EQUAL(home->at("link").symlink_target, "note");
  BOOST_CHECK_EQUAL(home->at("link").mode, S_IFLNK | 0777u);

  BOOST_TEST((content(**image, "/home/alice/link").value() == owned.content));
  auto root = list(**image, "/").value();
  BOOST_CHECK_EQUAL(root.at("home").mode, S_IFDIR | 0755u);
  BOOST_CHECK_EQUAL(root.at("home").owner, "root");
  BOOST_CHECK_EQUAL(root.at("home").group, ""); // the image's group file has no 0
  check_fails((*image)->open_file("/dev/null"), ec::wrong_type, "/dev/null");
}

BOOST_AUTO_TEST_CASE(content_is_right_in_any_piece_and_block_size) {
  std::mt19937 random{7};
  std::string text(200'123, '\0');
  std::generate(text.begin(), text.end(), [&] { return static_cast<char>(random()); });
  for (auto options :
       {"-O ^has_journal -b 4096", "-O ^has_journal -b 1024",
        "-O ^has_journal,^extents,^64bit -b 1024", "-O ^has_journal,^metadata_csum"}) {
    made_disk made;
    made.options = options;
    made.write("data", text);
    made.write("empty", "");
    made.make();
    auto image = made.open();
    for (std::size_t piece : {1u << 20, 4096u, 1000u}) {
      BOOST_CHECK_MESSAGE(content(*image, "/data", piece).value() == text, options);
    }
    BOOST_CHECK_EQUAL(content(*image, "/empty").value(), "");
    BOOST_CHECK(list(*image, "/").value().contains("data"));
  }
}

BOOST_AUTO_TEST_CASE(sparse_and_preallocated_parts_read_as_zeros) {
  made_disk made;
  made.make();
  made.debugfs("fallocate /plain 1 10");
  made.debugfs("sif /plain size 50000");
  auto image = made.open();
  BOOST_CHECK(content(*image, "/plain", 7000).value() ==
              "plain text" + std::string(50'000 - 10, '\0'));
}

BOOST_AUTO_TEST_CASE(an_indexed_directory_lists_every_name_once) {
  made_disk made;
  made.options += " -N 4000";
  made.size = "64M";
  for (int i = 0; i < 3000; ++i) {
    made.write("many/a_name_that_takes_some_room_" + std::to_string(i), "");
  }
  made.make();
  must("e2fsck -fyD " + made.disk().string() + " || [ $? = 1 ]");
  BOOST_REQUIRE(must("debugfs -R 'stat /many' " + made.disk().string()).find("Flags: 0x81000") !=
                std::string::npos); // index and extents
  auto image = made.open();
  BOOST_CHECK_EQUAL(list(*image, "/many").value().size(), 3000);
  BOOST_CHECK(image->open_file("/many/a_name_that_takes_some_room_2999"));
}

// -- paths
// -----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(paths_stay_inside_the_image) {
  made_disk made;
  made.write("a/b/file", "inside");
  auto link = [&](const char* name, const char* target) {
    std::filesystem::create_symlink(target, made.root() / name);
  };
  link("absolute", "/a/b");
  link("a/up", "../../../../../../a/b/file");
  link("a/b/chain", "../up");
  link("dangling", "/nowhere");
  link("self", "self");
  link("one", "two");
  link("two", "one");
  made.make();
  auto image = made.open();
  for (auto path : {"/a/b/file", "a/b/file", "/../../a/./b//file", "/absolute/file",
                    "/absolute/../b/file", "/a/up", "/a/b/chain", "/a/b/../../../../a/up"}) {
    auto text = content(*image, path);
    BOOST_CHECK_MESSAGE(text && *text == "inside", path);
  }
  for (auto path : {"/nowhere", "/dangling", "/self", "/one", "/plain/x", "/plain/..",
                    "/plain/../plain", "/a/up/x"}) {
    check_fails(image->open_file(path), ec::not_found, path);
    check_fails(image->open_directory(path), ec::not_found, path);
  }
  check_fails(image->open_file("/a"), ec::wrong_type, "not a regular file");
  check_fails(image->open_file("/"), ec::wrong_type, "not a regular file");
  check_fails(image->open_directory("/plain"), ec::wrong_type, "not a directory");
  check_fails(image->open_file(std::string("/plain\0x", 8)), ec::not_found, "not a path");
  check_fails(image->open_file(std::string(5000, '/')), ec::not_found, "not a path");
  BOOST_CHECK(list(*image, "/absolute").value().contains("chain"));
}

BOOST_AUTO_TEST_CASE(as_many_links_are_followed_as_by_a_kernel) {
  made_disk made;
  for (int i = 1; i <= 41; ++i) {
    const auto target = i == 1 ? std::string{"plain"} : "hop" + std::to_string(i - 1);
    std::filesystem::create_symlink(target, made.root() / ("hop" + std::to_string(i)));
  }
  made.make();
  auto image = made.open();
  BOOST_CHECK_EQUAL(content(*image, "/hop40").value(), "plain text");
  check_fails(image->open_file("/hop41"), ec::not_found, "too many symbolic links");
}

BOOST_AUTO_TEST_CASE(a_listing_goes_on_where_the_last_answer_stopped) {
  made_disk made;
  made.make();
  auto image = made.open();
  BOOST_REQUIRE(image->open_directory("/"));
  std::vector<std::string> names;
  for (;;) {
    auto answer = image->next_entries(1);
    BOOST_REQUIRE(answer);
    auto view = answer->view();
    if (view->getEntries().size() == 0) {
      break;
    }
    BOOST_REQUIRE_EQUAL(view->getEntries().size(), 1u);
    names.emplace_back(view->getEntries()[0].getName().cStr());
  }
  std::sort(names.begin(), names.end());
  BOOST_TEST((names == std::vector<std::string>{"etc", "lost+found", "plain"}));
}

BOOST_AUTO_TEST_CASE(owner_files_may_be_anything) {
  made_disk made;
  made.write("etc/passwd", "\n::\nbroken\nx:x:notanumber\n" + std::string(70, 'l') +
                               ":x:5:\nev\x01il:x:0:\nroot:x:0:\nsecond:x:0:\n");
  std::filesystem::remove(made.root() / "etc/group");
  std::filesystem::create_symlink("group", made.root() / "etc/group");
  made.make();
  auto image = made.open();
  auto root = list(*image, "/").value();
  BOOST_CHECK_EQUAL(root.at("plain").owner, "root");
  BOOST_CHECK_EQUAL(root.at("plain").group, "");
}
