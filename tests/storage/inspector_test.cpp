#define BOOST_TEST_MODULE inspector
#include <boost/test/unit_test.hpp>

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"
#include "storage/importer.hpp"
#include "storage/inspector.hpp"
#include "storage/qcow2/reader.hpp"
#include "tests/storage/ext4_judge.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <thread>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// A raw disk in memory that any byte can be changed of.
struct memory_disk {
  std::vector<std::byte> bytes;
  std::uint64_t reads = 0;
};

class memory_source final : public block_source {
public:
  explicit memory_source(std::shared_ptr<memory_disk> disk) : disk_{std::move(disk)} {}

  std::uint64_t size_bytes() const override {
    return disk_->bytes.size();
  }
  result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    ++disk_->reads;
    if (offset > disk_->bytes.size() || out.size() > disk_->bytes.size() - offset) {
      return fail(ec::io, "read outside the disk");
    }
    std::copy_n(disk_->bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(),
                out.begin());
    return {};
  }

private:
  std::shared_ptr<memory_disk> disk_;
};

struct entry {
  std::uint64_t size_bytes;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t mode;
  std::int64_t mtime;
  std::uint32_t links;
  std::string symlink_target;
  std::string owner;
  std::string group;
};

result<std::map<std::string, entry>> list(inspector& image, const std::string& path) {
  if (auto opened = image.open_directory(path); !opened) {
    return opened.error();
  }
  std::map<std::string, entry> out;
  for (;;) {
    auto answer = image.next_entries(100);
    if (!answer) {
      return answer.error();
    }
    auto view = answer->view();
    BOOST_REQUIRE(view->isEntries());
    if (view->getEntries().size() == 0) {
      return out;
    }
    for (auto e : view->getEntries()) {
      auto [place, is_new] = out.try_emplace(
          e.getName().cStr(),
          entry{e.getSizeBytes(), e.getUid(), e.getGid(), e.getMode(), e.getMtimeUnixS(),
                e.getLinkCount(), e.getSymlinkTarget().cStr(), e.getOwner().cStr(),
                e.getGroup().cStr()});
      BOOST_CHECK(is_new);
    }
  }
}

result<std::string> content(inspector& image, const std::string& path,
                            std::size_t piece_bytes = 100'000, std::size_t bytes_max = 64u << 20) {
  if (auto size = image.open_file(path); !size) {
    return size.error();
  }
  std::string out;
  while (out.size() < bytes_max) {
    auto data = image.next_bytes(piece_bytes);
    if (!data) {
      return data.error();
    }
    if (data->empty()) {
      break;
    }
    out.append(reinterpret_cast<const char*>(data->data()), data->size());
  }
  return out;
}

/// A small file system made by mke2fs from a folder, changed by debugfs and e2fsck.
struct made_disk {
  scratch dir;
  std::string options = "-O ^has_journal -b 4096";
  std::string size = "16M";

  made_disk() {
    std::filesystem::create_directories(root() / "etc");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n");
    write("etc/group", "root:x:0:\nstaff:x:50:\n");
    write("plain", "plain text");
  }

  std::filesystem::path root() const {
    return dir / "root";
  }
  std::filesystem::path disk() const {
    return dir / "disk";
  }
  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((root() / name).parent_path());
    std::ofstream{root() / name, std::ios::binary} << text;
  }
  void make() {
    must("mke2fs -q -F -t ext4 " + options + " -d " + root().string() + " " + disk().string() +
         " " + size);
  }
  void debugfs(const std::string& request) {
    must("debugfs -w -R '" + request + "' " + disk().string());
  }
  std::shared_ptr<memory_disk> load() {
    return std::make_shared<memory_disk>(memory_disk{read_file(disk()), 0});
  }
  std::unique_ptr<inspector> open() {
    auto out = inspector::open(std::make_unique<memory_source>(load()));
    BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
    return std::move(*out);
  }
};

} // namespace

