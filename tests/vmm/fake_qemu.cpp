#include "tests/vmm/guest_messages.hpp"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

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

/// What it does not do as a QEMU would.
enum class flaw {
  none,
  ignores_quit,
  ignores_stop,
  ignores_cont,
  stops_again,
  mute_when_stopped,
  loses_timers
};

constexpr const char* lost_timer = "APIC frequency too slow, disabling apic timer\r\n";
bool resets_end_it = true; // -no-reboot

/// A restore goes as the first word of the state says.
void restore(const std::string& line) {
  char word[64] = {};
  const int state = std::atoi(line.c_str() + line.find("fd:") + 3);
  if (::read(state, word, sizeof(word) - 1) <= 0) {
    std::exit(9);
  }
  const std::string_view how = word;
  if (how == "refused") {
    say(qmp, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such file\"}}\r\n");
    return;
  }
  say(qmp, "{\"return\": {}}\r\n");
  if (how == "speaks") {
    say(wire(ready_message()));
  } else if (how == "dies") {
    say(qmp, "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\r\n");
    std::fprintf(stderr, "qemu: load of migration failed: Invalid argument\n");
    std::exit(1);
  } else if (how == "fails") {
    say(qmp, "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\r\n");
  } else if (how == "works") {
    say(qmp, "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\r\n"
             "{\"event\": \"RESUME\"}\r\n"
             "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\r\n");
  }
}

void answer_line(const std::string& line, flaw how) {
  const auto has = [&](const char* name) {
    return line.find(name) != std::string::npos;
  };
  if (has("migrate-incoming")) {
    return restore(line);
  }
  if (has("\"quit\"") && how != flaw::ignores_quit) {
    std::exit(0);
  }
  if ((has("\"stop\"") && how == flaw::ignores_stop) ||
      (has("\"cont\"") && how == flaw::ignores_cont) ||
      (has("query-status") && how == flaw::mute_when_stopped)) {
    return;
  }
  if (has("\"stop\"")) {
    say(qmp, "{\"event\": \"STOP\"}\r\n");
  } else if (has("\"cont\"")) {
    say(qmp, "{\"event\": \"RESUME\"}\r\n");
  }
  if (has("set-action")) {
    resets_end_it = !has("\"reset\"");
  } else if (has("system_reset") && resets_end_it) {
    std::exit(0);
  } else if (has("system_reset") && how == flaw::loses_timers) {
    say(console, lost_timer);
  } else if (has("system_reset")) {
    say(wire(ready_message()));
  }
  say(qmp, "{\"return\": {}}\r\n");
  if (has("\"cont\"") && how == flaw::stops_again) {
    say(qmp, "{\"event\": \"STOP\"}\r\n");
  }
}

/// Carries out orders from the control socket.
[[noreturn]] void serve(flaw how = flaw::none) {
  std::string text;
  char piece[4096];
  for (;;) {
    auto n = ::read(qmp, piece, sizeof(piece));
    if (n <= 0) {
      ::pause();
    }
    text.append(piece, static_cast<std::size_t>(n));
    for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      answer_line(text.substr(0, end), how);
      text.erase(0, end + 1);
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
  serve();
}

void behave(const std::string& how) {
  if (how == "incoming") {
    serve();
  }
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
    serve();
  }
  if (how == "loses-timer" || how == "ready-without-timer" || how == "loses-timers") {
    say(console, lost_timer);
  }
  if (how == "loses-timer" || how == "loses-timers") {
    serve(how == "loses-timers" ? flaw::loses_timers : flaw::none);
  }
  if (how == "early") {
    say(wire(mounted_message()));
    serve();
  }
  if (how == "garbage") {
    say(std::vector<std::byte>(64, std::byte{0xee}));
    serve();
  }
  if (how == "internal-error") {
    say(qmp, "{\"event\": \"STOP\"}\n");
    serve();
  }
  say(wire(ready_message()));
  if (how == "ready" || how == "ready-without-timer") {
    serve();
  }
  const std::pair<const char*, flaw> flaws[] = {{"stubborn", flaw::ignores_quit},
                                                {"does-not-pause", flaw::ignores_stop},
                                                {"does-not-resume", flaw::ignores_cont},
                                                {"stops-again", flaw::stops_again},
                                                {"mute", flaw::mute_when_stopped}};
  for (const auto& [name, what] : flaws) {
    if (how == name) {
      serve(what);
    }
  }
  if (how == "echo") {
    echo();
  }
  if (how == "ready-twice") {
    say(wire(ready_message()));
    serve();
  }
  if (how == "ready-then-garbage") {
    say(wire(output_message(10, 0)));
    serve();
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
    } else if (text == "-incoming") {
      how = "incoming";
    }
  }
  say(qmp, "{\"QMP\": {}}\r\n");
  behave(how);
  return 8;
}
