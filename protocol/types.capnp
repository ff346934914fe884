@0xd1f3a0c5b7e94a11;
# Values that records, actor messages and the guest channel share.
# Schemas evolve by adding fields only: never renumber, never change a type.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("coppice::proto");

struct Uuid {
  # RFC 4122 identifier; `hi` holds the first eight bytes in network order. Both zero = absent.
  hi @0 :UInt64;
  lo @1 :UInt64;
}

struct EnvVar {
  name @0 :Text;
  value @1 :Text;
}

enum OperationKind {
  instance @0;
  imageImport @1;
}

enum OperationStatus {
  # The life cycle of an operation; transitions in actors/operation_state.hpp.
  pending @0;
  assigned @1;
  executing @2;
  success @3;
  failed @4;
  cancelled @5;
}

struct ImageConfig {
  # What an image says about the processes that run from it (OCI image config).
  env @0 :List(EnvVar);
  workingDir @1 :Text;   # empty: "/"
  user @2 :Text;         # "name", "uid", "name:group", "uid:gid"; empty: 0:0. Resolved inside the guest.
}

struct ProcessSpec {
  # One process of a guest.
  command @0 :Text;
  args @1 :List(Text);
  shell @2 :Bool;             # true: /bin/sh -c "<command> <each argument quoted>"
  env @3 :List(EnvVar);       # added over the image's environment
  cwd @4 :Text;               # empty: the image's working directory
  uid @5 :UInt32;
  gid @6 :UInt32;
  hasUid @7 :Bool;            # false: the image's user
  hasGid @8 :Bool;
  truncateOutputAtBytes @9 :UInt64;   # kept of each output stream; the rest is counted and dropped
}

struct FilePlacement {
  # An uploaded file that is placed in the guest before the process starts.
  path @0 :Text;              # absolute path inside the guest
  file @1 :Uuid;
  sha256 @2 :Data;            # 32 bytes: the blob that holds the content
  sizeBytes @3 :UInt64;
  uid @4 :UInt32;
  gid @5 :UInt32;
  mode @6 :UInt32;            # permission bits, masked with 07777
}

struct RunRequest {
  # The effective request of one instance: every default is filled in.
  process @0 :ProcessSpec;
  image @1 :Uuid;             # resolved
  imageReference @2 :Text;    # as the client wrote it
  disposable @3 :Bool;
  hostname @4 :Text;
  preserveEnv @5 :Bool;
  stdin @6 :Data;             # decoded
  stdinIsBase64 @7 :Bool;     # how the client sent it, for the echo
  stdinClose @8 :Bool = true;
  timeoutSeconds @9 :UInt32;
  maxLayerBytes @10 :UInt64;
  files @11 :List(FilePlacement);
  cpus @12 :UInt32;           # of the class of machines that it runs in; 0: the default class
  memoryMib @13 :UInt32;
  priority @14 :Int32;        # -10..10 among those of its project; higher ones start sooner
}

struct ImportRequest {
  url @0 :Text;               # docker://HOST/NAME:TAG as the client wrote it
  username @1 :Text;          # empty: anonymous
  password @2 :Text;          # erased from the record when the operation ends
  tag @3 :Text;               # attached on success; empty: none
  timeoutSeconds @4 :UInt32;
  ociLayout @5 :Text;         # folder of an OCI layout on this node, given by the operator; then url is only for show
  hasCredentials @6 :Bool;
}

struct ResourceUsage {
  # getrusage(2) of the process and all its waited-for children.
  userTimeUs @0 :UInt64;
  systemTimeUs @1 :UInt64;
  maxRssKib @2 :UInt64;
  sharedMemory @3 :UInt64;
  unsharedMemory @4 :UInt64;
  swaps @5 :UInt64;
  minorFaults @6 :UInt64;
  majorFaults @7 :UInt64;
  voluntarySwitches @8 :UInt64;
  involuntarySwitches @9 :UInt64;
  blockInputOps @10 :UInt64;
  blockOutputOps @11 :UInt64;
  messagesSent @12 :UInt64;
  messagesReceived @13 :UInt64;
  signalsReceived @14 :UInt64;
}

struct StreamSummary {
  # What is known of one output stream without reading it; the bytes are in the event log.
  keptBytes @0 :UInt64;
  totalBytes @1 :UInt64;
  plain @2 :Bool = true;      # every kept byte is 32..126, tab, newline or carriage return
}

struct RunResult {
  # How a process ended. While it runs: exitCode -1, signal -1.
  exitCode @0 :Int32 = -1;    # -1 after a signal
  signal @1 :Int32 = -1;      # -1 without one
  pid @2 :UInt32;
  timedOut @3 :Bool;
  coreDump @4 :Bool;
  elapsedUs @5 :UInt64;
  usage @6 :ResourceUsage;
  stdout @7 :StreamSummary;
  stderr @8 :StreamSummary;
  oomKilled @9 :Bool;         # by the guest's kernel, which had no memory left
}

struct Phases {
  # Where the time of one run went, on the host's monotonic clock, in microseconds. 0 = not reached.
  queueUs @0 :UInt64;         # accepted -> slot granted
  overlayUs @1 :UInt64;       # slot granted -> overlay attached
  bootUs @2 :UInt64;          # process started -> agent READY
  mountUs @3 :UInt64;         # order sent -> process started (mount, files)
  execUs @4 :UInt64;          # process started -> ended
  unmountUs @5 :UInt64;       # ended -> disk unmounted and flushed
  closeUs @6 :UInt64;         # of old records; QEMU now ends after the result
  sealUs @7 :UInt64;          # unmounted -> sealed file durable
  commitUs @8 :UInt64;        # sealed -> catalog commit
  vmStart @9 :VmStart;        # how its machine came to be
  totalUs @10 :UInt64;        # accepted -> its end decided
}

enum VmStart {
  none @0;                    # it had none (yet)
  cold @1;                    # its kernel booted
  template @2;                # restored from a template for it
  pool @3;                    # restored beforehand, it waited
}
