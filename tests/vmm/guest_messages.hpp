#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// What an honest agent says, and how it looks on the wire.
namespace coppice::tests {

using from_guest = frame<proto::FromGuest>;

inline std::vector<std::byte> wire(std::span<const std::byte> content) {
  std::vector<std::byte> out;
  const auto words = static_cast<std::uint32_t>(content.size() / sizeof(capnp::word));
  for (int i = 0; i < 4; ++i) {
    out.push_back(static_cast<std::byte>(words >> (8 * i)));
  }
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

inline std::vector<std::byte> wire(const frame_base& message) {
  return wire(message.bytes());
}

inline from_guest ready_message() {
  return make_frame<proto::FromGuest>([](auto root) {
    auto ready = root.initReady();
    ready.setAgentVersion("0.1.0");
    ready.setKernel("6.1.0");
    ready.setMachine("x86_64");
  });
}

inline from_guest mounted_message(std::uint64_t run = 1) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(run);
    root.setMounted();
  });
}

inline from_guest started_message() {
  return make_frame<proto::FromGuest>([](auto root) {
    root.setRun(1);
    auto started = root.initStarted();
    started.setSpid(1);
    started.setPid(42);
    started.setCommand("/bin/sh");
    auto args = started.initArgs(2);
    args.set(0, "-c");
    args.set(1, "echo h\xc3\xa9");
    started.setCwd("/");
  });
}

inline from_guest output_message(std::size_t bytes, std::uint32_t spid = 1) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    auto output = root.initOutput();
    output.setSpid(spid);
    auto data = output.initData(static_cast<capnp::uint>(bytes));
    for (std::size_t i = 0; i < bytes; ++i) {
      data[i] = static_cast<kj::byte>(i);
    }
  });
}

inline from_guest exited_message() {
  return make_frame<proto::FromGuest>([](auto root) {
    root.setRun(1);
    auto exited = root.initExited();
    exited.setSpid(1);
    auto result = exited.initResult();
    result.setExitCode(0);
    result.setPid(42);
    result.initUsage().setUserTimeUs(1000);
    result.initStdout().setTotalBytes(10);
    result.initStderr();
  });
}

inline from_guest finished_message(bool clean = true, const std::string& error = {}) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    auto finished = root.initFinished();
    finished.setClean(clean);
    finished.setError(capnp::Text::Reader{error.c_str(), error.size()});
  });
}

inline from_guest exec_failed_message(std::uint32_t spid = 2, std::int32_t number = 11) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    auto failed = root.initExecFailed();
    failed.setSpid(spid);
    failed.setError("no more processes");
    failed.setErrorNumber(number);
  });
}

inline from_guest stdin_taken_message(std::uint32_t spid = 1, std::uint64_t bytes = 10) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    auto taken = root.initStdinTaken();
    taken.setSpid(spid);
    taken.setTotalBytes(bytes);
    taken.setClosed(true);
  });
}

inline from_guest failed_message(std::int32_t number = 2) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    auto failed = root.initFailed();
    failed.setStage("mount");
    failed.setError("no such device");
    failed.setErrorNumber(number);
  });
}

} // namespace coppice::tests
