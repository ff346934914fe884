#define BOOST_TEST_MODULE importer
#include <boost/test/unit_test.hpp>

#include "storage/error.hpp"
#include "storage/importer.hpp"
#include "tests/storage/ext4_judge.hpp"

#include <clocale>
#include <fstream>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using namespace coppice::test;

namespace {

const std::string kib(1024, 'k');

tar_entry with(tar_entry entry, mode_t permissions, std::int64_t uid, std::int64_t gid) {
  entry.permissions = permissions;
  entry.uid = uid;
  entry.gid = gid;
  return entry;
}

std::string repeated(std::string_view text, std::size_t bytes) {
  std::string out;
  while (out.size() < bytes) {
    out += text;
  }
  out.resize(bytes);
  return out;
}

bool contains(const std::filesystem::path& path, std::string_view needle) {
  std::ifstream in{path, std::ios::binary};
  const std::string all{std::istreambuf_iterator<char>{in}, {}};
  return all.find(needle) != all.npos;
}

} // namespace

// -- what is kept
// ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_file_system_is_the_one_that_all_images_have) {
  judged_import image{{tar_of({regular("x", "x")})}};
  const auto info = must("dumpe2fs " + image.raw().string());
  for (auto part : {"Filesystem volume name:   coppice", "Block count:              16777216",
                    "Inode count:              4194304", "Reserved block count:     0",
                    "Filesystem state:         clean", "metadata_csum", "extent", "64bit",
                    "flex_bg", "Inode size:	          256"}) {
    BOOST_CHECK_MESSAGE(info.find(part) != info.npos, "lacks " << part);
  }
  BOOST_CHECK(info.find("has_journal") == info.npos);
  // A group without the flag would be initialised behind the back of a run.
  std::size_t zeroed_groups = 0;
  for (std::size_t at = 0; (at = info.find("ITABLE_ZEROED", at)) != info.npos; ++at) {
    ++zeroed_groups;
  }
  BOOST_CHECK_EQUAL(zeroed_groups, 512);
  // An image of nothing costs tables, not gigabytes.
  BOOST_CHECK_LT(std::filesystem::file_size(image.qcow2()), 4u << 20);
}

