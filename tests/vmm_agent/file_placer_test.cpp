#include "vmm/agent/file_placer.hpp"

#include "vmm/agent/in_root.hpp"

#include <boost/test/unit_test.hpp>
#include <capnp/message.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>

using namespace coppice;
using namespace coppice::agent;
namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(files)

namespace {

/// A folder that is an image's root, beside a file that no image may reach.
struct image {
  fs::path dir;
  fs::path root;
  descriptor fd;
  capnp::MallocMessageBuilder message;

  image() {
    auto pattern = (fs::temp_directory_path() / "coppice-files-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    dir = pattern;
    root = dir / "root";
    fs::create_directories(root / "etc");
    std::ofstream{dir / "outside"} << "untouched";
    fd = descriptor{::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  }
  ~image() {
    fs::remove_all(dir);
  }

  file_placer placer(const std::vector<std::pair<std::string, std::size_t>>& files,
                     unsigned mode = 0644) {
    auto list =
        message.initRoot<proto::RunRequest>().initFiles(static_cast<unsigned>(files.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      list[i].setPath(files[i].first);
      list[i].setSizeBytes(files[i].second);
      list[i].setMode(mode);
      list[i].setUid(::getuid());
      list[i].setGid(::getgid());
    }
    return {fd.get(), list.asReader()};
  }

  std::string content(const fs::path& path) const {
    std::ifstream in{path, std::ios::binary};
    std::stringstream out;
    out << in.rdbuf();
    return out.str();
  }
};

std::span<const unsigned char> bytes(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

int error_number(const result<void>& done) {
  return done ? 0 : done.error().code.value();
}

} // namespace

BOOST_FIXTURE_TEST_CASE(files_come_in_pieces_with_their_folders_and_modes, image) {
  auto placing = placer({{"/a/b/one", 6}, {"/empty", 0}, {"/etc/two", 1}}, 0100751);
  BOOST_TEST(!placing.is_complete());
  BOOST_TEST(placing.take(0, bytes("abc")).has_value());
  BOOST_TEST(placing.take(0, bytes("def")).has_value());
  BOOST_TEST(placing.take(1, {}).has_value());
  BOOST_TEST(!placing.is_complete());
  BOOST_TEST(placing.take(2, bytes("x")).has_value());
  BOOST_TEST(placing.is_complete());
  BOOST_TEST(content(root / "a/b/one") == "abcdef");
  BOOST_TEST(fs::file_size(root / "empty") == 0u);
  struct stat st {};
  BOOST_REQUIRE(::stat((root / "a/b/one").c_str(), &st) == 0);
  BOOST_TEST((st.st_mode & 07777) == 0751u);
}

BOOST_FIXTURE_TEST_CASE(a_longer_file_is_replaced_whole, image) {
  std::ofstream{root / "etc/x"} << "a longer content";
  auto placing = placer({{"/etc/x", 2}});
  BOOST_TEST(placing.take(0, bytes("ok")).has_value());
  BOOST_TEST(content(root / "etc/x") == "ok");
}

BOOST_FIXTURE_TEST_CASE(no_link_leads_out_of_the_image, image) {
  fs::create_symlink("../../outside", root / "relative");
  fs::create_symlink(dir / "outside", root / "absolute");
  fs::create_directory_symlink("../..", root / "folder");
  auto placing = placer({{"/relative", 3}, {"/folder/outside", 3}, {"/../../outside", 3}});
  BOOST_TEST(placing.take(0, bytes("bad")).has_value()); // lands at /outside of the image
  BOOST_TEST(placing.take(1, bytes("bad")).has_value());
  BOOST_TEST(placing.take(2, bytes("in!")).has_value());
  BOOST_TEST(content(dir / "outside") == "untouched");
  BOOST_TEST(content(root / "outside") == "in!");
  auto absolute = placer({{"/absolute", 3}});
  BOOST_TEST(error_number(absolute.take(0, bytes("bad"))) == ENOENT);
  BOOST_TEST(content(dir / "outside") == "untouched");
}

BOOST_FIXTURE_TEST_CASE(what_is_no_regular_file_is_left_alone, image) {
  BOOST_REQUIRE(::mkfifo((root / "fifo").c_str(), 0600) == 0);
  descriptor reader{::open((root / "fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  auto fifo = placer({{"/fifo", 1}});
  BOOST_TEST(error_number(fifo.take(0, bytes("x"))) == EEXIST);
  auto folder = placer({{"/etc", 1}});
  BOOST_TEST(error_number(folder.take(0, bytes("x"))) == EISDIR);
  std::ofstream{root / "file"} << "f";
  auto below = placer({{"/file/x", 1}});
  BOOST_TEST(error_number(below.take(0, bytes("x"))) == ENOTDIR);
}

BOOST_FIXTURE_TEST_CASE(a_path_must_be_absolute_and_name_a_file, image) {
  for (auto path : {"", "x", "x/y", "/", "/etc/"}) {
    auto placing = placer({{path, 1}});
    BOOST_TEST(error_number(placing.take(0, bytes("x"))) == EINVAL, path);
  }
}

BOOST_FIXTURE_TEST_CASE(content_out_of_order_or_too_long_is_refused, image) {
  auto early = placer({{"/a", 1}, {"/b", 1}});
  BOOST_TEST(error_number(early.take(1, bytes("x"))) == EPROTO);
  auto longer = placer({{"/c", 2}});
  BOOST_TEST(error_number(longer.take(0, bytes("xyz"))) == EPROTO);
  auto none = placer({});
  BOOST_TEST(none.is_complete());
  BOOST_TEST(error_number(none.take(0, bytes("x"))) == EPROTO);
}

BOOST_FIXTURE_TEST_CASE(reading_is_confined_and_bounded_too, image) {
  std::ofstream{root / "etc/passwd"} << "0123456789";
  fs::create_symlink(dir / "outside", root / "etc/group");
  BOOST_REQUIRE(::mkfifo((root / "fifo").c_str(), 0600) == 0);
  BOOST_TEST(read_in_root(fd.get(), "/etc/passwd", 100) == "0123456789");
  BOOST_TEST(read_in_root(fd.get(), "/etc/passwd", 4) == "0123");
  BOOST_TEST(read_in_root(fd.get(), "/etc/group", 100) == "");
  BOOST_TEST(read_in_root(fd.get(), "/fifo", 100) == "");
  BOOST_TEST(read_in_root(fd.get(), "/missing", 100) == "");
}

BOOST_AUTO_TEST_SUITE_END()
