#pragma once

#include "storage/disk/engine.hpp"
#include "storage/error.hpp"
#include "tests/storage/scratch.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

/// Calls of an engine, as a test makes them: one after the other.
namespace coppice::storage::test {

/// Where a state folder has what an engine needs of it.
inline engine::options options_in(const std::filesystem::path& state) {
  engine::options how;
  how.loops = 1;
  how.blobs = state / "blobs";
  how.uploads = state / "uploads";
  return how;
}

/// Of images that are known to the catalog: none.
inline std::unique_ptr<engine> start_engine(const std::filesystem::path& images,
                                            engine::options how) {
  auto started = engine::start(
      images,
      [](const uuid& of) -> result<frame<proto::ImageIndex>> {
        return fail(ec::not_found, "no index of image " + of.text());
      },
      std::move(how));
  BOOST_REQUIRE_MESSAGE(started, (started ? "" : started.error().text));
  return std::move(*started);
}

/// An answer that comes later.
template <class T>
class awaited {
public:
  engine::answer<T> answer() {
    return [told = told_](result<T> given) {
      told->set_value(std::move(given));
    };
  }
  bool is_there() const {
    return given_.wait_for(std::chrono::seconds{0}) == std::future_status::ready;
  }
  result<T> get() {
    return given_.get();
  }

private:
  std::shared_ptr<std::promise<result<T>>> told_ = std::make_shared<std::promise<result<T>>>();
  std::future<result<T>> given_ = told_->get_future();
};

template <class T, class Ask>
result<T> answer_of(Ask&& ask) {
  awaited<T> out;
  ask(out.answer());
  return out.get();
}

inline std::vector<std::byte> copy_of(std::string_view text) {
  auto bytes = bytes_of(text);
  return {bytes.begin(), bytes.end()};
}

inline result<std::uint64_t> begin_blob(engine& of) {
  return answer_of<std::uint64_t>([&](auto then) { of.begin_blob(std::move(then)); });
}

inline result<void> append_blob(engine& to, std::uint64_t upload, std::string_view text) {
  return answer_of<void>(
      [&](auto then) { to.append_blob(upload, copy_of(text), std::move(then)); });
}

inline result<stored_blob> finish_blob(engine& of, std::uint64_t upload) {
  return answer_of<stored_blob>([&](auto then) { of.finish_blob(upload, std::move(then)); });
}

inline result<void> abort_blob(engine& of, std::uint64_t upload) {
  return answer_of<void>([&](auto then) { of.abort_blob(upload, std::move(then)); });
}

inline result<std::vector<std::byte>> read_blob(engine& from, const stored_blob::sha256& digest,
                                                std::uint64_t offset_bytes, std::size_t bytes_max) {
  return answer_of<std::vector<std::byte>>(
      [&](auto then) { from.read_blob(digest, offset_bytes, bytes_max, std::move(then)); });
}

inline result<sealed_image> seal_import(engine& of, const uuid& image) {
  return answer_of<sealed_image>([&](auto then) { of.seal_import(image, std::move(then)); });
}

inline result<engine::discarded> discard(engine& of, const uuid& overlay) {
  return answer_of<engine::discarded>([&](auto then) { of.discard(overlay, std::move(then)); });
}

} // namespace coppice::storage::test
