@0x93e07f52d6ab1c66;
# What actors say to each other: one struct a request and one a reply, carried by frame<T>
# (protocol/frame.hpp). No paths, pointers or descriptors: a peer may live on another node.
# Which actor takes which, and what it answers, is in actors/interfaces.hpp.

using Cxx = import "/capnp/c++.capnp";
using Types = import "types.capnp";
using Records = import "records.capnp";
using Events = import "events.capnp";
using Inspect = import "inspect.capnp";
$Cxx.namespace("coppice::proto");

struct Done {}
# The answer that has nothing to tell but that it worked, durably where the request says so.

struct Tick { timer @0 :UInt32; generation @1 :UInt64; }
# An actor's own timer; a generation that is not the latest one is stale and ignored.

# -- catalog, reading ----------------------------------------------------------------------------

struct FindToken { sha256 @0 :Data; }                        # -> TokenRecord

struct GetImage { project @0 :Text; id @1 :Types.Uuid; }     # -> ImageRow
struct ResolveTag { project @0 :Text; tag @1 :Text; }        # -> ImageRow
struct ImageRow { image @0 :Records.ImageRecord; tag @1 :Text; }
# `tag` is empty for an untagged row. An image with several tags has one row for each.

struct ListImages {
  project @0 :Text;
  limit @1 :UInt32;
  offset @2 :UInt64;
  sinceUnixNs @3 :Int64 = -0x8000000000000000;               # inclusive bounds on createdAt
  untilUnixNs @4 :Int64 = 0x7fffffffffffffff;
  taggedOnly @5 :Bool;
  tagPrefix @6 :Text;                                        # exact match first; empty: no filter
  id @7 :Types.Uuid;                                         # absent: no filter
}
struct ImagePage { rows @0 :List(ImageRow); }

struct GetOperation { project @0 :Text; id @1 :Types.Uuid; } # -> OperationRecord
struct ListOperations {
  project @0 :Text;
  limit @1 :UInt32;
  offset @2 :UInt64;
  sinceUnixNs @3 :Int64 = -0x8000000000000000;
  untilUnixNs @4 :Int64 = 0x7fffffffffffffff;
  filterStatus @5 :Bool;
  status @6 :Types.OperationStatus;
  filterKind @7 :Bool;
  kind @8 :Types.OperationKind;
}
struct OperationPage { rows @0 :List(Records.OperationRecord); }
# Rows carry no stdin and no file lists: a page stays small.

struct ListEvents {
  operation @0 :Types.Uuid;
  firstId @1 :UInt64;
  maxBytes @2 :UInt32;                                       # stop after the event that reaches it
}
struct EventPage { events @0 :List(Events.Event); }          # empty: nothing from firstId on (yet); gone: trimmed

struct GetFile {
  project @0 :Text;
  sha256 @1 :Data;                                           # either this
  id @2 :Types.Uuid;                                         # or this
}                                                            # -> FileRecord
struct ListFiles {
  project @0 :Text;
  limit @1 :UInt32;
  offset @2 :UInt64;
  sinceUnixNs @3 :Int64 = -0x8000000000000000;               # bounds on updatedAt
  untilUnixNs @4 :Int64 = 0x7fffffffffffffff;
}
struct FilePage { rows @0 :List(Records.FileRecord); }

struct ListUnfinished {                                      # every project's non-terminal operations
  afterCreatedAtUnixNs @0 :Int64 = -0x8000000000000000;      # behind this one in their order
  afterId @1 :Types.Uuid;                                    # absent: from the start
}
struct UnfinishedPage {
  rows @0 :List(Records.OperationRecord);                    # oldest first, whole records
  more @1 :Bool;                                             # others come behind the last one
}

struct FindBySource { project @0 :Text; digest @1 :Text; }   # newest image imported from it -> ImageRow; not_found

struct CountActive { project @0 :Text; }
struct ActiveCounts { instances @0 :UInt32; imports @1 :UInt32; }   # executing or assigned

# -- catalog, writing: answered when the change is durable ---------------------------------------

struct RequestKey {
  # What the client calls its request, so that it is not carried out twice (Idempotency-Key).
  key @0 :Data;                                              # SHA-256 of its name; empty: it has none
  digest @1 :Data;                                           # SHA-256 of the request itself
}
struct PutOperation {
  record @0 :Records.OperationRecord;                        # create or replace, not terminal -> Done
  key @1 :RequestKey;                                        # remembered with it; conflict: it is known; busy
}
struct AppendEvents { operation @0 :Types.Uuid; events @1 :List(Events.Event); }   # -> Done
struct FinishOperation {
  # The terminal record, its last events, the new image and its tag, in one transaction.
  record @0 :Records.OperationRecord;
  events @1 :List(Events.Event);
  image @2 :Records.ImageRecord;
  hasImage @3 :Bool;
  tag @4 :Text;                                              # moved to the result image; empty: none
  index @5 :Records.ImageIndex;                              # of the new image
}                                                            # -> Done
struct SetTag { project @0 :Text; image @1 :Types.Uuid; tag @2 :Text; }      # -> ImageRow; not_found
struct RemoveTag { project @0 :Text; image @1 :Types.Uuid; tag @2 :Text; }   # empty tag: all -> Done; not_found
struct PutFile {
  record @0 :Records.FileRecord;                             # known sha256: keeps the id -> FileRecord as stored
  key @1 :RequestKey;                                        # remembered with it; conflict: it is known for another request; busy
}

