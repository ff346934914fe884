@0xf3254fe18c3567bf;
# What a worker process of an import tells the daemon: one frame on the descriptor it was given
# (framed like the guest channel). The worker parsed a hostile archive: any field may lie.

using Cxx = import "/capnp/c++.capnp";
using Types = import "types.capnp";
$Cxx.namespace("coppice::proto");

struct ImportAnswer {
  union {
    imported @0 :Imported;
    failed @1 :Text;            # what is wrong with the image, or what the store could not do
  }

  struct Imported {
    config @0 :Types.ImageConfig;
    sourceDigest @1 :Text;      # sha256:… of the manifest
    entries @2 :UInt64;         # files, folders and links written
  }
}
