#define BOOST_TEST_MODULE inspector_hostile
#include <boost/test/unit_test.hpp>

#include "tests/storage/made_disk.hpp"

#include <cstring>
#include <random>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

// --------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(numbers_that_lie_are_damage) {
  struct lie {
    const char* request;
    const char* path; ///< of the file or directory that must not open or read
  };
  for (auto [request, path] : std::initializer_list<lie>{
           {"sif /plain block[5] 0xffffff00", "/plain"},     // content outside the disk
           {"sif /plain block[0] 0xf30b", "/plain"},         // extent header: bad magic
           {"sif /plain block[1] 0xffff0004", "/plain"},     // depth 65535
           {"sif /plain block[1] 0x00010004", "/plain"},     // a tree whose child is text
           {"sif /plain size 0x7fffffff00000000", "/plain"}, // larger than any file
           {"sif /plain mode 0", "/plain"},                  // not in use
           {"sif /plain flags 0x10080000", "/plain"},        // inline content
           {"sif /etc size 0x7ffff000", "/etc/x"},           // a directory of 2 GiB
           {"sif /etc size 4095", "/etc/x"},                 // not whole blocks
           {"sif /etc block[5] 3", "/etc/x"},                // entries that are something else
           {"sif /etc block[5] 0x00ffffff", "/etc/x"}}) {    // outside the disk
    made_disk made;
    made.make();
    made.debugfs(request);
    auto image = made.open();
    auto text = content(*image, path);
    BOOST_CHECK_MESSAGE(!text && text.error().code == ec::damaged,
                        request << ": " << (text ? "was read" : text.error().text));
  }
}

BOOST_AUTO_TEST_CASE(an_extent_tree_that_contains_itself_is_not_descended) {
  made_disk made;
  made.options = "-O ^has_journal,^metadata_csum -b 4096";
  made.make();
  const auto stat = must("debugfs -R 'stat /plain' " + made.disk().string());
  const auto at = stat.find("(0):");
  BOOST_REQUIRE(at != std::string::npos);
  const auto block = std::stoul(stat.substr(at + 4));
  made.debugfs("sif /plain block[0] 0x0001f30a"); // one entry
  made.debugfs("sif /plain block[1] 0xffff0004"); // the root of 65,535 levels
  made.debugfs("sif /plain block[3] 0");
  made.debugfs("sif /plain block[4] " + std::to_string(block));
  made.debugfs("sif /plain block[5] 0");
  auto disk = made.load();
  const std::uint32_t node[]{0x0001f30a, 0xfffe0154, 0, 0, static_cast<std::uint32_t>(block), 0};
  std::memcpy(disk->bytes.data() + block * 4096, node, sizeof node);
  auto image = inspector::open(std::make_unique<memory_source>(disk));
  BOOST_REQUIRE(image);
  check_fails(content(**image, "/plain"), ec::damaged, "extent");
  BOOST_CHECK_LT(disk->reads, 100);
}

BOOST_AUTO_TEST_CASE(entries_that_lie_are_damage) {
  made_disk made;
  made.make();
  const auto pristine = made.load();
  // inode, record length, name length 5, type regular, "plain"
  constexpr std::string_view tail = "\x05\x01plain";
  const auto found =
      std::search(pristine->bytes.begin(), pristine->bytes.end(), tail.begin(), tail.end(),
                  [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
  BOOST_REQUIRE(found != pristine->bytes.end());
  const auto at = static_cast<std::size_t>(found - pristine->bytes.begin()) - 6;
  struct lie {
    std::size_t offset;
    std::string bytes;
  };
  for (const auto& [offset, bytes] :
       std::vector<lie>{{0, std::string("\xff\xff\xff\x7f", 4)}, // no such inode
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
                        "offset " << offset << " " << bytes.size() << " bytes");
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
  const std::map<int, std::string> words{
      {0, "0x0002f30a"},               // two extents
      {3, "0"},                        // from block 0,
      {4, "0xffff"},                   // 32,767 long and unwritten
      {5, block},        {6, "32767"}, // from block 32,767, one long
      {7, "1"},          {8, block}};
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
  // Lies that agree with each other: groups of 256 blocks, sixteen times as many.
  auto disk = std::make_shared<memory_disk>(*pristine);
  auto set = [&](std::size_t offset, std::uint32_t value) {
    std::memcpy(disk->bytes.data() + 1024 + offset, &value, sizeof value);
  };
  std::uint32_t inodes = 0;
  std::memcpy(&inodes, disk->bytes.data() + 1024, sizeof inodes);
  set(0x20, 256);
  set(0x24, 256);
  set(0x28, inodes / 16);
  check_fails(inspector::open(std::make_unique<memory_source>(disk)), ec::damaged, "group size");
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
  for (int round = 0; round < 1000; ++round) {
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
