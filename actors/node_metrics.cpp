#include "actors/node_metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace coppice {

namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;

/// From a step of a warm VM to the longest command, in steps of about two and a half.
const Histogram::BucketBoundaries phase_seconds{
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600};
const Histogram::BucketBoundaries wait_seconds{0.001, 0.01, 0.1, 1, 10, 60, 300, 3600};
const Histogram::BucketBoundaries request_seconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                  0.1,    0.25,  0.5,    1,     2.5,  10,    60};

constexpr std::array endings{"success", "failed", "timeout", "cancelled"};
constexpr std::array kinds{"instance", "import"};
constexpr std::array template_events{"made", "loaded", "refused", "failed"};
constexpr std::array starts{"none", "cold", "template", "pool"}; ///< as proto::VmStart, and in JSON
constexpr std::array vm_states{"running", "waiting", "preparing"};
constexpr std::array status_classes{"other", "1xx", "2xx", "3xx", "4xx", "5xx"};

struct phase {
  const char* name; ///< as in an operation's `metrics`, without its unit
  std::uint64_t (proto::Phases::Reader::*us)() const;
};
constexpr std::array phases{
    phase{"queue", &proto::Phases::Reader::getQueueUs},
    phase{"overlay", &proto::Phases::Reader::getOverlayUs},
    phase{"boot", &proto::Phases::Reader::getBootUs},
    phase{"mount", &proto::Phases::Reader::getMountUs},
    phase{"exec", &proto::Phases::Reader::getExecUs},
    phase{"unmount", &proto::Phases::Reader::getUnmountUs},
    phase{"seal", &proto::Phases::Reader::getSealUs},
    phase{"total", &proto::Phases::Reader::getTotalUs},
};

template <class Enum>
constexpr std::size_t index_of(Enum e) {
  return static_cast<std::size_t>(e);
}

double seconds_of(std::uint64_t us) {
  return static_cast<double>(us) / 1e6;
}

double seconds_of(std::chrono::microseconds us) {
  return static_cast<double>(us.count()) / 1e6;
}

constexpr double mib_bytes = 1u << 20;

/// One series for each of `values`, there from the start: what has not happened is 0, not absent.
template <class Metric, std::size_t N, class... Extra>
std::array<Metric*, N> series(Family<Metric>& of, const char* label,
                              const std::array<const char*, N>& values, const Extra&... extra) {
  std::array<Metric*, N> out{};
  for (std::size_t i = 0; i < N; ++i) {
    out[i] = &of.Add({{label, values[i]}}, extra...);
  }
  return out;
}

} // namespace

struct node_metrics::families {
  prometheus::Registry registry;

  Family<Counter>& counters(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry);
  }
  Family<Gauge>& gauges(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry);
  }
  Family<Histogram>& histograms(const char* name, const char* help) {
    return BuildHistogram().Name(name).Help(help).Register(registry);
  }

  std::array<Counter*, endings.size()> runs =
      series(counters("coppice_runs_total", "Runs that ended, by how."), "end", endings);
  std::array<Counter*, endings.size()> imports =
      series(counters("coppice_imports_total", "Imports that ended, by how."), "end", endings);
  Family<Histogram>& phase_family =
      histograms("coppice_run_phase_seconds",
                 "Where the time of runs went, by phase and by how their VM came to be.");
  Histogram& commit = histograms("coppice_end_commit_seconds",
                                 "From the end of an operation until its record was durable.")
                          .Add({}, phase_seconds);

  std::array<Gauge*, kinds.size()> queued =
      series(gauges("coppice_queue_length", "Operations that wait for a slot."), "kind", kinds);
  std::array<Histogram*, kinds.size()> waits =
      series(histograms("coppice_queue_wait_seconds", "How long they waited."), "kind", kinds,
             wait_seconds);
  std::array<Gauge*, kinds.size()> slots_used =
      series(gauges("coppice_slots_used", "Operations that hold a slot."), "kind", kinds);
  Gauge& slots_max =
      gauges("coppice_vm_slots_max", "VMs that may run at once; 0 until it is known.").Add({});
  Gauge& cpus_used =
      gauges("coppice_vm_cpus_used", "Virtual processors of the slots in use.").Add({});
  Gauge& cpus_max =
      gauges("coppice_vm_cpus_max", "Virtual processors of all VMs that run at once.").Add({});
  Family<Gauge>& memory_family = gauges(
      "coppice_vm_memory_bytes", "Memory that is reckoned with: in full for runs, estimated for "
                                 "VMs of the pool.");
  Gauge& memory_of_runs = memory_family.Add({{"of", "runs"}});
  Gauge& memory_of_pool = memory_family.Add({{"of", "pool"}});
  Gauge& memory_max =
      gauges("coppice_vm_memory_bytes_max", "Memory that VMs may have together.").Add({});

  std::array<Counter*, 2> taken =
      series(counters("coppice_pool_takes_total", "VMs that runs asked for."), "result",
             std::array{"miss", "hit"});
  std::array<Gauge*, vm_states.size()> vms =
      series(gauges("coppice_vms", "VMs there are."), "state", vm_states);
  std::array<Counter*, template_events.size()> templates = series(
      counters("coppice_templates_total", "What became of templates."), "event", template_events);

  Family<Counter>& requests =
      counters("coppice_http_requests_total", "Requests that were answered.");
  Family<Histogram>& request_times = histograms(
      "coppice_http_request_seconds", "From the header of a request to the end of its reply.");

  Gauge& free_space =
      gauges("coppice_store_free_bytes", "Free in the state folder's file system.").Add({});
  std::function<std::optional<std::uint64_t>()> free_space_probe;

  std::array<std::array<Histogram*, phases.size()>, starts.size()> phase_times{};

  /// Of one route.
  struct route_series {
    std::array<Counter*, status_classes.size()> answered{}; ///< null: none yet
    Histogram* times = nullptr;
  };
  /// A family makes a series before it looks whether it has it, which each request would pay for.
  std::mutex routes_guard;
  std::unordered_map<std::string, route_series> routes; ///< by method and pattern

  std::pair<Counter*, Histogram*> series_of(std::string_view method, std::string_view route,
                                            std::size_t status_class) {
    std::string key{method};
    key += ' ';
    key += route;
    std::lock_guard guard{routes_guard};
    auto& known = routes[key];
    auto*& answered = known.answered[status_class];
    if (!known.times || !answered) {
      Labels labels{{"method", std::string{method}}, {"route", std::string{route}}};
      known.times = &request_times.Add(labels, request_seconds);
      labels.emplace("status", status_classes[status_class]);
      answered = &requests.Add(labels);
    }
    return {answered, known.times};
  }

  families() {
    for (std::size_t start = 0; start < starts.size(); ++start) {
      for (std::size_t i = 0; i < phases.size(); ++i) {
        phase_times[start][i] = &phase_family.Add(
            {{"phase", phases[i].name}, {"vm_start", starts[start]}}, phase_seconds);
      }
    }
  }
};

