#include "actors/import.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/frame_stream.hpp"

#include <caf/send.hpp>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

namespace coppice {

namespace {

namespace fs = std::filesystem;

constexpr int worker_answer = 3;                ///< descriptor number on which the worker answers
constexpr off_t worker_answer_bytes = 64 << 10; ///< more than any answer but a huge environment

proto::ImportRequest::Reader request_of(proto::OperationRecord::Reader record) {
  return record.getRequest().getImport();
}

/// What skopeo and the worker get: enough to find programs, nothing of ours.
std::vector<std::string> child_environment(const fs::path& scratch) {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          "HOME=" + scratch.string(), "TMPDIR=" + scratch.string(), "LANG=C.UTF-8"};
}

std::string base64(std::string_view text) {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    unsigned group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k > text.size() ? '=' : digits[(group >> (18 - 6 * k)) & 63];
    }
  }
  return out;
}

} // namespace

fs::path import_state::layout() const {
  auto view = record_.view();
  auto given = request_of(*view).getOciLayout();
  return given.size() > 0 ? fs::path{given.cStr()} : scratch() / "layout";
}

// -- the way
// ---------------------------------------------------------------------------------------

void import_state::queue() {
  auto view = record_.view();
  self_
      ->request(parts_->scheduler, caf::infinite, make_frame<proto::AcquireSlot>([&](auto r) {
                  id_.to(r.initOperation());
                  r.setProject(view->getProject());
                  r.setKind(proto::OperationKind::IMAGE_IMPORT);
                }))
      .then(
          [this](const frame<proto::SlotGranted>& granted) {
            if (at(import_stage::queued)) {
              self_->send(operation_, make_frame<proto::OperationStarted>([&](auto r) {
                            r.setSlotWaitUs(granted.view()->getWaitedUs());
                          }));
              prepare();
            }
          },
          [this](const caf::error& e) {
            if (at(import_stage::queued)) {
              fail(text_of(e));
            }
          });
}

void import_state::prepare() {
  std::error_code error;
  fs::create_directories(scratch(), error);
  if (error) {
    fail("making " + scratch().string() + ": " + error.message());
    return;
  }
  auto view = record_.view();
  auto request = request_of(*view);
  self_->delayed_send(self_, std::chrono::seconds{request.getTimeoutSeconds()},
                      make_frame<proto::Tick>());
  if (request.getOciLayout().size() > 0) {
    build();
  } else {
    fetch();
  }
}

result<void> import_state::write_credentials(const fs::path& file) const {
  auto view = record_.view();
  auto request = request_of(*view);
  auto reference = parse_registry_reference(request.getUrl().cStr());
  boost::json::object auths;
  if (request.getUsername().size() > 0 && reference) {
    auto login = std::string{request.getUsername().cStr()} + ":" + request.getPassword().cStr();
    auths[reference->host] = boost::json::object{{"auth", base64(login)}};
  }
  auto text = boost::json::serialize(boost::json::object{{"auths", auths}});
  auto fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    return storage::io_failure(errno, "making " + file.string());
  }
  auto written = ::write(fd, text.data(), text.size());
  auto reason = errno;
  ::close(fd);
  if (written != static_cast<ssize_t>(text.size())) {
    return storage::io_failure(written < 0 ? reason : ENOSPC, "writing " + file.string());
  }
  return {};
}

void import_state::fetch() {
  stage_ = import_stage::fetching;
  auto view = record_.view();
  auto request = request_of(*view);
  auto reference = parse_registry_reference(request.getUrl().cStr());
  if (!reference) {
    fail_task(std::string{"registry.url is no image reference: "} + request.getUrl().cStr());
    return;
  }
  auto credentials = scratch() / "auth.json";
  if (auto written = write_credentials(credentials); written.has_error()) {
    fail(written.error().text);
    return;
  }
  const auto& insecure = parts_->insecure_registries;
  auto plain_http = std::find(insecure.begin(), insecure.end(), reference->host) != insecure.end();
  vmm::child_options options;
  options.argv = {parts_->skopeo,
                  "--insecure-policy",
                  "--override-os",
                  "linux",
                  "--override-arch",
                  "amd64",
                  "--tmpdir",
                  scratch().string(),
                  "copy",
                  "--quiet",
                  "--src-authfile",
                  credentials.string(),
                  plain_http ? "--src-tls-verify=false" : "--src-tls-verify=true",
                  reference->skopeo(),
                  "oci:" + layout().string() + ":image"};
  options.environment = child_environment(scratch());
  options.kind = vmm::child_kind::skopeo;
  options.folders = {{scratch().string(), vmm::placement::scratch}};
  options.file_bytes = parts_->content_bytes_max;
  run_child(std::move(options));
}

