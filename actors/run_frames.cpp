#include "actors/run_frames.hpp"

#include "actors/requests.hpp"

#include <sys/random.h>

#include <array>
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
    spawn.setArgs(process.getArgs());
    spawn.setCwd(process.getCwd());
    spawn.setUid(process.getUid());
    spawn.setGid(process.getGid());
    spawn.setShell(request.getProcess().getShell());
    spawn.setTimeoutSeconds(request.getTimeoutSeconds());
    spawn.setTruncateAtBytes(request.getProcess().getTruncateOutputAtBytes());
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
    root.setElapsedUs(said.getElapsedUs());
    root.setUsage(said.getUsage());
    auto summary = [](proto::StreamSummary::Builder to, const output_meter& meter,
                      proto::StreamSummary::Reader from) {
      to.setKeptBytes(meter.kept_bytes());
      to.setTotalBytes(meter.total_bytes(from.getTotalBytes()));
    };
    summary(root.initStdout(), out, said.getStdout());
    summary(root.initStderr(), err, said.getStderr());
  });
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
    if (!request.getPreserveEnv()) {
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
