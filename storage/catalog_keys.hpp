#pragma once

#include "protocol/uuid.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// The keys of the catalog's tables.
///
/// Problem: LMDB orders entries by the bytes of their keys, and every promise about paging is a
/// promise about that order.
///
/// Guarantee: `project_key` is never a prefix of another project's; `newest_first` sorts later
/// times first over the whole range of a signed 64-bit time; ids sort as their text does.
///
///   tokens             digest                                -> TokenRecord
///   images             id                                    -> ImageRecord
///   image_index        project scope newest_first id tag     -> (a row for each image and tag)
///   tags               project tag                           -> id newest_first
///   image_tags         id tag                                ->
///   sources            project digest NUL newest_first id    ->
///   operations         id                                    -> OperationRecord, a slim row
///   operation_details  id                                    -> OperationRecord, the heavy parts
///   operation_index    project status kind newest_first id   -> (0 stands for any status or kind)
///   unfinished         oldest_first id                       ->
///   events             id number                             -> Event
///   event_logs         oldest_first id                       -> (ended operations with events;
///                                                               the time is that of the end)
///   output_heads       id, 0 or 1 for standard error         -> first bytes of a trimmed log
///   files              project digest                        -> FileRecord
///   file_ids           id                                    -> project digest
///   file_index         project newest_first digest           -> FileRecord, as in files
///   indexes            image                                 -> ImageIndex
///   index_users        checkpoint image                      -> (live images only)
///   image_files        image                                 -> parent (nil: none)
///   image_file_children parent child                         ->
///   dead_image_files   image                                 -> (files without an image)
///   usage              project (no NUL)                      -> ProjectUsage
///   image_users        image operation                       -> (operations that have not ended)
///   blob_users         digest project                        ->
///   request_keys       project digest of the name            -> RequestKeyRecord
///                      project                               -> how many the project has
///   request_key_ages   project oldest_first digest           ->
namespace coppice::storage::keys {

/// 1 to 64 of a-z 0-9 . _ -
bool is_project(std::string_view name);
/// 1 to 256 bytes without NUL; which letters a tag may have is the gateway's rule.
bool is_tag(std::string_view tag);
/// 1 to 128 bytes without NUL.
bool is_source_digest(std::string_view digest);

inline constexpr std::size_t project_bytes_max = 64;
inline constexpr std::size_t tag_bytes_max = 256;
inline constexpr std::size_t source_digest_bytes_max = 128;
inline constexpr std::size_t id_bytes = 16;
inline constexpr std::size_t time_bytes = 8;
inline constexpr std::size_t digest_bytes = 32;

// What LMDB allows as built by Debian (mdb_env_get_maxkeysize).
inline constexpr std::size_t key_bytes_max = 511;
static_assert(project_bytes_max + 2 + time_bytes + id_bytes + tag_bytes_max <= key_bytes_max);
static_assert(project_bytes_max + 2 + source_digest_bytes_max + time_bytes + id_bytes <=
              key_bytes_max);

std::string project_key(std::string_view project);
std::string big_endian(std::uint64_t number);
std::uint64_t number_of(std::string_view big_endian);
std::string newest_first(std::int64_t unix_ns);
std::string oldest_first(std::int64_t unix_ns);
std::int64_t time_of_newest_first(std::string_view key);
std::int64_t time_of_oldest_first(std::string_view key);
std::string of(const uuid& id);
uuid id_of(std::string_view key);

} // namespace coppice::storage::keys
