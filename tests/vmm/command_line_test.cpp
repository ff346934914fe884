#define BOOST_TEST_MODULE vmm_command_line
#include <boost/test/unit_test.hpp>

#include <sys/socket.h>

#include "vmm/command_line.hpp"
#include "vmm/output_tail.hpp"
#include "vmm/probe_clock.hpp"

#include <algorithm>

using namespace coppice::vmm;

namespace {

machine_options options(accelerator accel) {
  machine_options out;
  out.qemu = "/usr/bin/qemu-system-x86_64";
  out.kernel = "/guest/vmlinux";
  out.initramfs = "/guest/initramfs.cpio";
  out.accel = accel;
  out.memory_mib = 512;
  out.cpus = 2;
  return out;
}

std::vector<std::string> line(accelerator accel, std::uint32_t khz,
                              memory_kind memory = memory_kind::own) {
  return command_line(options(accel), file_disk("/state/o.qcow2"), {3, 4, 5, 6, 7}, memory, khz);
}

bool has(const std::vector<std::string>& argv, const std::string& option,
         const std::string& value) {
  for (std::size_t i = 0; i + 1 < argv.size(); ++i) {
    if (argv[i] == option && argv[i + 1] == value) {
      return true;
    }
  }
  return false;
}

bool mentions(const std::vector<std::string>& argv, const std::string& text) {
  return std::any_of(argv.begin(), argv.end(),
                     [&](const auto& a) { return a.find(text) != std::string::npos; });
}

} // namespace

BOOST_AUTO_TEST_CASE(a_tcg_guest_is_told_its_clock_rate) {
  auto argv = line(accelerator::tcg, 2'596'130);
  BOOST_TEST(argv.front() == "/usr/bin/qemu-system-x86_64");
  BOOST_TEST(has(argv, "-M", "microvm,x-option-roms=off,memory-backend=mem,pit=off"));
  BOOST_TEST(has(argv, "-accel", "tcg"));
  BOOST_TEST(has(argv, "-cpu", "max,-erms,-fsrm,-la57,-smap,-smep"));
  BOOST_TEST(has(argv, "-m", "512M"));
  BOOST_TEST(has(argv, "-smp", "2"));
  BOOST_TEST(has(argv, "-append",
                 "panic=-1 reboot=t console=ttyS0 loglevel=5 random.trust_cpu=on "
                 "rcupdate.rcu_expedited=1 init_on_alloc=0 cryptomgr.notests mitigations=off "
                 "tsc_early_khz=2596130 tsc=reliable no_timer_check"));
}

BOOST_AUTO_TEST_CASE(without_a_constant_clock_the_guest_keeps_its_timer_chip) {
  auto argv = line(accelerator::tcg, 0);
  BOOST_TEST(has(argv, "-M", "microvm,x-option-roms=off,memory-backend=mem,pit=on"));
  BOOST_TEST(!mentions(argv, "tsc_early_khz"));
}

BOOST_AUTO_TEST_CASE(a_kvm_guest_gets_the_hosts_cpu_and_clock) {
  auto argv = line(accelerator::kvm, 2'596'130);
  BOOST_TEST(has(argv, "-accel", "kvm"));
  BOOST_TEST(has(argv, "-cpu", "host"));
  BOOST_TEST(has(argv, "-M", "microvm,x-option-roms=off,memory-backend=mem,pit=off"));
  BOOST_TEST(!mentions(argv, "tsc_early_khz"));
  BOOST_TEST(!mentions(argv, "mitigations=off"));
}

