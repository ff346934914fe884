#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"

#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

/// Every actor interface of the system: one look shows who may ask whom for what.
///
/// All requests and answers are frames (protocol/messages.capnp); an answer may always be a
/// `caf::error` of actors/error.hpp instead. Names in capitals are actors.
///
///   GATEWAY ──▶ OPERATIONS ──▶ OPERATION ──▶ INSTANCE ──▶ VM
///      │             │             │            │ ├─▶ IMAGES ─▶ IMAGE ─▶ CATALOG WRITER, RECLAIMER
///      │             │             │            │ └─▶ SCHEDULER
///      │             │             └──▶ IMPORT ─┘
///      ├──▶ IMAGES   └──▶ CATALOG WRITER
///      └──▶ CATALOG READER, SCHEDULER
namespace coppice {

/// One-way message.
template <class T>
using tell = caf::reacts_to<frame<T>>;

/// Request and answer.
template <class Request, class Answer>
using ask = typename caf::replies_to<frame<Request>>::template with<frame<Answer>>;

/// Beside the frame goes an actor: in the request, or in the answer.
template <class Request, class Actor, class Answer>
using ask_giving = typename caf::replies_to<frame<Request>, Actor>::template with<frame<Answer>>;
template <class Request, class Answer, class Actor>
using ask_for = typename caf::replies_to<frame<Request>>::template with<frame<Answer>, Actor>;

// -- catalog -------------------------------------------------------------------------------------

/// Reads the catalog: short read transactions, never blocks on the writer.
using catalog_reader_actor = caf::typed_actor<
    /// By the digest of its text. unauthorised: unknown or expired.
    ask<proto::FindToken, proto::TokenRecord>,
    /// One image with any one of its tags. not_found.
    ask<proto::GetImage, proto::ImageRow>,
    /// The image that carries exactly this tag. not_found.
    ask<proto::ResolveTag, proto::ImageRow>,
    /// A page, newest first; with a tag prefix the exact match first.
    ask<proto::ListImages, proto::ImagePage>,
    /// The whole record. not_found.
    ask<proto::GetOperation, proto::OperationRecord>,
    /// A page, newest first.
    ask<proto::ListOperations, proto::OperationPage>,
    /// A run of consecutive events. gone: the log was trimmed.
    ask<proto::ListEvents, proto::EventPage>,
    /// By digest or id. not_found.
    ask<proto::GetFile, proto::FileRecord>,
    /// A page, latest upload first.
    ask<proto::ListFiles, proto::FilePage>,
    /// A page of the operations that are not terminal, of all projects, oldest first; used at
    /// start.
    ask<proto::ListUnfinished, proto::UnfinishedPage>,
    /// The newest image that was imported from this manifest. not_found.
    ask<proto::FindBySource, proto::ImageRow>,
    /// How many operations of a project hold a slot.
    ask<proto::CountActive, proto::ActiveCounts>,
    /// What was made of a request that had a name. not_found.
    ask<proto::FindRequest, proto::FoundRequest>,
    /// What an image came from, or what came of it. not_found.
    ask<proto::WalkTree, proto::ImageTree>>;

/// The one writer. Requests that wait together share one durable transaction (group commit);
/// each is answered after that commit.
using catalog_writer_actor = caf::typed_actor<
    ask<proto::PutOperation, proto::Done>, //
    ask<proto::AppendEvents, proto::Done>,
    /// Record, events, image and tag together; the password of an import is erased.
    ask<proto::FinishOperation, proto::Done>,
    /// Moves the tag if another image has it. not_found: no such image.
    ask<proto::SetTag, proto::ImageRow>,
    /// not_found: no such image, or the tag is not on it.
    ask<proto::RemoveTag, proto::Done>,
    /// Answers which files lost their last reason to stand. not_found; conflict: it has a tag, or
    /// an operation that has not ended was given it.
    ask<proto::DeleteImage, proto::ImageDeleted>,
    /// Answers the record as stored: a known digest keeps its id and creation time.
    ask<proto::PutFile, proto::FileRecord>,
    /// A bounded piece of what is due; the asker comes again while there is more.
    ask<proto::TrimEvents, proto::EventsTrimmed>,
    /// Its own: commit what waits.
    tell<proto::Tick>>;

/// Gives up old event logs by policy, piece by piece, in the background.
using event_trimmer_actor = caf::typed_actor<
    /// Its own: look whether something is due.
    tell<proto::Tick>>;

// -- store ---------------------------------------------------------------------------------------

/// Owns the files of the store: overlays, sealed images, uploaded blobs.
using store_actor = caf::typed_actor<
    /// A disk that a VM can be connected to: whoever starts that finds the socket in disk_sockets.
    ask<proto::OpenDiskSlot, proto::DiskSlot>, tell<proto::CloseDiskSlot>,
    /// Makes an overlay over a sealed image the disk of a slot that has none. storage; not_found:
    /// no such parent.
    ask<proto::AttachOverlay, proto::OverlayAttached>,
    /// Takes the disk from its VM, checks the file system, makes file and name durable. After the
    /// answer the image file is in place; it counts only once the catalog has its record. damaged;
    /// storage.
    ask<proto::SealOverlay, proto::OverlaySealed>,
    /// Removes an overlay, or a sealed file whose record was never committed.
    ask<proto::DiscardOverlay, proto::OverlayDiscarded>,
    /// From the disk engine's threads.
    tell<proto::DisksAnswered>,
    /// Uploads: begin, append one chunk at a time, finish (or abort). Idle uploads are dropped.
    ask<proto::BeginBlob, proto::BlobUpload>, //
    ask<proto::AppendBlob, proto::Done>,      //
    ask<proto::FinishBlob, proto::BlobStored>, tell<proto::AbortBlob>,
    /// A piece of a stored blob; empty at its end. not_found.
    ask<proto::ReadBlob, proto::BlobChunk>>;

/// Gives back the space of deleted images, a little at a time.
using reclaimer_actor = caf::typed_actor<tell<proto::ImageDeleted>,
                                         /// Its own: the next file.
                                         tell<proto::Tick>>;

// -- images --------------------------------------------------------------------------------------

/// One image in use: its pins and inspect sessions. Ends when it has neither.
using image_actor =
    caf::typed_actor<ask<proto::PinImage, proto::ImageRow>, //
                     tell<proto::UnpinImage>,
                     /// Puts a reader process to one piece of work. not_found, wrong_type, damaged,
                     /// busy; unavailable: the reader did not answer.
                     ask<proto::InspectOpen, proto::InspectSession>,
                     /// The next piece; one request at a time for a session.
                     ask<proto::InspectNext, proto::InspectChunk>, tell<proto::InspectClose>,
                     /// Answered when it is gone from the catalog; its space follows. not_found;
                     /// conflict: tagged, or in use.
                     ask<proto::DeleteImage, proto::Done>,
                     /// From its readers: one is free. From the shelf of all that are: one less.
                     tell<proto::InspectEnded>, tell<proto::InspectTrim>,
                     /// Its own: who read it should have ended by now.
                     tell<proto::Tick>>;

/// A reader process and its socket: one inspect session at a time. Ends when that fails in a way
/// that leaves the process in doubt, when nobody asks for longer than the configured time, or with
/// the last handle of its image's actor.
using inspect_session_actor =
    caf::typed_actor<ask<proto::InspectOpen, proto::InspectSession>, //
                     ask<proto::InspectNext, proto::InspectChunk>, tell<proto::InspectClose>,
                     /// Its own: nobody asked for a while.
                     tell<proto::Tick>>;

/// The directory of image actors: spawns one for an image on first use and passes requests on.
using images_actor =
    caf::typed_actor<ask<proto::PinImage, proto::ImageRow>, //
                     tell<proto::UnpinImage>,               //
                     ask<proto::InspectOpen, proto::InspectSession>,
                     ask<proto::InspectNext, proto::InspectChunk>, tell<proto::InspectClose>,
                     ask<proto::DeleteImage, proto::Done>,
                     /// From an image that nothing holds any more.
                     tell<proto::ImageIdle>>;

// -- operations ----------------------------------------------------------------------------------

/// The durable record of one piece of work: its state, its event log, its cancellation.
using operation_actor = caf::typed_actor<
    /// Ends CANCELLED, durably, at once; the work is told to leave nothing. conflict: terminal.
    ask<proto::CancelOperation, proto::OperationRecord>, ask<proto::FlushOperation, proto::Done>,
    /// For followers of its event log, see event_watchers.hpp. Never refused.
    ask<proto::WatchOperation, proto::OperationProgress>,
    /// From the work, in this order; output (only `output` messages, within the limits of what is
    /// kept) any number of times.
    tell<proto::OperationStarted>, tell<proto::OperationExecuting>, tell<proto::FromGuest>,
    tell<proto::OperationOutcome>,
    /// After outcome or abort: nothing of the work is left; the operation actor ends.
    tell<proto::WorkGone>,
    /// Its own: write output that waits; try a failed commit again; let go of watchers.
    tell<proto::Tick>,
    /// For its work; refused here when that is over or has not begun.
    ask<proto::ProcessOrder, proto::ProcessAnswer>,
    /// From the work, between executing and outcome.
    tell<proto::ProcessReport>>;

/// The directory of live operations: makes them, brings them back at start, routes to them.
using operations_actor = caf::typed_actor<
    /// Answered when the PENDING record is durable. busy: too many wait, in all or of the project.
    ask<proto::StartOperation, proto::OperationRecord>,
    /// not_found; conflict: it is terminal.
    ask<proto::CancelOperation, proto::OperationRecord>, //
    ask<proto::FlushOperation, proto::Done>,
    /// Answered at once, as not live, for one that has ended or is not known.
    ask<proto::WatchOperation, proto::OperationProgress>,
    /// A process more, a signal or input for one. not_found: no such operation of the project or
    /// no such process; conflict: it has ended; too_early: the guest does not take it yet; busy: a
    /// limit. Only when it is answered without an error anything was done.
    ask<proto::ProcessOrder, proto::ProcessAnswer>>;

/// The work of an operation: an instance (one command in one microVM) or an import. It begins by
/// itself, reports to its operation, and obeys an abort at any point.
using work_actor = caf::typed_actor<tell<proto::AbortWork>,
                                    /// What the guest said, checked by the machine; answered when
                                    /// it is dealt with, so that a flood waits in the guest.
                                    ask<proto::FromGuest, proto::Done>, tell<proto::VmFailed>,
                                    /// From the helper processes of an import.
                                    tell<proto::ChildExited>,
                                    /// Its own: a deadline.
                                    tell<proto::Tick>,
                                    /// As OPERATIONS has it; an import refuses all.
                                    ask<proto::ProcessOrder, proto::ProcessAnswer>>;

// -- scheduler -----------------------------------------------------------------------------------

/// Grants slots, fair between projects, as far as the node's processors and memory go.
using scheduler_actor = caf::typed_actor<
    /// Answered when the slot is granted; cancelled: released while it waited; invalid: larger than
    /// what is ever free.
    ask<proto::AcquireSlot, proto::SlotGranted>, tell<proto::ReleaseSlot>,
    /// Where an operation stands among those of its project.
    ask<proto::GetQueuePlace, proto::QueuePlace>,
    /// No VM slot is granted before this.
    tell<proto::SlotsReady>>;

// -- virtual machines ----------------------------------------------------------------------------

/// Supervisor of one QEMU process. Its owner starts it and stops it once; when the owner or
/// the daemon dies, the process dies.
using vm_actor = caf::typed_actor<
    /// Answered when the guest takes orders: it was booted, restored from a template, or it waited
    /// and goes on. vm: with the last console lines; gone: what it should have come from was no
    /// good, so that another one is worth a try.
    ask<proto::StartVm, proto::VmReady>,
    /// Its processors stand still until StartVm.
    ask<proto::PauseVm, proto::Done>,
    /// Gives it another owner. gone: it has died.
    ask_giving<proto::AdoptVm, work_actor, proto::Done>,
    /// Answered when it is in the channel's queue: a guest that does not read holds its owner up.
    ask<proto::ToGuest, proto::Done>,
    /// Answered when the process is gone.
    ask<proto::StopVm, proto::VmStopped>,
    /// From its own machine.
    tell<proto::FromGuest>, tell<proto::VmFailed>, tell<proto::VmStopped>,
    tell<proto::GuestWritable>, tell<proto::VmOrderDone>>;

/// Machines for runs: those that wait, restored and warmed, before all others. It owns them until
/// it hands them out, hence what an owner hears.
using vm_pool_actor = caf::typed_actor<
    /// The asker owns the machine and its slot. storage: no slot.
    ask_for<proto::TakeVm, proto::VmTaken, vm_actor>,
    /// From its machines, as to any owner.
    tell<proto::AbortWork>, ask<proto::FromGuest, proto::Done>, tell<proto::VmFailed>,
    tell<proto::ChildExited>,
    /// Its own: look what is to be done.
    tell<proto::Tick>,
    /// No client's process runs in them: refused.
    ask<proto::ProcessOrder, proto::ProcessAnswer>>;

} // namespace coppice
