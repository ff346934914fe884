#include "vmm/agent/process_table.hpp"

#include "protocol/limits.hpp"
#include "vmm/agent/reaper.hpp"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <functional>
#include <set>

using namespace coppice;
using namespace coppice::agent;

namespace {

boost::test_tools::assertion_result is_root(boost::unit_test::test_unit_id) {
  return ::geteuid() == 0; // processes change their root and their user
}

/// A table whose processes are real ones of this machine, and a host that hears what is said.
struct processes_of_a_run {
  descriptor host;
  std::unique_ptr<port> guest;
  std::unique_ptr<process_table> table;
  descriptor root{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
  std::string stream;
  std::set<pid_t> pids;
  std::vector<std::string> events; ///< "started 2", "exited 2 with 3", in order
  std::map<std::uint32_t, std::string> out;
  std::map<std::uint32_t, std::string> err;
  std::map<std::uint32_t, std::uint64_t> taken;
  std::map<std::uint32_t, std::uint64_t> total;
  std::map<std::uint32_t, bool> is_oom_kill;
  std::map<std::uint32_t, std::vector<std::string>> args;
  std::map<std::uint32_t, std::string> cwd;
  descriptor counters{::memfd_create("vmstat", MFD_CLOEXEC)};

  processes_of_a_run() {
    ::signal(SIGPIPE, SIG_IGN);
    int fds[2];
    BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    host = descriptor{fds[0]};
    guest = std::make_unique<port>(descriptor{fds[1]});
    count_oom_kills(0);
    descriptor counted{::dup(counters.get())};
    table = std::make_unique<process_table>(*guest, 1, oom_counter{std::move(counted)});
  }

  /// What the kernel says that it has killed for want of memory.
  void count_oom_kills(int kills) const {
    auto line = "oom_kill " + std::to_string(kills) + "\n";
    BOOST_REQUIRE(::pwrite(counters.get(), line.data(), line.size(), 0) == ssize_t(line.size()));
  }

  ~processes_of_a_run() {
    kill_all();
  }

  void kill_all() {
    for (auto pid : pids) {
      ::kill(-pid, SIGKILL);
    }
    while (::wait(nullptr) > 0 || errno == EINTR) {
    }
  }

  process_plan plan(const std::string& script) const {
    process_plan p;
    p.root = root.get();
    p.command = {{"/bin/sh", "-c", script}, {"PATH=/usr/bin:/bin"}, {"/bin/sh"}};
    p.cwd = "/";
    return p;
  }

  void start(std::uint32_t spid, const std::string& script, std::uint64_t kept = 1u << 20) {
    start(spid, plan(script), kept);
  }

  void start(std::uint32_t spid, const process_plan& planned, std::uint64_t kept = 1u << 20) {
    auto* process = &table->main();
    if (spid != main_spid) {
      auto added = table->add(spid);
      BOOST_REQUIRE(added.has_value());
      process = *added;
    }
    BOOST_REQUIRE(process->start(planned, kept).has_value());
    pids.insert(process->pid());
  }

  void hear() {
    char buffer[64u << 10];
    for (;;) {
      auto n = ::read(host.get(), buffer, sizeof(buffer));
      if (n <= 0) {
        return;
      }
      stream.append(buffer, static_cast<std::size_t>(n));
      take_frames();
    }
  }

  void take_frames() {
    auto byte = [&](std::size_t i) {
      return static_cast<std::size_t>(static_cast<unsigned char>(stream[i]));
    };
    while (stream.size() >= 4) {
      auto bytes = 8 * (byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24);
      if (stream.size() < 4 + bytes) {
        return;
      }
      auto message = checked<proto::FromGuest>(std::as_bytes(std::span{stream}.subspan(4, bytes)),
                                               limits::channel_frame_bytes_max);
      BOOST_REQUIRE(message.has_value());
      stream.erase(0, 4 + bytes);
      note(*message->view());
    }
  }

  void note(proto::FromGuest::Reader m) {
    BOOST_TEST(m.getRun() == 1u);
    if (m.isStarted()) {
      const auto spid = m.getStarted().getSpid();
      events.push_back("started " + std::to_string(spid));
      cwd[spid] = m.getStarted().getCwd();
      for (auto arg : m.getStarted().getArgs()) {
        args[spid].emplace_back(arg);
      }
    } else if (m.isOutput()) {
      auto data = m.getOutput().getData().asChars();
      BOOST_TEST(data.size() <= limits::output_chunk_bytes);
      auto& to = m.getOutput().getIsStderr() ? err : out;
      to[m.getOutput().getSpid()].append(data.begin(), data.size());
    } else if (m.isStdinTaken()) {
      taken[m.getStdinTaken().getSpid()] = m.getStdinTaken().getTotalBytes();
      if (m.getStdinTaken().getClosed()) {
        events.push_back("closed " + std::to_string(m.getStdinTaken().getSpid()));
      }
    } else if (m.isExited()) {
      auto result = m.getExited().getResult();
      auto spid = m.getExited().getSpid();
      is_oom_kill[spid] = result.getOomKilled();
      total[spid] = result.getStdout().getTotalBytes();
      events.push_back("exited " + std::to_string(spid) + " with " +
                       std::to_string(result.getExitCode()));
    }
  }

  /// What the agent's loop does, until `reached`.
  void run_until(const std::function<bool()>& reached) {
    for (int rounds = 0; !reached(); ++rounds) {
      BOOST_REQUIRE_MESSAGE(rounds < 100'000, "it does not come to that");
      std::vector<pollfd> interests;
      table->add_interests(interests);
      interests.push_back({guest->fd(), static_cast<short>(guest->has_queued() ? POLLOUT : 0), 0});
      ::poll(interests.data(), interests.size(), 5); // an end is not among what is polled for
      reap([&](pid_t pid, int status, const rusage& usage) {
        table->take_reaped(pid, status, usage);
      });
      BOOST_REQUIRE(guest->flush().has_value());
      table->pump();
      hear();
    }
  }

  bool said(const std::string& event) const {
    return std::find(events.begin(), events.end(), event) != events.end();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(agent_process_table, processes_of_a_run,
                         *boost::unit_test::precondition(is_root))

BOOST_AUTO_TEST_CASE(each_process_has_its_own_streams_and_end) {
  start(1, "cat");
  start(2, "echo two; echo bad >&2; exit 3");
  start(3, "read line; echo \"three $line\"");
  table->find(3)->feed("given\n", true);
  run_until([&] { return said("exited 2 with 3") && said("exited 3 with 0"); });
  BOOST_TEST(out[2] == "two\n");
  BOOST_TEST(err[2] == "bad\n");
  BOOST_TEST(out[3] == "three given\n");
  BOOST_TEST(table->main().runs());
  BOOST_TEST(table->find(2) == nullptr);
  table->main().feed("main", false);
  run_until([&] { return out[1] == "main"; });
  BOOST_TEST(taken[1] == 4u);
}

BOOST_AUTO_TEST_CASE(floods_and_deaf_ears_hold_up_nobody_else) {
  start(1, "exec sleep 1000");
  start(2, "exec yes", 10'000);
  start(3, "exec sleep 1000");
  table->find(3)->feed(std::string(1u << 20, 'x'), false);
  start(4, "exec cat");
  std::string data;
  for (int i = 0; i < 40'000; ++i) {
    data += std::to_string(i) + "\n";
  }
  table->find(4)->feed(data, true);
  run_until([&] { return said("exited 4 with 0"); });
  BOOST_TEST((out[4] == data));
  BOOST_TEST(out[2].size() == 10'000u);
  BOOST_TEST(taken[3] < 1u << 20);
  BOOST_TEST(table->find(2)->runs());
}

BOOST_AUTO_TEST_CASE(an_end_does_not_wait_for_children_who_go_on_writing) {
  start(1, "exec sleep 1000");
  start(2, "(while :; do echo noise || exit; done) & echo \"child $!\"");
  run_until([&] { return said("exited 2 with 0"); });
  auto at = out[2].find("child ");
  BOOST_REQUIRE(at != std::string::npos);
  const auto child = std::stoi(out[2].substr(at + 6));
  const auto kept = out[2].size();
  // It may write on: nobody keeps it, nobody ends it.
  for (int rounds = 0; rounds < 50; ++rounds) {
    run_until([first = true]() mutable { return !std::exchange(first, false); });
  }
  BOOST_TEST(::kill(child, 0) == 0);
  BOOST_TEST(out[2].size() == kept);
  ::kill(child, SIGKILL);
}

BOOST_AUTO_TEST_CASE(input_that_nobody_reads_any_more_is_told) {
  start(1, "exec sleep 1000");
  start(2, "exec <&-; echo deaf; exec sleep 1000");
  run_until([&] { return out[2] == "deaf\n"; });
  table->find(2)->feed("anything", false);
  run_until([&] { return said("closed 2"); });
  BOOST_TEST(table->find(2)->runs());
}

BOOST_AUTO_TEST_CASE(a_command_that_is_not_there_starts_says_so_and_ends_with_127) {
  start(1, "exec sleep 1000");
  auto added = table->add(2);
  BOOST_REQUIRE(added.has_value());
  auto nothing = plan("");
  nothing.command = {{"/no/such/thing"}, {}, {"/no/such/thing"}};
  BOOST_REQUIRE((*added)->start(nothing, 100).has_value());
  run_until([&] { return said("exited 2 with 127"); });
  BOOST_TEST(said("started 2"));
  BOOST_TEST(err[2].find("/no/such/thing: not found") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_name_longer_than_a_file_can_have_is_told_in_part) {
  start(1, "exec sleep 1000");
  auto nothing = plan("");
  const std::string name(2 * limits::output_chunk_bytes, 'x');
  nothing.command = {{name}, {}, {name}};
  start(2, nothing);
  run_until([&] { return said("exited 2 with 126"); });
  BOOST_TEST(err[2].size() < limits::output_chunk_bytes);
  BOOST_TEST(err[2].find("xxx...: File name too long") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(of_a_very_long_command_line_the_beginning_is_told) {
  start(1, "exec sleep 1000");
  std::string word = "\xc3\xa9";
  while (word.size() < limits::channel_frame_bytes_max) {
    word += word;
  }
  auto large = plan(word);
  large.command.argv.push_back("behind it");
  start(2, large);
  run_until([&] { return said("exited 2 with 126"); }); // no kernel takes it
  BOOST_REQUIRE(args[2].size() == 2u);
  BOOST_TEST(args[2][0] == "-c");
  BOOST_TEST(args[2][1].size() > started_bytes_max / 2);
  BOOST_TEST(args[2][1].size() <= started_bytes_max);
  BOOST_TEST(args[2][1].size() % 2 == 0u); // no half of a character
  auto many = plan("true");
  many.command.argv.resize(limits::channel_frame_bytes_max / 4);
  start(3, many);
  run_until([&] { return said("started 3"); });
  BOOST_TEST(args[3].size() <= started_bytes_max / 16);
}

BOOST_AUTO_TEST_CASE(a_folder_that_is_none_is_the_root) {
  start(1, "exec sleep 1000");
  for (auto [spid, folder] : {std::pair{2u, "/etc"}, {3u, "/etc/passwd"}, {4u, "/no/such"}}) {
    auto there = plan("pwd");
    there.cwd = folder;
    start(spid, there);
    run_until([&, ended = "exited " + std::to_string(spid) + " with 0"] { return said(ended); });
    BOOST_TEST(cwd[spid] == (spid == 2 ? folder : "/"));
    BOOST_TEST(out[spid] == cwd[spid] + "\n");
  }
  auto nothing = plan("");
  nothing.cwd = "/no/such";
  nothing.command = {{"/no/such/thing"}, {}, {"/no/such/thing"}};
  start(5, nothing);
  run_until([&] { return said("exited 5 with 127"); });
  BOOST_TEST(cwd[5] == "/");
  BOOST_TEST(err[5].find("/no/such/thing: not found") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_end_is_blamed_on_a_want_of_memory_that_was_its_own) {
  start(1, "exec sleep 1000");
  for (auto spid : {2u, 3u, 4u, 5u}) {
    start(spid, "exec sleep 1000");
  }
  auto ends = [&](std::uint32_t spid) {
    run_until([&, ended = "exited " + std::to_string(spid) + " with -1"] { return said(ended); });
    return is_oom_kill[spid];
  };
  count_oom_kills(1);
  table->find(2)->signal(SIGKILL);
  BOOST_TEST(!ends(2)); // that was us
  ::kill(table->find(3)->pid(), SIGKILL);
  BOOST_TEST(ends(3));
  ::kill(table->find(4)->pid(), SIGKILL);
  BOOST_TEST(!ends(4)); // there was one, and it is known which
  count_oom_kills(2);
  table->expect_kills();
  ::kill(table->find(5)->pid(), SIGKILL);
  BOOST_TEST(!ends(5));
}

BOOST_AUTO_TEST_CASE(a_signal_reaches_the_process_and_what_it_started) {
  start(1, "exec sleep 1000");
  start(2, "sleep 1000; exit 5");
  table->find(2)->signal(SIGTERM);
  run_until([&] { return said("exited 2 with -1"); });
  BOOST_TEST(table->main().runs());
}

BOOST_AUTO_TEST_CASE(when_all_are_ended_the_main_process_is_told_last_and_nothing_is_lost) {
  start(1, "echo one; exec sleep 1000");
  start(2, "echo two; exec sleep 1000");
  start(3, "echo three; exec sleep 1000");
  run_until([&] { return out[1] == "one\n" && out[2] == "two\n" && out[3] == "three\n"; });
  kill_all();
  table->end_all();
  BOOST_TEST(table->drain());
  hear();
  BOOST_REQUIRE(events.size() == 6u);
  BOOST_TEST(events[3] == "exited 3 with -1");
  BOOST_TEST(events[4] == "exited 2 with -1");
  BOOST_TEST(events[5] == "exited 1 with -1");
}

BOOST_AUTO_TEST_CASE(output_at_the_end_waits_for_a_host_that_does_not_read) {
  start(1, "exec yes", 4'000'000);
  // Nobody hears: the socket fills, then the queue, then the pipe.
  for (int rounds = 0; !guest->is_congested(); ++rounds) {
    BOOST_REQUIRE(rounds < 10'000'000);
    table->pump();
  }
  kill_all();
  table->end_all();
  BOOST_TEST(!table->drain());
  for (int rounds = 0; !table->drain(); ++rounds) {
    BOOST_REQUIRE(rounds < 100'000);
    BOOST_REQUIRE(guest->flush().has_value());
    hear();
  }
  while (guest->has_queued()) {
    BOOST_REQUIRE(guest->flush().has_value());
    hear();
  }
  hear();
  BOOST_TEST(out[1].size() == total[1]);
  BOOST_TEST(events.back() == "exited 1 with -1");
}

BOOST_AUTO_TEST_CASE(numbers_are_used_once_and_places_are_limited) {
  for (std::uint32_t spid = 2; spid <= process_table::alive_max; ++spid) {
    BOOST_REQUIRE(table->add(spid).has_value());
  }
  auto one_more = table->add(100);
  BOOST_REQUIRE(one_more.has_error());
  BOOST_TEST(one_more.error().code.value() == EAGAIN);
  table->remove(2);
  BOOST_TEST(table->add(101).has_value());
  for (std::uint32_t used : {2u, 101u}) {
    auto again = table->add(used);
    BOOST_REQUIRE(again.has_error());
    BOOST_TEST(again.error().code.value() == EEXIST);
  }
}

BOOST_AUTO_TEST_SUITE_END()
