@0xe6b21f7d3c58a033;
# The event log of an operation: what happened, in order. Ids start at 0 and have no gaps.

using Cxx = import "/capnp/c++.capnp";
using Types = import "types.capnp";
$Cxx.namespace("coppice::proto");

struct Event {
  id @0 :UInt64;
  atUnixNs @1 :Int64;
  spid @2 :UInt32;            # 0 the sandbox itself, 1 the main process, from 2 on subprocesses
  union {
    init @3 :Init;
    spawn @4 :Spawn;
    stdout @5 :Data;
    stderr @6 :Data;
    exit @7 :Types.RunResult;
    truncated @8 :Truncated;
    shutdown @9 :Shutdown;
    completion @10 :Completion;
    stdin @11 :Stdin;
    sizeCap @12 :SizeCap;
  }

  struct Init {
    startedAtUnixNs @0 :Int64;
    hostname @1 :Text;
    kernel @2 :Text;
    machine @3 :Text;
    initPid @4 :UInt32;
  }
  struct Spawn {
    pid @0 :UInt32;
    command @1 :Text;         # as executed: /bin/sh for a shell run
    args @2 :List(Text);
    cwd @3 :Text;
    uid @4 :UInt32;
    gid @5 :UInt32;
    shell @6 :Bool;
    timeoutSeconds @7 :UInt32;
    truncateAtBytes @8 :UInt64;
  }
  struct Stdin {
    # What a process was given to read, in pieces as it was given.
    data @0 :Data;
    truncated @1 :Bool;         # more was given with it, or after it, than is recorded
  }
  struct Truncated {
    isStderr @0 :Bool;
    keptBytes @1 :UInt64;
    droppedBytes @2 :UInt64;
  }
  struct Shutdown {
    stoppedAtUnixNs @0 :Int64;
    reason @1 :Text;
  }
  struct Completion {
    status @0 :Types.OperationStatus;
    durationUs @1 :UInt64;
    resultImage @2 :Types.Uuid;
    error @3 :Text;
    imageSizeBytes @4 :UInt64;
  }
  struct SizeCap {
    # The log is full: output from here on is counted and dropped.
    limitBytes @0 :UInt64;
    loggedBytes @1 :UInt64;
  }
}
