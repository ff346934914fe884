#include "actors/run_frames.hpp"

#include "actors/requests.hpp"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace coppice {

namespace {

std::array<capnp::byte, 32> fresh_entropy() {
  std::array<capnp::byte, 32> bytes{};
  while (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    // 32 bytes come whole or, before the pool is ready, not at all
  }
  return bytes;
}

/// What every order to start says: which run, and what its guest must not share with siblings.
proto::ToGuest::Start::Builder begin_order(proto::ToGuest::Builder message, std::uint64_t run) {
  auto entropy = fresh_entropy();
  message.setRun(run);
  auto start = message.initStart();
  start.setUnixTimeNs(unix_now_ns());
  start.setEntropy({entropy.data(), entropy.size()});
  return start;
}

/// Field by field: a copy of the struct would take along whatever else a guest has put into it.
void copy_usage(proto::ResourceUsage::Builder to, proto::ResourceUsage::Reader from) {
  to.setUserTimeUs(from.getUserTimeUs());
  to.setSystemTimeUs(from.getSystemTimeUs());
  to.setMaxRssKib(from.getMaxRssKib());
  to.setSharedMemory(from.getSharedMemory());
  to.setUnsharedMemory(from.getUnsharedMemory());
  to.setSwaps(from.getSwaps());
  to.setMinorFaults(from.getMinorFaults());
  to.setMajorFaults(from.getMajorFaults());
  to.setVoluntarySwitches(from.getVoluntarySwitches());
  to.setInvoluntarySwitches(from.getInvoluntarySwitches());
  to.setBlockInputOps(from.getBlockInputOps());
  to.setBlockOutputOps(from.getBlockOutputOps());
  to.setMessagesSent(from.getMessagesSent());
  to.setMessagesReceived(from.getMessagesReceived());
  to.setSignalsReceived(from.getSignalsReceived());
}

/// The same for a list: what a guest says is one of texts may be one of structs that begin with
/// one.
void copy_args(proto::Event::Spawn::Builder to, capnp::List<capnp::Text>::Reader from) {
  auto args = to.initArgs(from.size());
  for (capnp::uint i = 0; i < args.size(); ++i) {
    args.set(i, from[i]);
  }
}

/// The variables of `old` that `added` does not replace, then `added`.
std::vector<proto::EnvVar::Reader> merged(capnp::List<proto::EnvVar>::Reader old,
                                          capnp::List<proto::EnvVar>::Reader added) {
  std::vector<proto::EnvVar::Reader> all;
  for (auto o : old) {
    bool replaced = false;
    for (auto a : added) {
      replaced = replaced || a.getName() == o.getName();
    }
    if (!replaced) {
      all.push_back(o);
    }
  }
  for (auto a : added) {
    all.push_back(a);
  }
  return all;
}

} // namespace

frame<proto::ToGuest> start_order(std::uint64_t run, proto::RunRequest::Reader request,
                                  proto::ImageRecord::Reader image) {
  return make_frame<proto::ToGuest>([&](auto message) {
    auto start = begin_order(message, run);
    start.setHostname(request.getHostname());
    start.setProcess(request.getProcess());
    start.setConfig(image.getConfig());
    start.setFiles(request.getFiles());
    start.setTimeoutMs(std::uint64_t{request.getTimeoutSeconds()} * 1000);
    start.setNewBytesMax(request.getMaxLayerBytes());
  });
}

