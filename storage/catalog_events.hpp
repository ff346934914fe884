#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/records.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <cstddef>

/// The event logs of operations, and giving up old ones.
///
/// Problem: logs hold what guests printed and would fill the disk in time; there may be millions,
/// and one may have a quarter of a million events.
///
/// Guarantee: an ended operation with events has a row in event_logs until its whole log is gone. A
/// log is marked in the operation's record before the first of its events goes, in the same
/// transaction: whoever reads a log has all of it, or learns that it is gone. The record, the
/// result and the first bytes of the main process's output stay. Failures are the transaction's.
namespace coppice::storage {

/// Of each stream of a trimmed log. With LMDB's own header it fills one page.
inline constexpr std::size_t output_head_bytes_max = 4080;

/// At most so many rows in one call, whatever was asked for.
inline constexpr std::uint32_t trim_rows_max = 10'000;

/// Events from id `first_id` on.
void write_events(lmdb::transaction& in, const tables& t, const uuid& operation,
                  capnp::List<proto::Event>::Reader events);

/// The row in event_logs, if the operation has ended and has a log.
void insert_log(lmdb::transaction& in, const tables& t, proto::OperationRecord::Reader row);

/// Gives up what is due, up to the number of rows asked for, oldest end first.
frame<proto::EventsTrimmed> trim_logs(lmdb::transaction& in, const tables& t,
                                      proto::TrimEvents::Reader policy);

/// What is kept of a trimmed log's output.
std::string output_head(lmdb::transaction& in, const tables& t, const uuid& operation,
                        bool is_stderr);

} // namespace coppice::storage
