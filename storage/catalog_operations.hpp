#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/operation_status.hpp"
#include "protocol/records.capnp.h"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <optional>

/// Operations and the index over them, kept true together.
///
/// Problem: a request may carry megabytes of standard input; neither a listing nor a change of
/// status may touch them.
///
/// Guarantee: a record is stored as a slim row, which every change rewrites, and its heavy parts,
/// which are written again only when they differ. Together they are the record.
/// Callers have checked names and states; failures are the transaction's.
namespace coppice::storage {

/// Where the rows of a project begin; then newest_first, id. Absent: any.
std::string operation_index_prefix(std::string_view project,
                                   std::optional<proto::OperationStatus> status,
                                   std::optional<proto::OperationKind> kind);

enum class secrets { keep, erase };

/// Creates the record, or replaces `before` (its stored row; empty if there is none).
void write_operation(lmdb::transaction& in, const tables& t,
                     const frame<proto::OperationRecord>& before,
                     proto::OperationRecord::Reader record, std::uint64_t event_count,
                     secrets password);

/// The row with a new number of events.
void write_event_count(lmdb::transaction& in, const tables& t,
                       const frame<proto::OperationRecord>& row, std::uint64_t event_count);

/// The row says from now on that its log is not kept.
void mark_trimmed(lmdb::transaction& in, const tables& t, const frame<proto::OperationRecord>& row);

/// The slim row; empty if there is none.
frame<proto::OperationRecord> load_operation_row(lmdb::transaction& in, const tables& t,
                                                 const uuid& id);

/// The whole record of a row.
frame<proto::OperationRecord> load_whole_operation(lmdb::transaction& in, const tables& t,
                                                   const frame<proto::OperationRecord>& row);

} // namespace coppice::storage
