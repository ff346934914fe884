#include "actors/runtime.hpp"

#include "actors/accelerator_choice.hpp"
#include "actors/catalog_reader.hpp"
#include "actors/catalog_writer.hpp"
#include "actors/event_trimmer.hpp"
#include "actors/images.hpp"
#include "actors/import.hpp"
#include "actors/inspect_session.hpp"
#include "actors/instance.hpp"
#include "actors/log.hpp"
#include "actors/node_capacity.hpp"
#include "actors/node_memory.hpp"
#include "actors/operations.hpp"
#include "actors/reclaimer.hpp"
#include "actors/requests.hpp"
#include "actors/scheduler.hpp"
#include "actors/store.hpp"
#include "actors/template_shelf.hpp"
#include "actors/vm.hpp"
#include "actors/vm_pool.hpp"
#include "storage/catalog.hpp"
#include "storage/reclaimer.hpp"
#include "storage/store.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/after.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>

#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace coppice {

namespace {

using namespace std::chrono_literals;

/// One answer of a reader of images, which works two seconds on each.
constexpr auto reader_answer_max = 30s;

struct system_config : caf::actor_system_config {
  system_config() {
    add_message_types<caf::id_block::coppice>();
    // Driven from outside (sockets, rings, children): sharing answers ten times sooner than
    // stealing. An actor whose mailbox never empties must not keep its worker.
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::max(2u, std::thread::hardware_concurrency()));
    set("scheduler.max-throughput", 50);
  }
};

/// Told once that the node cannot go on, perhaps before anybody listens.
class fatal_bell {
public:
  void ring(std::string reason) {
    std::function<void(std::string)> listener;
    {
      std::lock_guard lock{mutex_};
      if (reason_) {
        return;
      }
      reason_ = reason;
      listener = std::exchange(listener_, nullptr);
    }
    if (listener) {
      listener(std::move(reason));
    }
  }

  void listen(std::function<void(std::string)> listener) {
    std::unique_lock lock{mutex_};
    if (reason_) {
      auto reason = *reason_;
      lock.unlock();
      listener(std::move(reason));
    } else {
      listener_ = std::move(listener);
    }
  }

private:
  std::mutex mutex_;
  std::optional<std::string> reason_;
  std::function<void(std::string)> listener_;
};

/// Watches what the node cannot do without; see runtime.hpp for the policy.
struct watch_state {
  watch_state() = default;
  static inline const char* name = "watch";
};

caf::behavior watch(caf::stateful_actor<watch_state>* self, std::vector<caf::actor_addr> essential,
                    std::shared_ptr<fatal_bell> bell) {
  for (const auto& a : essential) {
    self->monitor(a);
  }
  self->set_down_handler([bell](const caf::down_msg& down) {
    bell->ring("an essential part of the node died: " + to_string(down.reason));
  });
  return {
      [](int) {
        // takes no messages; here because an actor without a behaviour ends
      },
  };
}

} // namespace

struct runtime::impl {
  impl(const settings& given, vmm::event_loop& event_loop, std::filesystem::path own_program)
      : config{given}, loop{event_loop}, program{std::move(own_program)} {}

  settings config;
  vmm::event_loop& loop;
  std::filesystem::path program;
  std::shared_ptr<storage::store> files;
  std::shared_ptr<storage::catalog> catalog;
  std::shared_ptr<storage::engine> disks;
  std::shared_ptr<storage::space_reserve> reserve =
      std::make_shared<storage::space_reserve>(config.state_dir, config.store.reserve_bytes);
  std::shared_ptr<storage::reclaimer> space;
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  std::shared_ptr<known_capacity> capacity = std::make_shared<known_capacity>(capacity_of(
      config, config.vm.accelerator == "tcg" ? vmm::accelerator::tcg : vmm::accelerator::kvm,
      size_of_this_node()));
  std::shared_ptr<disk_sockets> sockets = std::make_shared<disk_sockets>();
  std::shared_ptr<fatal_bell> bell = std::make_shared<fatal_bell>();
  std::shared_ptr<vm_parts> vms = std::make_shared<vm_parts>();
  std::shared_ptr<template_shelf> templates;
  system_config caf_config;
  std::optional<caf::actor_system> system;
  catalog_reader_actor reader;
  catalog_writer_actor writer;
  store_actor store_handle;
  reclaimer_actor reclaimer_handle;
  scheduler_actor slots;
  images_actor images_handle;
  vm_pool_actor pool_handle;
  operations_actor operations_handle;
  event_trimmer_actor trimmer;
  caf::actor watcher;
  std::thread accelerator;

