#pragma once

#include "gateway/http/json_text.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/messages.capnp.h"
#include "protocol/operation_status.hpp"
#include "protocol/records.capnp.h"
#include "protocol/uuid.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

/// What the catalog knows, in the shapes of the API. Each writes one value.
namespace coppice::gateway {

std::string_view to_text(proto::OperationKind kind);
std::optional<proto::OperationStatus> parse_status(std::string_view text);
std::optional<proto::OperationKind> parse_kind(std::string_view text);

/// 64 lower-case digits.
std::string hex(capnp::Data::Reader digest);
/// 32 bytes; nothing for anything but 64 digits.
std::optional<std::string> parse_sha256(std::string_view text);

inline std::string_view view(capnp::Text::Reader text) {
  return {text.begin(), text.size()};
}

inline std::string_view view(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

void write_image(json_writer& json, proto::ImageRow::Reader row);
/// The members of an Image, without the braces.
void write_image_members(json_writer& json, proto::ImageRow::Reader row);

/// The same and what it takes: ours, so it is not in rows that clients of others may read strictly.
void write_image_details(json_writer& json, proto::ImageRow::Reader row);
void write_file(json_writer& json, proto::FileRecord::Reader file);
/// `{"uuid","sha256","size"}`, the answer to an upload.
void write_upload(json_writer& json, proto::FileRecord::Reader file);
void write_file_entry(json_writer& json, proto::FileEntry::Reader entry);

/// The members of a summary, without the braces: the full operation adds more.
void write_summary_members(json_writer& json, proto::OperationRecord::Reader record);

/// Writes a value that is too large to be held: the writer has just written its key.
using large_value = std::function<void()>;

/// The members of an effective run request, without the braces.
void write_run_members(json_writer& json, proto::RunRequest::Reader request,
                       const large_value& stdin_value);
/// Whether standard input is echoed as base64.
bool echoes_base64(proto::RunRequest::Reader request);

/// An import request as metadata; the password is never shown.
void write_import(json_writer& json, proto::ImportRequest::Reader request);

/// How a process runs or ended: the `state` of an InstanceResult.
void write_state(json_writer& json, proto::RunResult::Reader result);

/// One output stream of an InstanceResult.
struct stream_text {
  bool is_plain = true;
  bool is_truncated = false;
  large_value value;
};
void write_result(json_writer& json, proto::RunResult::Reader result, const stream_text& out,
                  const stream_text& err);

} // namespace coppice::gateway
