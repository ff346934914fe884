#include "vmm/command_line.hpp"

#include "protocol/limits.hpp"

#include <algorithm>

namespace coppice::vmm {

namespace {

std::string machine_type(accelerator accel, std::uint32_t tsc_khz) {
  // The timer chip is only needed by a guest that has nothing else to find its clock rate with.
  const bool clock_is_given = accel == accelerator::kvm || tsc_khz != 0;
  return std::string{"microvm,x-option-roms=off,memory-backend=mem,pit="} +
         (clock_is_given ? "off" : "on");
}

/// Under TCG `rep movsb` is emulated byte by byte: without these flags the guest uses other loops.
/// A fifth level of page tables is walked by a program, and each switch of SMAP ends a piece of
/// translated code: half a megabyte less for each VM without them.
const char* cpu_model(accelerator accel) {
  return accel == accelerator::kvm ? "host" : "max,-erms,-fsrm,-la57,-smap,-smep";
}

std::string socket_chardev(const char* id, int number) {
  return std::string{"socket,id="} + id + ",fd=" + std::to_string(number);
}

std::string memory_backend(memory_kind memory, std::uint32_t memory_mib, int number) {
  const auto tail = ",id=mem,size=" + std::to_string(memory_mib) + "M";
  if (memory == memory_kind::own) {
    return "memory-backend-ram" + tail;
  }
  return "memory-backend-file" + tail + ",mem-path=/proc/self/fd/" + std::to_string(number) +
         ",share=" + (memory == memory_kind::restored ? "off" : "on");
}

} // namespace

std::string_view to_string(accelerator a) {
  return a == accelerator::kvm ? "kvm" : "tcg";
}

std::string escape_commas(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    out += c;
    if (c == ',') {
      out += c;
    }
  }
  return out;
}

disk_attachment served_disk(unique_fd socket) {
  // Far above the sockets that pick_sockets gives out.
  constexpr int number = 20;
  disk_attachment out;
  out.blockdev = "driver=nbd,node-name=d0,discard=unmap,export=disk,server.type=fd,server.str=" +
                 std::to_string(number);
  out.descriptors.emplace_back(socket.get(), number);
  out.socket = std::move(socket);
  return out;
}

disk_attachment file_disk(const std::filesystem::path& overlay) {
  // QEMU's own locks stay on: they cost nothing and refuse a second writer of one overlay.
  return {"driver=qcow2,node-name=d0,discard=unmap,file.driver=file,file.filename=" +
              escape_commas(overlay.string()) + ",file.aio=threads,file.discard=unmap",
          {},
          {}};
}

disk_attachment no_disk() {
  return {"driver=null-co,node-name=d0,read-zeroes=on,size=" + std::to_string(limits::disk_bytes),
          {},
          {}};
}

machine_sockets pick_sockets(const disk_attachment& disk) {
  int next = 3;
  auto take = [&] {
    while (std::any_of(disk.descriptors.begin(), disk.descriptors.end(),
                       [&](const auto& entry) { return entry.second == next; })) {
      ++next;
    }
    return next++;
  };
  machine_sockets out;
  out.console = take();
  out.qmp = take();
  out.agent = take();
  out.ram = take();
  out.state = take();
  return out;
}

std::string kernel_arguments(accelerator accel, std::uint32_t tsc_khz) {
  // panic=-1 with -no-reboot: a guest that panics ends QEMU at once. cryptomgr.notests saves a
  // sixth of the boot; the rest was measured to help or to do no harm (docs/decisions.md). Warnings
  // are shown: machine_session looks for one.
  std::string out = "panic=-1 reboot=t console=ttyS0 loglevel=5 random.trust_cpu=on "
                    "rcupdate.rcu_expedited=1 init_on_alloc=0 cryptomgr.notests";
  if (accel == accelerator::tcg) {
    // TCG is no barrier that a guest's own mitigations could add to.
    out += " mitigations=off";
    if (tsc_khz != 0) {
      out += " tsc_early_khz=" + std::to_string(tsc_khz) + " tsc=reliable no_timer_check";
    }
  }
  return out;
}

std::vector<std::string> command_line(const machine_options& options, const disk_attachment& disk,
                                      const machine_sockets& sockets, memory_kind memory,
                                      std::uint32_t tsc_khz) {
  std::vector<std::string> out{
      options.qemu,
      "-name",
      "coppice",
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
      "-no-reboot",
      "-M",
      machine_type(options.accel, tsc_khz),
      "-accel",
      std::string{to_string(options.accel)},
      "-cpu",
      cpu_model(options.accel),
      "-m",
      std::to_string(options.memory_mib) + "M",
      "-object",
      memory_backend(memory, options.memory_mib, sockets.ram),
      "-smp",
      std::to_string(options.cpus),
      "-sandbox",
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
      "-chardev",
      socket_chardev("con", sockets.console),
      "-serial",
      "chardev:con",
      "-chardev",
      socket_chardev("qm", sockets.qmp),
      "-mon",
      "chardev=qm,mode=control",
      "-device",
      "virtio-serial-device,max_ports=2,id=vs0",
      "-chardev",
      socket_chardev("ag", sockets.agent),
      "-device",
      "virtserialport,chardev=ag,nr=1,name=ag",
      "-blockdev",
      disk.blockdev,
      "-device",
      // An error on the disk is the guest's to see (a proper EIO), never a reason to stop the VM.
      "virtio-blk-device,drive=d0,id=vd0,serial=root,werror=report,rerror=report,"
      // The store's unit and ext4's: nothing smaller ever reaches the disk server.
      "logical_block_size=4096,physical_block_size=4096,discard_granularity=4096",
  };
  if (memory == memory_kind::restored || memory == memory_kind::regrown) {
    // Deferred: it has to be told first that the memory is there already.
    out.insert(out.end(), {"-incoming", "defer"});
  } else {
    out.insert(out.end(),
               {"-kernel", options.kernel.string(), "-initrd", options.initramfs.string(),
                "-append", kernel_arguments(options.accel, tsc_khz)});
  }
  return out;
}

} // namespace coppice::vmm
