#pragma once

#include "actors/error.hpp"
#include "actors/interfaces.hpp"
#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"

#include <caf/binary_deserializer.hpp>
#include <caf/deserializer.hpp>
#include <caf/error.hpp>
#include <caf/sec.hpp>
#include <caf/serializer.hpp>
#include <caf/type_id.hpp>

/// Registers every frame with CAF and says how frames cross the network.
///
/// Inside a process a frame is shared, never copied; across nodes its words go as they are. A
/// peer's length is not trusted: it is capped and compared with what is left of the buffer.
namespace coppice {

inline caf::error inspect(caf::serializer& sink, frame_base& x) {
  auto words = x.words();
  std::uint64_t count = words.size();
  if (auto error = sink(count)) {
    return error;
  }
  if (count == 0) {
    return caf::none;
  }
  return sink.apply_raw(count * sizeof(capnp::word), const_cast<capnp::word*>(words.begin()));
}

inline caf::error inspect(caf::deserializer& source, frame_base& x) {
  std::uint64_t count = 0;
  if (auto error = source(count)) {
    return error;
  }
  if (count > limits::frame_words_max) {
    return caf::make_error(caf::sec::invalid_argument, "frame too large");
  }
  if (auto* binary = dynamic_cast<caf::binary_deserializer*>(&source);
      binary && count * sizeof(capnp::word) > binary->remaining()) {
    return caf::make_error(caf::sec::end_of_stream);
  }
  auto words = kj::heapArray<capnp::word>(count); // aligned, which the network's buffer is not
  if (count > 0) {
    if (auto error = source.apply_raw(count * sizeof(capnp::word), words.begin())) {
      return error;
    }
  }
  x = frame_base{kj::mv(words)};
  return caf::none;
}

} // namespace coppice

CAF_BEGIN_TYPE_ID_BLOCK(coppice, first_custom_type_id)

CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::Done>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::Tick>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FindToken>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::GetImage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ResolveTag>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ImageRow>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ListImages>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ImagePage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::GetOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ListOperations>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationPage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ListEvents>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::EventPage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::GetFile>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ListFiles>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FilePage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ListUnfinished>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::UnfinishedPage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FindBySource>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::CountActive>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ActiveCounts>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::PutOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AppendEvents>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FinishOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::SetTag>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::RemoveTag>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::PutFile>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AttachOverlay>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OverlayAttached>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::SealOverlay>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OverlaySealed>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::DiscardOverlay>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::DisksAnswered>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::BeginBlob>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::BlobUpload>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AppendBlob>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FinishBlob>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::BlobStored>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AbortBlob>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ReadBlob>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::BlobChunk>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectOpen>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectSession>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectNext>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectChunk>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectClose>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::PinImage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::UnpinImage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::StartOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::CancelOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FlushOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationStarted>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationExecuting>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationOutcome>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AbortWork>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::WorkGone>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AcquireSlot>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::SlotGranted>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ReleaseSlot>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::SlotsReady>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::StartVm>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::VmReady>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::StopVm>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::VmStopped>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::VmFailed>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::GuestWritable>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ChildExited>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationRecord>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FileRecord>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::TokenRecord>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FromGuest>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ToGuest>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ImageIdle>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::TrimEvents>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::EventsTrimmed>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OverlayDiscarded>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::DeleteImage>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ImageDeleted>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::GetQueuePlace>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::QueuePlace>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OpenDiskSlot>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::DiskSlot>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::CloseDiskSlot>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::PauseVm>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::VmOrderDone>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::AdoptVm>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::TakeVm>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::VmTaken>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FindRequest>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::FoundRequest>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::WalkTree>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ImageTree>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectEnded>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::InspectTrim>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::WatchOperation>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::OperationProgress>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ProcessOrder>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ProcessAnswer>))
CAF_ADD_TYPE_ID(coppice, (coppice::frame<coppice::proto::ProcessReport>))
CAF_ADD_TYPE_ID(coppice, (coppice::work_actor))
CAF_ADD_TYPE_ID(coppice, (coppice::vm_actor))

CAF_END_TYPE_ID_BLOCK(coppice)
