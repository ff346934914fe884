@0xc47d90b3e2f61a55;
# Reading an image without a VM: a worker process parses the hostile file system and speaks these
# frames (framed like the guest channel) on a socket pair. One session reads one path.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("coppice::proto");

enum InspectVerb {
  list @0;                    # a directory's entries
  download @1;                # a regular file's bytes
  stat @2;                    # a regular file's size only (HEAD)
}

struct FileEntry {
  name @0 :Text;
  sizeBytes @1 :UInt64;
  uid @2 :UInt32;
  gid @3 :UInt32;
  mode @4 :UInt32;            # st_mode
  mtimeUnixS @5 :Int64;
  linkCount @6 :UInt32;
  symlinkTarget @7 :Text;
  owner @8 :Text;             # from the image's /etc/passwd; empty where unknown
  group @9 :Text;
}

struct InspectWork {
  # To the worker: sent once.
  verb @0 :InspectVerb;
  path @1 :Text;
}

struct InspectAnswer {
  # From the worker: one opened (or failed), then chunks on demand: a chunk for each InspectMore.
  union {
    opened @0 :UInt64;        # bytes of the file; 0 for a directory
    entries @1 :List(FileEntry);
    data @2 :Data;
    end @3 :Void;
    failed @4 :Failed;
  }
  struct Failed {
    reason @0 :Reason;
    text @1 :Text;
  }
  enum Reason {
    notFound @0;
    wrongType @1;
    damaged @2;               # the file system contradicts itself or the store could not be read
  }
}

struct InspectMore {}
