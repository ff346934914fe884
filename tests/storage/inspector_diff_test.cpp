#define BOOST_TEST_MODULE inspector_diff
#include <boost/test/unit_test.hpp>

#include "storage/inspector_diff.hpp"
#include "storage/text_diff.hpp"
#include "tests/storage/made_disk.hpp"

#include <random>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

using strings = std::vector<std::string>;

/// Two images: the second is a copy of the first's disk that debugfs has changed.
struct pair_of_images {
  explicit pair_of_images(made_disk& made, const strings& requests) {
    made.make();
    before = made.load();
    for (const auto& request : requests) {
      made.debugfs(request);
    }
    after = made.load();
    older = open(before);
    newer = open(after);
  }
  static std::unique_ptr<inspector> open(const std::shared_ptr<memory_disk>& disk) {
    auto out = inspector::open(std::make_unique<memory_source>(disk));
    BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
    return std::move(*out);
  }

  /// What a block index would say of disks in clusters.
  disk_changes changed() const {
    std::vector<cluster_run> out;
    for (std::size_t at = 0; at < before->bytes.size(); at += 4096) {
      auto begin = static_cast<std::ptrdiff_t>(at);
      if (!std::equal(before->bytes.begin() + begin, before->bytes.begin() + begin + 4096,
                      after->bytes.begin() + begin)) {
        out.push_back({static_cast<std::uint32_t>(at / 4096), 1});
      }
    }
    return out;
  }

  /// "KIND PATH OLD NEW", with what has changed.
  strings differences(disk_changes where) const {
    auto source = inspection::make_diff(older->files(), newer->files(), std::move(where));
    BOOST_REQUIRE(source);
    strings out;
    for (bool is_last = false; !is_last;) {
      auto answer = (*source)->next(0);
      BOOST_REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().text));
      auto view = answer->view();
      for (auto c : view->getChanges()) {
        using kind = proto::PathChange::Kind;
        std::string line = c.getKind() == kind::ADDED     ? "+ "
                           : c.getKind() == kind::REMOVED ? "- "
                                                          : "= ";
        line.append(reinterpret_cast<const char*>(c.getPath().begin()), c.getPath().size());
        line +=
            " " + std::to_string(c.getOldSizeBytes()) + " " + std::to_string(c.getNewSizeBytes());
        line += c.getContent() ? " content" : "";
        line += c.getAttributes() ? " attributes" : "";
        out.push_back(line);
      }
      is_last = view->getLast();
    }
    return out;
  }

  std::shared_ptr<memory_disk> before;
  std::shared_ptr<memory_disk> after;
  std::unique_ptr<inspector> older;
  std::unique_ptr<inspector> newer;
};

std::string joined(const strings& lines) {
  std::string out;
  for (const auto& line : lines) {
    out += line + "\n";
  }
  return out;
}

} // namespace

BOOST_AUTO_TEST_CASE(what_was_added_removed_and_changed_is_told_in_order) {
  made_disk made;
  made.options = "-O ^has_journal,^metadata_csum -b 4096";
  made.write("a/same", "same");
  made.write("a/mode", "mode");
  made.write("a/content", std::string(5000, 'x'));
  made.write("a/gone", "gone");
  made.write("a-b", "behind what is in a");
  made.write("dir/in", "in");
  std::filesystem::create_symlink("to", made.root() / "link");
  made.write("new", "new content");
  pair_of_images images{made,
                        {"sif /a/mode mode 0100600", "rm /a/gone", "rm /link",
                         "symlink /link other",
                         "write " + (made.root() / "new").string() + " /a/added", "sif /a-b uid 7",
                         "rm /dir/in", "rmdir /dir", "mknod dir p", "sif /a/same mtime 20200101"}};
  // A byte of the content, in place.
  auto found =
      std::search_n(images.after->bytes.begin(), images.after->bytes.end(), 5000, std::byte{'x'});
  BOOST_REQUIRE(found != images.after->bytes.end());
  found[4500] = std::byte{'y'};
  const strings expected{"+ a/added 0 11",         "= a/content 5000 5000 content",
                         "- a/gone 4 0",           "= a/mode 4 4 attributes",
                         "= a-b 19 19 attributes", "= dir 0 0 content attributes",
                         "- dir/in 2 0",           "= link 2 5 content"};
  BOOST_CHECK_EQUAL(joined(images.differences(images.changed())), joined(expected));
  BOOST_CHECK_EQUAL(joined(images.differences(std::nullopt)), joined(expected));
}

BOOST_AUTO_TEST_CASE(content_in_the_same_place_of_both_disks_is_not_read) {
  made_disk made;
  made.size = "32M";
  made.write("big", std::string(20'000'000, 'b'));
  pair_of_images images{made, {}};
  auto reads = [&] {
    return images.before->reads + images.after->reads;
  };
  const auto at_first = reads();
  BOOST_CHECK(images.differences(disk_changes{std::vector<cluster_run>{}}).empty());
  const auto without = reads() - at_first;
  BOOST_CHECK(images.differences(std::nullopt).empty());
  BOOST_CHECK_GE(reads() - at_first - without, without + 2 * 20);
}

