#pragma once

#include "storage/file.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

/// A folder of one test, and the tools that judge what was written into it.
namespace coppice::storage::test {

class scratch {
public:
  scratch() {
    auto name = (std::filesystem::temp_directory_path() / "coppice-test-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }
  std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }

private:
  std::filesystem::path path_;
};

struct tool_result {
  int status = -1;
  std::string output; ///< stdout and stderr
};

inline tool_result run(const std::string& command) {
  tool_result out;
  auto* pipe = ::popen((command + " 2>&1").c_str(), "r");
  BOOST_REQUIRE(pipe != nullptr);
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    out.output.append(buffer.data(), n);
  }
  auto status = ::pclose(pipe);
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

/// Runs a tool that must succeed and gives what it wrote.
inline std::string must(const std::string& command) {
  auto done = run(command);
  BOOST_REQUIRE_MESSAGE(done.status == 0,
                        command << " ended with " << done.status << ": " << done.output);
  return done.output;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

inline std::vector<std::byte> read_file(const std::filesystem::path& path) {
  auto opened = file::open(path, O_RDONLY);
  BOOST_REQUIRE(opened);
  std::vector<std::byte> out(opened->size_bytes().value());
  BOOST_REQUIRE_EQUAL(opened->read_at(0, out).value(), out.size());
  return out;
}

inline void write_at(const std::filesystem::path& path, std::uint64_t offset,
                     std::span<const std::byte> data) {
  auto opened = file::open(path, O_WRONLY | O_CREAT);
  BOOST_REQUIRE(opened);
  BOOST_REQUIRE(opened->write_at(offset, data));
}

inline void make_sparse(const std::filesystem::path& path, std::uint64_t size) {
  auto opened = file::open(path, O_WRONLY | O_CREAT);
  BOOST_REQUIRE(opened);
  BOOST_REQUIRE(opened->set_size(size));
}

/// Fails the test unless `outcome` is a failure with this code whose text contains `part`.
template <class Result, class Ec>
void check_fails(const Result& outcome, Ec code, std::string_view part) {
  BOOST_REQUIRE(!outcome);
  BOOST_CHECK_MESSAGE(outcome.error().code == code, outcome.error().code.message()
                                                        << ": " << outcome.error().text);
  BOOST_CHECK_MESSAGE(outcome.error().text.find(part) != std::string::npos,
                      outcome.error().text << " does not say: " << part);
}

} // namespace coppice::storage::test
