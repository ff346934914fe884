@0xb8a4d5f1c0937e22;
# What the catalog stores. Keys are in storage/catalog.hpp; the project is the first part of every
# key that is listed or looked up by name.

using Cxx = import "/capnp/c++.capnp";
using Types = import "types.capnp";
using Events = import "events.capnp";
$Cxx.namespace("coppice::proto");

struct ImageRecord {
  # One immutable image; its blocks are in images/<id>.qcow2 of the store.
  id @0 :Types.Uuid;
  project @1 :Text;
  parent @2 :Types.Uuid;      # the image it was branched from; absent for an import
  operation @3 :Types.Uuid;   # the operation that made it
  createdAtUnixNs @4 :Int64;
  sizeBytes @5 :UInt64;       # allocated by its own file
  depth @6 :UInt32;           # images below it in the chain
  config @7 :Types.ImageConfig;
  sourceDigest @8 :Text;      # sha256:… of the manifest it was imported from; else empty
  logicalBytes @9 :UInt64;    # what its disk has that is not zeros; 0: made before this was counted
  sharedBytes @10 :UInt64;    # of these, what lies in the files of the images below
}

struct ImageIndex {
  # Where each cluster of an image's disk lies; written with its record.
  checkpoint @0 :Types.Uuid;  # the image whose index it stands on; absent: it is a checkpoint
  extents @1 :Data;           # storage/disk/index_codec.hpp
}

struct OperationRecord {
  id @0 :Types.Uuid;
  project @1 :Text;
  kind @2 :Types.OperationKind;
  status @3 :Types.OperationStatus;
  createdAtUnixNs @4 :Int64;
  endedAtUnixNs @5 :Int64;    # 0 while it is not terminal
  durationUs @6 :UInt64;      # of the work itself, on the monotonic clock
  error @7 :Text;             # filled when FAILED
  request :union {
    instance @8 :Types.RunRequest;
    import @9 :Types.ImportRequest;
  }
  resultImage @10 :Types.Uuid;
  resultTag @11 :Text;
  resultImageSizeBytes @12 :UInt64;
  result @13 :Types.RunResult;
  hasResult @14 :Bool;        # a process was started and its end is known
  phases @15 :Types.Phases;
  eventCount @16 :UInt64;     # events recorded so far
  eventsTrimmed @17 :Bool;    # the event log was given up by policy; what is left of the output:
  stdoutHead @18 :Data;       # the first bytes of it, only in whole records with eventsTrimmed
  stderrHead @19 :Data;
  taskFault @20 :Bool;        # FAILED because of what was asked for: trying again changes nothing
}

struct FileRecord {
  # An uploaded file; its bytes are in blobs/<sha256> of the store.
  id @0 :Types.Uuid;
  project @1 :Text;
  sha256 @2 :Data;            # 32 bytes
  sizeBytes @3 :UInt64;
  createdAtUnixNs @4 :Int64;
  updatedAtUnixNs @5 :Int64;  # the latest upload of the same bytes
}

struct TokenRecord {
  # A bearer token. Only the SHA-256 of its text is stored, as the key.
  id @0 :Types.Uuid;
  project @1 :Text;
  createdAtUnixNs @2 :Int64;
  expiresAtUnixNs @3 :Int64;  # 0: never
  mayImport @4 :Bool = true;
  maySpawn @5 :Bool = true;
  maySpawnDisposable @6 :Bool = true;
  mayList @7 :Bool = true;
  mayCancel @8 :Bool = true;
  maySetImageTag @9 :Bool = true;
  mayDeleteImage @10 :Bool;   # tokens from before there was this right do not have it
}

struct ProjectUsage {
  # What a project takes; kept with every change of its images and files.
  images @0 :UInt64;
  imageBytes @1 :UInt64;      # allocated by their own files when they were sealed
  files @2 :UInt64;
  fileBytes @3 :UInt64;       # a file that another project has too is counted for both
}

struct RequestKeyRecord {
  # A request that a client gave a name, so that it is not carried out twice.
  digest @0 :Data;            # SHA-256 of the request
  operation @1 :Types.Uuid;   # that it started; absent: none
  atUnixNs @2 :Int64;
}
