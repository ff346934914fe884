#pragma once

#include "gateway/http/refusal.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

/// Named requests to the processes of runs (Idempotency-Key).
///
/// Problem: what such a request does is durable nowhere. A process ends with its run, at the latest
/// when the daemon ends, and nothing of it could be put into one transaction with its name.
///
/// Guarantee: for a day, or until the daemon ends and all runs with it, a name stands for one
/// request. The same request that comes while the first is under way waits for its answer; one that
/// comes later is answered alike. Where nobody knows whether the first was carried out, the second
/// is refused: it is never carried out twice. What was refused uses up no name.
/// A project has a bounded number of names.
/// Owner: the context; lives on the server's thread.
namespace coppice::gateway {

namespace asio = boost::asio;

inline constexpr std::string_view key_is_taken =
    "this Idempotency-Key was used for another request within a day";

class process_keys {
public:
  using clock = std::chrono::steady_clock;

  static constexpr std::chrono::hours age_max{24};
  static constexpr std::size_t keys_max_default = 65'536; ///< of one project
  /// Longer than any request takes to be answered.
  static constexpr std::chrono::seconds wait_max{120};

  explicit process_keys(std::size_t keys_max = keys_max_default) : keys_max_{keys_max} {}

  /// One request's time to be carried out. The name is free again at the end, unless it was told
  /// otherwise.
  class turn {
  public:
    turn() = default; ///< of a request without a name
    turn(turn&& other) noexcept;
    turn& operator=(turn&&) = delete;
    ~turn();

    /// What the same request was answered earlier: there is nothing to be done.
    const std::optional<std::uint32_t>& earlier() const {
      return earlier_;
    }
    void done(std::uint32_t spid);
    /// It may have been carried out.
    void left_open();

  private:
    friend class process_keys;

    process_keys* owner_ = nullptr;
    std::string project_;
    std::string name_;
    std::optional<std::uint32_t> earlier_;
  };

  /// `name` and `digest` as in request_key, both empty where the client gave none.
  /// 409: the name stands for another request, or for one of which nobody knows whether it was
  /// carried out; 429: the project has too many; 503: the first is still not answered.
  asio::awaitable<answer<turn>> take(std::string project, std::string name, std::string digest,
                                     clock::time_point now);

  /// Whether the name stands for another request than this.
  bool is_for_another(const std::string& project, const std::string& name,
                      const std::string& digest, clock::time_point now) const;

private:
  enum class progress { under_way, done, open };

  struct entry {
    std::string digest;
    std::uint64_t number = 0; ///< later ones have higher numbers
    clock::time_point at;
    progress how_far = progress::under_way;
    std::uint32_t spid = 0;
    std::shared_ptr<asio::steady_timer> end; ///< cancelled when it is no longer under way
  };
  struct names {
    std::map<std::string, entry> known;
    std::map<std::uint64_t, std::string> by_age;
  };

  void forget_old(names& of, clock::time_point now);
  void settle(const std::string& project, const std::string& name, progress how,
              std::uint32_t spid);
  void forget(const std::string& project, const std::string& name);

  std::size_t keys_max_;
  std::uint64_t last_number_ = 0;
  std::map<std::string, names> projects_;
};

} // namespace coppice::gateway
