#define BOOST_TEST_MODULE inspector_grep
#include <boost/test/unit_test.hpp>

#include "storage/grep_scan.hpp"
#include "storage/inspector_grep.hpp"
#include "tests/storage/made_disk.hpp"

#include <cstring>
#include <random>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

line_matcher matcher(const std::string& pattern) {
  auto made = line_matcher::compile({pattern}, grep_case::sensitive);
  BOOST_REQUIRE_MESSAGE(made, (made ? "" : made.error().text));
  return std::move(*made);
}

/// "NUMBER:OFFSET:TEXT", with "-" for lines of context.
std::vector<std::string> scan(const std::string& text, const std::string& pattern,
                              grep_terms terms = {UINT64_MAX, 0, 0}) {
  auto lines = matcher(pattern);
  grep_scan work{lines, terms,
                 [&](std::uint64_t offset, std::span<std::byte> out) -> result<void> {
                   BOOST_REQUIRE_LE(offset + out.size(), text.size());
                   std::memcpy(out.data(), text.data() + offset, out.size());
                   return {};
                 },
                 text.size()};
  std::vector<std::string> out;
  for (;;) {
    auto more = work.next_lines([&](const grep_line& line) {
      const auto* sep = line.is_context ? "-" : ":";
      out.push_back(std::to_string(line.number) + sep + std::to_string(line.offset_bytes) + sep +
                    line.text);
    });
    BOOST_REQUIRE(more);
    if (!*more) {
      return out;
    }
  }
}

using strings = std::vector<std::string>;

struct found {
  std::vector<std::string> lines; ///< "PATH:NUMBER:TEXT"
  bool is_truncated = false;
};

result<found> search(inspector& image, const grep_query& query) {
  auto source = image.grep(query);
  if (!source) {
    return source.error();
  }
  found out;
  for (;;) {
    auto answer = (*source)->next(0);
    if (!answer) {
      return answer.error();
    }
    auto view = answer->view();
    for (auto match : view->getMatches()) {
      auto text = [](capnp::Data::Reader d) {
        return std::string{reinterpret_cast<const char*>(d.begin()), d.size()};
      };
      out.lines.push_back(text(match.getPath()) + ":" + std::to_string(match.getLineNumber()) +
                          ":" + text(match.getLine()));
    }
    if (view->getLast()) {
      out.is_truncated = view->getTruncated();
      return out;
    }
  }
}

grep_query query(const std::string& pattern, strings globs = {}) {
  grep_query out;
  out.patterns = {pattern};
  out.paths = {"/"};
  out.globs = std::move(globs);
  return out;
}

} // namespace

BOOST_AUTO_TEST_CASE(lines_are_told_with_number_and_offset) {
  BOOST_TEST((scan("one\ntwo\nthree\n", "t") == strings{"2:4:two\n", "3:8:three\n"}));
  BOOST_TEST((scan("one\ntwo", "o$") == strings{"2:4:two"}));
  BOOST_TEST((scan("a\n\nb\n", "^$") == strings{"2:2:\n"}));
  BOOST_TEST((scan("a\nb\n", "x*") == strings{"1:0:a\n", "2:2:b\n"}));
  BOOST_TEST(scan("", "x*").empty());
  BOOST_TEST(scan("a\nb\n", "a\\nb").empty()); // never over the end of a line
  BOOST_TEST(scan("a\nb\n", "a[^x]b").empty());
  BOOST_TEST(scan("text\nbi\0nary\n", "text").empty() == false);
  BOOST_TEST(scan(std::string("text\nbi\0nary\n", 13), "text").empty());
}

BOOST_AUTO_TEST_CASE(lines_around_a_match_are_told_once) {
  const std::string text = "1\n2\nx\n4\nx\n6\n7\n8\n9\nx\n";
  BOOST_TEST((scan(text, "x", {UINT64_MAX, 1, 2}) == strings{"2-2-2\n", "3:4:x\n", "4-6-4\n",
                                                             "5:8:x\n", "6-10-6\n", "7-12-7\n",
                                                             "9-16-9\n", "10:18:x\n"}));
  BOOST_TEST((scan(text, "x", {1, 0, 1}) == strings{"3:4:x\n", "4-6-4\n"}));
  BOOST_TEST((scan(text, "x", {0, 2, 2}).empty()));
}

BOOST_AUTO_TEST_CASE(windows_do_not_show) {
  std::mt19937 random{5};
  std::string text;
  strings expected;
  for (std::size_t number = 1; text.size() < 3 * grep_scan::window_bytes; ++number) {
    std::string line(random() % 300, 'a');
    if (random() % 50 == 0) {
      line += "needle";
    }
    line += '\n';
    if (line.find("needle") != line.npos) {
      expected.push_back(std::to_string(number) + ":" + std::to_string(text.size()) + ":" + line);
    }
    text += line;
  }
  BOOST_TEST((scan(text, "needle") == expected));
  auto around = scan(text, "needle", {UINT64_MAX, 3, 3});
  std::erase_if(around, [](const std::string& l) { return l.find("needle") == l.npos; });
  BOOST_TEST((around == expected));
  // One line that is longer than a window is cut, and its end is still found.
  auto cut = scan(std::string(5 * grep_scan::window_bytes / 2, 'a') + "needle\n", "needle");
  BOOST_REQUIRE(cut.size() == 1u);
  BOOST_CHECK_LE(cut[0].size(), grep_line::line_bytes_max + 20);
}

