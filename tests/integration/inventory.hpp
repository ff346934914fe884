#pragma once

#include "tests/integration/node.hpp"

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

/// Everything of a daemon that work could leave behind, for tests that compare before with after.
namespace coppice::test {

/// Where a test and its daemons put temporary files: in the usual place others have theirs. For a
/// global fixture.
struct own_temporary_folder {
  own_temporary_folder();
  ~own_temporary_folder();
  own_temporary_folder(const own_temporary_folder&) = delete;
  own_temporary_folder& operator=(const own_temporary_folder&) = delete;

  state_folder at;
};

/// Names with how many there are of each: descriptors and threads of the daemon and its launcher,
/// the processes below it with their descriptors, files, mounts and control groups.
using inventory = std::map<std::string, int>;

inventory inventory_of(const node& server, const std::filesystem::path& state);

/// What there is more of. Less is no leak: threads that have nothing to do end.
std::string surplus(const inventory& before, const inventory& now);

std::size_t count_in(const inventory& all, const std::string& prefix);

/// Memory that only this process has: without files and what it shares.
long anonymous_kib(pid_t pid);

} // namespace coppice::test