  result<void> open();
  void spawn();
  std::shared_ptr<const operation_parts> work_parts();
  void spawn_pool();
  void choose();
  void stop();
};

result<void> runtime::impl::open() {
  auto opened = storage::store::open(config.state_dir);
  if (opened.has_error()) {
    return opened.error();
  }
  files = std::move(*opened);
  auto records = storage::catalog::open(config.state_dir / "catalog");
  if (records.has_error()) {
    return records.error();
  }
  catalog = std::move(*records);
  auto removed =
      files->remove_leftovers([this](const uuid& id) { return catalog->has_image_file(id); },
                              [this](const storage::store::sha256& digest) {
                                auto known = catalog->has_blob(digest);
                                return !known || *known; // what cannot be looked up stays
                              });
  if (removed.has_error()) {
    return removed.error();
  }
  storage::engine::options how;
  how.blobs = files->blobs_path();
  how.uploads = files->uploads_path();
  how.blob_bytes_max = config.http.upload_bytes_max;
  auto started = storage::engine::start(
      config.state_dir / "images",
      [records = catalog](const uuid& image) { return records->get_index(image); }, how);
  if (started.has_error()) {
    return started.error();
  }
  disks = std::move(*started);
  space = std::make_shared<storage::reclaimer>(catalog, disks);
  log::info("store open", "state_dir", config.state_dir.string(), "leftovers_removed", *removed,
            "disk_io", disks->io_description());
  return {};
}

void runtime::impl::spawn_pool() {
  vms->loop = &loop;
  vms->machine = machine_options_of(config);
  if (config.pool.templates) {
    template_shelf::parts from;
    from.loop = &loop;
    from.folder = config.state_dir / "templates";
    from.bytes_max = config.pool.template_bytes_max;
    from.free_bytes_min = std::max(from.free_bytes_min, config.store.reserve_bytes);
    from.uses_max = config.pool.template_uses_max;
    from.age_max = config.pool.template_age_max;
    from.metrics = metrics;
    templates = std::make_shared<template_shelf>(std::move(from));
    templates->on_change([this] { caf::anon_send(pool_handle, make_frame<proto::Tick>()); });
  }
  vms->templates = templates;
  vms->disk_of = [shared = sockets](std::uint64_t slot) {
    return vmm::served_disk(shared->take(slot));
  };

  const auto cores = std::max(1u, std::thread::hardware_concurrency());
  auto parts = std::make_shared<vm_pool_parts>();
  parts->store = store_handle;
  parts->spawn_vm = [shared = vms](vm_pool_actor::pointer pool, const work_actor& owner) {
    return pool->spawn(vm, shared, owner);
  };
  parts->usual = {config.vm.cpus, config.vm.memory_mib};
  parts->template_of = [shared = vms](const pool_plan::class_key& of) -> std::uint64_t {
    auto options = shared->machine;
    std::tie(options.cpus, options.memory_mib) = of;
    return shared->templates ? shared->templates->number_of(options) : 0;
  };
  parts->memory_max_bytes = [known = capacity]() -> std::uint64_t {
    // Before that the accelerator is not chosen either.
    return known->is_exact() ? known->get().memory_mib << 20 : 0;
  };
  parts->free_memory_bytes = available_memory_bytes;
  parts->limits.floor = config.pool.floor;
  parts->limits.ceiling = config.pool.ceiling;
  parts->limits.memory_kept_free_bytes = config.pool.memory_kept_free;
  parts->cores = cores;
  parts->metrics = metrics;
  pool_handle = system->spawn(vm_pool, parts);
}

