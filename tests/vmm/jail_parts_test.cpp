#define BOOST_TEST_MODULE vmm_jail_parts
#include <boost/test/unit_test.hpp>

#include "vmm/cgroup.hpp"
#include "vmm/jail.hpp"
#include "vmm/jail_root.hpp"
#include "vmm/uid_pool.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>

using namespace coppice::vmm;
namespace fs = std::filesystem;

namespace {

/// Plays a delegated cgroup folder: the files are there as the kernel would have made them.
struct played_cgroup {
  played_cgroup() {
    char name[] = "/tmp/coppice-cgroup-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
    write("cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
    write("cgroup.procs", "100\n200\n");
    write("cgroup.subtree_control", "");
    fs::create_directory(path / "daemon");
    write("daemon/cgroup.procs", "");
  }
  ~played_cgroup() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream{path / name} << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream in{path / name};
    return {std::istreambuf_iterator<char>{in}, {}};
  }
  void group(const std::string& name) const {
    fs::create_directory(path / name);
    for (const char* file : {"/memory.max", "/pids.max", "/memory.oom.group", "/cgroup.procs"}) {
      write(name + file, "");
    }
  }

  fs::path path;
};

std::string refusal(const played_cgroup& folder, const std::vector<pid_t>& ours) {
  auto taken = cgroup_tree::take(folder.path, ours);
  BOOST_REQUIRE(!taken.has_value());
  return taken.error().text;
}

} // namespace

BOOST_AUTO_TEST_CASE(no_two_live_jails_have_one_uid) {
  uid_pool pool{5000, 3};
  std::set<std::uint32_t> taken;
  for (int i = 0; i < 3; ++i) {
    taken.insert(*pool.take());
  }
  BOOST_TEST((taken == std::set<std::uint32_t>{5000, 5001, 5002}));
  BOOST_TEST(!pool.take().has_value());
  pool.give_back(5001);
  BOOST_TEST(*pool.take() == 5001u);
  BOOST_TEST(!pool.take().has_value());
}

BOOST_AUTO_TEST_CASE(a_uid_rests_as_long_as_possible_before_it_is_used_again) {
  uid_pool pool{10, 4};
  const auto first = *pool.take();
  pool.give_back(first);
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(*pool.take() != first);
  }
  BOOST_TEST(*pool.take() == first);
}

BOOST_AUTO_TEST_CASE(uids_that_are_not_the_pools_do_not_enter_it) {
  uid_pool pool{10, 2};
  pool.take();
  pool.take();
  for (std::uint32_t foreign : {0u, 9u, 12u, 0xffffffffu}) {
    pool.give_back(foreign);
  }
  BOOST_TEST(!pool.take().has_value());
}

BOOST_AUTO_TEST_CASE(a_delegated_cgroup_is_taken_over_and_hands_controllers_down) {
  played_cgroup folder;
  auto tree = cgroup_tree::take(folder.path, {100, 200});
  BOOST_REQUIRE_MESSAGE(tree.has_value(), (tree ? "" : tree.error().text));
  BOOST_TEST(folder.read("cgroup.subtree_control") == "+memory +pids");
  BOOST_TEST(!folder.read("daemon/cgroup.procs").empty());
}

BOOST_AUTO_TEST_CASE(each_jail_has_its_limits_written_before_its_first_process_enters) {
  played_cgroup folder;
  auto tree = cgroup_tree::take(folder.path, {100, 200});
  BOOST_REQUIRE(tree.has_value());
  folder.group("jail-1");
  folder.group("jail-2");
  auto entry = tree->make("jail-1", {1u << 30, 64});
  BOOST_REQUIRE(entry.has_value());
  BOOST_TEST(folder.read("jail-1/memory.max") == "1073741824");
  BOOST_TEST(folder.read("jail-1/pids.max") == "64");
  BOOST_TEST(folder.read("jail-1/memory.oom.group") == "1");
  BOOST_REQUIRE(::write(entry->get(), "0", 1) == 1);
  BOOST_TEST(folder.read("jail-1/cgroup.procs") == "0");
  BOOST_REQUIRE(tree->make("jail-2", {}).has_value());
  BOOST_TEST(folder.read("jail-2/memory.max") == "max");
  BOOST_TEST(folder.read("jail-2/pids.max") == "max");
}

