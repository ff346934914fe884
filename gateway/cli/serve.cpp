#include "gateway/cli/command.hpp"
#include "gateway/cli/logging.hpp"

#include "actors/log.hpp"
#include "actors/runtime.hpp"
#include "gateway/http/server.hpp"
#include "vmm/event_loop.hpp"

#include <CLI/CLI.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>

namespace coppice::cli {
namespace {

/// Each connection, microVM and inspect session holds descriptors; the soft limit of a login shell
/// is made for less.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

std::string url_of(const settings& values, std::uint16_t port) {
  auto host = values.http.listen.substr(0, values.http.listen.rfind(':'));
  return "http://" + host + ":" + std::to_string(port);
}

/// Why the daemon stops.
struct stop_reason {
  int signal = 0;
  std::string fatal; ///< empty: a signal
};

/// Waits for SIGTERM, SIGINT, or for the inside to give up. After it the signals' default action is
/// back: another one ends the process at once, and its children with it.
stop_reason wait_for_end(boost::asio::io_context& waiting, boost::asio::signal_set& signals,
                         runtime& inside) {
  stop_reason reason;
  inside.on_fatal([&](std::string text) {
    boost::asio::post(waiting, [&, text = std::move(text)] {
      reason.fatal = text;
      waiting.stop();
    });
  });
  signals.async_wait([&](const boost::system::error_code& error, int number) {
    if (!error) {
      reason.signal = number;
      waiting.stop();
    }
  });
  waiting.run();
  signals.clear();
  return reason;
}

/// A failure to start is for whoever started it; with a log file it is also for who reads that.
int cannot_start(const settings& values, const std::string& text) {
  if (!values.log.file.empty()) {
    log::error("cannot start", "error", text);
  }
  return failed(text);
}

/// Everything that outlives nothing else is declared first: what comes later uses what came before.
int run_daemon(const settings& values) {
  boost::asio::io_context waiting{1};
  boost::asio::signal_set signals{waiting, SIGINT, SIGTERM};
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();

  vmm::event_loop loop;
  auto started = runtime::start(values, loop, std::filesystem::read_symlink("/proc/self/exe"));
  if (!started) {
    return cannot_start(values, started.error().text);
  }
  auto& inside = **started;
  auto server = gateway::http_server::start(gateway::http_options::from(values), inside.services());
  if (!server) {
    inside.shutdown();
    return cannot_start(values, server.error().text);
  }
  log::info("ready", "url", url_of(values, (*server)->port()), "version", COPPICE_VERSION, "pid",
            static_cast<int>(::getpid()), "state_dir", values.state_dir.string());

  auto reason = wait_for_end(waiting, signals, inside);
  if (reason.fatal.empty()) {
    log::info("stopping", "signal", reason.signal == SIGTERM ? "SIGTERM" : "SIGINT");
  } else {
    log::error("stopping", "error", reason.fatal);
  }
  (*server)->stop();
  server->reset(); // it holds handles of actors, and the inside waits until nobody does
  inside.shutdown();
  log::info("stopped");
  return reason.fatal.empty() ? 0 : failed(reason.fatal);
}

int serve(const config_options& options, const std::vector<std::string>& extras) {
  auto values = options.load(extras);
  if (!values) {
    return failed(values.error().text);
  }
  if (auto logging = start_logging(*values); !logging) {
    return failed(logging.error().text);
  }
  return run_daemon(*values);
}

} // namespace

void add_serve(CLI::App& app, int& status) {
  auto* command = app.add_subcommand("serve", "Run the daemon in the foreground");
  auto options = std::make_shared<config_options>();
  options->add_to(*command);
  command->allow_extras();
  command->footer([] {
    return "SIGTERM or SIGINT stops it in order: running commands are ended, their operations "
           "FAILED;\nqueued ones run after the next start. A second signal stops it at once.\n\n" +
           settings_help();
  });
  command->callback(
      [command, options, &status] { status = serve(*options, command->remaining()); });
}

} // namespace coppice::cli