node_metrics::node_metrics() : families_{std::make_unique<families>()} {}

node_metrics::~node_metrics() = default;

void node_metrics::run_ended(ending how, proto::Phases::Reader times) {
  families_->runs[index_of(how)]->Increment();
  const auto start = std::min(index_of(times.getVmStart()), starts.size() - 1);
  for (std::size_t i = 0; i < phases.size(); ++i) {
    if (const auto us = (times.*phases[i].us)(); us > 0) {
      families_->phase_times[start][i]->Observe(seconds_of(us));
    }
  }
}

void node_metrics::import_ended(ending how) {
  families_->imports[index_of(how)]->Increment();
}

void node_metrics::operation_ended(proto::OperationRecord::Reader record) {
  auto how = ending::failed;
  if (record.getStatus() == proto::OperationStatus::CANCELLED) {
    how = ending::cancelled;
  } else if (record.getHasResult() && record.getResult().getTimedOut()) {
    how = ending::timeout;
  } else if (record.getStatus() == proto::OperationStatus::SUCCESS) {
    how = ending::success;
  }
  if (record.getRequest().isInstance()) {
    run_ended(how, record.getPhases());
  } else {
    import_ended(how);
  }
}

void node_metrics::end_committed(std::chrono::microseconds took) {
  families_->commit.Observe(seconds_of(took));
}

void node_metrics::slot_granted(slot_kind kind, std::chrono::microseconds waited) {
  families_->waits[index_of(kind)]->Observe(seconds_of(waited));
}

void node_metrics::set_queue(slot_kind kind, std::size_t waiting, std::size_t running) {
  families_->queued[index_of(kind)]->Set(static_cast<double>(waiting));
  families_->slots_used[index_of(kind)]->Set(static_cast<double>(running));
}

void node_metrics::set_slots_used(const slots& by_runs) {
  families_->cpus_used.Set(static_cast<double>(by_runs.cpus));
  families_->memory_of_runs.Set(static_cast<double>(by_runs.memory_mib) * mib_bytes);
}

void node_metrics::set_slots_max(const slots& of_node) {
  families_->slots_max.Set(static_cast<double>(of_node.running));
  families_->cpus_max.Set(static_cast<double>(of_node.cpus));
  families_->memory_max.Set(static_cast<double>(of_node.memory_mib) * mib_bytes);
}

void node_metrics::vm_taken(bool is_hit) {
  families_->taken[is_hit ? 1 : 0]->Increment();
}

void node_metrics::set_pool(const pool& now) {
  families_->vms[0]->Set(static_cast<double>(now.running));
  families_->vms[1]->Set(static_cast<double>(now.waiting));
  families_->vms[2]->Set(static_cast<double>(now.preparing));
  families_->memory_of_pool.Set(static_cast<double>(now.memory_bytes));
}

void node_metrics::template_was(template_event what) {
  families_->templates[index_of(what)]->Increment();
}

void node_metrics::request_answered(std::string_view method, std::string_view route,
                                    unsigned status, std::chrono::microseconds took) {
  const auto status_class = status / 100 < status_classes.size() ? status / 100 : 0;
  auto [answered, times] = families_->series_of(method, route, status_class);
  answered->Increment();
  times->Observe(seconds_of(took));
}

void node_metrics::on_free_space(std::function<std::optional<std::uint64_t>()> probe) {
  families_->free_space_probe = std::move(probe);
}

std::string node_metrics::text() const {
  if (families_->free_space_probe) {
    if (auto free = families_->free_space_probe()) {
      families_->free_space.Set(static_cast<double>(*free));
    }
  }
  return prometheus::TextSerializer{}.Serialize(families_->registry.Collect());
}

} // namespace coppice