frame<proto::ToGuest> warm_up_order(std::uint64_t run) {
  return make_frame<proto::ToGuest>([&](auto message) {
    auto start = begin_order(message, run);
    start.setHostname("warm");
    start.setTimeoutMs(30'000);
    start.setMakeDisk(true);
    auto process = start.initProcess();
    process.setShell(true);
    process.setCommand("warm up");
    process.setTruncateOutputAtBytes(limits::output_chunk_bytes);
  });
}

frame<proto::OperationExecuting> executing_report(proto::RunRequest::Reader request,
                                                  proto::VmReady::Reader vm,
                                                  proto::FromGuest::Started::Reader process) {
  return make_frame<proto::OperationExecuting>([&](auto root) {
    auto init = root.initInit();
    init.setStartedAtUnixNs(unix_now_ns());
    init.setHostname(request.getHostname());
    init.setKernel(vm.getKernel());
    init.setMachine(vm.getMachine());
    init.setInitPid(1);
    auto spawn = root.initSpawn();
    spawn.setPid(process.getPid());
    spawn.setCommand(process.getCommand());
    copy_args(spawn, process.getArgs());
    spawn.setCwd(process.getCwd());
    spawn.setUid(process.getUid());
    spawn.setGid(process.getGid());
    spawn.setShell(request.getProcess().getShell());
    spawn.setTimeoutSeconds(request.getTimeoutSeconds());
    spawn.setTruncateAtBytes(request.getProcess().getTruncateOutputAtBytes());
  });
}

std::uint64_t kept_bytes_max(proto::ProcessSpec::Reader process) {
  return std::min(process.getTruncateOutputAtBytes(), limits::output_kept_bytes_max);
}

frame<proto::ToGuest> exec_order(std::uint64_t run, std::uint32_t spid,
                                 proto::ProcessSpec::Reader process) {
  return make_frame<proto::ToGuest>([&](auto message) {
    message.setRun(run);
    auto exec = message.initExec();
    exec.setSpid(spid);
    exec.setProcess(process);
  });
}

frame<proto::ProcessAnswer> process_answer(std::uint32_t spid) {
  return make_frame<proto::ProcessAnswer>([&](auto root) { root.setSpid(spid); });
}

frame<proto::ProcessReport> spawn_report(proto::ProcessSpec::Reader asked,
                                         proto::RunRequest::Reader run,
                                         proto::FromGuest::Started::Reader process) {
  auto left_bytes = spawn_report_bytes_max;
  auto head = [&](capnp::Text::Reader text) {
    std::string out{text.begin(), std::min(text.size(), left_bytes)};
    left_bytes -= out.size();
    return out;
  };
  return make_frame<proto::ProcessReport>([&](auto root) {
    root.setSpid(process.getSpid());
    auto spawn = root.initSpawn();
    spawn.setPid(process.getPid());
    spawn.setCommand(head(process.getCommand()));
    spawn.setCwd(head(process.getCwd()));
    std::vector<std::string> args;
    for (auto arg : process.getArgs()) {
      if (left_bytes == 0 || args.size() == spawn_report_bytes_max / sizeof(capnp::word)) {
        break;
      }
      args.push_back(head(arg));
    }
    auto list = spawn.initArgs(static_cast<capnp::uint>(args.size()));
    for (capnp::uint i = 0; i < list.size(); ++i) {
      list.set(i, args[i]);
    }
    spawn.setUid(process.getUid());
    spawn.setGid(process.getGid());
    spawn.setShell(asked.getShell());
    spawn.setTimeoutSeconds(run.getTimeoutSeconds());
    spawn.setTruncateAtBytes(asked.getTruncateOutputAtBytes());
  });
}

frame<proto::ProcessReport> stdin_report(std::uint32_t spid, capnp::Data::Reader data,
                                         bool is_cut) {
  return make_frame<proto::ProcessReport>([&](auto root) {
    root.setSpid(spid);
    auto input = root.initStdin();
    input.setData(data);
    input.setTruncated(is_cut);
  });
}

frame<proto::ProcessReport> exit_report(std::uint32_t spid, proto::RunResult::Reader result) {
  return make_frame<proto::ProcessReport>([&](auto root) {
    root.setSpid(spid);
    root.setExit(result);
  });
}

frame<proto::FromGuest> output_head(std::uint64_t run, proto::FromGuest::Output::Reader out,
                                    std::uint64_t keep_bytes) {
  return make_frame<proto::FromGuest>([&](auto message) {
    message.setRun(run);
    auto head = message.initOutput();
    head.setSpid(out.getSpid());
    head.setIsStderr(out.getIsStderr());
    head.setData(out.getData().slice(0, keep_bytes));
  });
}

frame<proto::RunResult> run_result(proto::RunResult::Reader said, const output_meter& out,
                                   const output_meter& err) {
  return make_frame<proto::RunResult>([&](auto root) {
    root.setExitCode(said.getExitCode());
    root.setSignal(said.getSignal());
    root.setPid(said.getPid());
    root.setTimedOut(said.getTimedOut());
    root.setCoreDump(said.getCoreDump());
    root.setOomKilled(said.getOomKilled());
    root.setElapsedUs(said.getElapsedUs());
    copy_usage(root.initUsage(), said.getUsage());
    auto summary = [](proto::StreamSummary::Builder to, const output_meter& meter,
                      proto::StreamSummary::Reader from) {
      to.setKeptBytes(meter.kept_bytes());
      to.setTotalBytes(meter.total_bytes(from.getTotalBytes()));
    };
    summary(root.initStdout(), out, said.getStdout());
    summary(root.initStderr(), err, said.getStderr());
  });
}

bool changes_config(proto::OperationRecord::Reader operation, proto::ImageRecord::Reader parent) {
  auto request = operation.getRequest().getInstance();
  std::size_t as_before = 0;
  for (auto asked : request.getProcess().getEnv()) {
    for (auto known : parent.getConfig().getEnv()) {
      bool is_same = known.getName() == asked.getName() && known.getValue() == asked.getValue();
      as_before += is_same ? 1 : 0;
    }
  }
  return request.getPreserveEnv() && as_before < request.getProcess().getEnv().size();
}

frame<proto::ImageRecord> child_image(proto::OperationRecord::Reader operation,
                                      proto::ImageRecord::Reader parent, const uuid& id,
                                      proto::OverlaySealed::Reader sealed) {
  auto request = operation.getRequest().getInstance();
  return make_frame<proto::ImageRecord>([&](auto root) {
    id.to(root.initId());
    root.setProject(operation.getProject());
    root.setParent(request.getImage());
    root.setOperation(operation.getId());
    root.setCreatedAtUnixNs(unix_now_ns());
    root.setSizeBytes(sealed.getSizeBytes());
    root.setLogicalBytes(sealed.getLogicalBytes());
    root.setSharedBytes(sealed.getSharedBytes());
    root.setDepth(parent.getDepth() + 1);
    root.setConfig(parent.getConfig());
    if (!changes_config(operation, parent)) {
      return;
    }
    auto all = merged(parent.getConfig().getEnv(), request.getProcess().getEnv());
    auto env = root.getConfig().initEnv(static_cast<capnp::uint>(all.size()));
    for (capnp::uint i = 0; i < env.size(); ++i) {
      env.setWithCaveats(i, all[i]);
    }
  });
}

} // namespace coppice