std::shared_ptr<const operation_parts> runtime::impl::work_parts() {
  auto instances = std::make_shared<instance_parts>();
  instances->store = store_handle;
  instances->images = images_handle;
  instances->scheduler = slots;
  instances->stop_grace = config.vm.stop_grace;
  instances->pool = pool_handle;

  auto imports = std::make_shared<import_parts>();
  imports->loop = &loop;
  imports->catalog = reader;
  imports->store = store_handle;
  imports->scheduler = slots;
  imports->program = program.string();
  imports->skopeo = config.import.skopeo;
  imports->tmp_dir = config.state_dir / "tmp";
  imports->overlay_path = [shared = files](const uuid& id) {
    return shared->overlay_path(id);
  };
  imports->insecure_registries = config.import.insecure_registries;
  imports->content_bytes_max = config.import.content_bytes_max;

  auto parts = std::make_shared<operation_parts>();
  parts->catalog = writer;
  parts->store = store_handle;
  parts->scheduler = slots;
  parts->images = images_handle;
  parts->reserve = reserve;
  parts->metrics = metrics;
  parts->spawn_work = [instances, imports](operation_actor::pointer parent,
                                           const frame<proto::OperationRecord>& record,
                                           const uuid& result_image) -> work_actor {
    auto self = caf::actor_cast<operation_actor>(parent);
    if (record.view()->getRequest().isInstance()) {
      return parent->spawn<caf::monitored>(instance, instances, self, record, result_image);
    }
    return parent->spawn<caf::monitored>(import, imports, self, record, result_image);
  };
  return parts;
}

void runtime::impl::spawn() {
  metrics->on_free_space([space_left = reserve] { return space_left->free_bytes(); });
  system.emplace(caf_config);
  reader = system->spawn(catalog_reader, catalog);
  writer = system->spawn<caf::detached>(catalog_writer, catalog);
  store_handle = system->spawn<caf::detached>(store, store_parts{disks, sockets, reserve});
  reclaimer_handle = system->spawn<caf::detached>(
      reclaimer,
      reclaimer_parts{catalog, [work = space](const uuid& id) { return work->remove(id); },
                      [work = space](const uuid& id) {
                        return work->punch(id);
                      }});
  slots = system->spawn(
      scheduler, scheduler_limits{config.import.running_max, config.default_class(), metrics});

  auto inspect = std::make_shared<inspect_parts>();
  inspect->start_worker = [this](std::vector<vmm::unique_fd> ends) {
    return inspect_worker::start(loop, program.string(), std::move(ends), reader_answer_max);
  };
  inspect->store = store_handle;
  inspect->sockets = sockets;
  inspect->index_of = [engine = disks](const uuid& id) {
    return engine->indexes().get(id);
  };
  inspect->idle_timeout = config.limits.inspect_idle_timeout;
  inspect->hold_kept = inspect->idle_timeout + 3 * reader_answer_max;
  inspect->limit = std::make_shared<session_limit>(config.limits.inspect_sessions_max);
  auto image_shared = std::make_shared<image_parts>();
  image_shared->catalog = reader;
  image_shared->catalog_writer = writer;
  image_shared->reclaimer = reclaimer_handle;
  image_shared->inspect = inspect;
  images_handle = system->spawn(images, image_shared);

  spawn_pool();
  operations_handle = system->spawn(
      operations, work_parts(), reader,
      operations_limits{config.limits.pending_max, config.limits.pending_project_max});
  trimmer = system->spawn(event_trimmer, writer,
                          event_policy{config.events.keep, config.events.keep_operations});
  std::vector<caf::actor_addr> essential{
      reader.address(),  writer.address(),           store_handle.address(),
      slots.address(),   images_handle.address(),    operations_handle.address(),
      trimmer.address(), reclaimer_handle.address(), pool_handle.address()};
  watcher = system->spawn(watch, std::move(essential), bell);
}