BOOST_AUTO_TEST_CASE(a_comparison_ends_at_its_deadline_with_what_it_has_found) {
  made_disk made;
  made.size = "64M";
  made.write("big", std::string(50'000'000, 'b')); // takes more than a millisecond to be read
  pair_of_images images{made, {"mknod added p", "mknod last p"}};
  auto compare = [&](std::chrono::milliseconds deadline) {
    auto source =
        inspection::make_diff(images.older->files(), images.newer->files(), std::nullopt, deadline);
    BOOST_REQUIRE(source);
    std::size_t count = 0;
    for (;;) {
      auto answer = (*source)->next(0);
      BOOST_REQUIRE(answer);
      count += answer->view()->getChanges().size();
      if (answer->view()->getLast()) {
        return std::pair{answer->view()->getTruncated(), count};
      }
    }
  };
  BOOST_CHECK(compare(std::chrono::hours{1}) == std::pair(false, std::size_t{2}));
  const auto [is_truncated, count] = compare(std::chrono::milliseconds{1});
  BOOST_CHECK(is_truncated);
  BOOST_CHECK_LT(count, 2);
}

BOOST_AUTO_TEST_CASE(a_file_of_holes_without_extents_does_not_hold_an_answer_up,
                     *boost::unit_test::timeout(60)) {
  made_disk made;
  made.options = "-O ^has_journal,^extent,^64bit,^metadata_csum -b 4096";
  made.write("holes", "head");
  pair_of_images images{made, {"sif /holes size 0x38000000000"}};
  images.older = images.open(images.after); // an image and its copy
  images.before = images.after;
  auto source = inspection::make_diff(images.older->files(), images.newer->files(), std::nullopt,
                                      std::chrono::milliseconds{100});
  BOOST_REQUIRE(source);
  auto answer = (*source)->next(0);
  BOOST_REQUIRE_MESSAGE(answer, (answer ? "" : answer.error().text));
  BOOST_CHECK(answer->view()->getLast());
  BOOST_CHECK(answer->view()->getTruncated());
}

BOOST_AUTO_TEST_CASE(a_text_is_compared_line_by_line_and_others_are_told_apart) {
  made_disk made;
  made.write("text", "one\ntwo\nthree\n");
  made.write("other", "one\n2\nthree\n");
  made.write("bin", std::string("a\0b", 3));
  made.write("large", std::string(inspection::text_bytes_max + 1, 'l'));
  pair_of_images images{made, {"rm /text", "ln /other /text", "rm /plain"}};
  auto text = [&](const std::string& path) -> result<std::string> {
    auto source = inspection::make_text_diff(images.older->files(), images.newer->files(), path);
    if (!source) {
      return source.error();
    }
    auto answer = (*source)->next(0);
    BOOST_REQUIRE(answer);
    auto view = answer->view();
    BOOST_CHECK(view->getLast());
    return std::string{reinterpret_cast<const char*>(view->getData().begin()),
                       view->getData().size()};
  };
  BOOST_CHECK_EQUAL(text("/text").value(),
                    "--- a/text\n+++ b/text\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n");
  BOOST_CHECK_EQUAL(text("/plain").value(), "--- a/plain\n+++ b/plain\n@@ -1 +0,0 @@\n-plain "
                                            "text\n\\ No newline at end of file\n");
  BOOST_CHECK_EQUAL(text("/bin").value(), "");
  check_fails(text("/nowhere"), ec::not_found, "neither");
  check_fails(text("/etc"), ec::wrong_type, "regular file");
  check_fails(text("/large"), ec::too_large, "larger");
}

BOOST_AUTO_TEST_CASE(a_diff_is_what_patch_makes_the_newer_text_of) {
  scratch dir;
  std::mt19937 random{11};
  auto save = [&](const char* name, const std::string& text) {
    std::ofstream{dir / name, std::ios::binary} << text;
  };
  for (int round = 0; round < 40; ++round) {
    std::string older;
    std::string newer;
    const auto count = random() % 60;
    for (unsigned i = 0; i < count; ++i) {
      const auto line = std::string(1, static_cast<char>('a' + random() % 6)) +
                        (i + 1 == count && round % 3 == 0 ? "" : "\n");
      older += random() % 5 == 0 ? "" : line;
      newer += random() % 5 == 0 ? "" : line;
    }
    const auto told = unified_diff(older, newer, "text");
    BOOST_CHECK_EQUAL(told.empty(), older == newer);
    save("older", older);
    save("newer", newer);
    const auto judge = must("cd " + dir.path().string() + " && diff -u older newer || true");
    // As few lines as diff(1) has.
    auto edits = [](const std::string& text) {
      std::size_t out = 0;
      for (std::size_t at = 0; (at = text.find('\n', at)) != text.npos; ++at) {
        out += at + 1 < text.size() && (text[at + 1] == '-' || text[at + 1] == '+') ? 1 : 0;
      }
      return out;
    };
    BOOST_CHECK_LE(edits(told), edits(judge) + 2);
    if (!told.empty()) {
      save("told", told);
      must("cd " + dir.path().string() + " && patch -s -o patched older told && cmp patched newer");
    }
  }
}

BOOST_AUTO_TEST_CASE(texts_that_have_nothing_in_common_are_replaced_as_a_whole) {
  std::string older;
  std::string newer;
  for (int i = 0; i < 5000; ++i) {
    older += "o" + std::to_string(i) + "\n";
    newer += "n" + std::to_string(i) + "\n";
  }
  const auto told = unified_diff("head\n" + older, "head\n" + newer, "t");
  BOOST_CHECK_EQUAL(told.substr(0, told.find("-o0")),
                    "--- a/t\n+++ b/t\n@@ -1,5001 +1,5001 @@\n head\n");
}
