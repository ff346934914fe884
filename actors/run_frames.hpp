#pragma once

#include "actors/output_meter.hpp"
#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"
#include "protocol/uuid.hpp"

#include <cstdint>

/// The frames of one run, made from the request, the image and what the guest said. Pure but for
/// the clock and the random pool.
namespace coppice {

inline constexpr std::uint32_t main_process = 1; ///< spid of the request's command

/// What the guest is told to do, with the time of now and fresh randomness: siblings start from the
/// same memory and must share nothing that has to be unique.
frame<proto::ToGuest> start_order(std::uint64_t run, proto::RunRequest::Reader request,
                                  proto::ImageRecord::Reader image);

/// A run of nothing on a disk of its own, so that a VM has done everything once.
frame<proto::ToGuest> warm_up_order(std::uint64_t run);

/// What the operation is told when the process runs.
frame<proto::OperationExecuting> executing_report(proto::RunRequest::Reader request,
                                                  proto::VmReady::Reader vm,
                                                  proto::FromGuest::Started::Reader process);

/// What of each output stream of a process is kept at most.
std::uint64_t kept_bytes_max(proto::ProcessSpec::Reader process);

/// What the guest is told to run beside the main process.
frame<proto::ToGuest> exec_order(std::uint64_t run, std::uint32_t spid,
                                 proto::ProcessSpec::Reader process);

/// What a client is told whose order for a process was carried out.
frame<proto::ProcessAnswer> process_answer(std::uint32_t spid);

/// What the operation is told of a process beside the main one. Of a long command line the events
/// have the beginning: there may be a thousand of them.
inline constexpr std::size_t spawn_report_bytes_max = 16u << 10;
frame<proto::ProcessReport> spawn_report(proto::ProcessSpec::Reader asked,
                                         proto::RunRequest::Reader run,
                                         proto::FromGuest::Started::Reader process);
frame<proto::ProcessReport> stdin_report(std::uint32_t spid, capnp::Data::Reader data, bool is_cut);
frame<proto::ProcessReport> exit_report(std::uint32_t spid, proto::RunResult::Reader result);

/// The first `keep_bytes` of an output message.
frame<proto::FromGuest> output_head(std::uint64_t run, proto::FromGuest::Output::Reader out,
                                    std::uint64_t keep_bytes);

/// How the process ended: the guest's word, but for what was counted here.
frame<proto::RunResult> run_result(proto::RunResult::Reader said, const output_meter& out,
                                   const output_meter& err);

/// Whether a run leaves another configuration than its image has: then its result is an image of
/// its own, also where it has changed no file.
bool changes_config(proto::OperationRecord::Reader operation, proto::ImageRecord::Reader parent);

/// The new image of a run that started from `parent`. With preserve_env the added variables stay
/// with it; one of the same name replaces the older one.
frame<proto::ImageRecord> child_image(proto::OperationRecord::Reader operation,
                                      proto::ImageRecord::Reader parent, const uuid& id,
                                      proto::OverlaySealed::Reader sealed);

} // namespace coppice
