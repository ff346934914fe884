#pragma once

#include "protocol/result.hpp"
#include "storage/catalog.hpp"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

/// Making bearer tokens.
///
/// A token is 256 random bits as text; the catalog keeps only its SHA-256, so a copy of the state
/// folder gives nobody access, and a lost token cannot be shown again.
namespace coppice::cli {

struct token_request {
  std::string project = "default";
  std::chrono::seconds expires_in{0};   ///< 0: never
  std::vector<std::string> permissions; ///< names as in whoami; empty: all
};

/// The names that `permissions` may contain.
const std::vector<std::string>& permission_names();

/// The text of the new token, after its record is durable.
result<std::string> create_token(storage::catalog& catalog, const token_request& request);

/// What the catalog looks a token up by.
storage::catalog::sha256 token_digest(std::string_view text);

} // namespace coppice::cli
