#define BOOST_TEST_MODULE schema
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

// No message between actors carries JSON or a raw struct. These tests read the interfaces and the
// schemas as text; each check is first shown something that it must refuse.

namespace {

const std::filesystem::path source_dir{COPPICE_SOURCE_DIR};

using strings = std::vector<std::string>;

std::string read(const std::filesystem::path& path) {
  std::ifstream in{path};
  BOOST_REQUIRE_MESSAGE(in, "cannot read " << path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string all_schemas() {
  std::string text;
  for (const auto& entry : std::filesystem::directory_iterator{source_dir / "protocol"}) {
    if (entry.path().extension() == ".capnp") {
      text += read(entry.path());
    }
  }
  BOOST_REQUIRE(!text.empty());
  return text;
}

std::string without_cpp_comments(const std::string& text) {
  std::string code;
  for (std::size_t i = 0; i < text.size();) {
    if (text.compare(i, 2, "//") == 0) {
      i = std::min(text.find('\n', i), text.size());
    } else if (text.compare(i, 2, "/*") == 0) {
      const auto end = text.find("*/", i + 2);
      i = end == std::string::npos ? text.size() : end + 2;
    } else {
      code += text[i++];
    }
  }
  return code;
}

std::string without_schema_comments(const std::string& text) {
  return std::regex_replace(text, std::regex{"#[^\n]*"}, "");
}

std::string without_spaces(std::string text) {
  text.erase(std::remove_if(text.begin(), text.end(),
                            [](unsigned char c) { return std::isspace(c) != 0; }),
             text.end());
  return text;
}

/// The arguments of `<…>` that opens at `open`, split at its own commas.
strings template_arguments(const std::string& text, std::size_t open) {
  strings arguments(1);
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '<' && ++depth == 1) {
      continue;
    }
    if (c == '>' && --depth == 0) {
      break;
    }
    if (c == ',' && depth == 1) {
      arguments.emplace_back();
    } else {
      arguments.back() += c;
    }
  }
  for (auto& argument : arguments) {
    argument = without_spaces(argument);
  }
  return arguments;
}

/// Names of the structs at the top of a schema file: a nested one is indented.
std::set<std::string> top_structs(const std::string& schemas) {
  std::set<std::string> names;
  const std::regex pattern{"(^|\n)struct ([A-Za-z0-9]+)"};
  for (std::sregex_iterator it{schemas.begin(), schemas.end(), pattern}, end; it != end; ++it) {
    names.insert((*it)[2]);
  }
  return names;
}

/// Every handler that is not `ask` or `tell` of structs of the schemas.
strings handlers_beside_frames(const std::string& interfaces,
                               const std::set<std::string>& structs) {
  const auto text = without_cpp_comments(interfaces);
  const std::regex handler{"(?:ask<proto::(\\w+),proto::(\\w+)>|tell<proto::(\\w+)>|"
                           "ask_giving<proto::(\\w+),\\w+_actor,proto::(\\w+)>|"
                           "ask_for<proto::(\\w+),proto::(\\w+),\\w+_actor>)"};
  const std::string opening = "typed_actor<";
  strings refused;
  for (auto at = text.find(opening); at != std::string::npos; at = text.find(opening, at + 1)) {
    for (const auto& argument : template_arguments(text, at + opening.size() - 1)) {
      std::smatch m;
      bool known = std::regex_match(argument, m, handler);
      for (std::size_t i = 1; known && i < m.size(); ++i) {
        known = !m[i].matched || structs.contains(m[i]);
      }
      if (!known) {
        refused.push_back(argument);
      }
    }
  }
  return refused;
}

/// How often a word begins so.
std::size_t count_of(const std::string& text, const std::string& word) {
  const std::regex pattern{"\\b" + word};
  return static_cast<std::size_t>(std::distance(
      std::sregex_iterator{text.begin(), text.end(), pattern}, std::sregex_iterator{}));
}

/// Lines of a schema that speak of JSON, or hold what the schema does not describe.
strings lines_beside_schema(const std::string& schemas) {
  const std::regex json{"json", std::regex::icase};
  const std::regex untyped{"\\b(AnyPointer|AnyStruct|AnyList|Capability|interface)\\b"};
  strings refused;
  std::istringstream in{schemas};
  for (std::string line; std::getline(in, line);) {
    if (std::regex_search(line, json) ||
        std::regex_search(without_schema_comments(line), untyped)) {
      refused.push_back(line);
    }
  }
  return refused;
}

/// Fields of bytes whose name is not one of what is bytes by nature.
strings opaque_fields(const std::string& schemas) {
  const std::set<std::string> bytes_by_nature{
      "sha256",  "key",    "digest",                   // digests
      "entropy",                                       // random bytes for a guest
      "data",    "stdin",  "stdout",                   // what a process or a client reads or writes
      "stderr",  "output", "stdoutHead", "stderrHead", // what a command wrote
      "path",    "line",                               // names and texts of a guest: any bytes
      "extents", // a stored format with a version and a checksum: storage/disk/index_codec.hpp
  };
  const std::regex field{"\\b(\\w+)\\s*@\\d+\\s*:\\s*(?:List\\(\\s*)*Data\\b"};
  const auto text = without_schema_comments(schemas);
  strings refused;
  for (std::sregex_iterator it{text.begin(), text.end(), field}, end; it != end; ++it) {
    if (!bytes_by_nature.contains((*it)[1])) {
      refused.push_back((*it)[1]);
    }
  }
  return refused;
}

void check_none(const strings& refused, const char* what) {
  for (const auto& one : refused) {
    BOOST_ERROR(what << ": " << one);
  }
}

} // namespace

