#include "vmm/agent/messages.hpp"

#include <algorithm>
#include <vector>

#include <capnp/message.h>
#include <sys/utsname.h>
#include <sys/wait.h>

namespace coppice::agent {
namespace {

template <class Fill>
void send(port& to, std::uint64_t run, Fill&& fill) {
  capnp::MallocMessageBuilder message;
  auto root = message.initRoot<proto::FromGuest>();
  root.setRun(run);
  fill(root);
  to.send(message);
}

std::uint64_t microseconds(const timeval& t) {
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(t.tv_usec);
}

std::uint64_t count(long n) {
  return n > 0 ? static_cast<std::uint64_t>(n) : 0;
}

void fill_usage(proto::ResourceUsage::Builder to, const rusage& from) {
  to.setUserTimeUs(microseconds(from.ru_utime));
  to.setSystemTimeUs(microseconds(from.ru_stime));
  to.setMaxRssKib(count(from.ru_maxrss));
  to.setSharedMemory(count(from.ru_ixrss));
  to.setUnsharedMemory(count(from.ru_idrss));
  to.setSwaps(count(from.ru_nswap));
  to.setMinorFaults(count(from.ru_minflt));
  to.setMajorFaults(count(from.ru_majflt));
  to.setVoluntarySwitches(count(from.ru_nvcsw));
  to.setInvoluntarySwitches(count(from.ru_nivcsw));
  to.setBlockInputOps(count(from.ru_inblock));
  to.setBlockOutputOps(count(from.ru_oublock));
  to.setMessagesSent(count(from.ru_msgsnd));
  to.setMessagesReceived(count(from.ru_msgrcv));
  to.setSignalsReceived(count(from.ru_nsignals));
}

void fill_stream(proto::StreamSummary::Builder to, const output_stream& from) {
  to.setKeptBytes(from.kept_bytes());
  to.setTotalBytes(from.total_bytes());
  to.setPlain(from.is_plain());
}

/// The first bytes of a text, cut between characters: the host takes UTF-8 only.
std::string head(const std::string& text, std::size_t bytes_max) {
  auto end = std::min(bytes_max, text.size());
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) {
    --end;
  }
  return text.substr(0, end);
}

/// The beginning of a command line. Quoting may have made it longer than the order it came in, and
/// it has to fit a frame.
std::vector<std::string> shown(const std::vector<std::string>& argv) {
  constexpr std::size_t word_cost_bytes = 16; // pointer and padding
  std::vector<std::string> out;
  auto left_bytes = started_bytes_max;
  for (const auto& word : argv) {
    if (left_bytes <= word_cost_bytes) {
      break;
    }
    left_bytes -= word_cost_bytes;
    out.push_back(head(word, left_bytes));
    left_bytes -= out.back().size();
  }
  return out;
}

} // namespace

void send_ready(port& to) {
  utsname system{};
  ::uname(&system);
  send(to, 0, [&](proto::FromGuest::Builder root) {
    auto ready = root.initReady();
    ready.setAgentVersion(COPPICE_VERSION);
    ready.setKernel(system.release);
    ready.setMachine(system.machine);
  });
}

void send_mounted(port& to, std::uint64_t run) {
  send(to, run, [](proto::FromGuest::Builder root) { root.setMounted(); });
}

void send_started(port& to, process_name of, const child& process, const process_plan& plan) {
  send(to, of.run, [&](proto::FromGuest::Builder root) {
    auto started = root.initStarted();
    started.setSpid(of.spid);
    started.setPid(static_cast<std::uint32_t>(process.pid));
    const auto argv = shown(plan.command.argv);
    started.setCommand(argv.front());
    auto args = started.initArgs(static_cast<unsigned>(argv.size() - 1));
    for (unsigned i = 0; i < args.size(); ++i) {
      args.set(i, argv[i + 1]);
    }
    started.setCwd(process.cwd);
    started.setUid(plan.who.uid);
    started.setGid(plan.who.gid);
  });
}

void send_output(port& to, process_name of, bool is_stderr, std::span<const unsigned char> data) {
  send(to, of.run, [&](proto::FromGuest::Builder root) {
    auto output = root.initOutput();
    output.setSpid(of.spid);
    output.setIsStderr(is_stderr);
    output.setData({data.data(), data.size()});
  });
}

void send_stdin_taken(port& to, process_name of, std::uint64_t total_bytes, bool is_closed) {
  send(to, of.run, [&](proto::FromGuest::Builder root) {
    auto taken = root.initStdinTaken();
    taken.setSpid(of.spid);
    taken.setTotalBytes(total_bytes);
    taken.setClosed(is_closed);
  });
}

void send_exited(port& to, process_name of, const process_end& end, const output_stream& output,
                 const output_stream& errors) {
  send(to, of.run, [&](proto::FromGuest::Builder root) {
    auto exited = root.initExited();
    exited.setSpid(of.spid);
    auto result = exited.initResult();
    if (WIFSIGNALED(end.status)) {
      result.setSignal(WTERMSIG(end.status));
      result.setCoreDump(WCOREDUMP(end.status));
      result.setTimedOut(end.is_timed_out);
    } else {
      // A process that ended by itself in the moment of its deadline ended by itself.
      result.setExitCode(WEXITSTATUS(end.status));
    }
    result.setOomKilled(end.is_oom_kill);
    result.setPid(static_cast<std::uint32_t>(end.pid));
    result.setElapsedUs(static_cast<std::uint64_t>(end.elapsed.count()));
    fill_usage(result.initUsage(), end.usage);
    fill_stream(result.initStdout(), output);
    fill_stream(result.initStderr(), errors);
  });
}

void send_exec_failed(port& to, process_name of, const failure& why) {
  send(to, of.run, [&](proto::FromGuest::Builder root) {
    auto failed = root.initExecFailed();
    failed.setSpid(of.spid);
    failed.setError(why.text);
    failed.setErrorNumber(why.code.value());
  });
}

void send_failed(port& to, std::uint64_t run, std::string_view stage, const failure& why) {
  send(to, run, [&](proto::FromGuest::Builder root) {
    auto failed = root.initFailed();
    failed.setStage(capnp::Text::Reader{stage.data(), stage.size()});
    failed.setError(why.text);
    failed.setErrorNumber(why.code.value());
  });
}

void send_finished(port& to, std::uint64_t run, const std::string& error) {
  send(to, run, [&](proto::FromGuest::Builder root) {
    auto finished = root.initFinished();
    finished.setClean(error.empty());
    finished.setError(error);
  });
}

} // namespace coppice::agent
