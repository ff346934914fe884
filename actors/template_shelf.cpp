#include "actors/template_shelf.hpp"

#include "actors/log.hpp"
#include "vmm/template_store.hpp"

#include <future>

namespace coppice {

namespace {

std::string name_of(const vmm::machine_options& options) {
  return std::to_string(options.cpus) + " cpus, " + std::to_string(options.memory_mib) + " MiB";
}

} // namespace

template_shelf::template_shelf(parts from) : parts_{std::move(from)} {}

template_shelf::~template_shelf() {
  stop();
}

void template_shelf::on_change(std::function<void()> call) {
  changed_ = std::move(call);
}

bool template_shelf::is_past_limit(const place& where) const {
  return (parts_.uses_max > 0 && where.uses >= parts_.uses_max) ||
         (parts_.age_max > std::chrono::seconds{0} &&
          parts_.now() - where.made_at >= parts_.age_max);
}

template_shelf::place* template_shelf::serving(const vmm::machine_options& options) {
  if (is_stopped_) {
    return nullptr;
  }
  auto& where = places_[{options.cpus, options.memory_mib}];
  if (where.made) {
    auto fits = where.made->check_fits(options);
    if (!fits) {
      log::warn("template is out of date and is made anew", "class", name_of(options), "reason",
                fits.error().text);
      where.made = nullptr;
    }
  }
  if (!where.made || is_past_limit(where)) {
    ask_for(options, where);
  }
  return where.made ? &where : nullptr;
}

std::shared_ptr<const vmm::vm_template> template_shelf::find(const vmm::machine_options& options) {
  std::lock_guard lock{mutex_};
  auto* where = serving(options);
  if (where == nullptr) {
    return nullptr;
  }
  ++where->uses;
  if (is_past_limit(*where)) {
    ask_for(options, *where); // so that the next is there the sooner
  }
  return where->made;
}

std::uint64_t template_shelf::number_of(const vmm::machine_options& options) {
  std::lock_guard lock{mutex_};
  const auto* where = serving(options);
  return where == nullptr ? 0 : where->number;
}

void template_shelf::refuse(const std::shared_ptr<const vmm::vm_template>& bad,
                            const std::string& why) {
  std::lock_guard lock{mutex_};
  for (auto& [key, where] : places_) {
    if (where.made == bad) {
      log::warn("a VM could not start from its template, which is made anew", "reason", why);
      where.made = nullptr;
      // The second in a row: whatever it is, it is not this one template.
      if (where.was_refused) {
        where.rests_until = parts_.now() + rest;
      }
      where.was_refused = true;
      parts_.metrics->template_was(node_metrics::template_event::refused);
    }
  }
}

void template_shelf::ask_for(const vmm::machine_options& options, place& where) {
  if (where.is_asked_for || parts_.now() < where.rests_until) {
    return;
  }
  where.is_asked_for = true;
  asked_.push_back(options);
  asked_.back().from = nullptr;
  if (!thread_.joinable()) {
    thread_ = std::thread{[this] {
      work();
    }};
  }
  wake_.notify_one();
}

void template_shelf::work() {
  std::unique_lock lock{mutex_};
  for (;;) {
    wake_.wait(lock, [this] { return is_stopped_ || !asked_.empty(); });
    if (is_stopped_) {
      return;
    }
    auto options = std::move(asked_.front());
    asked_.pop_front();
    auto& where = places_[{options.cpus, options.memory_mib}]; // places are never removed
    const auto is_kept_good = !where.was_refused && !has_limits();
    lock.unlock();
    auto made = parts_.make ? parts_.make(options) : make(options, is_kept_good);
    lock.lock();
    where.is_asked_for = false;
    if (made) {
      where.made = made;
      ++where.number;
      where.uses = 0;
      where.made_at = parts_.now();
    } else if (!is_stopped_) { // what is past its limit goes on being given
      where.rests_until = parts_.now() + rest;
      parts_.metrics->template_was(node_metrics::template_event::failed);
    }
    if (made && changed_ && !is_stopped_) {
      lock.unlock();
      changed_();
      lock.lock();
    }
  }
}

std::shared_ptr<const vmm::vm_template> template_shelf::make(const vmm::machine_options& options,
                                                             bool is_kept_good) {
  auto ingredients = vmm::collect_ingredients(options, parts_.loop->jailer());
  if (!ingredients) {
    log::warn("no template: VMs boot", "class", name_of(options), "reason",
              ingredients.error().text);
    return nullptr;
  }
  auto kept = vmm::template_store::open(parts_.folder, {parts_.bytes_max, parts_.free_bytes_min});
  if (!kept) {
    log::warn("templates are not kept over restarts", "reason", kept.error().text);
  }
  if (kept && is_kept_good) {
    auto loaded = kept->load(*ingredients);
    if (!loaded.refused.empty()) {
      log::warn("a template that was kept is not used and is made anew", "class", name_of(options),
                "reason", loaded.refused);
      parts_.metrics->template_was(node_metrics::template_event::refused);
    }
    if (loaded.found) {
      log::info("template loaded", "class", name_of(options), "memory_bytes",
                loaded.found->ram_allocated_bytes());
      parts_.metrics->template_was(node_metrics::template_event::loaded);
      return loaded.found;
    }
  }
  auto made = build(options, std::move(*ingredients));
  if (made && kept && !has_limits()) {
    if (auto saved = kept->save(*made); !saved) {
      log::warn("a template is not kept over restarts", "class", name_of(options), "reason",
                saved.error().text);
    }
  }
  return made;
}

std::shared_ptr<const vmm::vm_template>
template_shelf::build(const vmm::machine_options& options, vmm::template_ingredients ingredients) {
  using made = result<std::shared_ptr<const vmm::vm_template>>;
  const auto begin = std::chrono::steady_clock::now();
  auto promise = std::make_shared<std::promise<made>>();
  auto future = promise->get_future();
  auto started =
      vmm::template_build::start(*parts_.loop, options, std::move(ingredients), parts_.deadline,
                                 [promise](made done) { promise->set_value(std::move(done)); });
  if (!started) {
    log::warn("no template: VMs boot", "class", name_of(options), "reason", started.error().text);
    return nullptr;
  }
  {
    std::lock_guard lock{mutex_};
    under_way_ = *started;
    if (is_stopped_) {
      under_way_->cancel();
    }
  }
  auto done = future.get();
  {
    std::lock_guard lock{mutex_};
    under_way_ = nullptr;
    if (is_stopped_) {
      return nullptr;
    }
  }
  if (!done) {
    log::warn("no template: VMs boot", "class", name_of(options), "reason", done.error().text);
    return nullptr;
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  log::info("template made", "class", name_of(options), "ms", took.count(), "memory_bytes",
            (*done)->ram_allocated_bytes(), "state_bytes", (*done)->state_bytes());
  parts_.metrics->template_was(node_metrics::template_event::made);
  return *done;
}

void template_shelf::stop() {
  {
    std::lock_guard lock{mutex_};
    is_stopped_ = true;
    if (under_way_) {
      under_way_->cancel();
    }
  }
  wake_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

} // namespace coppice