# -- store: overlays, sealing, blobs -------------------------------------------------------------

struct AttachOverlay {
  overlay @0 :Types.Uuid;                                    # the id that the image will have
  parent @1 :Types.Uuid;                                     # absent: a disk of zeros, which is never sealed
  ownBytesMax @2 :UInt64;                                    # what the guest may change
  slot @3 :UInt64;                                           # an open one, with no disk in it
}                                                            # -> OverlayAttached
struct OverlayAttached { virtualSizeBytes @0 :UInt64; }
struct SealOverlay {
  # The disk must be closed to writes. Refuses a file system that does not say that it is clean.
  overlay @0 :Types.Uuid;
  parent @1 :Types.Uuid;                                     # absent for an import
  keepUnchanged @2 :Bool;                                    # an image of its own even so
}                                                            # -> OverlaySealed, durable
struct OverlaySealed {
  sizeBytes @0 :UInt64;
  index @1 :Records.ImageIndex;                              # of the new image
  unchanged @2 :Bool;                                        # nothing is kept: it is what its parent was
  logicalBytes @3 :UInt64;                                   # as in ImageRecord
  sharedBytes @4 :UInt64;
}
struct DisksAnswered {}                                        # the engine to its store actor: look at what it has
struct DiscardOverlay {
  overlay @0 :Types.Uuid;
  closeSlot @1 :Bool;                                        # the slot that its disk is in, too
}                                                            # -> OverlayDiscarded; an unknown one is fine

struct BeginBlob { expectedBytes @0 :UInt64; }               # 0: unknown -> BlobUpload; too_large
struct BlobUpload { upload @0 :UInt64; }
struct AppendBlob { upload @0 :UInt64; data @1 :Data; }      # -> Done; answer one before sending the next
struct FinishBlob { upload @0 :UInt64; }                     # -> BlobStored, durable
struct BlobStored { sha256 @0 :Data; sizeBytes @1 :UInt64; }
struct AbortBlob { upload @0 :UInt64; }
struct ReadBlob { sha256 @0 :Data; offset @1 :UInt64; maxBytes @2 :UInt32; }   # -> BlobChunk; empty at the end
struct BlobChunk { data @0 :Data; }

# -- images --------------------------------------------------------------------------------------

struct InspectOpen {
  project @0 :Text;
  image @1 :Types.Uuid;
  verb @2 :Inspect.InspectVerb;
  path @3 :Text;
  grep @4 :Inspect.GrepQuery;
  offset @5 :UInt64;                                         # download: the first byte
  bytes @6 :UInt64 = 0xffffffffffffffff;                     # download: how many, at most what there is
  other @7 :Types.Uuid;                                      # diff: the newer image; the same as `image`: it is only held
  session @8 :UInt64;                                        # image -> reader
}                                                            # -> InspectSession; not_found, wrong_type, damaged, busy
struct InspectSession { session @0 :UInt64; sizeBytes @1 :UInt64; }
struct InspectNext {
  image @0 :Types.Uuid;
  session @1 :UInt64;
  contentBytesMax @2 :UInt64;                                # of the stored files that the chunk names
}                                                            # -> InspectChunk
struct InspectChunk {
  union {
    entries @0 :List(Inspect.FileEntry);
    data @1 :Data;
    end @2 :Void;                                            # the session is over
    parts @3 :List(Inspect.FilePart);                        # their files stay until the next request
    matches @4 :List(Inspect.GrepMatch);
    changes @5 :List(Inspect.PathChange);
  }
  last @6 :Bool;                                             # the session is over with this
  truncated @7 :Bool;                                        # with last: a limit ended it
}
struct InspectClose { image @0 :Types.Uuid; session @1 :UInt64; }

struct PinImage { project @0 :Text; image @1 :Types.Uuid; operation @2 :Types.Uuid; }  # -> ImageRow
struct ImageIdle { image @0 :Types.Uuid; received @1 :UInt64; }
# image -> directory: nothing holds it; true if the directory has sent it no more than `received`.
struct UnpinImage { image @0 :Types.Uuid; operation @1 :Types.Uuid; }

