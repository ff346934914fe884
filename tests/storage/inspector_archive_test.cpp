#define BOOST_TEST_MODULE inspector_archive
#include <boost/test/unit_test.hpp>

#include "storage/block_cache.hpp"
#include "storage/inspector_ext4.hpp"
#include "storage/tar_header.hpp"
#include "tests/storage/made_disk.hpp"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// What a source tells, put together from the disk.
result<std::string> collect(answer_source& from, const memory_disk& disk,
                            std::uint64_t content_bytes_max = 0) {
  std::string out;
  for (;;) {
    auto answer = from.next(content_bytes_max);
    if (!answer) {
      return answer.error();
    }
    auto view = answer->view();
    BOOST_REQUIRE(view->isParts());
    for (auto part : view->getParts()) {
      out.append(reinterpret_cast<const char*>(part.getData().begin()), part.getData().size());
      if (part.getZeros()) {
        out.append(part.getBytes(), '\0');
        continue;
      }
      BOOST_REQUIRE_LE(part.getOffset() + part.getBytes(), disk.bytes.size());
      out.append(reinterpret_cast<const char*>(disk.bytes.data()) + part.getOffset(),
                 part.getBytes());
    }
    if (view->getLast()) {
      return out;
    }
  }
}

/// An image and what it gives as an archive.
struct archived {
  explicit archived(made_disk& made) : disk{made.load()} {
    auto opened = inspector::open(std::make_unique<memory_source>(disk));
    BOOST_REQUIRE(opened);
    image = std::move(*opened);
  }
  result<std::string> of(const std::string& path, std::uint64_t content_bytes_max = 0) {
    auto source = image->archive(path);
    if (!source) {
      return source.error();
    }
    return collect(**source, *disk, content_bytes_max);
  }
  std::shared_ptr<memory_disk> disk;
  std::unique_ptr<inspector> image;
};

void save(const std::filesystem::path& to, const std::string& bytes) {
  std::ofstream{to, std::ios::binary} << bytes;
}

std::string listing(const made_disk& made, const std::string& archive, const char* flags = "t") {
  save(made.dir / "out.tar", archive);
  return must("tar -" + std::string{flags} + "f " + (made.dir / "out.tar").string());
}

} // namespace

