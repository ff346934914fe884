// Siblings of one image, with and without VMs that were prepared for it; tests/bench/start_warm.sh
// makes the image, runs this and says what each row means.
#include "tests/bench/warm_node.hpp"
#include "tests/vmm/template_copy.hpp"

#include "vmm/guard.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

namespace coppice::bench {

namespace {

using clock = std::chrono::steady_clock;

double ms_since(clock::time_point start) {
  return std::chrono::duration<double, std::milli>(clock::now() - start).count();
}

/// Of one run. Processor time is less at the mercy of what else the machine does.
struct cost {
  double ms = 0;
  double processor_ms = 0;
};

/// What is measured: a command of an image, as each sibling runs it.
struct work {
  node& on;
  std::string command;
};

using vm = std::unique_ptr<sibling>;

// -- VMs before their request ---------------------------------------------------------------------

/// As in the pool: restored, warmed on a disk of zeros, halted.
vm pooled(const work& w) {
  auto out = std::make_unique<sibling>(w.on);
  out->attach(uuid{});
  out->restore(w.on.plain);
  out->run_with([&](proto::ToGuest::Start::Builder start) {
    start.setHostname("warm");
    start.setMakeDisk(true);
    auto process = start.initProcess();
    process.setShell(true);
    process.setCommand("echo warm; /bin/true");
  });
  out->discard();
  out->pause();
  return out;
}

/// The command was run once on the image, mounted read-only, which stays mounted; halted.
vm held(const work& w) {
  auto out = std::make_unique<sibling>(w.on);
  out->attach(w.on.image);
  out->restore(w.on.plain);
  out->run(w.command, true);
  if (!out->seal().is_unchanged) {
    die("a preparation has written to its disk");
  }
  out->pause();
  return out;
}

/// Restored from the image's template, halted.
vm held_from(const work& w, const node::template_ptr& from) {
  auto out = std::make_unique<sibling>(w.on);
  out->restore(from, 1);
  out->pause();
  return out;
}

/// A template of the second level: the image is mounted read-only and what the command reads of it
/// lies in memory.
node::template_ptr image_template(const work& w) {
  const auto& plain = w.on.plain;
  auto parts = tests::copy_of(*plain);
  sibling maker{w.on};
  maker.attach(w.on.image);
  maker.restore_in({parts.ram.get(), parts.state.get()}, plain);
  maker.run(w.command, true);
  maker.save();
  if (!maker.seal().is_unchanged) {
    die("a preparation has written to its disk");
  }
  return must(vmm::vm_template::make(std::move(parts)));
}

// -- requests ------------------------------------------------------------------------------------

/// From the request to the durable image, of a VM that stands still.
cost go_on(const work& w, const vm& one) {
  const auto used_ms = one->processor_ms();
  const auto start = clock::now();
  one->attach(w.on.image);
  one->resume();
  one->run(w.command);
  static_cast<void>(one->seal());
  return {ms_since(start), one->processor_ms() - used_ms};
}

/// The same where the VM has yet to be restored.
cost restore(const work& w, const node::template_ptr& from, std::uint64_t runs_before) {
  const auto own_ms = sibling::own_processor_ms();
  const auto start = clock::now();
  sibling one{w.on};
  one.attach(w.on.image);
  one.restore(from, runs_before);
  one.run(w.command);
  static_cast<void>(one.seal());
  return {ms_since(start), one.processor_ms() - own_ms};
}

// -- figures -------------------------------------------------------------------------------------

class table {
public:
  void add(const std::string& row, const cost& of) {
    auto& values = rows_[row];
    if (values.empty()) {
      order_.push_back(row);
    }
    values.push_back(of.ms);
    processor_[row] += of.processor_ms;
    std::fprintf(stderr, "%s: %.0f ms, %.0f of processor\n", row.c_str(), of.ms, of.processor_ms);
  }
  double processor(const std::string& row) const {
    return processor_.at(row) / static_cast<double>(rows_.at(row).size());
  }
  double median(const std::string& row) const {
    auto values = rows_.at(row);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }
  void print() const {
    std::printf("| ms | n | median | least | greatest | processor |\n|---|---|---|---|---|---|\n");
    for (const auto& row : order_) {
      const auto& values = rows_.at(row);
      const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
      std::printf("| %s | %zu | %.0f | %.0f | %.0f | %.0f |\n", row.c_str(), values.size(),
                  median(row), *least, *greatest, processor(row));
    }
  }

private:
  std::map<std::string, std::vector<double>> rows_;
  std::map<std::string, double> processor_; ///< sum
  std::vector<std::string> order_;
};

/// Carries out all, so many at a time; the time that it took.
double all_of(const std::vector<std::function<void()>>& jobs, unsigned at_once) {
  const auto start = clock::now();
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < at_once; ++i) {
    workers.emplace_back([&] {
      for (auto at = next++; at < jobs.size(); at = next++) {
        jobs[at]();
      }
    });
  }
  for (auto& each : workers) {
    each.join();
  }
  return ms_since(start);
}

/// What the command takes inside, the first and the second time in one VM: the second is what no
/// preparation can be better than.
void inside(const work& w, table& out) {
  sibling one{w.on};
  one.attach(w.on.image);
  one.restore(w.on.plain);
  const std::string now = "read now rest < /proc/uptime; echo $now; ";
  std::istringstream said{
      one.run(now + w.command + " > /dev/null; " + now + w.command + " > /dev/null; " + now)
          .output};
  double begin = 0;
  double between = 0;
  double end = 0;
  said >> begin >> between >> end;
  out.add("the command alone, first time in a VM", {(between - begin) * 1000, 0});
  out.add("the command alone, second time in it", {(end - between) * 1000, 0});
}

void single_runs(const work& w, const node::template_ptr& warm, unsigned rounds, table& out) {
  for (unsigned i = 0; i < rounds; ++i) {
    out.add("plain pool: hit", go_on(w, pooled(w)));
    out.add("image template: restored", restore(w, warm, 1));
    out.add("plain pool: miss, restored", restore(w, w.on.plain, 0));
    out.add("image template: restored before, goes on", go_on(w, held_from(w, warm)));
    const auto own_ms = sibling::own_processor_ms();
    auto start = clock::now();
    auto one = held(w);
    out.add("preparing one VM by the command itself",
            {ms_since(start), one->processor_ms() - own_ms});
    out.add("that VM: goes on", go_on(w, one));
    one.reset();
    start = clock::now();
    static_cast<void>(image_template(w));
    out.add("making the image template", {ms_since(start), 0});
    inside(w, out);
  }
}

/// All siblings are asked for at once.
class crowd {
public:
  crowd(const work& what, unsigned siblings, unsigned at_once)
      : work_{what}, siblings_{siblings}, at_once_{at_once} {}