BOOST_AUTO_TEST_CASE(modes_owners_times_and_content_are_kept) {
  auto old = regular("old", "1960");
  old.mtime = -300'000'000;
  auto late = regular("late", "2200");
  late.mtime = 7'258'118'400;
  late.mtime_ns = 123'456'789;
  judged_import image{{tar_of({
      directory("./", 0711),
      with(directory("home/u", 02775), 02775, 1000, 100'000),
      with(regular("home/u/setuid", repeated("content", 10'000)), 04755, 70'000, 4'000'000'000),
      regular("empty"),
      old,
      late,
  })}};
  BOOST_CHECK_EQUAL(image.outcome.entries, 6);
  image.check_stat("/", {"Type: directory", "Mode:  0711"});
  image.check_stat("/home/u", {"Mode:  02775", "User:  1000", "Group: 100000"});
  image.check_stat("/home/u/setuid", {"Type: regular", "Mode:  04755", "User: 70000",
                                      "Group: -294967296" /* as debugfs prints it */, "Size: 10000",
                                      "mtime: 0x6553f100"});
  image.check_stat("/empty", {"Size: 0", "Blockcount: 0"});
  image.check_stat("/old", {"mtime: 0xee1e5d00"});           // 2^32 - 300,000,000
  image.check_stat("/late", {"mtime: 0xb09e1900:1d6f3456"}); // epoch 2, nanoseconds
  BOOST_CHECK_EQUAL(image.cat("/home/u/setuid"), repeated("content", 10'000));
}

BOOST_AUTO_TEST_CASE(directories_that_no_entry_describes_are_0755_root) {
  judged_import image{{tar_of({with(regular("a/b/c", "c"), 0600, 5, 5)})}};
  image.check_stat("/a", {"Type: directory", "Mode:  0755", "User:     0", "Group:     0"});
  image.check_stat("/a/b", {"Type: directory", "Mode:  0755"});
  image.check_stat("/", {"Mode:  0755", "Links: 4"}); // . .. a lost+found
}

BOOST_AUTO_TEST_CASE(symbolic_links_of_any_length_are_kept) {
  judged_import image{{tar_of({
      soft_link("short", "busybox"),
      soft_link("last_fast", std::string(59, 'f')),
      soft_link("first_slow", std::string(60, 's')),
      soft_link("longest", std::string(4095, 'l')),
      soft_link("up", "../../../etc/passwd"),
  })}};
  image.check_stat("/short", {"Type: symlink", "Mode:  0777", "Fast link dest: \"busybox\""});
  image.check_stat("/last_fast", {"Size: 59", "Fast link dest"});
  image.check_stat("/first_slow", {"Size: 60", "Blockcount: 8"});
  BOOST_CHECK_EQUAL(image.cat("/longest"), std::string(4095, 'l'));
  check_refused({tar_of({soft_link("l", std::string(4096, 'l'))})}, ec::too_large, "\"l\"");
}

BOOST_AUTO_TEST_CASE(devices_and_fifos_are_kept) {
  judged_import image{{tar_of({
      special("dev/null", S_IFCHR, 1, 3),
      special("dev/big", S_IFBLK, 259, 70'000),
      special("pipe", S_IFIFO),
  })}};
  image.check_stat("/dev/null", {"Type: character special", "Device major/minor number: 01:03"});
  image.check_stat("/dev/big", {"Type: block special", "259:70000"});
  image.check_stat("/pipe", {"Type: FIFO"});
}

BOOST_AUTO_TEST_CASE(extended_attributes_are_kept) {
  const std::string capability{"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
                               "\x00\x00\x00\x00",
                               20};
  const std::string acl{"\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00"
                        "\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00"
                        "\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff",
                        44};
  auto ping = regular("bin/ping", "elf");
  ping.xattrs = {{"security.capability", capability}, {"com.apple.quarantine", "no"}};
  auto shared = regular("shared", "x");
  shared.xattrs = {{"system.posix_acl_access", acl}};
  auto noted = directory("noted");
  noted.xattrs = {{"user.note", std::string(3000, 'n')}, {"user.empty", ""}};
  judged_import image{{tar_of({ping, shared, noted})}};
  const auto dump = image.dir / "value";
  image.debugfs("ea_get -f " + dump.string() + " /bin/ping security.capability");
  const auto value = read_file(dump);
  BOOST_TEST(
      (std::string{reinterpret_cast<const char*>(value.data()), value.size()} == capability));
  BOOST_CHECK(image.debugfs("ea_list /bin/ping").find("quarantine") == std::string::npos);
  BOOST_CHECK(image.debugfs("ea_list /shared").find("posix_acl_access") != std::string::npos);
  BOOST_CHECK(image.debugfs("ea_get /noted user.note").find(std::string(3000, 'n')) !=
              std::string::npos);
  BOOST_CHECK(image.debugfs("ea_list /noted").find("user.empty") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(attributes_that_ext4_cannot_hold_are_refused) {
  auto large = regular("large", "x");
  large.xattrs = {{"user.a", std::string(5000, 'a')}};
  check_refused({tar_of({large})}, ec::too_large, "user.a");
  auto malformed = regular("malformed", "x");
  malformed.xattrs = {{"system.posix_acl_access", "nonsense"}};
  check_refused({tar_of({malformed})}, ec::damaged, "posix_acl_access");
}

BOOST_AUTO_TEST_CASE(holes_stay_holes) {
  // 10 MiB with two islands, the second unaligned; the file ends in a hole.
  std::string content(10u << 20, '\0');
  content.replace(1u << 20, 6, "island");
  content.replace((5u << 20) + 4000, 200, std::string(200, 'i'));
  auto sparse = regular("sparse", content);
  sparse.data_ranges = {{1 << 20, 6}, {(5 << 20) + 4000, 200}};
  judged_import image{{tar_of({sparse})}};
  image.check_stat("/sparse", {"Size: 10485760", "Blockcount: 24"}); // three blocks
  BOOST_CHECK(image.cat("/sparse") == content);
}

BOOST_AUTO_TEST_CASE(a_file_of_many_extents_gets_a_tree) {
  // Every second block: more extents than two tree levels' worth of one block.
  std::string content(4096u * 3000, '\0');
  auto comb = regular("comb");
  for (std::size_t block = 0; block < 3000; block += 2) {
    content.replace(block * 4096, 8, repeated(std::to_string(block), 8));
    comb.data_ranges.emplace_back(block * 4096, 4096);
  }
  comb.content = content;
  judged_import image{{tar_of({comb}, compression::gzip)}};
  image.check_stat("/comb", {"(ETB0)"});
  BOOST_CHECK(image.cat("/comb") == content);
}

BOOST_AUTO_TEST_CASE(names_are_bytes_up_to_their_limits) {
  // In a UTF-8 locale libarchive would normalise names; the process's locale must not matter.
  BOOST_REQUIRE(std::setlocale(LC_ALL, "C.UTF-8") != nullptr);
  const std::string longest(255, 'n');
  const std::string deep = longest + "/" + longest + "/" + longest + "/file";
  judged_import image{{tar_of({
      regular(deep, "deep"),
      regular("caf\xc3\xa9", "utf-8"),
      regular("e\xcc\x81", "decomposed"),
      regular("\xff\xfe", "neither"),
      regular("with space and \"", "quoted"),
  })}};
  BOOST_CHECK_EQUAL(image.cat("/" + deep), "deep");
  const auto listing = image.debugfs("ls -p /");
  for (auto name : {"caf\xc3\xa9", "e\xcc\x81", "\xff\xfe", "with space and \""}) {
    BOOST_CHECK_MESSAGE(listing.find("/" + std::string{name} + "/") != listing.npos,
                        listing << " lacks " << name);
  }
  std::setlocale(LC_ALL, "C");
  check_refused({tar_of({regular(std::string(256, 'n'))})}, ec::too_large, "255 bytes");
  check_refused({tar_of({regular(repeated("d/", 4097))})}, ec::too_large, "4096 bytes");
}

BOOST_AUTO_TEST_CASE(every_compression_gives_the_same_files) {
  for (auto packed : {compression::none, compression::gzip, compression::zstd}) {
    judged_import image{{tar_of({regular("a", repeated("abc", 300'000))}, packed)}};
    BOOST_CHECK(image.cat("/a") == repeated("abc", 300'000));
  }
}

BOOST_AUTO_TEST_CASE(a_large_directory_is_whole) {
  std::vector<tar_entry> entries;
  for (int i = 0; i < 20'000; ++i) {
    entries.push_back(regular("many/name_of_some_length_" + std::to_string(i)));
  }
  judged_import image{{tar_of(entries)}};
  const auto listing = image.debugfs("ls -p /many");
  std::size_t names = 0;
  for (std::size_t at = 0; (at = listing.find("/name_of", at)) != listing.npos; ++at) {
    ++names;
  }
  BOOST_CHECK_EQUAL(names, 20'000);
  BOOST_CHECK(image.has("/many/name_of_some_length_19999"));
}

// -- hard links
// ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(hard_links_share_an_inode_in_whatever_order_they_come) {
  judged_import image{{
      tar_of({regular("base/lower", "lower"), hard_link("./early2", "early1"),
              hard_link("early1", "/late"), regular("late", "late"), hard_link("after", "late")}),
      tar_of({hard_link("top/link", "base/lower")}),
  }};
  for (auto path : {"/early1", "/early2", "/late", "/after"}) {
    image.check_stat(path, {"Links: 4"});
    BOOST_CHECK_EQUAL(image.cat(path), "late");
  }
  image.check_stat("/base/lower", {"Links: 2"});
  BOOST_CHECK_EQUAL(image.cat("/top/link"), "lower");
}

BOOST_AUTO_TEST_CASE(a_linked_file_outlives_its_first_name) {
  judged_import image{{
      tar_of({regular("a", "shared"), hard_link("b", "a"), hard_link("c", "a")}),
      tar_of({regular(".wh.a"), regular("b", "own")}),
  }};
  BOOST_CHECK(!image.has("/a"));
  BOOST_CHECK_EQUAL(image.cat("/b"), "own");
  BOOST_CHECK_EQUAL(image.cat("/c"), "shared");
  image.check_stat("/c", {"Links: 1"});
}

BOOST_AUTO_TEST_CASE(hard_links_to_nothing_or_to_a_directory_are_refused) {
  check_refused({tar_of({hard_link("a", "b"), hard_link("b", "a")})}, ec::damaged,
                "not in the image");
  check_refused({tar_of({hard_link("a", "gone")})}, ec::damaged, "\"gone\"");
  check_refused({tar_of({directory("d"), hard_link("a", "d")})}, ec::damaged, "directory \"d\"");
  check_refused({tar_of({hard_link("a", "../../etc/shadow")})}, ec::damaged, "..");
  check_refused({tar_of({regular("a"), hard_link("a", "a")})}, ec::damaged, "itself");
}

// -- layers
// ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(whiteouts_hide_what_is_below_and_nothing_else) {
  judged_import image{{
      tar_of({regular("file", "1"), regular("dir/a", "1"), regular("dir/sub/b", "1"),
              regular("kept", "1"), regular("again", "1"), regular("reused/old", "1")}),
      // The new entries stand before and after the whiteouts of their names.
      tar_of({regular("again", "2"), regular("reused/new", "2"), regular(".wh.file"),
              regular(".wh.dir"), regular(".wh.again"), regular(".wh.reused"),
              regular(".wh.never_there"), regular("nowhere/.wh.x")}),
  }};
  BOOST_CHECK(!image.has("/file"));
  BOOST_CHECK(!image.has("/dir"));
  BOOST_CHECK(!image.has("/nowhere"));
  BOOST_CHECK_EQUAL(image.cat("/kept"), "1");
  BOOST_CHECK_EQUAL(image.cat("/again"), "2");
  BOOST_CHECK(!image.has("/reused/old"));
  BOOST_CHECK_EQUAL(image.cat("/reused/new"), "2");
}

BOOST_AUTO_TEST_CASE(an_opaque_directory_keeps_only_its_own_layer) {
  judged_import image{{
      tar_of({directory("d", 0700), regular("d/old", "1"), regular("d/sub/old", "1"),
              regular("e/x", "1")}),
      tar_of({regular("d/sub/new", "2"), regular("d/.wh..wh..opq"), regular("d/later", "2")}),
      tar_of({regular("e/.wh.x"), regular("e/.wh..wh.plnk"), regular("f", "3")}),
  }};
  BOOST_CHECK(!image.has("/d/old"));
  BOOST_CHECK(!image.has("/d/sub/old"));
  BOOST_CHECK_EQUAL(image.cat("/d/sub/new"), "2");
  BOOST_CHECK_EQUAL(image.cat("/d/later"), "2");
  image.check_stat("/d", {"Mode:  0700"});
  image.check_stat("/e", {"Links: 2"});
  BOOST_CHECK(!image.has("/e/.wh..wh.plnk"));
}

BOOST_AUTO_TEST_CASE(a_whiteout_then_a_file_brings_back_only_the_file) {
  judged_import image{{
      tar_of({regular("d/a", "1")}),
      tar_of({regular(".wh.d")}),
      tar_of({regular("d/b", "3")}),
  }};
  BOOST_CHECK(!image.has("/d/a"));
  BOOST_CHECK_EQUAL(image.cat("/d/b"), "3");
}

BOOST_AUTO_TEST_CASE(one_kind_of_file_replaces_another) {
  judged_import image{{
      tar_of({regular("was_dir/a/b", "1"), regular("was_file", "1"),
              soft_link("was_link", "was_dir")}),
      tar_of(
          {regular("was_dir", "2"), regular("was_file/inside", "2"), directory("was_link", 0750)}),
  }};
  BOOST_CHECK_EQUAL(image.cat("/was_dir"), "2");
  BOOST_CHECK_EQUAL(image.cat("/was_file/inside"), "2");
  image.check_stat("/was_link", {"Type: directory", "Mode:  0750"});
}

BOOST_AUTO_TEST_CASE(the_last_of_several_entries_of_one_name_counts) {
  judged_import image{{tar_of({regular("a", "first"), regular("a", "second"), directory("d", 0700),
                               regular("d/x", "x"), directory("d", 0711)})}};
  BOOST_CHECK_EQUAL(image.cat("/a"), "second");
  image.check_stat("/d", {"Mode:  0711"});
  BOOST_CHECK_EQUAL(image.cat("/d/x"), "x");
}

BOOST_AUTO_TEST_CASE(links_are_never_followed) {
  // Over a lower layer's link an entry's path makes a directory; the link's target is not touched.
  judged_import image{{
      tar_of({regular("usr/bin/sh", "1"), soft_link("bin", "usr/bin")}),
      tar_of({regular("bin/tool", "2")}),
  }};
  image.check_stat("/bin", {"Type: directory"});
  BOOST_CHECK_EQUAL(image.cat("/bin/tool"), "2");
  BOOST_CHECK(!image.has("/usr/bin/tool"));
  check_refused({tar_of({soft_link("out", "/etc"), regular("out/passwd", "x")})}, ec::damaged,
                "links are not followed");
  check_refused({tar_of({regular("f", "x"), regular("f/g", "x")})}, ec::damaged, "not a directory");
}

BOOST_AUTO_TEST_CASE(content_of_replaced_and_hidden_files_is_not_in_the_image) {
  const auto secret = repeated("the-secret-of-a-lower-layer;", 40'000);
  judged_import image{{
      tar_of({regular("hidden", secret), regular("replaced", secret),
              soft_link("l", std::string(90, 'q')), regular("kept", "kept")}),
      tar_of({regular(".wh.hidden"), regular("replaced", "new"), regular(".wh.l")}),
  }};
  BOOST_CHECK(!contains(image.qcow2(), "the-secret-of-a-lower-layer"));
  BOOST_CHECK(!contains(image.qcow2(), std::string(90, 'q')));
  BOOST_CHECK_EQUAL(image.cat("/replaced"), "new");
}

BOOST_AUTO_TEST_CASE(an_image_of_no_layers_and_one_of_empty_layers_are_empty) {
  judged_import none{{}};
  BOOST_CHECK_EQUAL(none.outcome.entries, 0);
  none.check_stat("/", {"Type: directory", "Mode:  0755"});
  judged_import empty{{tar_of(std::initializer_list<tar_entry>{}), std::string{}}};
  BOOST_CHECK_EQUAL(empty.outcome.entries, 0);
}

BOOST_AUTO_TEST_CASE(an_image_may_have_its_own_lost_and_found) {
  judged_import folder{{tar_of({directory("lost+found", 0755), regular("lost+found/x", "x")})}};
  folder.check_stat("/lost+found", {"Inode: 11", "Mode:  0755"});
  judged_import plain{{tar_of({regular("lost+found", "a file")})}};
  BOOST_CHECK_EQUAL(plain.cat("/lost+found"), "a file");
}

// -- hostile archives
// ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(names_stay_inside_the_root) {
  check_refused({tar_of({regular("../x")})}, ec::damaged, "entry \"../x\"");
  check_refused({tar_of({regular("a/../../x")})}, ec::damaged, "..");
  check_refused({tar_of({regular("a/..")})}, ec::damaged, "..");
  judged_import image{{tar_of({regular("/etc/absolute", "a"), regular(".//./b///c", "b")})}};
  BOOST_CHECK_EQUAL(image.cat("/etc/absolute"), "a");
  BOOST_CHECK_EQUAL(image.cat("/b/c"), "b");
}

BOOST_AUTO_TEST_CASE(malformed_whiteouts_are_refused) {
  for (auto name : {".wh.", "a/.wh..", "a/.wh...", ".wh.d/x"}) {
    check_refused({tar_of({regular(name)})}, ec::damaged, "whiteout");
  }
  judged_import longest{{tar_of({regular(std::string(255, 'x'))}),
                         tar_of({regular(".wh." + std::string(255, 'x'))})}};
  BOOST_CHECK(!longest.has("/" + std::string(255, 'x')));
  check_refused({tar_of({regular(".wh." + std::string(256, 'x'))})}, ec::too_large, "255 bytes");
}

BOOST_AUTO_TEST_CASE(limits_hold_for_all_layers_together) {
  const auto three = tar_of({regular("a"), regular("b"), regular("c")});
  check_refused({three, three}, ec::too_large, "more than 5 entries", {.entries_max = 5});
  const auto bomb = tar_of({regular("bomb", std::string(64u << 20, '\0'))}, compression::gzip);
  BOOST_CHECK_LT(bomb.size(), 1u << 20);
  check_refused({bomb}, ec::too_large, "unpack to more than 1048576",
                {.content_bytes_max = 1u << 20});
  // Names that no entry brings count as well: each path makes many.
  check_refused({tar_of({regular(repeated("d/", 4000) + "f")})}, ec::too_large, "names",
                {.entries_max = 1000});
}

BOOST_AUTO_TEST_CASE(what_is_no_archive_is_refused_with_its_layer) {
  check_refused({tar_of({regular("a")}), repeated("not a tar at all ", 5000)}, ec::damaged,
                "layer 2 of 2 (sha256:");
  auto truncated = tar_of({regular("a", repeated("abc", 100'000))});
  truncated.resize(50'000);
  check_refused({truncated}, ec::damaged, "entry \"a\"");
  auto huge = regular("n");
  huge.uid = std::int64_t{1} << 32;
  check_refused({tar_of({huge})}, ec::unsupported, "uid");
}

BOOST_AUTO_TEST_CASE(blobs_must_be_what_their_digests_say) {
  const auto tar = tar_of({regular("a", "right")});
  auto forged = tar;
  forged.replace(forged.find("right"), 5, "wrong");
  auto check = [&](auto&& spoil, ec code, std::string_view part) {
    scratch dir;
    layout_folder layout{dir / "layout"};
    layout.set_image({tar});
    spoil(layout, layout.blob_path(sha256_hex(tar)));
    check_fails(import_oci_layout(layout.path(), dir / "out", {}), code, part);
    BOOST_CHECK(!std::filesystem::exists(dir / "out"));
  };
  auto put = [](const std::filesystem::path& path, const std::string& data) {
    std::ofstream{path, std::ios::binary | std::ios::trunc} << data;
  };
  check([&](auto&, auto path) { put(path, forged); }, ec::damaged, "has the digest");
  check([&](auto&, auto path) { put(path, tar + "x"); }, ec::damaged, "longer than");
  check([&](auto&, auto path) { put(path, tar.substr(0, 512)); }, ec::damaged, "bytes");
  check([&](auto&, auto path) { std::filesystem::remove(path); }, ec::not_found, "lacks blob");
  check(
      [&](auto& layout, auto path) {
        put(layout.path() / "elsewhere", tar);
        std::filesystem::remove(path);
        std::filesystem::create_symlink(layout.path() / "elsewhere", path);
      },
      ec::io, "");
}

BOOST_AUTO_TEST_CASE(an_existing_file_is_not_overwritten) {
  scratch dir;
  layout_folder layout{dir / "layout"};
  layout.set_image({tar_of({regular("a")})});
  std::ofstream{dir / "out"} << "precious";
  BOOST_CHECK(!import_oci_layout(layout.path(), dir / "out", {}));
  BOOST_CHECK(contains(dir / "out", "precious"));
}