BOOST_AUTO_TEST_CASE(a_cgroup_that_cannot_be_limited_is_not_used) {
  played_cgroup folder;
  auto tree = cgroup_tree::take(folder.path, {100, 200});
  BOOST_REQUIRE(tree.has_value());
  // Where the kernel makes no files, there is no limit either.
  auto made = tree->make("jail-1", {1u << 30, 64});
  BOOST_REQUIRE(!made.has_value());
  BOOST_TEST(made.error().text.find("memory.max") != std::string::npos);
  BOOST_TEST(!fs::exists(folder.path / "jail-1"));
  fs::create_directory(folder.path / "jail-2");
  tree->remove("jail-2");
  tree->remove("jail-2");
  BOOST_TEST(!fs::exists(folder.path / "jail-2"));
}

BOOST_AUTO_TEST_CASE(a_cgroup_with_other_peoples_processes_is_left_alone) {
  played_cgroup folder;
  BOOST_TEST(refusal(folder, {100}).find("process 200") != std::string::npos);
  BOOST_TEST(folder.read("daemon/cgroup.procs").empty());
  BOOST_TEST(folder.read("cgroup.subtree_control").empty());
}

BOOST_AUTO_TEST_CASE(a_cgroup_without_the_controllers_is_refused_by_name) {
  played_cgroup folder;
  folder.write("cgroup.controllers", "hugetlb pids\n");
  BOOST_TEST(refusal(folder, {100, 200}).find("controller memory") != std::string::npos);
  folder.write("cgroup.controllers", "memory_not pids memory\n");
  BOOST_TEST(cgroup_tree::take(folder.path, {100, 200}).has_value());
}

BOOST_AUTO_TEST_CASE(the_loaders_list_gives_paths_and_nothing_else) {
  const auto list = parse_library_list("\tlinux-vdso.so.1 (0x00007ffd6e5f2000)\n"
                                       "\tliba.so.1 => /lib/x/liba.so.1 (0x00007f0000000000)\n"
                                       "\tlibgone.so.2 => not found\n"
                                       "\t/lib64/ld-linux-x86-64.so.2 (0x00007f1111111111)\n"
                                       "\tlibb.so => /with blank/libb.so (0x00007f2222222222)");
  BOOST_TEST((list == std::vector<std::string>{"/lib/x/liba.so.1", "/lib64/ld-linux-x86-64.so.2",
                                               "/with blank/libb.so"}));
  BOOST_TEST(parse_library_list("\tstatically linked\n").empty());
  BOOST_TEST(parse_library_list("").empty());
}

BOOST_AUTO_TEST_CASE(the_libraries_of_a_program_exist) {
  const auto list = libraries_of("/bin/sh");
  BOOST_TEST(list.size() >= 2u);
  for (const auto& file : list) {
    BOOST_TEST(fs::exists(file), file);
  }
  BOOST_TEST(libraries_of("/etc/passwd").empty());
}

BOOST_AUTO_TEST_CASE(only_skopeo_shares_the_hosts_network) {
  constexpr int network = 0x40000000; // CLONE_NEWNET
  for (unsigned kind = 1; kind < child_kinds; ++kind) {
    const auto k = static_cast<child_kind>(kind);
    BOOST_TEST(((namespaces_of(k) & network) != 0) == (k != child_kind::skopeo));
  }
}

BOOST_AUTO_TEST_CASE(nothing_writes_files_unless_its_work_says_so) {
  for (unsigned kind = 1; kind < child_kinds; ++kind) {
    launch_request request;
    request.kind = static_cast<child_kind>(kind);
    BOOST_TEST(limits_of(request).file_bytes == 0u);
    BOOST_TEST(limits_of(request).open_files > 0u);
    BOOST_TEST(limits_of(request).processes > 0u);
    request.file_bytes = 77;
    BOOST_TEST(limits_of(request).file_bytes == 77u);
  }
}
