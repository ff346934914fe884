@0xc47d90b3e2f61a55;
# Reading an image without a VM: a worker process parses the hostile file system and speaks these
# frames (framed like the guest channel) on a socket pair, one session after the other.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("coppice::proto");

enum InspectVerb {
  list @0;                    # a directory's entries
  download @1;                # a regular file's bytes
  stat @2;                    # a regular file's size only (HEAD)
  archive @3;                 # a path and all below it, as a tar stream
  grep @4;                    # lines of text files
  diff @5;                    # what the second disk's file system has otherwise than the first's
  textDiff @6;                # the same of one text file, line by line
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
  grep @2 :GrepQuery;
  offset @3 :UInt64;          # download: the first byte
  bytes @4 :UInt64 = 0xffffffffffffffff;  # download: how many, at most what there is
  changed @5 :List(ClusterRun);  # diff: where the disks differ, sorted
  hasChanged @6 :Bool;        # false: nothing is known of that
}

struct ClusterRun { first @0 :UInt32; count @1 :UInt32; }

struct InspectAnswer {
  # From the worker: one opened (or failed), then chunks on demand: a chunk for each InspectMore.
  # After the last one, or instead of asking for it, the next InspectWork may come.
  union {
    opened @0 :UInt64;        # bytes of the file; 0 for a directory
    entries @1 :List(FileEntry);
    data @2 :Data;
    end @3 :Void;
    failed @4 :Failed;
    parts @5 :List(DiskPart);
    matches @6 :List(GrepMatch);
    changes @7 :List(PathChange);
  }
  last @8 :Bool;              # nothing comes after this
  truncated @9 :Bool;         # with last: a limit ended it, not the content
  struct Failed {
    reason @0 :Reason;
    text @1 :Text;
  }
  enum Reason {
    notFound @0;
    wrongType @1;
    damaged @2;               # the file system contradicts itself or the store could not be read
    invalid @3;               # the request cannot be meant
    tooLarge @4;
  }
}

struct InspectMore {
  contentBytesMax @0 :UInt64; # stands for so much content, where that is told by its place
}

struct InspectOrder {
  # What the worker reads: a piece of work, then its pieces.
  union {
    work @0 :InspectWork;
    more @1 :InspectMore;
  }
}

struct DiskPart {
  # A part of a body: bytes first, then what lies on the disk.
  data @0 :Data;
  offset @1 :UInt64;          # on the image's disk
  bytes @2 :UInt64;
  zeros @3 :Bool;             # `bytes` zeros instead
  disk @4 :UInt8;
}

struct FilePart {
  # The same, found in the store's files.
  data @0 :Data;
  fileHi @1 :UInt64;          # the image in whose file it is (types.capnp, Uuid); both zero: zeros
  fileLo @2 :UInt64;
  offset @3 :UInt64;          # in that file
  bytes @4 :UInt64;
}

struct GrepQuery {
  patterns @0 :List(Text);
  paths @1 :List(Text);
  globs @2 :List(Text);
  maxCount @3 :UInt64;        # matching lines of one file; 0: all
  maxTotal @4 :UInt64;        # of all files; 0: the reader's own limit
  caseMode @5 :CaseMode;
  before @6 :UInt32;
  after @7 :UInt32;
  deadlineMs @8 :UInt64;      # of work

  enum CaseMode {
    sensitive @0;
    insensitive @1;
    smart @2;
  }
}

struct GrepMatch {
  path @0 :Data;
  lineNumber @1 :UInt64;      # from 1
  absoluteOffset @2 :UInt64;  # of the line in the file
  line @3 :Data;              # with its end; cut at a limit
  submatches @4 :List(Span);
  isContext @5 :Bool;

  struct Span { start @0 :UInt32; end @1 :UInt32; }
}

struct PathChange {
  path @0 :Data;
  kind @1 :Kind;
  oldSizeBytes @2 :UInt64;
  newSizeBytes @3 :UInt64;
  oldMode @4 :UInt32;         # st_mode; 0: it was not there
  newMode @5 :UInt32;
  content @6 :Bool;           # changed: other content, target or device
  attributes @7 :Bool;        # changed: other mode or owner

  enum Kind {
    added @0;
    removed @1;
    changed @2;
  }
}
