#include "tests/vmm/guest_messages.hpp"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

/// Plays QEMU with a guest in it for tests of the machine: finds its sockets on the command line
/// and behaves as the first word of the "kernel" file says.
namespace {

using namespace coppice::tests;

int console = -1;
int qmp = -1;
int agent = -1;

void say(int fd, std::string_view text) {
  if (::write(fd, text.data(), text.size()) < 0) {
    std::exit(9);
  }
}

void say(const std::vector<std::byte>& bytes) {
  say(agent, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// Waits for orders on the control socket; ends on quit unless told to be stubborn.
[[noreturn]] void serve(bool stubborn) {
  std::string text;
  char piece[4096];
  for (;;) {
    auto n = ::read(qmp, piece, sizeof(piece));
    if (n <= 0) {
      ::pause();
    }
    text.append(piece, static_cast<std::size_t>(n));
    if (text.find("qmp_capabilities") != std::string::npos) {
      text.clear();
      say(qmp, "{\"return\": {}}\r\n");
    }
    if (text.find("\"quit\"") != std::string::npos && !stubborn) {
      std::exit(0);
    }
  }
}

/// Sends back one message for each that comes, then serves.
[[noreturn]] void echo() {
  std::uint8_t header[4];
  if (::read(agent, header, sizeof(header)) != sizeof(header)) {
    std::exit(9);
  }
  say(wire(mounted_message(header[0])));
  serve(false);
}

void behave(const std::string& how) {
  say(console, "Linux version 6.1\r\nbooting\r\n");
  if (how == "dies") {
    std::fprintf(stderr, "qemu: cannot do that\n");
    std::exit(1);
  }
  if (how == "panics") {
    say(console, "Kernel panic - not syncing: \x1b[1mno init\n");
    say(qmp, "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-reset\"}}\n");
    std::exit(0);
  }
  if (how == "silent") {
    serve(false);
  }
  if (how == "early") {
    say(wire(mounted_message()));
    serve(false);
  }
  if (how == "garbage") {
    say(std::vector<std::byte>(64, std::byte{0xee}));
    serve(false);
  }
  if (how == "internal-error") {
    say(qmp, "{\"event\": \"STOP\"}\n");
    serve(false);
  }
  say(wire(ready_message()));
  if (how == "ready") {
    serve(false);
  }
  if (how == "stubborn") {
    serve(true);
  }
  if (how == "echo") {
    echo();
  }
  if (how == "ready-twice") {
    say(wire(ready_message()));
    serve(false);
  }
  if (how == "ready-then-garbage") {
    say(wire(output_message(10, 0)));
    serve(false);
  }
  if (how == "ready-then-dies") {
    say(console, "last words\n");
    ::kill(::getpid(), SIGTERM);
    ::pause();
  }
}

int number_after(std::string_view text, std::string_view key) {
  auto at = text.find(key);
  return at == std::string_view::npos
             ? -1
             : std::atoi(std::string{text.substr(at + key.size())}.c_str());
}

} // namespace

int main(int argc, char** argv) {
  std::string how;
  for (int i = 1; i < argc; ++i) {
    const std::string_view text = argv[i];
    if (text.starts_with("socket,id=con")) {
      console = number_after(text, "fd=");
    } else if (text.starts_with("socket,id=qm")) {
      qmp = number_after(text, "fd=");
    } else if (text.starts_with("socket,id=ag")) {
      agent = number_after(text, "fd=");
    } else if (text == "-kernel" && i + 1 < argc) {
      std::ifstream{argv[i + 1]} >> how;
    }
  }
  say(qmp, "{\"QMP\": {}}\r\n");
  behave(how);
  return 8;
}
