#pragma once

#include "storage/disk/directory_sync.hpp"
#include "storage/disk/engine.hpp"
#include "storage/disk/engine_bytes.hpp"
#include "storage/disk/overlay.hpp"
#include "storage/error.hpp"
#include "storage/ring/io.hpp"
#include "tests/vmm/guest_run.hpp"
#include "vmm/template_build.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// Guests of one image on the engine's disks, driven by hand: what the pool and a run do, without
/// actors.
namespace coppice::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "warm_bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T must(result<T> outcome) {
  if (outcome.has_error()) {
    die(outcome.error().text);
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(*outcome);
  }
}

/// An engine with one image, and what guests are started with.
struct node {
  using template_ptr = std::shared_ptr<const vmm::vm_template>;

  node(const std::filesystem::path& folder, const std::filesystem::path& guest_dir,
       const std::filesystem::path& raw)
      : images{folder / "images"} {
    options.kernel = guest_dir / "vmlinux";
    options.initramfs = guest_dir / "initramfs.cpio";
    std::filesystem::create_directories(images);
    auto index = import(raw);
    disks = must(storage::engine::start(images,
                                        [](const uuid&) -> result<frame<proto::ImageIndex>> {
                                          return fail(storage::ec::not_found, "no index");
                                        },
                                        {}));
    disks->put_index(image, index);
    plain = build();
  }

  std::shared_ptr<const storage::block_index> import(const std::filesystem::path& raw) {
    auto io =
        storage::uring_obstacle().empty() ? storage::make_uring() : storage::make_thread_ring();
    storage::sealed_files files{*io, images, 8};
    storage::directory_sync names{*io, images.string()};
    storage::overlay disk{
        *io, files, nullptr, {image, images / (image.text() + ".overlay"), disk_bytes, 8ull << 30}};
    std::ifstream in{raw, std::ios::binary};
    std::vector<std::byte> piece(1u << 20);
    const std::vector<std::byte> zeros(storage::cluster_bytes);
    const vmm::unique_fd holes{::open(raw.c_str(), O_RDONLY | O_CLOEXEC)};
    for (auto at = ::lseek(holes.get(), 0, SEEK_DATA); at >= 0;
         at = ::lseek(holes.get(), at + (1 << 20), SEEK_DATA)) {
      at -= at % (1 << 20);
      in.seekg(at);
      if (!in.read(reinterpret_cast<char*>(piece.data()), 1 << 20)) {
        die("reading the image");
      }
      for (std::size_t i = 0; i < piece.size(); i += zeros.size()) {
        const auto cluster = std::span{piece}.subspan(i, zeros.size());
        if (!std::equal(zeros.begin(), zeros.end(), cluster.begin()) &&
            storage::io::run(*io, disk.write(static_cast<std::uint64_t>(at) + i, cluster)) != 0) {
          die("writing the image");
        }
      }
    }
    return must(storage::io::run(*io, storage::seal(*io, disk, uuid{},
                                                    images / (image.text() + ".qcow2"), names)))
        .index;
  }

  template_ptr build() {
    std::promise<result<template_ptr>> told;
    auto started = must(vmm::template_build::start(
        loop, options, must(vmm::collect_ingredients(options)), std::chrono::minutes{3},
        [&](result<template_ptr> made) { told.set_value(std::move(made)); }));
    return must(told.get_future().get());
  }

  static constexpr std::uint64_t disk_bytes = 64ull << 30;
  std::filesystem::path images;
  vmm::machine_options options;
  vmm::event_loop loop;
  uuid image = uuid::random();
  std::unique_ptr<storage::engine> disks;
  template_ptr plain;
};

/// A VM and the slot of its disk.
class sibling {
public:
  explicit sibling(node& on) : on_{on}, slot_{must(on.disks->open_slot())} {}

  ~sibling() {
    if (guest_ && guest_->vm) {
      guest_->vm->kill();
      guest_->wait_gone();
    }
    on_.disks->close_slot(slot_.number);
  }
  sibling(const sibling&) = delete;
  sibling& operator=(const sibling&) = delete;