BOOST_AUTO_TEST_CASE(of_a_binary_file_only_the_beginning_is_read) {
  auto lines = matcher("a");
  std::string text(2 * grep_scan::window_bytes, 'a');
  std::uint64_t end_bytes = 0;
  auto read = [&](std::uint64_t offset, std::span<std::byte> out) -> result<void> {
    std::memcpy(out.data(), text.data() + offset, out.size());
    end_bytes = std::max(end_bytes, offset + out.size());
    return {};
  };
  auto ignore = [](const grep_line&) {
  };
  grep_scan plain{lines, {10, 0, 0}, read, text.size()};
  BOOST_TEST(plain.next_lines(ignore).value());
  BOOST_TEST(end_bytes == grep_scan::window_bytes);
  end_bytes = 0;
  text[1000] = '\0';
  grep_scan binary{lines, {10, 0, 0}, read, text.size()};
  BOOST_TEST(!binary.next_lines(ignore).value());
  BOOST_TEST(end_bytes == 64u << 10);
}

BOOST_AUTO_TEST_CASE(every_match_in_a_line_is_told) {
  auto lines = matcher("a+|\\bz");
  const std::string text = "xaay a z\n";
  grep_scan work{lines,
                 {10, 0, 0},
                 [&](std::uint64_t, std::span<std::byte> out) -> result<void> {
                   std::memcpy(out.data(), text.data(), out.size());
                   return {};
                 },
                 text.size()};
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  while (work.next_lines([&](const grep_line& line) {
               for (const auto& m : line.submatches) {
                 spans.emplace_back(m.begin, m.end);
               }
             })
             .value()) {
  }
  BOOST_TEST((spans == std::vector<std::pair<std::size_t, std::size_t>>{{1, 3}, {5, 6}, {7, 8}}));
}

BOOST_AUTO_TEST_CASE(patterns_that_are_none_are_refused) {
  for (const auto* bad : {"(", "a)(b", "[", "\\", "x{1000000}", "(?P<n>", "\xFF"}) {
    auto made = line_matcher::compile({bad}, grep_case::sensitive);
    BOOST_CHECK_MESSAGE(!made && made.error().code == ec::unsupported, bad);
  }
  check_fails(line_matcher::compile({}, grep_case::sensitive), ec::unsupported, "required");
  check_fails(line_matcher::compile(strings(65, "a"), grep_case::sensitive), ec::unsupported,
              "at most");
  for (const auto* bad : {"", "!", "[", "{a", "a["}) {
    check_fails(glob_set::compile({bad}), ec::unsupported, "glob");
  }
  // Together they are as large as a request lets them be small: \pL alone is hundreds of ranges.
  check_fails(line_matcher::compile(strings(64, "\\pL{50}"), grep_case::sensitive), ec::unsupported,
              "too large");
  BOOST_TEST(
      line_matcher::compile(strings(64, "\\w+ [a-z]{1,20} foo"), grep_case::sensitive).has_value());
  auto hits = [](const std::string& pattern, grep_case how) {
    return line_matcher::compile({pattern}, how).value().find("Foo", 0, 3).has_value();
  };
  BOOST_TEST(!hits("foo", grep_case::sensitive));
  BOOST_TEST(hits("FOO", grep_case::insensitive));
  BOOST_TEST(hits("foo", grep_case::smart));
  BOOST_TEST(!hits("FOO", grep_case::smart));
  BOOST_TEST(hits("foo\\S?", grep_case::smart));
}

