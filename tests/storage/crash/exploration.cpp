#include "tests/storage/crash/exploration.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include <array>
#include <exception>
#include <random>
#include <utility>

namespace coppice::storage::test::crash {

namespace fs = std::filesystem;

exploration::exploration(const trace& of, fs::path first, std::map<std::string, ino_t> inodes,
                         fs::path work, judge by)
    : trace_{of}, first_{std::move(first)}, inodes_{std::move(inodes)}, work_{std::move(work)},
      judge_{std::move(by)} {}

std::string exploration::missed() const {
  disk_model disk{first_, inodes_};
  for (const auto& e : trace_.events()) {
    disk.apply(trace_, e, {});
  }
  return disk.difference(trace_.root());
}

std::vector<std::size_t> exploration::syncs() const {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < trace_.steps().size(); ++i) {
    const auto& s = trace_.steps()[i];
    if (s.what == step::kind::sync_file || s.what == step::kind::sync_directory || s.is_durable) {
      out.push_back(i);
    }
  }
  return out;
}

exploration::figures exploration::run(const std::set<std::size_t>& ignored,
                                      std::size_t findings_enough) {
  so_far_ = {};
  so_far_.steps = trace_.steps().size();
  findings_enough_ = findings_enough;
  seen_.clear();
  // What goes wrong most easily first: with a sync left out that ends it soon.
  for (auto thorough : {false, true}) {
    disk_model disk{first_, inodes_};
    notes_ = 0;
    for (const auto& e : trace_.events()) {
      const auto& s = trace_.steps()[e.number];
      auto changes = s.what == step::kind::sync_file || s.what == step::kind::sync_directory ||
                             s.what == step::kind::note || s.is_durable
                         ? e.is_end || s.is_durable
                         : !e.is_end;
      disk.apply(trace_, e, ignored);
      notes_ = s.what == step::kind::note ? s.number : notes_;
      if (changes && s.result >= 0) {
        so_far_.points += thorough ? 1 : 0;
        cut(disk, e, thorough);
      }
      if (so_far_.findings.size() >= findings_enough_) {
        return so_far_;
      }
    }
  }
  return so_far_;
}

void exploration::cut(const disk_model& at, const trace::event& behind, bool thorough) {
  behind_ = std::string{behind.is_end ? "after step " : "in step "} +
            std::to_string(behind.number) + ", " + trace_.steps()[behind.number].text();
  auto count = at.loose();
  if (!thorough) {
    look_at(at, std::vector<bool>(count, false), "nothing survives");
    look_at(at, std::vector<bool>(count, true), "all survives");
    return;
  }
  for (std::size_t lost = 0; lost < count; ++lost) {
    std::vector<bool> survives(count, true);
    survives[lost] = false;
    look_at(at, survives, "lost: " + at.loose_text(lost));
  }
  std::minstd_rand random{static_cast<unsigned>(behind.number * 2 + (behind.is_end ? 1 : 0) + 1)};
  for (std::size_t i = 0; count > 1 && i < random_subsets_; ++i) {
    std::vector<bool> survives(count);
    for (std::size_t a = 0; a < count; ++a) {
      survives[a] = (random() >> 8) % 2 == 0;
    }
    look_at(at, survives, "random subset " + std::to_string(i));
  }
}

void exploration::look_at(const disk_model& at, const std::vector<bool>& survives,
                          const std::string& how) {
  if (so_far_.findings.size() >= findings_enough_) {
    return;
  }
  ++so_far_.states;
  auto shown = at.state(survives);
  if (!seen_.insert(shown.fingerprint() * 31 + notes_).second) {
    return;
  }
  ++so_far_.distinct;
  at.build(shown, first_, work_);
  auto wrong = judge_(work_, notes_);
  fs::remove_all(work_);
  if (!wrong.empty()) {
    so_far_.findings.push_back("power cut " + behind_ + "; " + how + ": " + wrong);
  }
}

std::string exploration::finding_without(const std::set<std::size_t>& syncs) {
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0);
  auto pid = ::fork();
  BOOST_REQUIRE(pid >= 0);
  if (pid == 0) {
    std::string said;
    try {
      ::signal(SIGSEGV, SIG_DFL);
      ::signal(SIGABRT, SIG_DFL);
      ::signal(SIGBUS, SIG_DFL);
      auto outcome = run(syncs, 1);
      said = outcome.findings.empty() ? std::string{} : outcome.findings.front();
    } catch (...) {
      said = "an exception";
    }
    static_cast<void>(!::write(ends[1], said.data(), std::min<std::size_t>(said.size(), 4000)));
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    said.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  fs::remove_all(work_);
  if (!WIFEXITED(status)) {
    return "the process that looked at it died of signal " + std::to_string(WTERMSIG(status));
  }
  return said;
}

} // namespace coppice::storage::test::crash
