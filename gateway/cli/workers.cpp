#include "gateway/cli/command.hpp"
#include "gateway/cli/confine.hpp"
#include "protocol/frame.hpp"
#include "protocol/worker.capnp.h"
#include "storage/disk/nbd_client.hpp"
#include "storage/frame_stream.hpp"
#include "storage/importer.hpp"
#include "storage/inspector.hpp"

#include <CLI/CLI.hpp>

#include <fcntl.h>

#include <exception>
#include <filesystem>
#include <memory>
#include <string>

// Processes that parse hostile bytes for the daemon. They get their orders on the command line and
// on descriptor 3, answer there, and hold no secret of the daemon: the worst that a hostile image
// can take over is a process with few rights that is about to end.

namespace coppice::cli {
namespace {

constexpr int answer_descriptor = 3;
constexpr int disk_descriptor = 4;  ///< of the image to inspect, served
constexpr int newer_descriptor = 5; ///< of the one that it is compared with, if any

struct import_work {
  std::string layout;
  std::string out;
  std::uint64_t content_bytes_max = 0;
};

frame<proto::ImportAnswer> answer_of(const result<storage::imported>& done) {
  return make_frame<proto::ImportAnswer>([&](proto::ImportAnswer::Builder root) {
    if (!done) {
      root.setFailed(done.error().text);
      return;
    }
    auto imported = root.initImported();
    auto config = done->config.view();
    imported.setConfig(*config);
    imported.setSourceDigest(done->source_digest);
    imported.setEntries(done->entries);
  });
}

result<storage::imported> import_within_limits(const import_work& work) {
  worker_limits limits;
  limits.address_space_bytes = 4ull << 30;
  // The file is sparse and as large as the disk, with room for the tables of its format.
  limits.file_bytes = limits::disk_bytes + (limits::disk_bytes >> 4u);
  if (auto limited = limit_worker(limits); !limited) {
    return limited.error();
  }
  storage::import_limits import;
  import.content_bytes_max = work.content_bytes_max;
  try {
    return storage::import_oci_layout(work.layout, work.out, import);
  } catch (const std::bad_alloc&) {
    return failure{std::make_error_code(std::errc::not_enough_memory),
                   "the image needs more memory than an import may use"};
  }
}

int import_worker(const import_work& work) {
  auto done = import_within_limits(work);
  if (auto sent = storage::write_frame(answer_descriptor, answer_of(done)); !sent) {
    return failed(sent.error().text);
  }
  return done ? 0 : 1;
}

int inspect_worker() {
  auto source = storage::nbd_client::connect(disk_descriptor);
  if (!source) {
    return failed(source.error().text);
  }
  std::unique_ptr<storage::block_source> newer;
  if (::fcntl(newer_descriptor, F_GETFD) >= 0) {
    auto connected = storage::nbd_client::connect(newer_descriptor);
    if (!connected) {
      return failed(connected.error().text);
    }
    newer = std::move(*connected);
  }
  worker_limits limits;
  limits.cpu_seconds = 24 * 3600; // a download may be long and slow; idle ones are ended outside
  if (auto limited = limit_worker(limits); !limited) {
    return failed(limited.error().text);
  }
  if (auto dropped = drop_rights(); !dropped) {
    return failed(dropped.error().text);
  }
  auto served = storage::serve_inspect(answer_descriptor, std::move(*source), std::move(newer));
  return served ? 0 : failed(served.error().text);
}

} // namespace

void add_workers(CLI::App& app, int& status) {
  // clang-format takes a line that begins with `import` for a module's.
  auto* import_command = app.add_subcommand("import-worker", "Internal")->group("");
  auto work = std::make_shared<import_work>();
  import_command->add_option("--layout", work->layout)->required();
  import_command->add_option("--out", work->out)->required();
  import_command->add_option("--content-bytes-max", work->content_bytes_max)->required();
  import_command->callback([work, &status]() { status = import_worker(*work); });

  auto* inspect_command = app.add_subcommand("inspect-worker", "Internal")->group("");
  inspect_command->callback([&status]() { status = inspect_worker(); });
}

} // namespace coppice::cli