BOOST_AUTO_TEST_CASE(globs_choose_files) {
  auto wants = [](const strings& globs, const std::string& path, std::size_t root = 0) {
    return glob_set::compile(globs).value().wants_file(path, root);
  };
  BOOST_TEST(wants({}, "a/b.py"));
  BOOST_TEST(wants({"*.py"}, "a/b.py"));
  BOOST_TEST(!wants({"*.py"}, "a/b.pyc"));
  BOOST_TEST(!wants({"!*.py"}, "a/b.py"));
  BOOST_TEST(wants({"!*.py"}, "a/b.c"));
  BOOST_TEST(!wants({"*.py", "!test_*"}, "a/test_b.py"));
  BOOST_TEST(wants({"!test_*", "*.py"}, "a/test_b.py")); // the last decides
  BOOST_TEST(wants({"src/*.c"}, "usr/src/x.c", 4));
  BOOST_TEST(!wants({"src/*.c"}, "usr/src/x.c"));
  BOOST_TEST(!wants({"src/*.c"}, "src/deep/x.c"));
  BOOST_TEST(wants({"src/**/*.c"}, "src/deep/er/x.c"));
  BOOST_TEST(wants({"src/**"}, "src/deep/x.c"));
  BOOST_TEST(wants({"**/x.c"}, "x.c"));
  BOOST_TEST(wants({"/usr/*"}, "usr/x", 4));
  BOOST_TEST(wants({"*.{c,h}"}, "a.h"));
  BOOST_TEST(wants({"[!a-c]?"}, "d\xFF"));
  BOOST_TEST(!wants({"[!a-c]?"}, "ax"));
  BOOST_TEST(wants({"a.b"}, "a.b"));
  BOOST_TEST(!wants({"a.b"}, "axb"));
  auto set = glob_set::compile({"!skip", "!only/", "*.py"}).value();
  BOOST_TEST(!set.enters("a/skip", 0));
  BOOST_TEST(!set.enters("only", 0));
  BOOST_TEST(set.enters("other", 0));
  BOOST_TEST(set.wants_file("only.py", 0));
}

BOOST_AUTO_TEST_CASE(files_of_an_image_are_searched_in_order) {
  made_disk made;
  made.write("b/two", "x needle\n");
  made.write("a", "needle\nneedle\n");
  made.write(".hidden", "needle\n");
  made.write("bin", std::string("needle\n\0", 8));
  made.write("b/one.py", "no\nneedle 1\nneedle 2\nneedle 3\n");
  std::filesystem::create_symlink("a", made.root() / "link");
  made.make();
  auto image = made.open();
  BOOST_TEST(
      (search(*image, query("needle")).value().lines ==
       strings{"/.hidden:1:needle\n", "/a:1:needle\n", "/a:2:needle\n", "/b/one.py:2:needle 1\n",
               "/b/one.py:3:needle 2\n", "/b/one.py:4:needle 3\n", "/b/two:1:x needle\n"}));
  auto limited = query("needle");
  limited.max_count = 1;
  BOOST_TEST(search(*image, limited).value().lines.size() == 4u);
  BOOST_TEST(!search(*image, limited).value().is_truncated);
  limited.max_total = 2;
  BOOST_TEST(search(*image, limited).value().lines.size() == 2u);
  BOOST_TEST(search(*image, limited).value().is_truncated);
  auto some = query("needle", {"*.py"});
  BOOST_TEST(search(*image, some).value().lines.size() == 3u);
  some.paths = {"/link", "/b"}; // a start is searched whatever the globs say
  BOOST_TEST((search(*image, some).value().lines.front() == "/link:1:needle\n"));
  BOOST_TEST(search(*image, some).value().lines.size() == 5u);
  some.paths = {"/nowhere"};
  check_fails(search(*image, some), ec::not_found, "nowhere");
  BOOST_TEST(search(*image, query("nothing")).value().lines.empty());
  check_fails(search(*image, query("(")), ec::unsupported, "regular expression");
}

BOOST_AUTO_TEST_CASE(the_last_match_of_all_has_its_lines_around_as_every_other) {
  made_disk made;
  made.write("a", "1\nx\n3\n4\n");
  made.write("b", "x\n2\n");
  made.make();
  auto image = made.open();
  auto wanted = query("x");
  wanted.paths = {"/a", "/b"};
  wanted.before = 1;
  wanted.after = 1;
  wanted.max_total = 1;
  const strings of_a{"/a:1:1\n", "/a:2:x\n", "/a:3:3\n"};
  for (const std::uint64_t of_a_file : {0u, 1u}) {
    wanted.max_count = of_a_file;
    auto got = search(*image, wanted);
    BOOST_REQUIRE(got);
    BOOST_TEST(got->lines == of_a, boost::test_tools::per_element());
    BOOST_TEST(got->is_truncated);
  }
}

BOOST_AUTO_TEST_CASE(many_matches_come_in_answers_that_fit_a_frame) {
  made_disk made;
  made.size = "32M";
  std::string text;
  for (int i = 0; i < 200'000; ++i) {
    text += "a\n";
  }
  made.write("many", text);
  made.write("long", std::string(100'000, 'a') + "\n");
  made.make();
  auto image = made.open();
  auto all = search(*image, query("a", {"many", "long"})).value();
  BOOST_TEST(all.lines.size() == 200'001u);
}

BOOST_AUTO_TEST_CASE(a_search_without_time_left_says_so) {
  made_disk made;
  made.make();
  auto image = made.open();
  auto hurried = query("x");
  hurried.deadline = std::chrono::milliseconds{1};
  hurried.paths = strings(3000, "/"); // more work than that
  auto out = search(*image, hurried).value();
  BOOST_TEST(out.is_truncated);
}