void runtime::impl::choose() {
  accelerator = std::thread{[this]() {
    auto verdict = choose_accelerator(config, loop);
    if (verdict.has_error()) {
      bell->ring(verdict.error().text);
      return;
    }
    if (verdict->accel == vmm::accelerator::tcg) {
      log::warn("virtual machines run under TCG, which is slow and no security boundary", "reason",
                verdict->reason);
    } else {
      log::info("virtual machines run under KVM", "reason", verdict->reason);
    }
    vms->machine.accel = verdict->accel; // read by VMs only after the slots are open
    if (templates) {
      static_cast<void>(templates->number_of(vms->machine)); // begins to make the usual one
    }
    auto room = capacity_of(config, verdict->accel, size_of_this_node());
    for (const auto& c : config.classes()) {
      if (!room.has_room_for(c)) {
        log::warn("a class of machines never fits this node; runs that ask for it are refused",
                  "cpus", c.cpus, "memory_mib", c.memory_mib, "vm_cpus", room.cpus, "vm_memory_mib",
                  room.memory_mib, "remedy",
                  "take it out of vm.classes, or raise vm.cpus_max or vm.memory_bytes_max");
      }
    }
    capacity->set(room);
    caf::anon_send(pool_handle, make_frame<proto::Tick>()); // which has waited for that
    caf::anon_send(slots, make_frame<proto::SlotsReady>([&](auto r) {
                     r.setRunningMax(room.running);
                     r.setCpus(room.cpus);
                     r.setMemoryMib(room.memory_mib);
                   }));
  }};
}

void runtime::impl::stop() {
  if (!system) {
    return;
  }
  if (accelerator.joinable()) {
    accelerator.join();
  }
  caf::scoped_actor self{*system};
  // What is being stopped on purpose is no alarm.
  self->send_exit(watcher, caf::exit_reason::kill);
  auto stop_and_wait = [&](const caf::actor_addr& target, auto grace) {
    self->monitor(target);
    self->send_exit(target, caf::exit_reason::user_shutdown);
    bool gone = false;
    self->receive([&](const caf::down_msg&) { gone = true; },
                  caf::after(grace) >> [&]() { self->send_exit(target, caf::exit_reason::kill); });
    if (!gone) {
      log::error("a part of the node did not stop in time and was killed");
    }
  };
  stop_and_wait(operations_handle.address(), 30s);
  space->stop();
  if (templates) {
    templates->stop();
  }
  for (const auto& target : {pool_handle.address(), trimmer.address(), images_handle.address(),
                             reclaimer_handle.address(), slots.address(), store_handle.address(),
                             writer.address(), reader.address()}) {
    stop_and_wait(target, 10s);
  }
  operations_handle = nullptr;
  pool_handle = nullptr;
  trimmer = nullptr;
  images_handle = nullptr;
  reclaimer_handle = nullptr;
  slots = nullptr;
  store_handle = nullptr;
  writer = nullptr;
  reader = nullptr;
  watcher = nullptr;
}

result<std::unique_ptr<runtime>> runtime::start(const settings& config, vmm::event_loop& loop,
                                                const std::filesystem::path& program) {
  auto state = std::make_unique<impl>(config, loop, program);
  if (auto opened = state->open(); opened.has_error()) {
    return opened.error();
  }
  state->spawn();
  state->choose();
  return std::unique_ptr<runtime>{new runtime{std::move(state)}};
}

runtime::runtime(std::unique_ptr<impl> state) : impl_{std::move(state)} {}

runtime::~runtime() {
  shutdown();
}

coppice::services runtime::services() {
  return {*impl_->system,      impl_->reader,        impl_->writer,
          impl_->store_handle, impl_->images_handle, impl_->operations_handle,
          impl_->slots,        impl_->config,        impl_->metrics,
          impl_->capacity,     impl_->catalog};
}

void runtime::on_fatal(std::function<void(std::string)> callback) {
  impl_->bell->listen(std::move(callback));
}

void runtime::shutdown() {
  if (impl_->system) {
    impl_->stop();
    // Its answers hold promises of actors, which must not outlive their system.
    impl_->disks->stop();
    impl_->system.reset(); // waits for every actor
  }
}

} // namespace coppice