void import_state::build() {
  stage_ = import_stage::building;
  auto answer_path = scratch() / "answer";
  auto fd = ::open(answer_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) {
    fail("making " + answer_path.string() + ": " + std::strerror(errno));
    return;
  }
  // A worker that fills the disk must still find room to say so.
  if (::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, worker_answer_bytes) != 0 && errno != EOPNOTSUPP) {
    fail("making " + answer_path.string() + ": " + std::strerror(errno));
    ::close(fd);
    return;
  }
  vmm::child_options options;
  options.argv = {parts_->program,
                  "import-worker",
                  "--layout",
                  layout().string(),
                  "--out",
                  made().string(),
                  "--content-bytes-max",
                  std::to_string(parts_->content_bytes_max)};
  options.descriptors = {{fd, worker_answer}};
  options.environment = child_environment(scratch());
  options.kind = vmm::child_kind::import_worker;
  options.folders = {{scratch().string(), vmm::placement::scratch}};
  if (layout().parent_path() != scratch()) {
    options.folders.push_back({layout().string(), vmm::placement::layout});
  }
  // The file is sparse and as large as the disk, with room for the tables of its format.
  options.file_bytes = limits::disk_bytes + (limits::disk_bytes >> 4u);
  run_child(std::move(options));
  ::close(fd);
}

void import_state::run_child(vmm::child_options options) {
  auto weak = caf::actor_cast<caf::actor_addr>(self_);
  auto program = options.argv.front();
  auto started = vmm::child_process::start(
      *parts_->loop, std::move(options), [weak](const vmm::child_exit& end) {
        if (auto alive = caf::actor_cast<work_actor>(weak)) {
          caf::anon_send(alive, make_frame<proto::ChildExited>([&](auto root) {
                           root.setCode(end.code);
                           root.setSignal(end.signal);
                           root.setOutput({reinterpret_cast<const capnp::byte*>(end.output.data()),
                                           end.output.size()});
                         }));
        }
      });
  if (started.has_error()) {
    fail("starting " + program + ": " + started.error().text);
    return;
  }
  child_ = std::move(*started);
}

void import_state::child_exited(const frame<proto::ChildExited>& message) {
  child_ = nullptr;
  if (at(import_stage::leaving)) {
    discard();
    return;
  }
  auto view = message.view();
  auto output = view->getOutput();
  std::string_view text{reinterpret_cast<const char*>(output.begin()), output.size()};
  if (at(import_stage::fetching)) {
    if (view->getCode() != 0) {
      fail_task("the image could not be fetched: " + registry_words(text));
    } else {
      build();
    }
  } else if (at(import_stage::building)) {
    if (view->getSignal() >= 0) {
      fail("the worker that builds the file system was killed by signal " +
           std::to_string(view->getSignal()));
    } else {
      built();
    }
  }
}

void import_state::built() {
  auto fd = ::open((scratch() / "answer").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    fail(std::string{"the worker's answer cannot be read: "} + std::strerror(errno));
    return;
  }
  auto bytes = storage::read_frame(fd);
  ::close(fd);
  std::optional<frame<proto::ImportAnswer>> answer;
  if (bytes && *bytes) {
    answer = checked<proto::ImportAnswer>(**bytes, limits::channel_frame_bytes_max);
  }
  if (!answer) {
    fail("the worker that builds the file system died without an answer");
    return;
  }
  auto view = answer->view();
  if (view->isFailed()) {
    fail_task(std::string{"the image could not be unpacked: "} + view->getFailed().cStr());
    return;
  }
  answer_ = *answer;
  std::error_code error;
  fs::rename(made(), parts_->overlay_path(result_image_), error);
  if (error) {
    fail("taking the worker's file: " + error.message());
    return;
  }
  match();
}

void import_state::match() {
  stage_ = import_stage::matching;
  auto view = record_.view();
  auto answer = answer_.view();
  self_
      ->request(parts_->catalog, caf::infinite, make_frame<proto::FindBySource>([&](auto r) {
                  r.setProject(view->getProject());
                  r.setDigest(answer->getImported().getSourceDigest());
                }))
      .then(
          [this](const frame<proto::ImageRow>& row) {
            if (at(import_stage::matching)) {
              existing_ = uuid::from(row.view()->getImage().getId());
              leave(); // the same image as before: nothing new is kept
            }
          },
          [this](const caf::error& e) {
            if (!at(import_stage::matching)) {
              return;
            }
            if (code_of(e) == ec::not_found) {
              seal();
            } else {
              fail(text_of(e));
            }
          });
}

