#pragma once

#include "protocol/result.hpp"

#include <boost/asio/ssl/context.hpp>

#include <filesystem>
#include <memory>

namespace coppice::gateway {

using tls_context = std::shared_ptr<boost::asio::ssl::context>;

/// What connections need to speak TLS 1.2 or 1.3, from a certificate chain and its private key in
/// PEM. The failure names the file and what to do.
result<tls_context> load_tls(const std::filesystem::path& certificate,
                             const std::filesystem::path& key);

} // namespace coppice::gateway
