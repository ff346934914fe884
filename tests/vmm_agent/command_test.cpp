#include "vmm/agent/command.hpp"

#include <boost/test/unit_test.hpp>
#include <capnp/message.h>

using namespace coppice;
using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(command)

namespace {

using strings = std::vector<std::string>;
using variables = std::vector<std::pair<const char*, const char*>>;

struct request {
  capnp::MallocMessageBuilder process_message;
  capnp::MallocMessageBuilder config_message;
  proto::ProcessSpec::Builder process = process_message.initRoot<proto::ProcessSpec>();
  proto::ImageConfig::Builder config = config_message.initRoot<proto::ImageConfig>();

  request(const char* text, const strings& args, bool is_shell) {
    process.setCommand(text);
    process.setShell(is_shell);
    auto list = process.initArgs(static_cast<unsigned>(args.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      list.set(i, args[i]);
    }
  }

  template <class Builder>
  static void fill(Builder to, const variables& from) {
    auto list = to.initEnv(static_cast<unsigned>(from.size()));
    for (unsigned i = 0; i < list.size(); ++i) {
      list[i].setName(from[i].first);
      list[i].setValue(from[i].second);
    }
  }

  command_line line(const identity& who = {}) {
    return make_command_line(process.asReader(), config.asReader(), who);
  }
};

#define CHECK_STRINGS(a, ...)                                                                      \
  BOOST_TEST((a) == (strings{__VA_ARGS__}), boost::test_tools::per_element())

} // namespace

BOOST_AUTO_TEST_CASE(a_plain_command_takes_its_arguments_as_they_are) {
  request r{"ls", {"-l", "a b", "$HOME"}, false};
  CHECK_STRINGS(r.line().argv, "ls", "-l", "a b", "$HOME");
}

BOOST_AUTO_TEST_CASE(a_shell_command_without_arguments_is_unchanged) {
  request r{"echo  'x' \"$y\" | cat", {}, true};
  CHECK_STRINGS(r.line().argv, "/bin/sh", "-c", "echo  'x' \"$y\" | cat");
}

BOOST_AUTO_TEST_CASE(arguments_of_a_shell_command_are_quoted_behind_it) {
  request r{"/bin/sh", {"-s", "--", "a b", "it's", ""}, true};
  CHECK_STRINGS(r.line().argv, "/bin/sh", "-c", "/bin/sh -s -- 'a b' 'it'\\''s' ''");
}

BOOST_AUTO_TEST_CASE(an_empty_shell_command_reads_its_script_from_standard_input) {
  request r{"", {"one"}, true};
  CHECK_STRINGS(r.line().argv, "/bin/sh", "-s", "one");
}

BOOST_AUTO_TEST_CASE(quoting_leaves_no_byte_to_the_shell) {
  BOOST_TEST(shell_quoted("plain-1.0/x:y,z+w@v%u") == "plain-1.0/x:y,z+w@v%u");
  BOOST_TEST(shell_quoted("a\nb") == "'a\nb'");
  BOOST_TEST(shell_quoted("`$(x)`;&|<>*?~#=\\") == "'`$(x)`;&|<>*?~#=\\'");
  BOOST_TEST(shell_quoted("\xff") == "'\xff'");
}

BOOST_AUTO_TEST_CASE(the_processes_environment_goes_over_the_images) {
  request r{"x", {}, false};
  request::fill(r.config, {{"A", "1"}, {"B", "1"}, {"PATH", "/i"}, {"HOME", "/h"}});
  request::fill(r.process, {{"A", "2"}, {"C", "3"}, {"C", "4"}, {"", "no"}, {"D=E", "no"}});
  CHECK_STRINGS(r.line().environment, "A=2", "B=1", "PATH=/i", "HOME=/h", "C=4");
}

BOOST_AUTO_TEST_CASE(a_process_beside_another_has_its_environment_under_its_own) {
  request main{"x", {}, false};
  request::fill(main.config, {{"A", "image"}, {"B", "image"}, {"PATH", "/i"}, {"HOME", "/h"}});
  request::fill(main.process, {{"B", "main"}, {"C", "main"}});
  request r{"x", {}, false};
  request::fill(r.process, {{"C", "own"}});
  auto line =
      make_command_line(r.process.asReader(), main.config.asReader(), {}, main.process.asReader());
  CHECK_STRINGS(line.environment, "A=image", "B=main", "PATH=/i", "HOME=/h", "C=own");
}

BOOST_AUTO_TEST_CASE(path_and_home_are_there_always) {
  request r{"x", {}, false};
  auto path = "PATH=" + std::string{default_path};
  CHECK_STRINGS(r.line().environment, path, "HOME=/root");
  CHECK_STRINGS(r.line({1, 1, {}, "/home/one"}).environment, path, "HOME=/home/one");
  CHECK_STRINGS(r.line({1, 1, {}, ""}).environment, path, "HOME=/");
}

BOOST_AUTO_TEST_CASE(look_up_follows_the_effective_path_in_order) {
  request r{"tool", {}, false};
  request::fill(r.config, {{"PATH", "/image"}});
  request::fill(r.process, {{"PATH", "/b:/a/::rel"}});
  CHECK_STRINGS(r.line().candidates, "/b/tool", "/a/tool", "./tool", "rel/tool");
}

BOOST_AUTO_TEST_CASE(a_name_with_a_slash_is_not_looked_up) {
  CHECK_STRINGS(executable_candidates("./tool", "/a:/b"), "./tool");
  CHECK_STRINGS(executable_candidates("/x/tool", "/a"), "/x/tool");
  BOOST_TEST(executable_candidates("", "/a").empty());
}

BOOST_AUTO_TEST_SUITE_END()