void import_state::seal() {
  stage_ = import_stage::sealing;
  self_
      ->request(parts_->store, caf::infinite,
                make_frame<proto::SealOverlay>([&](auto r) { result_image_.to(r.initOverlay()); }))
      .then(
          [this](const frame<proto::OverlaySealed>& sealed) {
            if (at(import_stage::sealing)) {
              sealed_ = sealed;
              leave();
            }
          },
          [this](const caf::error& e) {
            if (at(import_stage::sealing)) {
              fail("the file system could not be sealed: " + text_of(e));
            }
          });
}

// -- the end
// ---------------------------------------------------------------------------------------

void import_state::fail(const std::string& text) {
  failure_ = text;
  leave();
}

void import_state::fail_task(const std::string& text) {
  is_task_fault_ = true;
  fail(text);
}

void import_state::leave() {
  if (sealed_ || existing_) {
    auto view = record_.view();
    self_->send(operation_, make_frame<proto::OperationOutcome>([&](auto r) {
                  r.setSuccess();
                  if (existing_) {
                    existing_.to(r.initExistingImage());
                    return;
                  }
                  auto sealed = sealed_->view();
                  auto answer = answer_.view();
                  auto imported = answer->getImported();
                  auto image = r.initImage();
                  r.setHasImage(true);
                  result_image_.to(image.initId());
                  image.setProject(view->getProject());
                  id_.to(image.initOperation());
                  image.setCreatedAtUnixNs(unix_now_ns());
                  image.setSizeBytes(sealed->getSizeBytes());
                  image.setLogicalBytes(sealed->getLogicalBytes());
                  image.setConfig(imported.getConfig());
                  image.setSourceDigest(imported.getSourceDigest());
                  r.setIndex(sealed->getIndex());
                }));
  }
  stage_ = import_stage::leaving;
  if (child_) {
    child_->kill(); // its end comes as ChildExited
  } else {
    discard();
  }
}

void import_state::discard() {
  std::error_code error;
  fs::remove_all(scratch(), error);
  if (error) {
    log::warn("scratch folder stays until the next start", "operation", id_, "error",
              error.message());
  }
  if (sealed_) {
    give_back();
    return;
  }
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::DiscardOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                }))
      .then([this](const frame<proto::OverlayDiscarded>&) { give_back(); },
            [this](const caf::error& e) {
              log::warn("overlay stays until the next start", "operation", id_, "error",
                        text_of(e));
              give_back();
            });
}

void import_state::give_back() {
  if (failure_) { // told last: the space that the import had filled can be used again
    self_->send(operation_, make_frame<proto::OperationOutcome>([&](auto r) {
                  r.setError(*failure_);
                  r.setTaskFault(is_task_fault_);
                }));
  }
  self_->send(parts_->scheduler,
              make_frame<proto::ReleaseSlot>([&](auto r) { id_.to(r.initOperation()); }));
  self_->send(operation_, make_frame<proto::WorkGone>());
  self_->quit();
}

work_actor::behavior_type import_state::make_behavior(std::shared_ptr<const import_parts> parts,
                                                      const operation_actor& operation,
                                                      frame<proto::OperationRecord> record,
                                                      const uuid& result_image) {
  parts_ = std::move(parts);
  operation_ = operation;
  record_ = std::move(record);
  id_ = uuid::from(record_.view()->getId());
  result_image_ = result_image;
  queue();
  return {
      [this](const frame<proto::AbortWork>&) {
        if (!at(import_stage::leaving)) {
          sealed_.reset();
          existing_ = uuid{};
          leave(); // the operation has decided the end itself
        }
      },
      [](const frame<proto::FromGuest>&) {
        return make_frame<proto::Done>(); // an instance's; never sent here
      },
      [](const frame<proto::VmFailed>&) {
        // an instance's; never sent here
      },
      [this](const frame<proto::ChildExited>& m) { child_exited(m); },
      [this](const frame<proto::Tick>&) {
        if (!at(import_stage::leaving) && !at(import_stage::sealing)) {
          auto view = record_.view();
          fail_task("the import did not end within its timeout of " +
                    std::to_string(request_of(*view).getTimeoutSeconds()) + " seconds");
        }
      },
      [](const frame<proto::ProcessOrder>&) -> caf::result<frame<proto::ProcessAnswer>> {
        return make_error(ec::conflict, "an import has no processes");
      },
  };
}

work_actor::behavior_type import(work_actor::stateful_pointer<import_state> self,
                                 std::shared_ptr<const import_parts> parts,
                                 operation_actor operation, frame<proto::OperationRecord> record,
                                 uuid result_image) {
  return self->state.make_behavior(std::move(parts), operation, std::move(record), result_image);
}

} // namespace coppice
