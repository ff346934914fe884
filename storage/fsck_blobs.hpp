#pragma once

#include "storage/catalog.hpp"

#include <filesystem>
#include <optional>
#include <string>

namespace coppice::storage {

/// The name of an upload's file: its digest, 64 hex digits.
std::string blob_file_name(const catalog::sha256& digest);

/// The opposite; nothing for other names.
std::optional<catalog::sha256> digest_of_name(const std::string& name);

/// What is wrong with the file of an upload; nothing: it is as it should be. `scrub`: its digest,
/// too. A failure: it could not look.
result<std::optional<std::string>> check_blob(const std::filesystem::path& file,
                                              const catalog::blob_row& row, bool scrub);

} // namespace coppice::storage
