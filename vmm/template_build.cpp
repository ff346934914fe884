#include "vmm/template_build.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

namespace coppice::vmm {

namespace asio = boost::asio;

/// Kept by the machine's callbacks until the machine is gone. The machine itself belongs to the
/// handle: who lets go of that ends the build.
struct template_build::impl : std::enable_shared_from_this<impl> {
  impl(event_loop& loop, machine_options how, template_ingredients of, answer then)
      : jailer{loop.jailer()}, options{std::move(how)}, done{std::move(then)}, deadline{
                                                                                   loop.context()} {
    made.ingredients = std::move(of);
  }

  machine::callbacks callbacks();
  void save();
  void fail_with(failure why);
  void kill();
  void finish(bool killed);

  std::shared_ptr<machine> guest() {
    std::lock_guard lock{mutex};
    return vm.lock();
  }

  std::mutex mutex; // the machine may speak before its handle is here
  std::weak_ptr<machine> vm;

  const launcher* const jailer; ///< the loop's
  const machine_options options;
  // The loop's thread only:
  vm_template::parts made;
  answer done;
  asio::steady_timer deadline;
  std::optional<failure> trouble;
  bool is_saved = false;
};

namespace {

result<unique_fd> make_memory_file(const char* name, std::uint64_t bytes) {
  unique_fd out{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!out || ::ftruncate(out.get(), static_cast<off_t>(bytes)) != 0) {
    return fail(ec::io, std::string{"making a template's memory file: "} + std::strerror(errno));
  }
  return out;
}

} // namespace

machine::callbacks template_build::impl::callbacks() {
  machine::callbacks on;
  on.on_ready = [self = shared_from_this()](frame<proto::FromGuest> ready) {
    self->made.ready = std::move(ready);
    self->save();
  };
  on.on_message = [](const frame<proto::FromGuest>&) {
    // Without orders there is nothing that an agent has to say.
  };
  on.on_failed = [self = shared_from_this()](std::string why) {
    self->fail_with(fail(ec::exited, std::move(why)));
  };
  on.on_gone = [self = shared_from_this()](bool killed) {
    self->finish(killed);
  };
  return on;
}

void template_build::impl::save() {
  auto machine = guest();
  if (!machine) {
    return;
  }
  machine->save([self = shared_from_this()](result<void> saved) {
    if (!saved) {
      return self->fail_with(saved.error());
    }
    self->is_saved = true;
    if (auto still = self->guest()) {
      still->quit();
    }
  });
}

/// The first reason counts.
void template_build::impl::fail_with(failure why) {
  if (!trouble) {
    trouble = std::move(why);
  }
  kill();
}

void template_build::impl::kill() {
  if (auto machine = guest()) {
    machine->kill();
  }
}

void template_build::impl::finish(bool killed) {
  deadline.cancel();
  if (!trouble && (!is_saved || killed)) {
    trouble = fail(ec::exited, is_saved ? "QEMU did not end after it had saved the guest"
                                        : "the build was ended before it was done");
  }
  if (!trouble) {
    if (auto same = check_unchanged(made.ingredients, options, jailer); !same) {
      trouble = same.error();
    }
  }
  auto then = std::exchange(done, nullptr);
  if (trouble) {
    made = {};
    trouble->text = "building a template: " + trouble->text;
    return then(*trouble);
  }
  then(vm_template::make(std::move(made)));
}

result<std::shared_ptr<template_build>> template_build::start(event_loop& loop,
                                                              const machine_options& options,
                                                              template_ingredients ingredients,
                                                              std::chrono::milliseconds deadline,
                                                              answer done) {
  if (auto same = check_unchanged(ingredients, options, loop.jailer()); !same) {
    return same.error();
  }
  auto ram = make_memory_file("coppice-ram", std::uint64_t{options.memory_mib} << 20);
  auto state = make_memory_file("coppice-state", 0);
  if (!ram || !state) {
    return ram ? state.error() : ram.error();
  }
  const template_mould mould{ram->get(), state->get()};
  auto build = std::make_shared<impl>(loop, options, std::move(ingredients), std::move(done));
  build->made.ram = std::move(*ram);
  build->made.state = std::move(*state);
  std::shared_ptr<machine> vm;
  {
    std::lock_guard lock{build->mutex};
    auto started = machine::start(loop, options, mould, build->callbacks());
    if (!started) {
      return started.error();
    }
    vm = std::move(*started);
    build->vm = vm;
  }
  asio::post(loop.context(), [build, deadline] {
    if (!build->done) {
      return; // over already
    }
    build->deadline.expires_after(deadline);
    build->deadline.async_wait([weak = std::weak_ptr{build}](const boost::system::error_code& e) {
      if (auto alive = weak.lock(); alive && !e) {
        alive->fail_with(fail(ec::timeout, "it took too long"));
      }
    });
  });
  return std::shared_ptr<template_build>{new template_build{std::move(build), std::move(vm)}};
}

template_build::template_build(std::shared_ptr<impl> state, std::shared_ptr<machine> vm)
    : impl_{std::move(state)}, vm_{std::move(vm)} {}

template_build::~template_build() = default; // the machine's end is the build's

void template_build::cancel() {
  vm_->kill();
}

} // namespace coppice::vmm
