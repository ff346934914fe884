#include "vmm/machine.hpp"

#include "vmm/command_line.hpp"
#include "vmm/find_program.hpp"
#include "vmm/launcher.hpp"
#include "vmm/machine_session.hpp"
#include "vmm/probe_clock.hpp"
#include "vmm/template.hpp"

#include <boost/asio/post.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace coppice::vmm {

namespace {

namespace asio = boost::asio;

// QEMU's own, beside the guest's memory: a gigabyte of translated code at most, stacks, libraries.
constexpr std::uint64_t qemu_address_space_bytes = 8ull << 30;
constexpr std::uint64_t qemu_memory_bytes = 1536ull << 20;
// Of the devices' state, when a template is made; some 60 KB are usual.
constexpr std::uint64_t state_bytes_max = 64u << 20;

struct socket_pair {
  unique_fd ours;
  unique_fd theirs;
};

result<socket_pair> make_socket_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(ec::spawn, std::string{"making a socket pair for QEMU: "} + std::strerror(errno));
  }
  return socket_pair{unique_fd{ends[0]}, unique_fd{ends[1]}};
}

result<void> check_readable(const std::filesystem::path& file, const char* what,
                            const char* setting) {
  if (::access(file.c_str(), R_OK) == 0) {
    return {};
  }
  return fail(ec::missing, std::string{what} + " " + file.string() + ": " + std::strerror(errno) +
                               ": make it with configs/guest/prepare.sh or name another one with " +
                               setting);
}

/// QEMU's path.
result<std::string> check_ingredients(const machine_options& options, const launcher* jailer) {
  auto qemu = find_program(options.qemu);
  if (!qemu) {
    return fail(ec::missing, qemu.error().text + ": install the package qemu-system-x86 or name " +
                                 "the program with vm.qemu");
  }
  if (options.from) { // kernel and agent are in it
    if (auto fits = options.from->check_fits(options); !fits) {
      return fits.error();
    }
    return *qemu;
  }
  if (jailer != nullptr && jailer->guest_file(options.kernel.string()) >= 0 &&
      jailer->guest_file(options.initramfs.string()) >= 0) {
    return *qemu; // the launcher has them, also where this process may not read them
  }
  if (auto kernel = check_readable(options.kernel, "guest kernel", "vm.kernel"); !kernel) {
    return kernel.error();
  }
  if (auto image = check_readable(options.initramfs, "guest initramfs", "vm.initramfs"); !image) {
    return image.error();
  }
  return *qemu;
}

/// The descriptors that QEMU gets for the guest's memory and state.
struct memory_files {
  memory_kind kind = memory_kind::own;
  unique_fd ram;
  unique_fd state;
  unique_fd save_to;
};

result<memory_files> open_memory(const machine_options& options, const template_mould& mould) {
  memory_files out;
  if (options.from) {
    out.kind = mould.ram >= 0 ? memory_kind::regrown : memory_kind::restored;
    auto ram = mould.ram >= 0 ? result<unique_fd>{unique_fd{::fcntl(mould.ram, F_DUPFD_CLOEXEC, 0)}}
                              : options.from->open_ram();
    auto state = options.from->open_state();
    if (!ram || !state) {
      return ram ? state.error() : ram.error();
    }
    out.ram = std::move(*ram);
    out.state = std::move(*state);
    if (mould.ram >= 0) {
      out.save_to.reset(::fcntl(mould.state, F_DUPFD_CLOEXEC, 0));
      if (!out.ram || !out.save_to) {
        return fail(ec::spawn,
                    std::string{"handing on a template's files: "} + std::strerror(errno));
      }
    }
  } else if (mould.ram >= 0) {
    out.kind = memory_kind::mould;
    out.ram.reset(::fcntl(mould.ram, F_DUPFD_CLOEXEC, 0));
    out.save_to.reset(::fcntl(mould.state, F_DUPFD_CLOEXEC, 0));
    if (!out.ram || !out.save_to) {
      return fail(ec::spawn, std::string{"handing on a template's files: "} + std::strerror(errno));
    }
  }
  return out;
}

} // namespace

struct machine::impl {
  event_loop& loop;
  std::shared_ptr<machine_session> supervisor;
  std::shared_ptr<child_process> process;

  void handle(machine_event event, const char* why) const {
    asio::post(loop.context(), [s = supervisor, event, why] { s->handle(event, why); });
  }

