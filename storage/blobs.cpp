#include "storage/blobs.hpp"

#include "storage/error.hpp"
#include "storage/ring/io.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::string_view digits = "0123456789abcdef";

/// A SHA-256 in the making.
class digester {
public:
  digester() : context_{EVP_MD_CTX_new(), EVP_MD_CTX_free} {
    ok_ = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }

  void update(std::span<const std::byte> data) {
    ok_ = ok_ && EVP_DigestUpdate(context_.get(), data.data(), data.size()) == 1;
  }

  result<blobs::sha256> finish() {
    blobs::sha256 out{};
    unsigned int length = 0;
    ok_ =
        ok_ && EVP_DigestFinal_ex(context_.get(), out.data(), &length) == 1 && length == out.size();
    if (!ok_) {
      return fail(ec::io, "cannot compute a SHA-256: the cryptographic library refuses");
    }
    return out;
  }

private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
  bool ok_ = false;
};

} // namespace

struct blobs::upload {
  upload(std::string where, std::chrono::steady_clock::time_point at)
      : path{std::move(where)}, last_use{at} {}

  std::string path; ///< empty: it has its name
  int fd = -1;
  digester digest;
  std::uint64_t size_bytes = 0;
  std::chrono::steady_clock::time_point last_use;
  bool is_busy = true;      ///< a call is under way, and nobody else may touch it
  bool is_given_up = false; ///< it shall be gone, or is going
};

class blobs::naming {
public:
  naming(blobs& of, const sha256& digest) : of_{of}, digest_{digest} {}
  ~naming() {
    auto mine = of_.namings_.find(digest_);
    if (mine->second.empty()) {
      of_.namings_.erase(mine);
      return;
    }
    auto next = mine->second.front();
    mine->second.erase(mine->second.begin());
    next.resume(); // it holds the name now
  }
  naming(const naming&) = delete;
  naming& operator=(const naming&) = delete;

  bool await_ready() {
    return of_.namings_.try_emplace(digest_).second;
  }
  void await_suspend(std::coroutine_handle<> caller) {
    of_.namings_.at(digest_).push_back(caller);
  }
  void await_resume() const noexcept {
    // nop
  }

private:
  blobs& of_;
  sha256 digest_;
};

blobs::blobs(ring& on, settings chosen)
    : ring_{on}, chosen_{std::move(chosen)}, names_{on, chosen_.blob_dir.string()} {
  // nop
}

blobs::~blobs() {
  for (const auto& [number, left] : uploads_) {
    if (left->fd >= 0) {
      ::close(left->fd); // the file is removed at the next start
    }
  }
}

task<result<std::uint64_t>> blobs::begin() {
  visits::one under_way{visits_};
  if (chosen_.upload_dir.empty()) {
    co_return fail(ec::unsupported, "nothing can be uploaded here");
  }
  auto room = make_room();
  if (!room) {
    co_return room.error();
  }
  const auto number = ++last_number_;
  auto path = (chosen_.upload_dir / std::to_string(number)).string();
  auto placed = uploads_.emplace(number, std::make_unique<upload>(std::move(path), chosen_.now()));
  auto& made = *placed.first->second;
  if (*room) {
    co_await remove(**room);
  }
  // Nobody writes to it afterwards, and the descriptor that makes it may.
  auto opened = co_await io::open(ring_, made.path, O_WRONLY | O_CREAT | O_EXCL, 0400);
  if (!opened) {
    uploads_.erase(number); // there is no file, or it is not ours
    co_return opened.error();
  }
  made.fd = *opened;
  auto left = co_await leave(number, {});
  if (!left) {
    co_return left.error();
  }
  co_return number;
}

task<result<void>> blobs::append(std::uint64_t number, std::vector<std::byte> data) {
  visits::one under_way{visits_};
  auto entered = enter(number);
  if (!entered) {
    co_return entered.error();
  }
  auto& target = **entered;
  result<void> done;
  if (data.size() > chosen_.bytes_max || target.size_bytes > chosen_.bytes_max - data.size()) {
    done = fail(ec::too_large,
                "the upload is larger than " + std::to_string(chosen_.bytes_max) + " bytes");
  } else {
    done = co_await io::write(ring_, target.fd, target.size_bytes, data, target.path);
  }
  if (done) {
    target.digest.update(data);
    target.size_bytes += data.size();
  }
  // A full disk is relieved at once, and half a piece cannot be continued.
  auto left = co_await leave(number, std::move(done));
  co_return left;
}

task<result<stored_blob>> blobs::finish(std::uint64_t number) {
  visits::one under_way{visits_};
  auto entered = enter(number);
  if (!entered) {
    co_return entered.error();
  }
  auto& target = **entered;
  stored_blob out;
  auto done = co_await store_durably(target, out);
  co_await remove(target);
  uploads_.erase(number);
  if (!done) {
    co_return done.error();
  }
  co_return out;
}

task<result<void>> blobs::abort(std::uint64_t number) {
  visits::one under_way{visits_};
  auto found = uploads_.find(number);
  if (found == uploads_.end()) {
    co_return result<void>{};
  }
  auto& target = *found->second;
  target.is_given_up = true;
  if (target.is_busy) {
    co_return result<void>{};
  }
  target.is_busy = true;
  co_await remove(target);
  uploads_.erase(number);
  co_return result<void>{};
}

