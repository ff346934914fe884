#define BOOST_TEST_MODULE settings
#include <boost/test/unit_test.hpp>

#include "gateway/cli/settings_file.hpp"
#include "gateway/cli/settings_table.hpp"
#include "gateway/cli/units.hpp"

#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>

using namespace coppice;
using namespace coppice::cli;

namespace {

std::string error_of(const std::string& text) {
  auto parsed = parse_settings(text, "x.ini");
  return parsed ? "no error" : parsed.error().text;
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

} // namespace

BOOST_AUTO_TEST_SUITE(units)

BOOST_AUTO_TEST_CASE(sizes_need_a_unit_and_take_the_whole_text) {
  BOOST_TEST(*parse_size("18MiB") == 18ull << 20);
  BOOST_TEST(*parse_size("18 MiB") == 18ull << 20);
  BOOST_TEST(*parse_size("1TiB") == 1ull << 40);
  BOOST_TEST(*parse_size("0") == 0u);
  for (auto wrong : {"", "18", "MiB", "18MB", "18mib", "-1MiB", "1.5GiB", "1MiBx", "18  MiB",
                     "99999999999999999999B", "17179869184TiB"}) {
    BOOST_TEST(!parse_size(wrong), wrong);
  }
}

BOOST_AUTO_TEST_CASE(durations_are_whole_seconds_with_a_unit) {
  BOOST_TEST(parse_duration("90s")->count() == 90);
  BOOST_TEST(parse_duration("2m")->count() == 120);
  BOOST_TEST(parse_duration("1d")->count() == 86'400);
  BOOST_TEST(parse_duration("2000ms")->count() == 2);
  for (auto wrong : {"", "90", "s", "1500ms", "1 week", "90S", "-1s"}) {
    BOOST_TEST(!parse_duration(wrong), wrong);
  }
}

BOOST_AUTO_TEST_CASE(texts_parse_back_to_the_same_value) {
  for (std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1023}, std::uint64_t{1024},
        std::uint64_t{18} << 20, (std::uint64_t{1} << 40) + 1,
        std::numeric_limits<std::uint64_t>::max()}) {
    BOOST_TEST(*parse_size(size_text(bytes)) == bytes);
  }
  for (int seconds : {0, 1, 59, 60, 61, 3600, 86'400, 86'401}) {
    BOOST_TEST(parse_duration(duration_text(std::chrono::seconds{seconds}))->count() == seconds);
  }
  BOOST_TEST(human_size(1536) == "1.5 KiB");
  BOOST_TEST(human_size(0) == "0 B");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(table)

BOOST_AUTO_TEST_CASE(the_shipped_file_is_the_rendered_table) {
  std::ifstream shipped{COPPICE_SOURCE_DIR "/configs/coppice.ini"};
  std::string text{std::istreambuf_iterator<char>{shipped}, {}};
  BOOST_TEST(text == render_settings(settings{}),
             "configs/coppice.ini differs from the table; regenerate it with "
             "'coppice settings > configs/coppice.ini'");
}

BOOST_AUTO_TEST_CASE(every_default_is_written_and_parses_back_to_itself) {
  auto text = render_settings(settings{});
  auto parsed = parse_settings(text, "defaults");
  BOOST_TEST_REQUIRE(parsed.has_value(), parsed.error().text);
  for (const auto& row : settings_table()) {
    BOOST_TEST(row.get(*parsed) == row.get(settings{}), row.key());
    BOOST_TEST(says(text, "\n" + std::string{row.name} + " ="), row.key());
    BOOST_TEST(!row.summary.empty(), row.key());
    BOOST_TEST(!section_title(row.section).empty(), row.key());
  }
}

BOOST_AUTO_TEST_CASE(each_row_reads_and_writes_a_field_of_its_own) {
  // Changing one row must change that row's text and no other's.
  for (const auto& changed : settings_table()) {
    settings values;
    bool was_set = false;
    for (auto other :
         {"/elsewhere", "kvm", "warn", "7", "2MiB", "77s", "1.2.3.4:5", "200", "5000", "true",
          "false", "3:384", "anyone", "2KiB", "10.0.0.1/8", "https://example.org"}) {
      if (changed.get(settings{}) != other && !changed.set(values, other)) {
        was_set = true;
        break;
      }
    }
    BOOST_TEST_REQUIRE(was_set, changed.key());
    for (const auto& row : settings_table()) {
      bool is_same = row.get(values) == row.get(settings{});
      BOOST_TEST(is_same == (&row != &changed), row.key() + " after a change of " + changed.key());
    }
  }
}

BOOST_AUTO_TEST_CASE(keys_are_unique_and_help_names_each) {
  std::set<std::string> keys;
  auto help = settings_help();
  for (const auto& row : settings_table()) {
    BOOST_TEST(keys.insert(row.key()).second, row.key());
    BOOST_TEST(says(help, "--" + row.key() + "="), row.key());
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(file)

BOOST_AUTO_TEST_CASE(classes_are_processors_and_memory) {
  auto parsed = parse_settings("[vm]\nclasses = 1:512 ,4:4096\n", "x.ini");
  BOOST_TEST_REQUIRE(parsed.has_value(), parsed.error().text);
  BOOST_TEST((parsed->vm.classes == std::vector<machine_class>{{1, 512}, {4, 4096}}));
  BOOST_TEST((parsed->classes() ==
              std::vector<machine_class>{{1, 256}, {1, 512}, {4, 4096}})); // + default
  parsed = parse_settings("[vm]\nclasses =\n", "x.ini");
  BOOST_TEST_REQUIRE(parsed.has_value(), parsed.error().text);
  BOOST_TEST(parsed->vm.classes.empty());
  BOOST_TEST(parse_settings("[vm]\nclasses = 1:128, 64:65536\n", "x.ini").has_value());
  std::string seventeen = "1:128";
  for (int i = 0; i < 16; ++i) {
    seventeen += ",1:128";
  }
  for (const auto& wrong :
       {std::string{"1"}, std::string{":512"}, std::string{"1:"}, std::string{"0:512"},
        std::string{"65:512"}, std::string{"1:127"}, std::string{"1:65537"},
        std::string{"1:512MiB"}, std::string{"1:512:3"}, std::string{"-1:512"},
        std::string{"1:512,,2:512"}, std::string{"1.5:512"}, seventeen}) {
    auto text = error_of("[vm]\nclasses = " + wrong + "\n");
    BOOST_TEST(says(text, "x.ini:2: vm.classes must be at most 16 of CPUS:MIB"),
               wrong << ": " << text);
  }
}

BOOST_AUTO_TEST_CASE(values_are_taken_from_their_sections) {
  auto parsed = parse_settings("state_dir = /srv/x\r\n"
                               "; comment\n"
                               "[http]\n"
                               "  listen=0.0.0.0:80  \n"
                               "[ import ]\n"
                               "insecure_registries = localhost:5000 ,127.0.0.1:5001\n"
                               "[http]\n"
                               "idle_timeout = 5m",
                               "x.ini");
  BOOST_TEST_REQUIRE(parsed.has_value(), parsed.error().text);
  BOOST_TEST(parsed->state_dir.string() == "/srv/x");
  BOOST_TEST(parsed->http.listen == "0.0.0.0:80");
  BOOST_TEST(parsed->http.idle_timeout.count() == 300);
  BOOST_TEST_REQUIRE(parsed->import.insecure_registries.size() == 2u);
  BOOST_TEST(parsed->import.insecure_registries[0] == "localhost:5000");
  BOOST_TEST(parsed->import.insecure_registries[1] == "127.0.0.1:5001");
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_an_error_that_names_line_and_nearest_key) {
  auto text = error_of("[import]\n\ninsecure_registry = a\n");
  BOOST_TEST(says(text, "x.ini:3: unknown key import.insecure_registry"), text);
  BOOST_TEST(says(text, "nearest is import.insecure_registries"), text);
  text = error_of("[http]\nrunning_max = 3\n");
  BOOST_TEST(says(text, "nearest is vm.running_max"), text);
  text = error_of("listen = 1.2.3.4:5\n");
  BOOST_TEST(says(text, "nearest is http.listen"), text);
}

BOOST_AUTO_TEST_CASE(lines_that_mean_nothing_are_errors) {
  BOOST_TEST(
      says(error_of("[htp]\n"), "x.ini:1: unknown section [htp]; there are [store] [http] [vm]"));
  BOOST_TEST(says(error_of("[http\n"), "unknown section"));
  BOOST_TEST(says(error_of("[]\n"), "unknown section"));
  BOOST_TEST(says(error_of("state_dir\n"), "x.ini:1: expected 'key = value'"));
  BOOST_TEST(says(error_of("= 3\n"), "x.ini:1: unknown key"));
  BOOST_TEST(
      says(error_of("[vm]\ncpus = 1\n\ncpus = 1\n"), "x.ini:4: vm.cpus was already set in line 2"));
}

BOOST_AUTO_TEST_CASE(values_out_of_range_or_of_the_wrong_kind_name_key_range_and_value) {
  BOOST_TEST(says(error_of("[vm]\ncpus = 0\n"), "vm.cpus must be a number, 1 to 64; it is '0'"));
  BOOST_TEST(says(error_of("[vm]\ncpus = 1 # two\n"), "it is '1 # two'"));
  BOOST_TEST(says(error_of("[vm]\nboot_timeout = 60\n"), "with a unit"));
  BOOST_TEST(says(error_of("[http]\nupload_bytes_max = 1GB\n"), "with a unit"));
  BOOST_TEST(says(error_of("[vm]\naccelerator = KVM\n"), "must be one of auto, kvm, tcg"));
  BOOST_TEST(says(error_of("state_dir = here\n"), "must be an absolute path"));
  BOOST_TEST(says(error_of("state_dir =\n"), "must be an absolute path"));
  BOOST_TEST(says(error_of("[vm]\nqemu = bin/qemu\n"), "absolute path"));
  for (auto listen : {"8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "h:80x"}) {
    BOOST_TEST(says(error_of("[http]\nlisten = " + std::string{listen}), "must be ADDRESS:PORT"),
               listen);
  }
  for (auto hosts : {"http://a", "a,,b", "a b"}) {
    BOOST_TEST(says(error_of("[import]\ninsecure_registries = " + std::string{hosts}),
                    "must be hosts separated by commas"),
               hosts);
  }
}

BOOST_AUTO_TEST_CASE(a_missing_or_oversized_file_is_an_error_with_its_name) {
  auto missing = read_settings("/nonexistent/coppice.ini");
  BOOST_TEST_REQUIRE(missing.has_error());
  BOOST_TEST(says(missing.error().text, "/nonexistent/coppice.ini"), missing.error().text);
  auto endless = read_settings("/dev/zero");
  BOOST_TEST_REQUIRE(endless.has_error());
  BOOST_TEST(says(endless.error().text, "larger than 1 MiB"), endless.error().text);
}

BOOST_AUTO_TEST_CASE(overrides_win_over_the_file_and_are_checked_alike) {
  auto loaded = load_settings(COPPICE_SOURCE_DIR "/configs/coppice.ini",
                              {{"vm.cpus", "2"}, {"vm.cpus", "3"}});
  BOOST_TEST_REQUIRE(loaded.has_value(), loaded.error().text);
  BOOST_TEST(loaded->vm.cpus == 3u);
  auto wrong = load_settings({}, {{"vm.cpu", "2"}});
  BOOST_TEST_REQUIRE(wrong.has_error());
  BOOST_TEST(says(wrong.error().text, "command line: unknown key vm.cpu; the nearest is vm.cpus"),
             wrong.error().text);
}

BOOST_AUTO_TEST_CASE(arguments_are_read_as_overrides_with_and_without_an_equals_sign) {
  auto taken = overrides_from({"--vm.cpus=2", "--http.listen", "[::1]:80", "--vm.kernel="});
  BOOST_TEST_REQUIRE(taken.has_value(), taken.error().text);
  BOOST_TEST_REQUIRE(taken->size() == 3u);
  BOOST_TEST((*taken)[0].second == "2");
  BOOST_TEST((*taken)[1].first == "http.listen");
  BOOST_TEST((*taken)[1].second == "[::1]:80");
  BOOST_TEST((*taken)[2].second == "");
  BOOST_TEST(says(overrides_from({"8080"}).error().text, "unexpected argument '8080'"));
  BOOST_TEST(says(overrides_from({"--vm.cpus"}).error().text, "--vm.cpus needs a value"));
  BOOST_TEST(
      says(load_settings({}, *overrides_from({"--verbose"})).error().text, "unknown key verbose"));
}

BOOST_AUTO_TEST_CASE(a_default_timeout_above_the_longest_is_refused) {
  auto loaded = load_settings({}, {{"limits.instance_timeout_default", "2h"}});
  BOOST_TEST_REQUIRE(loaded.has_error());
  BOOST_TEST(says(loaded.error().text, "above limits.instance_timeout_max"), loaded.error().text);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(wrapped_text_keeps_its_width_and_every_word) {
  BOOST_TEST(wrapped("a bb ccc dddd", "# ", 8) == "# a bb\n# ccc\n# dddd\n");
  BOOST_TEST(wrapped("", "# ", 8) == "# \n");
}
