#include "tests/integration/mixed_load.hpp"

#include "tests/integration/load_client.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

namespace coppice::test {

namespace {

using clock = std::chrono::steady_clock;

/// A kind of thing to do. Runs take a second or more, the rest milliseconds: they have their share
/// of the time all the same.
struct kind {
  const char* name;
  void (load_client::*act)();
  unsigned weight;
};

constexpr kind kinds[] = {
    {"runs kept", &load_client::run_kept, 4},
    {"runs disposable", &load_client::run_disposable, 4},
    {"runs that fail", &load_client::run_failing, 2},
    {"runs that time out", &load_client::run_timing_out, 1},
    {"runs cancelled", &load_client::run_cancelled, 2},
    {"runs followed", &load_client::run_followed, 2},
    {"runs with subprocesses", &load_client::run_subprocesses, 2},
    {"imports that fail", &load_client::import_nothing, 1},
    {"images read", &load_client::inspect, 8},
    {"images compared", &load_client::compare, 3},
    {"images tagged", &load_client::tag, 4},
    {"images deleted", &load_client::delete_image, 4},
    {"files uploaded", &load_client::upload, 8},
    {"listings", &load_client::list, 10},
    {"requests refused", &load_client::ask_wrongly, 8},
    {"requests malformed", &load_client::send_nonsense, 6},
    {"connections dropped", &load_client::drop_connections, 6},
};

constexpr unsigned clients_count = 6;

/// What the clients of one lap have to tell.
class lap_record {
public:
  explicit lap_record(unsigned working) : working_{working} {}

  void did(const char* what) {
    std::lock_guard lock{mutex_};
    ++lap_.done[what];
  }
  void complain(std::string text) {
    std::lock_guard lock{mutex_};
    lap_.complaints.push_back(std::move(text));
  }
  void finish() {
    std::lock_guard lock{mutex_};
    --working_;
    changed_.notify_all();
  }
  bool wait_for_all(clock::time_point limit) {
    std::unique_lock lock{mutex_};
    return changed_.wait_until(lock, limit, [this] { return working_ == 0; });
  }
  mixed_load::lap take() {
    std::lock_guard lock{mutex_};
    return std::move(lap_);
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned working_;
  mixed_load::lap lap_;
};

void work(load_client& client, lap_record& record, unsigned number, unsigned seed,
          clock::time_point end) {
  std::minstd_rand random{seed};
  std::vector<unsigned> weights;
  std::transform(std::begin(kinds), std::end(kinds), std::back_inserter(weights),
                 [](const kind& each) { return each.weight; });
  std::discrete_distribution<std::size_t> any(weights.begin(), weights.end());
  const char* what = "connecting";
  try {
    // Its share of all kinds, so that none is left out however slow the machine.
    auto next = static_cast<std::size_t>(number);
    while (next < std::size(kinds) || clock::now() < end) {
      const auto& chosen = kinds[next < std::size(kinds) ? next : any(random)];
      next += next < std::size(kinds) ? clients_count : 0;
      what = chosen.name;
      (client.*chosen.act)();
      record.did(what);
    }
    what = "cleaning up";
    client.delete_all();
  } catch (const std::exception& e) {
    record.complain(std::string{what} + ": " + e.what());
  }
  record.finish();
}

} // namespace

std::size_t mixed_load::lap::sum() const {
  std::size_t out = 0;
  for (const auto& [name, count] : done) {
    out += count;
  }
  return out;
}

mixed_load::mixed_load(node& server, std::string base) : server_{server}, base_{std::move(base)} {
  load_client first{server_, base_, "first", 0};
  first.upload_all();
}

mixed_load::lap mixed_load::run(unsigned seed, std::chrono::seconds time) const {
  const auto end = clock::now() + time;
  lap_record record{clients_count};
  std::vector<std::unique_ptr<load_client>> clients;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < clients_count; ++i) {
    clients.push_back(
        std::make_unique<load_client>(server_, base_, "client-" + std::to_string(i), seed + i));
    threads.emplace_back([&record, &client = *clients.back(), i, seed, end] {
      work(client, record, i, seed + i, end);
    });
  }
  // Behind the end each has one thing under way, and the slowest is a few runs.
  if (!record.wait_for_all(end + 2 * patience())) {
    record.complain("a client was not answered within " + std::to_string(2 * patience().count()) +
                    " s: the daemon was killed");
    server_.kill(); // ends every wait for it
  }
  for (auto& thread : threads) {
    thread.join();
  }
  return record.take();
}

} // namespace coppice::test