BOOST_AUTO_TEST_CASE(the_machine_is_closed_and_wired_as_promised) {
  auto argv = line(accelerator::tcg, 1'000'000);
  for (const char* flag : {"-nodefaults", "-no-user-config", "-no-reboot"}) {
    BOOST_TEST(std::count(argv.begin(), argv.end(), flag) == 1);
  }
  BOOST_TEST(has(argv, "-display", "none"));
  BOOST_TEST(has(argv, "-sandbox",
                 "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
  BOOST_TEST(has(argv, "-kernel", "/guest/vmlinux"));
  BOOST_TEST(has(argv, "-initrd", "/guest/initramfs.cpio"));
  BOOST_TEST(has(argv, "-chardev", "socket,id=con,fd=3"));
  BOOST_TEST(has(argv, "-serial", "chardev:con"));
  BOOST_TEST(has(argv, "-chardev", "socket,id=qm,fd=4"));
  BOOST_TEST(has(argv, "-mon", "chardev=qm,mode=control"));
  BOOST_TEST(has(argv, "-chardev", "socket,id=ag,fd=5"));
  BOOST_TEST(has(argv, "-device", "virtserialport,chardev=ag,nr=1,name=ag"));
  BOOST_TEST(has(argv, "-device",
                 "virtio-blk-device,drive=d0,id=vd0,serial=root,werror=report,rerror=report,"
                 "logical_block_size=4096,physical_block_size=4096,discard_granularity=4096"));
  BOOST_TEST(!mentions(argv, "net"));
}

BOOST_AUTO_TEST_CASE(a_restored_machine_is_the_one_that_was_saved_but_for_its_memory_and_boot) {
  auto mould = line(accelerator::tcg, 2'596'130, memory_kind::mould);
  auto restored = line(accelerator::tcg, 2'600'000, memory_kind::restored);
  BOOST_TEST(
      has(line(accelerator::tcg, 1'000'000), "-object", "memory-backend-ram,id=mem,size=512M"));
  BOOST_TEST(has(mould, "-object",
                 "memory-backend-file,id=mem,size=512M,mem-path=/proc/self/fd/6,share=on"));
  BOOST_TEST(has(restored, "-object",
                 "memory-backend-file,id=mem,size=512M,mem-path=/proc/self/fd/6,share=off"));
  BOOST_TEST(has(restored, "-incoming", "defer"));
  // One that is to be saved again has memory of its own.
  auto regrown = line(accelerator::tcg, 2'600'000, memory_kind::regrown);
  BOOST_TEST(has(regrown, "-object",
                 "memory-backend-file,id=mem,size=512M,mem-path=/proc/self/fd/6,share=on"));
  BOOST_TEST(has(regrown, "-incoming", "defer"));
  // What all have in common is all the rest.
  auto common = [](std::vector<std::string> argv) {
    for (const char* option : {"-object", "-kernel", "-initrd", "-append", "-incoming"}) {
      if (auto at = std::find(argv.begin(), argv.end(), option); at != argv.end()) {
        argv.erase(at, at + 2);
      }
    }
    return argv;
  };
  BOOST_TEST(common(mould) == common(restored), boost::test_tools::per_element());
  BOOST_TEST(common(mould) == common(regrown), boost::test_tools::per_element());
  BOOST_TEST(common(mould) == common(line(accelerator::tcg, 1)), boost::test_tools::per_element());
  BOOST_TEST(!mentions(restored, "/guest/"));
}

BOOST_AUTO_TEST_CASE(commas_in_a_path_stay_part_of_the_path) {
  auto disk = file_disk("/a,b/c,,d.qcow2");
  BOOST_TEST(disk.blockdev ==
             "driver=qcow2,node-name=d0,discard=unmap,file.driver=file,"
             "file.filename=/a,,b/c,,,,d.qcow2,file.aio=threads,file.discard=unmap");
  BOOST_TEST(disk.descriptors.empty());
}

BOOST_AUTO_TEST_CASE(a_served_disk_is_a_socket_and_no_file) {
  int ends[2];
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  unique_fd server{ends[1]};
  auto disk = served_disk(unique_fd{ends[0]});
  BOOST_TEST(disk.blockdev == "driver=nbd,node-name=d0,discard=unmap,export=disk,server.type=fd,"
                              "server.str=20");
  BOOST_TEST((disk.descriptors == std::vector<std::pair<int, int>>{{ends[0], 20}}));
  BOOST_TEST(disk.socket.get() == ends[0]);
}

BOOST_AUTO_TEST_CASE(sockets_keep_out_of_the_disks_numbers) {
  disk_attachment disk;
  disk.descriptors = {{7, 3}, {8, 5}};
  auto sockets = pick_sockets(disk);
  BOOST_TEST(sockets.console == 4);
  BOOST_TEST(sockets.qmp == 6);
  BOOST_TEST(sockets.agent == 7);
  BOOST_TEST(sockets.ram == 8);
  BOOST_TEST(sockets.state == 9);
}

BOOST_AUTO_TEST_CASE(the_clock_rate_is_measured_once_and_plausible) {
  const auto khz = tsc_khz();
  BOOST_TEST((khz == 0 || (khz >= 100'000 && khz <= 20'000'000)));
  BOOST_TEST(tsc_khz() == khz);
}

BOOST_AUTO_TEST_CASE(a_tail_is_the_end_of_what_came_however_it_came) {
  std::string all;
  for (int i = 0; i < 2000; ++i) {
    all += std::to_string(i) + ' ';
  }
  for (std::size_t piece : {1u, 7u, 99u, 100u, 101u, 5000u}) {
    output_tail tail{100};
    for (std::size_t at = 0; at < all.size(); at += piece) {
      tail.append(std::string_view{all}.substr(at, piece));
    }
    BOOST_TEST(tail.text() == all.substr(all.size() - 100));
  }
  output_tail roomy{100};
  roomy.append("ab");
  roomy.append("c");
  BOOST_TEST(roomy.text() == "abc");
}

BOOST_AUTO_TEST_CASE(shown_lines_are_printable_and_few) {
  BOOST_TEST(printable_lines("a\r\n\n\x1b[2Jb\tc\x80 \n", 5) == "a\n?[2Jb c?");
  BOOST_TEST(printable_lines("1\n2\n3\n4", 2) == "3\n4");
  BOOST_TEST(printable_lines(std::string(10'000, 'x'), 3).size() == 400u);
  BOOST_TEST(printable_lines("", 3) == "");
}