// -- listings and content --------------------------------------------------------------------------

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
  auto source = qcow2::reader::open(
      qcow2::open_bytes(made.qcow2()).value(),
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
  for (auto options : {"-O ^has_journal -b 4096", "-O ^has_journal -b 1024",
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

// -- paths -----------------------------------------------------------------------------------------

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

// -- hostile file systems --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(numbers_that_lie_are_damage) {
  struct lie {
    const char* request;
    const char* path; ///< of the file or directory that must not open or read
  };
  for (auto [request, path] : std::initializer_list<lie>{
           {"sif /plain block[5] 0xffffff00", "/plain"},        // content outside the disk
           {"sif /plain block[0] 0xf30b", "/plain"},            // extent header: bad magic
           {"sif /plain block[1] 0xffff0004", "/plain"},        // depth 65535
           {"sif /plain block[1] 0x00010004", "/plain"},        // a tree whose child is text
           {"sif /plain size 0x7fffffff00000000", "/plain"},    // larger than any file
           {"sif /plain mode 0", "/plain"},                     // not in use
           {"sif /plain flags 0x10080000", "/plain"},           // inline content
           {"sif /etc size 0x7ffff000", "/etc/x"},              // a directory of 2 GiB
           {"sif /etc size 4095", "/etc/x"},                    // not whole blocks
           {"sif /etc block[5] 3", "/etc/x"},                   // entries that are something else
           {"sif /etc block[5] 0x00ffffff", "/etc/x"}}) {       // outside the disk
    made_disk made;
    made.make();
    made.debugfs(request);
    auto image = made.open();
    auto text = content(*image, path);
    BOOST_CHECK_MESSAGE(!text && text.error().code == ec::damaged,
                        request << ": " << (text ? "was read" : text.error().text));
  }
}

BOOST_AUTO_TEST_CASE(entries_that_lie_are_damage) {
  made_disk made;
  made.make();
  const auto pristine = made.load();
  // inode, record length, name length 5, type regular, "plain"
  constexpr std::string_view tail = "\x05\x01plain";
  const auto found = std::search(
      pristine->bytes.begin(), pristine->bytes.end(), tail.begin(), tail.end(),
      [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
  BOOST_REQUIRE(found != pristine->bytes.end());
  const auto at = static_cast<std::size_t>(found - pristine->bytes.begin()) - 6;
  struct lie {
    std::size_t offset;
    std::string bytes;
  };
  for (const auto& [offset, bytes] : std::vector<lie>{
           {0, std::string("\xff\xff\xff\x7f", 4)}, // no such inode
           {0, std::string("\x0c\x40\x00\x00", 4)}, // beyond the last
           {4, std::string("\x00\x00", 2)},         // a record that leads nowhere
           {4, std::string("\x08\x00", 2)},         // shorter than its name
           {4, std::string("\x0d\x00", 2)},         // not aligned
           {4, std::string("\xfc\xff", 2)},         // beyond the block
           {6, std::string("\x00", 1)},             // no name
           {9, std::string("/", 1)},                // an impossible one
           {9, std::string("\x00", 1)}}) {
    auto disk = std::make_shared<memory_disk>(*pristine);
    std::memcpy(disk->bytes.data() + at + offset, bytes.data(), bytes.size());
    auto image = inspector::open(std::make_unique<memory_source>(disk));
    BOOST_REQUIRE(image);
    auto names = list(**image, "/");
    BOOST_CHECK_MESSAGE(!names && names.error().code == ec::damaged,
                        "offset " << offset << " " << coppice::test::sha256_hex(bytes));
  }
}

BOOST_AUTO_TEST_CASE(directories_that_contain_themselves_do_not_trap) {
  made_disk made;
  made.write("a/b/x", "x");
  made.make();
  made.debugfs("link /a /a/b/loop");
  auto image = made.open();
  std::string path = "/a";
  for (int i = 0; i < 500; ++i) {
    path += "/b/loop";
  }
  BOOST_CHECK_EQUAL(content(*image, path + "/b/x").value(), "x");
}

BOOST_AUTO_TEST_CASE(resolving_a_path_costs_a_bounded_number_of_reads) {
  // A directory of 128 MiB, unwritten but for its last block, which contains itself: each component
  // of a path through it costs 32,768 blocks.
  made_disk made;
  made.write("d/x", "x");
  made.make();
  made.debugfs("link /d /d/loop");
  const auto stat = must("debugfs -R 'stat /d' " + made.disk().string());
  const auto at = stat.find("(0):");
  BOOST_REQUIRE(at != std::string::npos);
  const auto block = std::to_string(std::stoul(stat.substr(at + 4)));
  const std::map<int, std::string> words{{0, "0x0002f30a"}, // two extents
                                         {3, "0"},          // from block 0,
                                         {4, "0xffff"},     // 32,767 long and unwritten
                                         {5, block},
                                         {6, "32767"}, // from block 32,767, one long
                                         {7, "1"},
                                         {8, block}};
  for (const auto& [word, value] : words) {
    made.debugfs("sif /d block[" + std::to_string(word) + "] " + value);
  }
  made.debugfs("sif /d size " + std::to_string(32'768ull * 4096));
  auto image = made.open();
  auto path_of = [](int components) {
    std::string out = "/d";
    for (int i = 0; i < components; ++i) {
      out += "/loop";
    }
    return out + "/x";
  };
  BOOST_CHECK_EQUAL(content(*image, path_of(5)).value(), "x");
  check_fails(image->open_file(path_of(100)), ec::damaged, "too large to look anything up");
}

BOOST_AUTO_TEST_CASE(superblocks_that_would_cost_memory_are_refused) {
  struct lie {
    const char* field;
    std::size_t offset; ///< in the superblock
    std::uint32_t value;
    std::size_t bytes = 4;
  };
  made_disk made;
  made.options = "-O ^has_journal,^metadata_csum"; // an attacker would compute the checksum anew
  made.make();
  const auto pristine = made.load();
  for (auto [field, offset, value, bytes] :
       std::initializer_list<lie>{{"magic", 0x38, 0, 2},
                                  {"blocks_count", 0x04, 0x7fff'ffff},
                                  {"blocks_count_hi", 0x150, 0x7fff},
                                  {"blocks_per_group", 0x20, 8},
                                  {"inodes_per_group", 0x28, 0},
                                  {"inodes_per_group", 0x28, 0xffff'ffff},
                                  {"log_block_size", 0x18, 6},
                                  {"desc_size", 0xfe, 3, 2},
                                  {"inode_size", 0x58, 7, 2},
                                  {"first_data_block", 0x14, 0xffff'ffff},
                                  {"feature_incompat", 0x60, 0x1000'0242}}) {
    auto disk = std::make_shared<memory_disk>(*pristine);
    std::memcpy(disk->bytes.data() + 1024 + offset, &value, bytes);
    auto opened = inspector::open(std::make_unique<memory_source>(disk));
    BOOST_CHECK_MESSAGE(!opened && opened.error().code == ec::damaged,
                        field << ": " << (opened ? "opened" : opened.error().text));
  }
  auto empty = std::make_shared<memory_disk>();
  check_fails(inspector::open(std::make_unique<memory_source>(empty)), ec::damaged, "too small");
}

BOOST_AUTO_TEST_CASE(random_damage_ends_in_an_answer) {
  made_disk made;
  made.options = "-O ^has_journal,^metadata_csum -b 1024 -N 128"; // no checksum catches anything
  made.size = "1M";
  made.write("etc/deep/er/file", std::string(20'000, 'f'));
  std::filesystem::create_symlink(std::string(100, 'l'), made.root() / "etc/long");
  std::filesystem::create_symlink("deep/er/file", made.root() / "etc/link");
  made.make();
  const auto pristine = made.load();
  std::vector<std::size_t> used; // bytes that say something
  for (std::size_t i = 1024; i < pristine->bytes.size(); ++i) {
    if (pristine->bytes[i] != std::byte{} && pristine->bytes[i] != std::byte{'f'}) {
      used.push_back(i);
    }
  }
  BOOST_REQUIRE_GT(used.size(), 1000);
  std::mt19937 random{42};
  std::size_t opened_count = 0;
  std::size_t damaged_count = 0;
  for (int round = 0; round < 3000; ++round) {
    auto disk = std::make_shared<memory_disk>(*pristine);
    for (int i = 0; i < 1 + round % 4; ++i) {
      disk->bytes[used[random() % used.size()]] = static_cast<std::byte>(random());
    }
    auto image = inspector::open(std::make_unique<memory_source>(disk));
    if (!image) {
      ++damaged_count;
      continue;
    }
    ++opened_count;
    for (auto path : {"/", "/etc", "/etc/deep/er"}) {
      damaged_count += list(**image, path) ? 0 : 1;
    }
    for (auto path : {"/plain", "/etc/link", "/etc/long"}) {
      static_cast<void>(content(**image, path, 100'000, 1u << 20));
    }
    BOOST_REQUIRE_LT(disk->reads, 200'000);
  }
  BOOST_CHECK_GT(opened_count, 100);
  BOOST_CHECK_GT(damaged_count, 100);
}

// -- the worker's session --------------------------------------------------------------------------

namespace {

/// One session with serve_inspect on the other end of a socket pair.
struct session {
  explicit session(std::unique_ptr<block_source> source) {
    int ends[2]{};
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    socket = ends[0];
    worker = std::thread{[this, other = ends[1], s = std::move(source)]() mutable {
      outcome = serve_inspect(other, std::move(s));
      ::close(other);
    }};
  }
  ~session() {
    close_socket();
    if (worker.joinable()) {
      worker.join();
    }
  }
  void close_socket() {
    if (socket >= 0) {
      ::close(std::exchange(socket, -1));
    }
  }
  result<void> join() {
    worker.join();
    return outcome;
  }

  void order(proto::InspectVerb verb, const char* path) {
    BOOST_REQUIRE(write_frame(socket, make_frame<proto::InspectWork>([&](auto root) {
                                root.setVerb(verb);
                                root.setPath(path);
                              })));
  }
  frame<proto::InspectAnswer> answer() {
    auto bytes = read_frame(socket);
    BOOST_REQUIRE(bytes);
    BOOST_REQUIRE(*bytes);
    auto out = checked<proto::InspectAnswer>(**bytes, limits::channel_frame_bytes_max);
    BOOST_REQUIRE(out);
    return *out;
  }
  frame<proto::InspectAnswer> more() {
    BOOST_REQUIRE(write_frame(socket, make_frame<proto::InspectMore>()));
    return answer();
  }

  int socket = -1;
  std::thread worker;
  result<void> outcome;
};

std::unique_ptr<block_source> source_of(made_disk& made) {
  made.make();
  return std::make_unique<memory_source>(made.load());
}

} // namespace

BOOST_AUTO_TEST_CASE(a_download_session_ends_after_the_last_byte) {
  made_disk made;
  made.write("data", std::string(600'000, 'd'));
  session peer{source_of(made)};
  peer.order(proto::InspectVerb::DOWNLOAD, "/data");
  BOOST_CHECK_EQUAL(peer.answer().view()->getOpened(), 600'000u);
  std::size_t received = 0;
  for (;;) {
    auto next = peer.more();
    auto view = next.view();
    if (view->isEnd()) {
      break;
    }
    BOOST_REQUIRE(view->isData());
    BOOST_CHECK_LE(view->getData().size(), limits::transfer_chunk_bytes);
    received += view->getData().size();
  }
  BOOST_CHECK_EQUAL(received, 600'000);
  BOOST_CHECK(peer.join());
}

BOOST_AUTO_TEST_CASE(a_listing_session_ends_after_the_last_entry) {
  made_disk made;
  session peer{source_of(made)};
  peer.order(proto::InspectVerb::LIST, "/etc");
  BOOST_CHECK_EQUAL(peer.answer().view()->getOpened(), 0u);
  auto entries = peer.more();
  BOOST_REQUIRE(entries.view()->isEntries());
  BOOST_CHECK_EQUAL(entries.view()->getEntries().size(), 2u);
  BOOST_CHECK(peer.more().view()->isEnd());
  BOOST_CHECK(peer.join());
}

BOOST_AUTO_TEST_CASE(a_stat_session_is_one_answer) {
  made_disk made;
  session peer{source_of(made)};
  peer.order(proto::InspectVerb::STAT, "/plain");
  BOOST_CHECK_EQUAL(peer.answer().view()->getOpened(), 10u);
  BOOST_CHECK(peer.join());
}

BOOST_AUTO_TEST_CASE(failures_are_answers_with_their_reason) {
  using reason = proto::InspectAnswer::Reason;
  struct wrong {
    proto::InspectVerb verb;
    const char* path;
    reason why;
  };
  for (auto [verb, path, why] : std::initializer_list<wrong>{
           {proto::InspectVerb::LIST, "/nowhere", reason::NOT_FOUND},
           {proto::InspectVerb::LIST, "/plain", reason::WRONG_TYPE},
           {proto::InspectVerb::DOWNLOAD, "/etc", reason::WRONG_TYPE},
           {proto::InspectVerb::STAT, "/etc", reason::WRONG_TYPE},
           {proto::InspectVerb::STAT, "/etc/x", reason::NOT_FOUND}}) {
    made_disk made;
    session peer{source_of(made)};
    peer.order(verb, path);
    auto answer = peer.answer();
    BOOST_REQUIRE(answer.view()->isFailed());
    BOOST_CHECK(answer.view()->getFailed().getReason() == why);
    BOOST_CHECK(peer.join());
  }
  auto empty = std::make_shared<memory_disk>();
  session peer{std::make_unique<memory_source>(empty)};
  peer.order(proto::InspectVerb::LIST, "/");
  auto answer = peer.answer();
  BOOST_REQUIRE(answer.view()->isFailed());
  BOOST_CHECK(answer.view()->getFailed().getReason() == reason::DAMAGED);
}

BOOST_AUTO_TEST_CASE(a_session_ends_when_the_peer_goes_or_talks_nonsense) {
  {
    made_disk made;
    session peer{source_of(made)};
    peer.close_socket();
    BOOST_CHECK(peer.join());
  }
  {
    made_disk made;
    session peer{source_of(made)};
    peer.order(proto::InspectVerb::DOWNLOAD, "/plain");
    peer.answer();
    peer.close_socket();
    BOOST_CHECK(peer.join());
  }
  for (const std::string& nonsense :
       {std::string("\xff\xff\xff\xff", 4), std::string("\x01\x00\x00\x00nonsense", 12),
        std::string("\x02\x00\x00\x00half", 8)}) {
    made_disk made;
    session peer{source_of(made)};
    BOOST_REQUIRE_EQUAL(::send(peer.socket, nonsense.data(), nonsense.size(), 0),
                        static_cast<ssize_t>(nonsense.size()));
    ::shutdown(peer.socket, SHUT_WR);
    BOOST_CHECK(!peer.join());
  }
}