BOOST_AUTO_TEST_CASE(an_unpacked_archive_is_what_was_packed_into_the_image) {
  made_disk made;
  made.size = "32M";
  made.write("big", std::string(3'000'001, 'b'));
  made.write("empty", "");
  made.write("deep/" + std::string(120, 'd') + "/" + std::string(200, 'n'), "long name");
  made.write("deep/" + std::string(90, 'e') + "/" + std::string(60, 'f'), "split name");
  made.write("b\xFF\xFE" + std::string(120, 'x'), "no text");
  std::filesystem::create_hard_link(made.root() / "big", made.root() / "deep/again");
  std::filesystem::create_symlink("../plain", made.root() / "deep/link");
  std::filesystem::create_symlink(std::string(150, 'l'), made.root() / "deep/long link");
  BOOST_REQUIRE(::mkfifo((made.root() / "pipe").c_str(), 0640) == 0);
  must("truncate -s 9M " + (made.root() / "sparse").string());
  must("printf end >> " + (made.root() / "sparse").string());
  must("chmod 4750 " + (made.root() / "empty").string());
  must("touch -d @1234567890 " + (made.root() / "plain").string());
  made.make();
  archived image{made};
  auto whole = image.of("/");
  BOOST_REQUIRE_MESSAGE(whole, (whole ? "" : whole.error().text));
  BOOST_CHECK(image.of("/", 100'000).value() == *whole); // in any pieces
  BOOST_CHECK(archived{made}.of("/").value() == *whole); // and every time
  save(made.dir / "out.tar", *whole);
  const auto out = (made.dir / "out").string();
  must("mkdir " + out + " && tar -xpf " + (made.dir / "out.tar").string() + " -C " + out +
       " && rmdir " + out + "/lost+found");
  must("diff -r --no-dereference -x pipe " + made.root().string() + " " + out);
  const auto facts = " && find . -mindepth 1 -printf '%p %y %m %s %n %U %G %T@ %l\\n' | "
                     "sed 's/[.]0* / /; s/\\([0-9]\\)[.][0-9]* /\\1 /' | sort";
  // Of directories only the mode: their sizes are the host's.
  const auto only = " | grep -v ' d '";
  BOOST_CHECK_EQUAL(must("cd " + made.root().string() + facts + only),
                    must("cd " + out + facts + only));
}

BOOST_AUTO_TEST_CASE(an_archive_of_a_path_has_it_and_what_is_below_in_order) {
  made_disk made;
  made.write("a/z", "1");
  made.write("a/b/c", "2");
  made.write("a/b-c", "3");
  std::filesystem::create_symlink("a", made.root() / "link");
  made.make();
  archived image{made};
  BOOST_CHECK_EQUAL(listing(made, image.of("/a").value()), "a/\na/b/\na/b/c\na/b-c\na/z\n");
  BOOST_CHECK_EQUAL(listing(made, image.of("a//./b/").value()), "a/b/\na/b/c\n");
  BOOST_CHECK_EQUAL(listing(made, image.of("/a/b/../z").value()), "a/z\n");
  BOOST_CHECK_EQUAL(listing(made, image.of("/link").value()),
                    "link/\nlink/b/\nlink/b/c\nlink/b-c\nlink/z\n");
  check_fails(image.of("/nowhere"), ec::not_found, "nowhere");
}

BOOST_AUTO_TEST_CASE(what_ustar_cannot_say_is_in_extended_headers) {
  made_disk made;
  made.write("x", "x");
  made.write("y", "y");
  made.make();
  made.debugfs("sif /y uid 1234");
  made.debugfs("sif /y gid 56");
  made.debugfs("sif /x uid 4194304");
  made.debugfs("sif /x mtime @9999999999");
  made.debugfs("ea_set /x user.note something");
  archived image{made};
  auto archive = image.of("/x").value();
  BOOST_CHECK(archive.find("SCHILY.xattr.user.note=something\n") != archive.npos);
  BOOST_CHECK(archive.find("uid=4194304\n") != archive.npos);
  const auto shown = listing(made, archive, "tv --numeric-owner --full-time -");
  BOOST_CHECK_MESSAGE(shown.find("4194304/0") != shown.npos, shown);
  const auto usual = listing(made, image.of("/y").value(), "tv --numeric-owner -");
  BOOST_CHECK_MESSAGE(usual.find(" 1234/56 ") != usual.npos, usual);
  tar_entry large;
  large.path = "l";
  large.size_bytes = 8ull << 30;
  BOOST_CHECK(tar_header(large).find("size=8589934592\n") != std::string::npos);
  tar_entry surrogate; // no character, hence no text
  surrogate.path = "\xED\xA0\x80" + std::string(300, 'x');
  BOOST_CHECK(tar_header(surrogate).find("hdrcharset=BINARY\n") != std::string::npos);
  large.size_bytes -= 1;
  BOOST_CHECK_EQUAL(tar_header(large).size(), tar_block_bytes);
}

BOOST_AUTO_TEST_CASE(access_control_lists_are_told_as_a_kernel_takes_them) {
  // Version 2; tag, rights, number: the owner, 1234, the group, the mask, others: as 0644.
  const auto word = [](std::uint32_t n) {
    return std::string{reinterpret_cast<const char*>(&n), 4};
  };
  const auto list = word(2) + word(6u << 16 | 1u) + word(UINT32_MAX) + word(4u << 16 | 2u) +
                    word(1234) + word(4u << 16 | 4u) + word(UINT32_MAX) + word(4u << 16 | 16u) +
                    word(UINT32_MAX) + word(4u << 16 | 32u) + word(UINT32_MAX);
  made_disk made;
  made.write("listed", "x");
  save(made.dir / "list", list);
  made.make();
  const auto from_file = "-f " + (made.dir / "list").string();
  made.debugfs("ea_set " + from_file + " /listed system.posix_acl_access");
  made.debugfs("ea_set " + from_file + " /etc system.posix_acl_default");
  archived image{made};
  auto archive = image.of("/");
  BOOST_REQUIRE_MESSAGE(archive, (archive ? "" : archive.error().text));
  for (const char* name : {"access", "default"}) {
    const auto member = "SCHILY.xattr.system.posix_acl_" + std::string{name} + "=" + list + "\n";
    BOOST_CHECK_MESSAGE(archive->find(member) != archive->npos, name);
  }
  // Where the host's file system has such lists, what is unpacked has them.
  const auto plain = (made.root() / "plain").string();
  if (::setxattr(plain.c_str(), "system.posix_acl_access", list.data(), list.size(), 0) == 0) {
    save(made.dir / "out.tar", *archive);
    must("mkdir " + (made.dir / "out").string() + " && tar --xattrs --xattrs-include='*' -xpf " +
         (made.dir / "out.tar").string() + " -C " + (made.dir / "out").string());
    std::string got(list.size() + 1, '\0');
    const auto bytes = ::getxattr((made.dir / "out/listed").c_str(), "system.posix_acl_access",
                                  got.data(), got.size());
    BOOST_REQUIRE_EQUAL(bytes, static_cast<ssize_t>(list.size()));
    BOOST_CHECK(got.substr(0, list.size()) == list);
  }
  made.debugfs("ea_set -r /plain system.posix_acl_access odd");
  check_fails(archived{made}.of("/plain"), ec::damaged, "access control list");
}

BOOST_AUTO_TEST_CASE(devices_keep_their_numbers_and_sockets_are_left_out) {
  made_disk made;
  made.make();
  made.debugfs("mknod null c 1 3");
  made.debugfs("mknod disk b 259 60000");
  made.debugfs("mknod pipe p");
  made.debugfs("sif /etc/group mode 0140644");
  archived image{made};
  auto shown = listing(made, image.of("/").value(), "tv");
  BOOST_CHECK_MESSAGE(shown.find(" 1,3 ") != shown.npos, shown);
  BOOST_CHECK_MESSAGE(shown.find(" 259,60000 ") != shown.npos, shown);
  BOOST_CHECK(shown.find("\np") != shown.npos);
  BOOST_CHECK(shown.find("etc/passwd") != shown.npos);
  BOOST_CHECK(shown.find("etc/group") == shown.npos);
}

BOOST_AUTO_TEST_CASE(a_directory_in_several_places_is_damage) {
  for (const char* request : {"link /a /a/b/loop", "link /a/b /etc/again"}) {
    made_disk made;
    made.write("a/b/x", "x");
    made.make();
    made.debugfs(request);
    check_fails(archived{made}.of("/"), ec::damaged, "several places");
  }
}

BOOST_AUTO_TEST_CASE(holes_cost_nothing_to_be_told) {
  made_disk made;
  made.make();
  made.debugfs("sif /plain size 0xffffffff000");
  archived image{made};
  auto found = image.image->places("/plain", 0, UINT64_MAX);
  BOOST_REQUIRE(found);
  BOOST_CHECK_EQUAL(found->size_bytes, 0xffffffff000u);
  const auto before = image.disk->reads;
  std::uint64_t told = 0;
  for (bool is_last = false; !is_last;) {
    auto answer = found->parts->next(UINT64_MAX);
    BOOST_REQUIRE(answer);
    for (auto part : answer->view()->getParts()) {
      told += part.getBytes();
    }
    is_last = answer->view()->getLast();
  }
  BOOST_CHECK_EQUAL(told, found->size_bytes);
  BOOST_CHECK_LT(image.disk->reads - before, 100);
}

BOOST_AUTO_TEST_CASE(holes_behind_every_extent_of_a_deep_tree_are_told_whole) {
  constexpr std::uint64_t block = 4096;
  constexpr std::uint64_t extents = 1000; // three leaves
  made_disk made;
  {
    std::ofstream file{made.root() / "spots", std::ios::binary};
    for (std::uint64_t i = 0; i < extents; ++i) {
      file.seekp(static_cast<std::streamoff>(i * 5 * block));
      file << std::string(block, 'x');
    }
  }
  made.make();
  made.debugfs("sif /spots size 0x40000000000");
  archived image{made};
  auto inode = inspection::resolve(image.image->files(), "/spots");
  BOOST_REQUIRE(inode);
  auto content = inspection::content_reader::open(image.image->files(), *inode);
  BOOST_REQUIRE(content);
  for (std::uint64_t i = 0; i < extents; ++i) {
    auto spot = (*content)->find(i * 5 * block, UINT64_MAX);
    auto hole = (*content)->find((i * 5 + 1) * block, 1ull << 40);
    BOOST_REQUIRE(spot && hole);
    BOOST_REQUIRE_EQUAL(spot->bytes, block);
    BOOST_REQUIRE_EQUAL(hole->disk_offset_bytes, 0u);
    BOOST_REQUIRE_EQUAL(hole->bytes, i + 1 < extents ? 4 * block : 1ull << 40);
  }
  const auto before = image.disk->reads;
  BOOST_REQUIRE((*content)->find((extents * 5 + 7) * block, 1ull << 40));
  BOOST_CHECK_LT(image.disk->reads - before, 10);
}

BOOST_AUTO_TEST_CASE(pages_that_were_read_are_not_asked_for_again) {
  auto disk = std::make_shared<memory_disk>();
  disk->bytes.resize(300'000);
  for (std::size_t i = 0; i < disk->bytes.size(); ++i) {
    disk->bytes[i] = static_cast<std::byte>(i % 251);
  }
  block_cache cache{std::make_unique<memory_source>(disk), 2};
  auto check = [&](std::uint64_t offset, std::size_t bytes) {
    std::vector<std::byte> got(bytes);
    BOOST_REQUIRE(cache.read(offset, got));
    BOOST_CHECK(std::equal(got.begin(), got.end(),
                           disk->bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
  };
  check(10, 100);
  check(60'000, 5'000);
  BOOST_CHECK_EQUAL(disk->reads, 1);
  check(65'000, 5'000); // across
  check(299'000, 1'000);
  BOOST_CHECK_EQUAL(disk->reads, 3);
  check(65'540, 10);
  BOOST_CHECK_EQUAL(disk->reads, 3);
  check(0, 10); // was given up
  BOOST_CHECK_EQUAL(disk->reads, 4);
  std::vector<std::byte> beyond(10);
  BOOST_CHECK(!cache.read(299'995, beyond));
}