BOOST_AUTO_TEST_CASE(a_handler_that_carries_anything_but_frames_of_the_schemas_is_seen) {
  const std::set<std::string> structs{"A", "B"};
  auto refused = [&](const char* handlers) {
    return handlers_beside_frames("using x = caf::typed_actor<" + std::string{handlers} + ">;",
                                  structs)
        .size();
  };
  BOOST_CHECK_EQUAL(refused("ask<proto::A, proto::B>, tell<proto::A>"), 0);
  BOOST_CHECK_EQUAL(refused("/// words\n ask<proto::A,\n proto::B>, //\n tell<proto::B>"), 0);
  BOOST_CHECK_EQUAL(refused("ask<proto::A, proto::C>"), 1);
  BOOST_CHECK_EQUAL(refused("ask<proto::C, proto::A>"), 1);
  BOOST_CHECK_EQUAL(refused("tell<proto::C>"), 1);
  BOOST_CHECK_EQUAL(refused("tell<std::string>"), 1);
  BOOST_CHECK_EQUAL(refused("ask_giving<proto::A, x_actor, proto::B>"), 0);
  BOOST_CHECK_EQUAL(refused("ask_giving<proto::A, std::string, proto::B>"), 1);
  BOOST_CHECK_EQUAL(refused("ask_giving<proto::A, x_actor, proto::C>"), 1);
  BOOST_CHECK_EQUAL(refused("ask_for<proto::A, proto::B, x_actor>"), 0);
  BOOST_CHECK_EQUAL(refused("ask_for<proto::A, proto::B, int>"), 1);
  BOOST_CHECK_EQUAL(refused("tell<proto::A>, tell<A>"), 1);
  BOOST_CHECK_EQUAL(refused("caf::reacts_to<proto::A>"), 1);
  BOOST_CHECK_EQUAL(refused("caf::replies_to<int>::with<frame<proto::A>>, tell<proto::A>"), 1);
  BOOST_CHECK(top_structs("struct A {\n  struct N {\n  }\n}\nstruct B {}\n") == structs);
}

BOOST_AUTO_TEST_CASE(every_handler_of_every_interface_carries_frames_of_the_schemas) {
  const auto interfaces = read(source_dir / "actors" / "interfaces.hpp");
  const auto structs = top_structs(all_schemas());
  check_none(handlers_beside_frames(interfaces, structs), "not a frame of a schema's struct");

  const auto code = without_cpp_comments(interfaces);
  // Enough was read for the check to mean something, and nothing goes around it.
  BOOST_CHECK_GE(count_of(code, "typed_actor<"), 8);
  BOOST_CHECK_GE(count_of(code, "ask<") + count_of(code, "tell<"), 40);
  BOOST_CHECK_EQUAL(count_of(code, "reacts_to"), 1);
  BOOST_CHECK_EQUAL(count_of(code, "replies_to<"), 3); // ask, ask_giving, ask_for
  const auto compact = without_spaces(code);
  BOOST_CHECK(compact.find("usingtell=caf::reacts_to<frame<T>>;") != std::string::npos);
  BOOST_CHECK(compact.find("usingask=typenamecaf::replies_to<frame<Request>>"
                           "::templatewith<frame<Answer>>;") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(no_other_header_declares_an_interface_of_its_own) {
  for (const char* part : {"actors", "gateway", "vmm", "storage", "protocol"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator{source_dir / part}) {
      const auto extension = entry.path().extension();
      if ((extension != ".hpp" && extension != ".cpp") ||
          entry.path() == source_dir / "actors" / "interfaces.hpp") {
        continue;
      }
      const auto code = without_cpp_comments(read(entry.path()));
      BOOST_CHECK_MESSAGE(code.find("typed_actor<") == std::string::npos &&
                              count_of(code, "reacts_to") == 0 && count_of(code, "replies_to") == 0,
                          entry.path() << " declares an interface");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_field_of_json_or_of_an_unknown_kind_is_seen) {
  BOOST_CHECK_EQUAL(lines_beside_schema("struct A { body @0 :Text; }  # as JSON\n").size(), 1);
  BOOST_CHECK_EQUAL(lines_beside_schema("  resultJson @0 :Text;\n").size(), 1);
  BOOST_CHECK_EQUAL(lines_beside_schema("  any @0 :AnyPointer;\n").size(), 1);
  BOOST_CHECK_EQUAL(lines_beside_schema("  fine @0 :Text; # its interface is another\n").size(), 0);
  BOOST_CHECK_EQUAL(opaque_fields("struct A { state @0 :Data; data @1 :Data; }").size(), 1);
  BOOST_CHECK_EQUAL(opaque_fields("  states @0 :List(Data);").size(), 1);
  BOOST_CHECK_EQUAL(opaque_fields("  x @0 :UInt32; # y @1 :Data\n").size(), 0);
}

BOOST_AUTO_TEST_CASE(no_schema_has_a_field_of_json_or_of_a_raw_struct) {
  const auto schemas = all_schemas();
  BOOST_CHECK_GE(top_structs(schemas).size(), 40);
  check_none(lines_beside_schema(schemas), "not described by the schema");
  check_none(opaque_fields(schemas), "bytes that may hide a struct");
}