  void order(machine_event event, answer done) const {
    asio::post(loop.context(), [s = supervisor, event, then = std::move(done)]() mutable {
      s->order(event, std::move(then));
    });
  }

  static result<std::shared_ptr<machine>> launch(event_loop& loop, const machine_options& options,
                                                 const disk_attachment& disk,
                                                 const template_mould& mould, callbacks on);
};

result<std::shared_ptr<machine>> machine::impl::launch(event_loop& loop,
                                                       const machine_options& options,
                                                       const disk_attachment& disk,
                                                       const template_mould& mould, callbacks on) {
  auto qemu = check_ingredients(options, loop.jailer());
  if (!qemu) {
    return qemu.error();
  }
  auto memory = open_memory(options, mould);
  auto console = make_socket_pair();
  auto qmp = make_socket_pair();
  auto agent = make_socket_pair();
  if (!memory) {
    return memory.error();
  }
  for (const auto* pair : {&console, &qmp, &agent}) {
    if (!*pair) {
      return pair->error();
    }
  }
  const auto numbers = pick_sockets(disk);
  child_options child;
  child.argv = command_line(options, disk, numbers, memory->kind, tsc_khz());
  child.argv.front() = *qemu;
  child.environment = {"LC_ALL=C"};
  child.kind = child_kind::qemu;
  child.needs_kvm = options.accel == accelerator::kvm;
  child.address_space_bytes = (std::uint64_t{options.memory_mib} << 20) + qemu_address_space_bytes;
  child.memory_bytes = (std::uint64_t{options.memory_mib} << 20) + qemu_memory_bytes;
  child.file_bytes = mould.state >= 0 ? state_bytes_max : 0;
  child.descriptors = disk.descriptors;
  child.descriptors.emplace_back(console->theirs.get(), numbers.console);
  child.descriptors.emplace_back(qmp->theirs.get(), numbers.qmp);
  child.descriptors.emplace_back(agent->theirs.get(), numbers.agent);
  if (memory->kind != memory_kind::own) {
    child.descriptors.emplace_back(memory->ram.get(), numbers.ram);
  }
  if (memory->state) {
    child.descriptors.emplace_back(memory->state.get(), numbers.state);
  }

  auto supervisor = std::make_shared<machine_session>(loop, options, numbers.state,
                                                      std::move(memory->save_to), std::move(on));
  supervisor->make_channels(std::move(console->ours), std::move(qmp->ours), std::move(agent->ours));
  auto process = child_process::start(
      loop, std::move(child), [supervisor](child_exit how) { supervisor->process_ended(how); });
  if (!process) {
    return process.error();
  }
  asio::post(loop.context(),
             [supervisor, child = std::weak_ptr{*process}] { supervisor->begin(child); });
  return std::shared_ptr<machine>{
      new machine{std::make_shared<impl>(impl{loop, std::move(supervisor), std::move(*process)})}};
}

result<std::shared_ptr<machine>> machine::start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, callbacks on) {
  return impl::launch(loop, options, disk, {}, std::move(on));
}

result<std::shared_ptr<machine>> machine::start(event_loop& loop, const machine_options& options,
                                                const template_mould& mould, callbacks on) {
  return impl::launch(loop, options, no_disk(), mould, std::move(on));
}

result<std::shared_ptr<machine>> machine::start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, const template_mould& mould,
                                                callbacks on) {
  return impl::launch(loop, options, disk, mould, std::move(on));
}

machine::machine(std::shared_ptr<impl> state) : impl_{std::move(state)} {}

machine::~machine() {
  kill();
}

result<void> machine::send(const frame<proto::ToGuest>& message) {
  return impl_->supervisor->channel().send(message);
}

void machine::consumed(std::size_t bytes) {
  impl_->supervisor->channel().consumed(bytes);
}

void machine::pause(answer done) {
  impl_->order(machine_event::pause, std::move(done));
}

void machine::resume(answer done) {
  impl_->order(machine_event::resume, std::move(done));
}

void machine::save(answer done) {
  impl_->order(machine_event::save, std::move(done));
}

void machine::quit() {
  impl_->handle(machine_event::quit, "stopped by request before the guest was ready");
}

void machine::kill() {
  impl_->handle(machine_event::kill, "stopped by request before the guest was ready");
}

int machine::pid() const {
  return impl_->process->pid();
}

} // namespace coppice::vmm