# -- operations ----------------------------------------------------------------------------------

struct StartOperation {
  # Accept new work: answered when its record is durable, before anything runs.
  project @0 :Text;
  request :union {
    instance @1 :Types.RunRequest;                           # image resolved, files resolved
    import @2 :Types.ImportRequest;
  }
  key @3 :RequestKey;                                        # conflict: an operation was started with it
}                                                            # -> OperationRecord; busy
struct CancelOperation { project @0 :Text; id @1 :Types.Uuid; }      # -> OperationRecord; not_found, conflict
struct FlushOperation { id @0 :Types.Uuid; }
# Everything seen so far is in the event log when this is answered -> Done (also when it is not live).

struct OperationStarted { slotWaitUs @0 :UInt64; }           # work -> operation: a slot was granted
struct OperationExecuting { init @0 :Events.Event.Init; spawn @1 :Events.Event.Spawn; }
# work -> operation: the process runs
struct OperationOutcome {
  # The end of the work, told once by the instance or import actor to its operation.
  union {
    success @0 :Void;
    error @1 :Text;                                          # the operation FAILED
  }
  result @2 :Types.RunResult;
  hasResult @3 :Bool;
  image @4 :Records.ImageRecord;                             # sealed and durable, not yet committed
  hasImage @5 :Bool;
  phases @6 :Types.Phases;
  existingImage @7 :Types.Uuid;                              # the result is an image that was there before
  index @8 :Records.ImageIndex;                              # of the new image
  taskFault @9 :Bool;                                        # the error is that of what was asked for
}
struct AbortWork { reason @0 :Text; }                        # operation -> work: stop, leave nothing
struct WorkGone {}                                           # work -> operation: nothing of it is left

# -- scheduler -----------------------------------------------------------------------------------

struct AcquireSlot {
  operation @0 :Types.Uuid;
  project @1 :Text;
  kind @2 :Types.OperationKind;
  cpus @3 :UInt32;                                           # what an instance takes of the node; an import takes a place
  memoryMib @4 :UInt32;
  priority @5 :Int32;                                        # -10..10 among those of its project
}
# -> SlotGranted, when it is its turn; cancelled when released before
struct SlotGranted { waitedUs @0 :UInt64; }
struct ReleaseSlot { operation @0 :Types.Uuid; }             # granted or waiting; unknown is fine
struct SlotsReady {
  # The accelerator is chosen: start granting.
  runningMax @0 :UInt32;                                     # VMs at a time
  cpus @1 :UInt32;                                           # what running ones may take together
  memoryMib @2 :UInt64;
}

# -- virtual machines ----------------------------------------------------------------------------

struct StartVm {
  overlay @0 :Types.Uuid;
  operation @1 :Types.Uuid;
  slot @2 :UInt64;                                           # its disk's
  cpus @3 :UInt32;                                           # 0: the default class
  memoryMib @4 :UInt32;
}                                                            # -> VmReady; vm_failed with the last console lines
struct VmReady {
  bootUs @0 :UInt64;
  kernel @1 :Text;
  machine @2 :Text;
  accelerator @3 :Text;
  start @4 :Types.VmStart;
  nextRun @5 :UInt64;                                        # the number that its next run has to have
}
struct StopVm {
  # graceful: QMP quit, so that QEMU closes the disk; killed after a deadline. Else SIGKILL at once.
  graceful @0 :Bool;
}                                                            # -> VmStopped, when the process is gone
struct VmStopped { killed @0 :Bool; }
struct VmFailed { text @0 :Text; }                           # vm -> its owner: it died or broke the protocol
struct GuestWritable {}                                      # machine -> vm: the channel's queue has room again

# -- helper processes ----------------------------------------------------------------------------

struct ChildExited {
  # A helper process and all that it started are gone.
  code @0 :Int32;
  signal @1 :Int32;
  output @2 :Data;                                           # the end of what it wrote
}

# -- trimming of event logs ----------------------------------------------------------------------

struct TrimEvents {
  # Gives up logs of ended operations, those that ended first before the others.
  endedBeforeUnixNs @0 :Int64 = -0x8000000000000000;         # those that ended before
  logsKeptMax @1 :UInt64 = 0xffffffffffffffff;               # and those beyond so many
  rowsMax @2 :UInt32;                                        # of the catalog, in this transaction
}                                                            # -> EventsTrimmed
struct EventsTrimmed {
  rows @0 :UInt32;                                           # changed or erased
  logs @1 :UInt32;                                           # that are wholly gone now
  more @2 :Bool;                                             # ask again
}

struct OverlayDiscarded {
  # What its disk had refused to the guest: often the reason why the run ended.
  trouble @0 :Text;                                          # the first refusal; empty: none
  beyondLimit @1 :Bool;                                      # it was the limit of the layer
}

