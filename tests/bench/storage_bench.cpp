// The figures of the storage engine that need no virtual machine; tests/bench/storage.sh runs it
// and says what each row means. Every comparison is made in one process and one run, interleaved.
#include "storage/disk/nbd_connection.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/bench/chain.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <random>
#include <span>

namespace coppice::bench {

using namespace storage;

namespace {

constexpr unsigned chain_length = 1000;
constexpr unsigned reads = 2000;
constexpr std::uint64_t own_bytes_max = 8ull << 30;

using cluster = std::vector<std::byte>;

/// Content that tells which image wrote it and where.
cluster written_by(unsigned generation, cluster_number guest) {
  cluster out(cluster_bytes);
  std::mt19937_64 random{std::uint64_t{generation} << 32 | guest};
  for (std::size_t i = 0; i < out.size(); i += 8) {
    auto value = random();
    std::copy_n(reinterpret_cast<const std::byte*>(&value), 8, out.data() + i);
  }
  return out;
}

/// A disk that is attached to a slot, as a guest has it.
class guest_disk {
public:
  explicit guest_disk(workshop& in)
      : in_{in}, slot_{must(in.engine->open_slot())}, client{must(
                                                          nbd_client::connect(slot_.client))} {}
  ~guest_disk() {
    std::promise<void> done;
    in_.engine->discard(overlay, [&](auto) { done.set_value(); });
    done.get_future().wait();
    in_.engine->close_slot(slot_.number);
  }

