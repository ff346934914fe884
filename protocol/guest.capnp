@0xa90c6e54f18b7d44;
# The channel between the host and the agent in a guest: a virtio-serial port that carries
# frames both ways, each a little-endian UInt32 with the number of 8-byte words that follow and
# then one flat Cap'n Proto message (limits in protocol/limits.hpp). Everything FromGuest is
# hostile input: any field may lie.

using Cxx = import "/capnp/c++.capnp";
using Types = import "types.capnp";
$Cxx.namespace("coppice::proto");

struct ToGuest {
  run @0 :UInt64;             # number of the run that this belongs to; counts up from 1 in one VM
  union {
    start @1 :Start;          # mount the disk and prepare; exactly one at a time
    fileChunk @2 :FileChunk;  # content of the files announced by start, in order, without gaps
    stdin @3 :StdinChunk;
    signal @4 :Signal;
    poweroff @5 :Void;        # unmount whatever is mounted and power off
    exec @6 :Exec;            # one more process beside the main one, while that runs
  }

  struct Start {
    unixTimeNs @0 :Int64;     # the guest's wall clock is set to this
    entropy @1 :Data;         # 32 bytes: credited to the random pool, which is then reseeded
    hostname @2 :Text;
    process @3 :Types.ProcessSpec;
    config @4 :Types.ImageConfig;
    files @5 :List(Types.FilePlacement);
    timeoutMs @6 :UInt64;     # of the main process, from its start
    newBytesMax @7 :UInt64;   # what may be added to the disk before ENOSPC; 0: as much as fits
    makeDisk @8 :Bool;        # the disk is empty: the agent's own small file system is put there first
    holdDisk @9 :Bool;        # a preparation: the disk is mounted read-only and stays so afterwards, with
                              # what was read of it in memory; the next run makes it writable
  }
  struct FileChunk {
    index @0 :UInt32;         # into Start.files
    data @1 :Data;            # an empty file sends one empty chunk
  }
  struct StdinChunk {
    spid @0 :UInt32;
    data @1 :Data;
    close @2 :Bool;           # end of input follows the data
  }
  struct Signal {
    spid @0 :UInt32;
    number @1 :Int32;
  }
  struct Exec {
    # What it leaves open is as the main process has it. It ends with the main process at the latest.
    spid @0 :UInt32;          # from 2 on, never used before in this run
    process @1 :Types.ProcessSpec;
  }
}

struct FromGuest {
  run @0 :UInt64;             # 0 for ready
  union {
    ready @1 :Ready;          # once, after boot: waiting for orders, no disk touched
    mounted @2 :Void;         # the disk is mounted, files are being placed
    started @3 :Started;      # the process runs
    output @4 :Output;
    exited @5 :Exited;        # the process ended and all its output was sent before this
    finished @6 :Finished;    # the disk is unmounted and flushed, or could not be
    failed @7 :Failed;        # the run could not start; finished follows
    execFailed @8 :ExecFailed;    # instead of started: nothing of that process runs
    stdinTaken @9 :StdinTaken;    # a process has read, or reads no more
  }

  struct Ready {
    agentVersion @0 :Text;
    kernel @1 :Text;
    machine @2 :Text;
  }
  struct Started {
    spid @0 :UInt32;
    pid @1 :UInt32;
    command @2 :Text;         # as executed
    args @3 :List(Text);
    cwd @4 :Text;
    uid @5 :UInt32;
    gid @6 :UInt32;
  }
  struct Output {
    spid @0 :UInt32;
    isStderr @1 :Bool;
    data @2 :Data;            # at most limits.hpp's output_chunk_bytes
  }
  struct Exited {
    spid @0 :UInt32;
    result @1 :Types.RunResult;   # totalBytes of the streams include what was dropped
  }
  struct Finished {
    clean @0 :Bool;           # unmounted, flushed; false: error says why not
    error @1 :Text;
  }
  struct Failed {
    stage @0 :Text;           # mount, files, prepare
    error @1 :Text;
    errorNumber @2 :Int32;    # errno, 0 where there is none
  }
  struct ExecFailed {
    spid @0 :UInt32;
    error @1 :Text;
    errorNumber @2 :Int32;
  }
  struct StdinTaken {
    # Said now and then, not for each read; at the latest when nothing waits any more.
    spid @0 :UInt32;
    totalBytes @1 :UInt64;    # that its pipe has taken since it started
    closed @2 :Bool;          # nobody reads any more: what waited was thrown away
  }
}
