#include "gateway/cli/command.hpp"
#include "gateway/cli/logging.hpp"
#include "gateway/cli/privileges.hpp"

#include "actors/log.hpp"
#include "actors/runtime.hpp"
#include "gateway/http/server.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/launcher.hpp"

#include <CLI/CLI.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>

#include <fcntl.h>
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
  return (values.http.tls_certificate.empty() ? "http://" : "https://") + host + ":" +
         std::to_string(port);
}

/// SIGHUP, as often as it comes.
void reload_on_hangup(boost::asio::signal_set& hangups, const settings& values,
                      gateway::http_server& server) {
  hangups.async_wait([&](const boost::system::error_code& error, int) {
    if (error) {
      return;
    }
    if (values.http.tls_certificate.empty()) {
      log::info("nothing to reload: the HTTP API has no certificate");
    } else if (auto done = server.reload_tls(); !done) {
      log::error("the certificate in use stays", "error", done.error().text);
    } else {
      log::info("new connections get the certificate as it is now", "file",
                values.http.tls_certificate.string());
    }
    reload_on_hangup(hangups, values, server);
  });
}

/// What is under way is answered, then the server ends.
void stop_server(const settings& values, gateway::http_server& server) {
  auto left = server.drain(values.http.drain_timeout);
  if (left > 0) {
    log::warn("connections are cut off: their requests took longer than http.drain_timeout",
              "connections", left);
  }
  server.stop();
}

/// Why the daemon stops.
struct stop_reason {
  int signal = 0;
  std::string fatal; ///< empty: a signal
};

/// Waits for SIGTERM, SIGINT, or for the inside or the launcher to give up. After it the signals'
/// default action is back: another one ends the process at once, and its children with it.
stop_reason wait_for_end(boost::asio::io_context& waiting, boost::asio::signal_set& signals,
                         runtime& inside, const vmm::launcher* jailer) {
  stop_reason reason;
  boost::asio::posix::stream_descriptor jailer_end{waiting};
  if (jailer != nullptr) {
    jailer_end.assign(::fcntl(jailer->pidfd(), F_DUPFD_CLOEXEC, 0));
    jailer_end.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                          [&](const boost::system::error_code& error) {
                            if (!error) {
                              reason.fatal = "the launcher has ended: nothing can be started";
                              waiting.stop();
                            }
                          });
  }
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
  std::signal(SIGHUP, SIG_IGN); // whoever sends one to a daemon that ends means no harm
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

/// The daemon with its rights in order: see docs/security.md.
struct started_launcher {
  std::shared_ptr<vmm::launcher> jailer; ///< null: children are started as this process's user
  daemon_user user;
  std::string missing; ///< why there is none
};

result<started_launcher> start_launcher(const settings& values,
                                        const std::filesystem::path& program) {
  started_launcher out;
  auto user = find_daemon_user(values);
  if (!user) {
    return user.error();
  }
  out.user = std::move(*user);
  auto started = vmm::launcher::start(launcher_config_of(values, out.user, program), program);
  if (started) {
    out.jailer = std::move(*started);
  } else {
    out.missing = started.error().text;
  }
  return out;
}

/// Tells once what is given up, and stops being root where there is a launcher to be it.
result<void> give_up_root(const settings& values, const started_launcher& started) {
  if (!started.jailer) {
    log::warn("child processes are not jailed: they run as the daemon's user and see its files",
              "reason", started.missing, "remedy",
              "start the daemon as root; coppice doctor says more");
    return {};
  }
  const auto& facts = started.jailer->facts();
  log::info("child processes are jailed", "uids",
            std::to_string(values.jail.uid_first + 1) + "-" +
                std::to_string(values.jail.uid_first + values.jail.uid_count - 1),
            "empty_root", facts.has_user_namespaces ? "yes" : "no", "cgroups",
            facts.without_cgroups.empty() ? "yes" : "no: " + facts.without_cgroups);
  if (started.user.uid == 0) {
    log::warn("the daemon stays root, as daemon.user says: whoever takes it over has the machine");
    return {};
  }
  if (auto handed = hand_over(values.state_dir, started.user); !handed) {
    return handed;
  }
  if (auto done = become(started.user); !done) {
    return done;
  }
  if (::access(values.state_dir.c_str(), W_OK | X_OK) != 0) {
    return fail(vmm::ec::missing,
                "user id " + std::to_string(started.user.uid) +
                    ", which the daemon runs as, cannot reach its state folder " +
                    values.state_dir.string() +
                    ": let it pass the folders above (chmod o+x), choose another state_dir, or "
                    "another daemon.user");
  }
  log::info("gave up root", "uid", static_cast<int>(started.user.uid), "user",
            started.user.name.empty() ? "(no name)" : started.user.name);
  return {};
}

/// Everything that outlives nothing else is declared first: what comes later uses what came before.
int run_daemon(const settings& values, const std::filesystem::path& program,
               const started_launcher& started) {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  if (auto done = give_up_root(values, started); !done) {
    return cannot_start(values, done.error().text);
  }
  boost::asio::io_context waiting{1};
  boost::asio::signal_set signals{waiting, SIGINT, SIGTERM};
  boost::asio::signal_set hangups{waiting, SIGHUP};

  vmm::event_loop loop{started.jailer};
  auto inside_started = runtime::start(values, loop, program);
  if (!inside_started) {
    return cannot_start(values, inside_started.error().text);
  }
  auto& inside = **inside_started;
  auto server = gateway::http_server::start(gateway::http_options::from(values), inside.services());
  if (!server) {
    inside.shutdown();
    return cannot_start(values, server.error().text);
  }
  log::info("ready", "url", url_of(values, (*server)->port()), "version", COPPICE_VERSION, "pid",
            static_cast<int>(::getpid()), "state_dir", values.state_dir.string());

  reload_on_hangup(hangups, values, **server);
  auto reason = wait_for_end(waiting, signals, inside, started.jailer.get());
  if (reason.fatal.empty()) {
    log::info("stopping", "signal", reason.signal == SIGTERM ? "SIGTERM" : "SIGINT");
  } else {
    log::error("stopping", "error", reason.fatal);
  }
  stop_server(values, **server);
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
  // Before threads, and before anything that the operator has not written is read.
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  auto started = start_launcher(*values, program);
  if (!started) {
    return failed(started.error().text);
  }
  // Still as root: the log's file may be where only root may write.
  if (auto logging = start_logging(*values); !logging) {
    return failed(logging.error().text);
  }
  return run_daemon(*values, program, *started);
}

} // namespace

void add_serve(CLI::App& app, int& status) {
  auto* command = app.add_subcommand("serve", "Run the daemon in the foreground");
  auto options = std::make_shared<config_options>();
  options->add_to(*command);
  command->allow_extras();
  command->footer([] {
    return "SIGTERM or SIGINT stops it in order: requests under way are answered, running commands "
           "are ended,\ntheir operations FAILED; queued ones run after the next start. A second "
           "signal stops it at once.\nSIGHUP reads the TLS certificate again.\n\n" +
           settings_help();
  });
  command->callback(
      [command, options, &status] { status = serve(*options, command->remaining()); });
}

} // namespace coppice::cli