  /// A new overlay of the image (or of zeros) becomes its disk.
  void attach(const uuid& parent) {
    overlay = uuid::random();
    must(storage::wait_for<void>([&](auto then) {
      on_.disks->attach({slot_.number, overlay, parent, 1ull << 30}, std::move(then));
    }));
  }
  void discard() {
    must(storage::wait_for<storage::engine::discarded>(
        [&](auto then) { on_.disks->discard(overlay, std::move(then)); }));
  }
  storage::sealed_image seal() {
    return must(storage::wait_for<storage::sealed_image>(
        [&](auto then) { on_.disks->seal(overlay, std::move(then)); }));
  }

  void restore(node::template_ptr from, std::uint64_t runs_before = 0) {
    start([&](auto disk, auto on) {
      return vmm::machine::start(on_.loop, with(from), std::move(disk), std::move(on));
    });
    guest_->skip_runs(runs_before);
  }
  /// To be saved: in memory of its own, a copy of the template's.
  void restore_in(const vmm::template_mould& mould, node::template_ptr from) {
    start([&](auto disk, auto on) {
      return vmm::machine::start(on_.loop, with(from), std::move(disk), mould, std::move(on));
    });
  }

  template <class Fill>
  tests::guest_result run_with(Fill fill) {
    guest_->begin_with([&](proto::ToGuest::Start::Builder start) {
      start.setTimeoutMs(std::chrono::milliseconds{patience}.count());
      fill(start);
    });
    auto done = guest_->end(patience);
    if (done.exit_code != 0 || !done.is_clean || !done.failure.empty()) {
      die("a run failed: " + done.failure + done.errors);
    }
    return done;
  }
  tests::guest_result run(const std::string& command, bool hold = false) {
    return run_with([&](proto::ToGuest::Start::Builder start) {
      start.setHostname("guest");
      start.setHoldDisk(hold);
      auto process = start.initProcess();
      process.setShell(true);
      process.setCommand(command);
    });
  }

  void order(void (vmm::machine::*what)(vmm::machine::answer)) {
    std::promise<result<void>> told;
    (guest_->vm.get()->*what)([&](result<void> done) { told.set_value(std::move(done)); });
    must(told.get_future().get());
  }
  void pause() {
    order(&vmm::machine::pause);
  }
  void resume() {
    order(&vmm::machine::resume);
  }
  void save() {
    order(&vmm::machine::save);
    guest_->vm->quit();
    if (!guest_->wait_gone() || !guest_->failure().empty()) {
      die("saving: " + guest_->failure());
    }
  }

  static double own_processor_ms() {
    timespec used{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) * 1000 + static_cast<double>(used.tv_nsec) / 1e6;
  }

  /// Of QEMU since its start and of this process, the engine's loops among it; all threads.
  double processor_ms() const {
    const auto guard = std::to_string(guest_->vm->pid());
    std::ifstream children{"/proc/" + guard + "/task/" + guard + "/children"};
    std::string qemu;
    children >> qemu;
    std::ifstream stat{"/proc/" + qemu + "/stat"};
    std::string field;
    double ticks = 0;
    for (int at = 1; at <= 15 && stat >> field; ++at) {
      ticks += at >= 14 ? std::stod(field) : 0; // user, system
    }
    return ticks * 1000 / static_cast<double>(::sysconf(_SC_CLK_TCK)) + own_processor_ms();
  }

  uuid overlay;

private:
  static constexpr std::chrono::seconds patience{300}; // on a machine that is busy with other work

  vmm::machine_options with(node::template_ptr from) const {
    auto out = on_.options;
    out.from = std::move(from);
    return out;
  }

  template <class Start>
  void start(Start start) {
    guest_ = tests::guest::make();
    guest_->own(must(start(vmm::served_disk(vmm::unique_fd{slot_.client}), guest_->callbacks())));
    if (!guest_->wait_ready()) {
      die("a VM did not start: " + guest_->failure());
    }
  }

  node& on_;
  storage::engine::slot slot_;
  std::shared_ptr<tests::guest> guest_;
};

} // namespace coppice::bench