  /// `waiting` of them find a pooled VM.
  double plain(unsigned waiting) const {
    std::vector<vm> pool;
    for (unsigned i = 0; i < waiting; ++i) {
      pool.push_back(pooled(work_));
    }
    auto jobs = repeat([&] { restore(work_, work_.on.plain, 0); });
    for (unsigned i = 0; i < waiting; ++i) {
      jobs[i] = [&, i] {
        go_on(work_, pool[i]);
        pool[i].reset();
      };
    }
    return all_of(jobs, at_once_);
  }

  double from(const node::template_ptr& warm) const {
    return all_of(repeat([&] { restore(work_, warm, 1); }), at_once_);
  }

  /// The template is made at the request, on one core; the other begins without it.
  double with_preparation() const {
    std::mutex mutex;
    node::template_ptr made;
    auto jobs = repeat([&] {
      std::unique_lock lock{mutex};
      const auto warm = made;
      lock.unlock();
      restore(work_, warm ? warm : work_.on.plain, warm ? 1 : 0);
    });
    jobs.insert(jobs.begin(), [&] {
      auto fresh = image_template(work_);
      std::lock_guard lock{mutex};
      made = std::move(fresh);
    });
    return all_of(jobs, at_once_);
  }

private:
  std::vector<std::function<void()>> repeat(const std::function<void()>& job) const {
    return std::vector<std::function<void()>>(siblings_, job);
  }

  const work& work_;
  unsigned siblings_;
  unsigned at_once_;
};

} // namespace

} // namespace coppice::bench

int main(int argc, char** argv) {
  using namespace coppice::bench;
  if (argc > 1 && std::string_view{argv[1]} == "guard") {
    return coppice::vmm::guard_main(argc, argv);
  }
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: warm_bench FOLDER GUEST RAW COMMAND SINGLE-RUNS TOTALS SIBLINGS\n");
    return 2;
  }
  node on{argv[1], argv[2], argv[3]};
  const work w{on, argv[4]};
  const auto number = [&](int at) {
    return static_cast<unsigned>(std::stoul(argv[at]));
  };
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  table out;
  const auto warm = image_template(w);
  std::printf("template: %llu MiB, for the image %llu MiB\n",
              static_cast<unsigned long long>(on.plain->ram_allocated_bytes() >> 20),
              static_cast<unsigned long long>(warm->ram_allocated_bytes() >> 20));
  single_runs(w, warm, number(5), out);
  constexpr unsigned waiting = 4; // as many as the pool keeps
  const crowd all{w, number(7), cores};
  for (unsigned i = 0; i < number(6); ++i) {
    out.add("all: plain pool", {all.plain(std::min(waiting, number(7))), 0});
    out.add("all: image template, made before", {all.from(warm), 0});
    out.add("all: image template, made at the request", {all.with_preparation(), 0});
  }
  out.print();
  if (number(5) > 0) {
    std::printf("by processor time, restored: %.2f\n",
                out.processor("plain pool: miss, restored") /
                    out.processor("image template: restored"));
  }
  if (number(6) > 0) {
    const auto plain_ms = out.median("all: plain pool");
    std::printf("without its making: %.2f\n",
                plain_ms / out.median("all: image template, made before"));
    const auto ratio = plain_ms / out.median("all: image template, made at the request");
    std::printf("bar: start.4 %.2f 1.5 %s\n", ratio, ratio >= 1.5 ? "ok" : "short");
  }
  return 0;
}
