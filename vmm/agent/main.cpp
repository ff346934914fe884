#include "vmm/agent/boot.hpp"
#include "vmm/agent/log.hpp"
#include "vmm/agent/session.hpp"
#include "vmm/agent/warm_up.hpp"

#include <exception>

#include <fcntl.h>
#include <kj/exception.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>

namespace {

using namespace coppice;
using namespace coppice::agent;

/// A machine without a console starts us without standard streams; the first files that we open
/// must not be taken for them.
void open_standard_streams() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  if (fd > STDERR_FILENO) {
    ::close(fd);
  }
}

result<descriptor> block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  descriptor fd{::signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC)};
  if (!fd) {
    return last_error("signalfd");
  }
  return fd;
}

result<void> run_agent() {
  auto prepared = prepare_own_system();
  open_standard_streams();
  if (!prepared) {
    return prepared;
  }
  auto signals = block_signals();
  if (!signals) {
    return signals.error();
  }
  disk image;
  if (auto remembered = image.remember_own_mounts(); !remembered) {
    return remembered;
  }
  auto host = open_host_port();
  if (!host) {
    return host.error();
  }
  session serving{port{std::move(*host)}, std::move(image), std::move(*signals)};
  return serving.serve();
}

} // namespace

int main(int argc, char** argv) {
  if (::getpid() != 1) {
    if (auto status = warm_up(argc > 0 ? argv[0] : "")) {
      return *status;
    }
    log_line("this is the first process of a Coppice microVM; it does nothing elsewhere");
    return 2;
  }
  try {
    if (auto served = run_agent(); !served) {
      log_line(served.error().text);
    }
  } catch (const kj::Exception& e) {
    log_line(e.getDescription().cStr());
  } catch (const std::exception& e) {
    log_line(e.what());
  }
  // QEMU is told to end instead of starting over, which is the surest way to end it.
  ::sync();
  ::reboot(RB_AUTOBOOT);
  return 1;
}
