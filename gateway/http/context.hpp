#pragma once

#include "gateway/gateway.hpp"
#include "gateway/http/client_address.hpp"
#include "gateway/http/cors.hpp"
#include "gateway/http/file_sender.hpp"
#include "gateway/http/json_fields.hpp"
#include "gateway/http/process_keys.hpp"
#include "gateway/http/tls.hpp"

#include <cstdint>
#include <memory>
#include <utility>

namespace coppice::gateway {

/// Memory for request bodies that must be held whole, shared by all connections: many clients that
/// each send the largest allowed body must not exhaust the server together.
class memory_budget {
public:
  explicit memory_budget(std::uint64_t bytes) : left_bytes_{bytes} {}

  /// A share of the budget, given back at its end.
  class lease {
  public:
    lease() = default;
    explicit lease(memory_budget& budget) : budget_{&budget} {}
    lease(lease&& other) noexcept
        : budget_{std::exchange(other.budget_, nullptr)}, bytes_{std::exchange(other.bytes_, 0)} {}
    lease& operator=(lease&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~lease() {
      if (budget_) {
        budget_->left_bytes_ += bytes_;
      }
    }

    /// False: there is not so much left; the lease stays as it is.
    bool extend(std::uint64_t bytes) {
      if (budget_->left_bytes_ < bytes) {
        return false;
      }
      budget_->left_bytes_ -= bytes;
      bytes_ += bytes;
      return true;
    }

  private:
    memory_budget* budget_ = nullptr;
    std::uint64_t bytes_ = 0;
  };

private:
  std::uint64_t left_bytes_;
};

/// What all connections share. Owner: the server; lives on its thread, but for the services.
struct context {
  explicit context(services given)
      : inside{std::move(given)}, actors{inside.system},
        json_memory{4 *
                    (inside.config.http.json_body_bytes_max + json_values_max * json_value_bytes)},
        trusted_proxies{inside.config.http.trusted_proxies}, cors{inside.config.http.cors_origins} {
  }

  services inside;
  door actors;
  memory_budget json_memory; ///< four of the largest bodies at once, text and values
  file_sender files{inside.config.state_dir / "images"};
  memory_budget gzip_memory{64u << 20}; ///< of replies under way; others go uncompressed
  gateway::process_keys process_keys;
  address_list trusted_proxies;
  cors_policy cors;
  tls_context tls; ///< for new connections; null: plain HTTP
  std::uint64_t requests = 0;
  bool stopping = false; ///< no further requests are taken
};

} // namespace coppice::gateway