# -- deleting images -----------------------------------------------------------------------------

struct DeleteImage {
  project @0 :Text;
  image @1 :Types.Uuid;
  withTags @2 :Bool;                                         # else conflict while it has one
}                                                            # -> ImageDeleted from the catalog, Done from images
struct ImageDeleted {
  gone @0 :List(Types.Uuid);                                 # images whose files nothing needs any more, children first
  dead @1 :List(Types.Uuid);                                 # deleted images whose files stay, of which less may be seen now
}

# -- places in the queue -------------------------------------------------------------------------

struct GetQueuePlace { operation @0 :Types.Uuid; }           # -> QueuePlace
struct QueuePlace {
  waiting @0 :Bool;                                          # false: it has a slot, or is not known
  position @1 :UInt32;                                       # 1: next
  waitedUs @2 :UInt64;
}

# -- disk slots and machines that are made before they are needed --------------------------------

struct OpenDiskSlot {}                                       # a disk with nothing behind it yet -> DiskSlot
struct DiskSlot { slot @0 :UInt64; }
struct CloseDiskSlot { slot @0 :UInt64; }                    # unknown is fine

struct VmOrderDone { error @0 :Text; }                       # machine -> vm: paused or resumed; empty: it is
struct PauseVm {}                                            # its processors stand still until StartVm -> Done
struct AdoptVm {}                                            # with the actor that owns it from now on -> Done
struct TakeVm {
  # A machine for a run on this image, one that waits if there is one.
  operation @0 :Types.Uuid;
  image @1 :Types.Uuid;
  cpus @2 :UInt32;                                           # 0: the default class
  memoryMib @3 :UInt32;
}                                                            # -> VmTaken
struct VmTaken {                                             # with the machine, which the asker owns
  warm @0 :Bool;                                             # it waits; else StartVm boots or restores it
  slot @1 :UInt64;                                           # of its disk: for the asker to close
}

# -- the tree of images --------------------------------------------------------------------------

struct WalkTree {
  project @0 :Text;
  image @1 :Types.Uuid;
  upwards @2 :Bool;                                          # to what it came from; else to what came of it
  distanceMax @3 :UInt32;                                    # in images that were not deleted
  limit @4 :UInt32;
  offset @5 :UInt64;
}                                                            # -> ImageTree
struct ImageTree {
  nodes @0 :List(Node);                                      # the nearest first
  truncated @1 :Bool;                                        # there is more

  struct Node {
    row @0 :ImageRow;
    parent @1 :Types.Uuid;                                   # the nearest above it that was not deleted
    distance @2 :UInt32;
  }
}

# -- requests that are not carried out twice -----------------------------------------------------

struct FindRequest { project @0 :Text; key @1 :RequestKey; } # -> FoundRequest; not_found, or longer ago than is remembered
struct FoundRequest {
  same @0 :Bool;                                             # it was the same request
  operation @1 :Records.OperationRecord;                     # that it started; absent: it started none
}
# -- inspect sessions between image and reader ---------------------------------------------------

struct InspectEnded { session @0 :UInt64; }                  # reader -> image: it is free for another one
struct InspectTrim { place @0 :UInt64; }                     # shelf -> image: give up the reader that waits there
# -- following an event log ----------------------------------------------------------------------

struct WatchOperation { id @0 :Types.Uuid; haveEvents @1 :UInt64; }
# -> OperationProgress: when more events than that are durable, or its end is, or after a while
struct OperationProgress {
  eventCount @0 :UInt64;                                     # durable ones; 0 when it is not live
  live @1 :Bool;                                             # false: the catalog has all there is
}
# -- processes of a running operation ------------------------------------------------------------

struct ProcessOrder {
  # From a client to the run of an operation, through its operation.
  project @0 :Text;
  operation @1 :Types.Uuid;
  spid @2 :UInt32;                                           # not said with exec
  union {
    exec @3 :Exec;                                           # answered when it runs
    signal @4 :Int32;                                        # answered when the guest has been told
    stdin @5 :Stdin;                                         # answered when it is accepted
  }
  struct Exec {
    process @0 :Types.ProcessSpec;
    stdin @1 :Data;
    stdinClose @2 :Bool;
  }
  struct Stdin {
    data @0 :Data;
    close @1 :Bool;                                          # end of input follows the data
  }
}                                                            # -> ProcessAnswer; not_found, conflict, too_early, busy
struct ProcessAnswer { spid @0 :UInt32; }

struct ProcessReport {
  # work -> operation: what is to be in the event log of a process; output comes as FromGuest.
  spid @0 :UInt32;
  union {
    spawn @1 :Events.Event.Spawn;                            # of those from 2 on
    stdin @2 :Events.Event.Stdin;
    exit @3 :Types.RunResult;                                # of those from 2 on
  }
}