task<result<std::vector<std::byte>>> blobs::read(sha256 digest, std::uint64_t offset_bytes,
                                                 std::size_t bytes_max) {
  visits::one under_way{visits_};
  const auto path = (chosen_.blob_dir / name_of(digest)).string();
  auto fd = co_await io::open(ring_, path, O_RDONLY);
  if (!fd) {
    co_return fd.error();
  }
  std::vector<std::byte> out;
  result<void> done;
  auto status = co_await io::status(ring_, *fd, path);
  if (!status) {
    done = status.error();
  } else if (offset_bytes < status->size_bytes) {
    out.resize(std::min<std::uint64_t>(bytes_max, status->size_bytes - offset_bytes));
    done = co_await io::read(ring_, *fd, offset_bytes, out, path);
  }
  co_await io::close(ring_, *fd);
  if (!done) {
    co_return done.error();
  }
  co_return out;
}

task<void> blobs::stop() {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, each] : uploads_) {
    numbers.push_back(number);
  }
  for (auto number : numbers) {
    co_await abort(number);
  }
  co_await visits_.ended();
}

/// The upload, for one call.
result<blobs::upload*> blobs::enter(std::uint64_t number) {
  auto found = uploads_.find(number);
  if (found == uploads_.end() || found->second->is_given_up) {
    return fail(ec::not_found, "no upload " + std::to_string(number) +
                                   " is in progress: it was finished, or dropped when idle");
  }
  if (found->second->is_busy) {
    return fail(ec::conflict, "upload " + std::to_string(number) +
                                  " is being written to: send a piece after the answer to the "
                                  "one before it");
  }
  found->second->is_busy = true;
  return found->second.get();
}

/// The end of a call. Where it failed, or the upload was given up meanwhile, nothing stays of it.
task<result<void>> blobs::leave(std::uint64_t number, result<void> done) {
  auto& target = *uploads_.at(number);
  if (done && target.is_given_up) {
    done = fail(ec::gone, "upload " + std::to_string(number) + " was given up");
  }
  if (!done) {
    target.is_given_up = true;
    co_await remove(target);
    uploads_.erase(number);
    co_return done;
  }
  target.is_busy = false;
  target.last_use = chosen_.now();
  co_return done;
}

/// A place for one more upload; the one that gave way for it is to be removed.
result<std::unique_ptr<blobs::upload>> blobs::make_room() {
  if (uploads_.size() < uploads_max) {
    return std::unique_ptr<upload>{};
  }
  auto idlest = uploads_.end();
  for (auto each = uploads_.begin(); each != uploads_.end(); ++each) {
    if (!each->second->is_busy &&
        (idlest == uploads_.end() || each->second->last_use < idlest->second->last_use)) {
      idlest = each;
    }
  }
  if (idlest == uploads_.end() || chosen_.now() - idlest->second->last_use < idle_min) {
    return fail(ec::busy, std::to_string(uploads_max) +
                              " uploads are in progress, which is the limit: try again later");
  }
  auto out = std::move(idlest->second);
  uploads_.erase(idlest);
  return out;
}

task<result<void>> blobs::store_durably(upload& what, stored_blob& out) {
  auto digest = what.digest.finish();
  if (!digest) {
    co_return digest.error();
  }
  out = {*digest, what.size_bytes};
  auto synced = co_await io::sync_data(ring_, what.fd, what.path);
  if (!synced) {
    co_return synced;
  }
  auto named = co_await give_name(what, *digest);
  co_return named;
}

task<result<void>> blobs::give_name(upload& what, sha256 digest) {
  naming turn{*this, digest};
  co_await turn;
  const auto path = (chosen_.blob_dir / name_of(digest)).string();
  auto renamed = co_await io::rename(ring_, what.path, path);
  const auto is_known = !renamed && renamed.error().code == ec::conflict;
  if (!renamed && !is_known) {
    co_return renamed;
  }
  if (!is_known) {
    what.path.clear();
  }
  // Also for known content: its name may be younger than the last sync of the folder. That the old
  // name is gone need not be durable: it is removed at start.
  auto synced = co_await names_.sync();
  if (!synced && !is_known) {
    co_await io::remove(ring_, path); // nobody else was told of it
  }
  co_return synced;
}

/// What cannot be removed now is removed at start.
task<void> blobs::remove(upload& what) {
  if (what.fd >= 0) {
    co_await io::close(ring_, std::exchange(what.fd, -1));
  }
  if (!what.path.empty()) {
    co_await io::remove(ring_, what.path);
  }
}

std::string blobs::name_of(const sha256& digest) {
  std::string name;
  for (auto byte : digest) {
    name += digits[byte >> 4];
    name += digits[byte & 15];
  }
  return name;
}

std::optional<blobs::sha256> blobs::digest_of(std::string_view name) {
  blobs::sha256 out{};
  if (name.size() != 2 * out.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto high = digits.find(name[2 * i]);
    const auto low = digits.find(name[2 * i + 1]);
    if (high == digits.npos || low == digits.npos) {
      return std::nullopt;
    }
    out[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return out;
}

} // namespace coppice::storage
