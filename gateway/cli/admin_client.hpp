#pragma once

#include "protocol/result.hpp"

#include <chrono>
#include <filesystem>
#include <string>

namespace coppice::cli {

/// Requests to the running daemon over its admin socket, which needs no token but the right user.
///
/// Every request has a connection and a deadline of its own; an answer is held whole and therefore
/// limited to 1 MiB.
class admin_client {
public:
  struct answer {
    unsigned status = 0;
    std::string body;
  };

  admin_client(std::filesystem::path socket, std::string project)
      : socket_{std::move(socket)}, project_{std::move(project)} {}

  /// `body` is JSON, or empty for a request without one. The failure says how to start the daemon
  /// when none listens.
  result<answer> request(const std::string& method, const std::string& target,
                         const std::string& body, std::chrono::seconds deadline) const;

private:
  std::filesystem::path socket_;
  std::string project_;
};

} // namespace coppice::cli