  void attach(const uuid& parent) {
    in_.attach({slot_.number, overlay, parent, own_bytes_max});
  }

private:
  workshop& in_;
  engine::slot slot_;

public:
  std::unique_ptr<nbd_client> client;
  uuid overlay = uuid::random();
};

struct chain {
  std::vector<uuid> images;                                ///< [0] is the import
  std::vector<std::map<cluster_number, unsigned>> changes; ///< what each image wrote
  std::vector<cluster_number> allocated;                   ///< of the import
  std::uint64_t index_bytes = 0;
  std::uint64_t delta_bytes = 0;
  std::map<std::size_t, std::uint32_t> digests; ///< of the whole disk of some images
};

/// Over every cluster that has data, in order.
std::uint32_t digest_of(workshop& in, const uuid& image) {
  guest_disk disk{in};
  disk.attach(image);
  auto index = must(in.engine->indexes().get(image));
  std::uint32_t all = 0;
  cluster piece(64 * cluster_bytes);
  index->for_each([&](cluster_number guest, const block_index::run& run) {
    for (cluster_number done = 0; done < run.count;) {
      auto count = std::min<cluster_number>(64, run.count - done);
      auto bytes = std::span{piece}.first(count * cluster_bytes);
      must(disk.client->read(std::uint64_t{guest + done} * cluster_bytes, bytes));
      all = all * 31 + qcow2::checksum(bytes) + guest;
      done += count;
    }
  });
  return all;
}

uuid import_base(workshop& in, const std::filesystem::path& raw) {
  auto image = uuid::random();
  must(qcow2::write_from_raw(raw, in.files->overlay_path(image)));
  auto sealed = in.seal_import(image);
  in.record(image, uuid{}, sealed);
  return image;
}

/// What a run that changes a few files changes: the superblock, some tables, three files of two
/// blocks each, two new blocks.
std::map<cluster_number, unsigned> change(guest_disk& disk, const chain& c, unsigned generation,
                                          std::mt19937& random) {
  std::map<cluster_number, unsigned> out;
  cluster superblock(cluster_bytes);
  must(disk.client->read(0, superblock));
  superblock[1024 + 0x30] = static_cast<std::byte>(generation);
  superblock[1024 + 0x31] = static_cast<std::byte>(generation >> 8);
  must(disk.client->write(0, superblock));
  auto put = [&](cluster_number guest) {
    if (guest != 0) {
      must(disk.client->write(std::uint64_t{guest} * cluster_bytes, written_by(generation, guest)));
      out[guest] = generation;
    }
  };
  auto some = [&]() {
    return c.allocated[random() % (c.allocated.size() - 2)];
  };
  for (int file = 0; file < 3; ++file) {
    auto at = some();
    put(at);
    put(at + 1);
  }
  put(c.allocated[1 + random() % 40]);
  put(c.allocated[1 + random() % 40]);
  auto fresh = c.allocated.back() + 1000 + generation * 2;
  put(fresh);
  put(fresh + 1);
  return out;
}

chain make_chain(workshop& in, const uuid& base) {
  chain c;
  c.images.push_back(base);
  c.changes.emplace_back();
  must(in.engine->indexes().get(base))
      ->for_each([&](cluster_number guest, const block_index::run& run) {
        for (cluster_number i = 0; i < run.count; ++i) {
          c.allocated.push_back(guest + i);
        }
      });
  std::mt19937 random{1};
  std::map<uuid, bool> checkpoints;
  for (unsigned generation = 1; generation <= chain_length; ++generation) {
    uuid image;
    {
      guest_disk disk{in};
      disk.attach(c.images.back());
      c.changes.push_back(change(disk, c, generation, random));
      image = disk.overlay;
      auto sealed = in.seal(image);
      in.record(image, c.images.back(), sealed);
      c.index_bytes += sealed.index->encode().size();
      c.delta_bytes += (c.changes.back().size() + 1) * cluster_bytes;
      disk.overlay = uuid::random(); // sealed: not to be discarded
    }
    c.images.push_back(image);
    if (generation % 100 == 50) {
      c.digests[generation] = digest_of(in, image);
    }
  }
  return c;
}

/// Attach and read, the index in memory or not.
double attach_and_read(workshop& in, const uuid& image, std::span<const cluster_number> at,
                       bool drop_index) {
  guest_disk disk{in};
  if (drop_index) {
    in.engine->indexes().clear();
  }
  cluster out(cluster_bytes);
  auto start = clock::now();
  disk.attach(image);
  for (auto guest : at) {
    must(disk.client->read(std::uint64_t{guest} * cluster_bytes, out));
  }
  return us_since(start);
}

double attach_only(workshop& in, const uuid& image, bool drop_index) {
  guest_disk disk{in};
  cluster out(cluster_bytes);
  if (drop_index) {
    in.engine->indexes().clear();
  }
  auto start = clock::now();
  disk.attach(image);
  return us_since(start);
}

double qemu_reads(const std::filesystem::path& image, std::span<const cluster_number> at) {
  auto script = image.parent_path().parent_path() / "reads";
  {
    auto* out = std::fopen(script.c_str(), "w");
    for (auto guest : at) {
      std::fprintf(out, "read %llu 4096\n", static_cast<unsigned long long>(guest) * cluster_bytes);
    }
    std::fclose(out);
  }
  auto line = "qemu-io -r -f qcow2 " + image.string() + " <" + script.string() + " >/dev/null";
  auto start = clock::now();
  if (std::system(line.c_str()) != 0) {
    die("qemu-io failed");
  }
  return us_since(start);
}

void verify(workshop& in, const chain& c) {
  in.engine->indexes().clear();
  std::size_t clusters = 0;
  cluster out(cluster_bytes);
  for (std::size_t i = 1; i < c.images.size(); ++i) {
    guest_disk disk{in};
    disk.attach(c.images[i]);
    for (auto [guest, generation] : c.changes[i]) {
      must(disk.client->read(std::uint64_t{guest} * cluster_bytes, out));
      if (out != written_by(generation, guest)) {
        die("image " + std::to_string(i) + " differs at cluster " + std::to_string(guest));
      }
      ++clusters;
    }
  }
  for (auto [i, digest] : c.digests) {
    if (digest_of(in, c.images[i]) != digest) {
      die("the disk of image " + std::to_string(i) + " is not what it was");
    }
  }
  std::printf(
      "content: %zu changed clusters of %zu images and %zu whole disks are as they were made\n",
      clusters, c.images.size() - 1, c.digests.size());
}

void run_chain(workshop& in, const std::filesystem::path& raw) {
  auto base = import_base(in, raw);
  auto c = make_chain(in, base);
  const auto& first = c.images[1];
  const auto& last = c.images.back();
  std::mt19937 random{2};
  std::vector<cluster_number> at;
  for (unsigned i = 0; i < reads; ++i) {
    at.push_back(c.allocated[random() % c.allocated.size()]);
  }
  attach_and_read(in, first, at, false); // warms the files
  attach_and_read(in, last, at, false);

  samples attach_1, attach_1000, cold_1, cold_1000, create;
  for (int i = 0; i < 300; ++i) {
    attach_1.add(attach_only(in, first, false));
    attach_1000.add(attach_only(in, last, false));
  }
  for (int i = 0; i < 50; ++i) {
    cold_1.add(attach_only(in, first, true));
    cold_1000.add(attach_only(in, last, true));
  }
  for (int i = 0; i < 10; ++i) {
    auto line = "qemu-img create -q -u -f qcow2 -F qcow2 -b " +
                in.files->image_path(last).string() + " " + (in.dir / "created").string() + " 64G";
    auto start = clock::now();
    if (std::system(line.c_str()) != 0) {
      die("qemu-img create failed");
    }
    create.add(us_since(start));
  }
  samples::print_head();
  attach_1.print("attach at depth 1");
  attach_1000.print("attach at depth 1000");
  cold_1.print("attach at depth 1, index not in memory");
  cold_1000.print("attach at depth 1000, index not in memory");
  create.print("qemu-img create -u (for the reader)");
  bar("storage.1a", attach_1.median() / 1000, 0.5, true);
  auto more = attach_1000.median() - attach_1.median();
  bar("storage.1b",
      more <= 50 ? std::min(1.5, attach_1000.median() / attach_1.median())
                 : attach_1000.median() / attach_1.median(),
      1.5, true);

  samples dropped_1, dropped_1000, kept_1, kept_1000, qemu_1, qemu_1000;
  for (int i = 0; i < 31; ++i) {
    dropped_1.add(attach_and_read(in, first, at, true));
    dropped_1000.add(attach_and_read(in, last, at, true));
    kept_1.add(attach_and_read(in, first, at, false));
    kept_1000.add(attach_and_read(in, last, at, false));
  }
  qemu_1.add(qemu_reads(in.files->image_path(first), at));
  qemu_1000.add(qemu_reads(in.files->image_path(last), at));
  dropped_1.print("attach + 2000 reads, depth 1, index dropped");
  dropped_1000.print("attach + 2000 reads, depth 1000, index dropped");
  kept_1.print("attach + 2000 reads, depth 1, index in memory");
  kept_1000.print("attach + 2000 reads, depth 1000, index in memory");
  qemu_1.print("qemu-io: open + 2000 reads, depth 1");
  qemu_1000.print("qemu-io: open + 2000 reads, depth 1000");
  bar("storage.2a", dropped_1000.median() / dropped_1.median(), 1.25, true);
  std::printf("index: %llu bytes for %llu bytes of changes in %u images\n",
              static_cast<unsigned long long>(c.index_bytes),
              static_cast<unsigned long long>(c.delta_bytes), chain_length);
  bar("storage.2b", static_cast<double>(c.index_bytes) / static_cast<double>(c.delta_bytes), 0.25,
      true);
  verify(in, c);
}

/// The least that makes these bytes durable under a name, and a record of them.
double bare_minimum(const std::filesystem::path& dir, catalog& records, std::uint64_t bytes,
                    unsigned number) {
  std::vector<std::byte> data(bytes, static_cast<std::byte>(number));
  auto from = dir / ("bare-" + std::to_string(number));
  auto to = dir / ("named-" + std::to_string(number));
  auto start = clock::now();
  {
    auto made = must(file::open(from, O_RDWR | O_CREAT | O_EXCL, 0400));
    must(made.write_at(0, data));
    if (::fdatasync(made.fd()) != 0) {
      die("fdatasync");
    }
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    die("rename");
  }
  must(sync_directory(dir));
  auto in = must(records.begin());
  auto record = make_frame<proto::ImageRecord>([&](auto r) {
    uuid::random().to(r.initId());
    r.setProject("bench");
  });
  auto view = record.view();
  must(in.put_image(*view));
  must(in.commit());
  return us_since(start);
}

void run_seal(workshop& in, const std::filesystem::path& raw) {
  auto base = import_base(in, raw);
  chain c;
  c.images.push_back(base);
  must(in.engine->indexes().get(base))
      ->for_each([&](cluster_number guest, const block_index::run& run) {
        for (cluster_number i = 0; i < run.count; ++i) {
          c.allocated.push_back(guest + i);
        }
      });
  auto bare_dir = in.dir / "bare";
  std::filesystem::create_directories(bare_dir);
  auto bare_catalog = must(catalog::open(in.dir / "bare-catalog"));
  std::mt19937 random{3};
  samples seals, bare;
  for (unsigned i = 1; i <= 150; ++i) {
    guest_disk disk{in};
    disk.attach(base);
    change(disk, c, i, random);
    auto start = clock::now();
    auto sealed = in.seal(disk.overlay);
    in.record(disk.overlay, base, sealed);
    seals.add(us_since(start));
    disk.overlay = uuid::random();
    bare.add(bare_minimum(bare_dir, *bare_catalog, sealed.own_bytes, i));
  }
  samples::print_head();
  seals.print("seal and commit");
  bare.print("the same bytes: write, sync, rename, sync, commit");
  bar("storage.5a", seals.median() / bare.median(), 2, true);
}

/// Serves one overlay over an import of `raw` to those who connect to the socket, one after
/// another: what one wrote the next one finds.
void run_serve(workshop& in, const std::filesystem::path& raw, const std::string& path) {
  auto base = import_base(in, raw);
  auto index = must(in.engine->indexes().get(base));
  auto listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener, 4) != 0) {
    die("cannot listen on " + path);
  }
  std::printf("%s\n", in.files->image_path(base).c_str());
  std::fflush(stdout);
  auto io = make_uring();
  auto images = in.dir / "images";
  sealed_files files{*io, images, 16};
  overlay disk{
      *io, files, index,
      overlay::place{uuid::random(), images / "served", limits::disk_bytes, own_bytes_max}};
  for (;;) {
    auto socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) {
      return;
    }
    bool is_closed = false;
    nbd_connection::settings chosen;
    chosen.disk_bytes = limits::disk_bytes;
    nbd_connection client{*io, socket, chosen, &disk, [&](const std::string&) {
                            is_closed = true;
                          }};
    while (!is_closed) {
      io->turn();
    }
  }
}

} // namespace

} // namespace coppice::bench

int main(int argc, char** argv) {
  using namespace coppice::bench;
  if (argc < 4) {
    die("usage: storage_bench chain|seal|serve STATE_DIR RAW [SOCKET]");
  }
  const std::string what = argv[1];
  workshop in{argv[2]};
  if (what == "chain") {
    run_chain(in, argv[3]);
  } else if (what == "seal") {
    run_seal(in, argv[3]);
  } else if (what == "serve" && argc == 5) {
    run_serve(in, argv[3], argv[4]);
  } else {
    die("no such benchmark: " + what);
  }
}
