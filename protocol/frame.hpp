#pragma once

#include "protocol/limits.hpp"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/array.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

/// A Cap'n Proto message as a value.
///
/// Problem: actors, the guest channel and the catalog all carry Cap'n Proto structs, but a built
/// message is neither copyable nor typed. `frame<T>` is an immutable, reference-counted, aligned
/// flat message whose root struct is T: copying it copies one pointer, and typed actors dispatch
/// on it statically.
///
/// Reading goes through `view()`, which lives on the reader's stack: Cap'n Proto counts what is
/// read per reader, so one is never shared. A malformed frame throws kj::Exception while it is
/// read; frames from outside (a guest, a worker, another node) are checked once by the owner of
/// the socket, with `checked()`.
namespace coppice {

class frame_base {
public:
  frame_base() = default;

  explicit frame_base(capnp::MessageBuilder& message)
      : words_{std::make_shared<kj::Array<capnp::word>>(capnp::messageToFlatArray(message))} {}

  explicit frame_base(kj::Array<capnp::word> words)
      : words_{std::make_shared<kj::Array<capnp::word>>(kj::mv(words))} {}

  kj::ArrayPtr<const capnp::word> words() const {
    return words_ ? words_->asPtr() : kj::ArrayPtr<const capnp::word>{};
  }

  std::span<const std::byte> bytes() const {
    auto w = words();
    return {reinterpret_cast<const std::byte*>(w.begin()), w.size() * sizeof(capnp::word)};
  }

  bool empty() const {
    return words().size() == 0;
  }

protected:
  std::shared_ptr<const kj::Array<capnp::word>> shared_words() const {
    return words_;
  }

private:
  std::shared_ptr<const kj::Array<capnp::word>> words_;
};

/// Limits for a message of `words` words: linear reading, with room for lists that are read twice.
inline capnp::ReaderOptions reader_options(std::size_t words) {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 8 * words + 1024;
  options.nestingLimit = limits::nesting_limit;
  return options;
}

template <class T>
class frame : public frame_base {
public:
  using schema = T;
  using frame_base::frame_base;

  /// A reader that keeps the message alive. Not movable: bind it with `auto v = f.view();`.
  class reader_view {
  public:
    explicit reader_view(std::shared_ptr<const kj::Array<capnp::word>> words)
        : words_{std::move(words)}, reader_{words_ ? words_->asPtr()
                                                   : kj::ArrayPtr<const capnp::word>{},
                                            reader_options(words_ ? words_->size() : 0)},
          root_{reader_.template getRoot<T>()} {}
    reader_view(const reader_view&) = delete;
    reader_view& operator=(const reader_view&) = delete;

    const typename T::Reader* operator->() const {
      return &root_;
    }
    typename T::Reader operator*() const {
      return root_;
    }

  private:
    std::shared_ptr<const kj::Array<capnp::word>> words_;
    capnp::FlatArrayMessageReader reader_;
    typename T::Reader root_;
  };

  reader_view view() const {
    return reader_view{shared_words()};
  }
};

/// Builds a frame: `make_frame<proto::GetImage>([&](auto root) { root.setProject(p); })`.
template <class T, class Fill>
frame<T> make_frame(Fill&& fill) {
  capnp::word scratch[128]{}; // small messages never touch the heap while they are built
  capnp::MallocMessageBuilder message{kj::arrayPtr(scratch, 128)};
  fill(message.initRoot<T>());
  return frame<T>{message};
}

template <class T>
frame<T> make_frame() {
  return make_frame<T>([](auto) {});
}

/// A frame whose root is a deep copy of `reader`.
template <class T>
frame<T> copy_frame(typename T::Reader reader) {
  capnp::MallocMessageBuilder message{static_cast<capnp::uint>(
      std::min<std::uint64_t>(reader.totalSize().wordCount + 8, 1u << 20))};
  message.setRoot(reader);
  return frame<T>{message};
}

/// Takes bytes from outside (any alignment) as a frame of T, or nothing if they are not a whole
/// number of words, too many, or not a message whose every pointer stays inside it. A pointer of
/// the wrong kind is only met by the reader of that field: a door to a hostile peer also reads each
/// field once before it lets the frame in.
template <class T>
std::optional<frame<T>> checked(std::span<const std::byte> bytes, std::size_t bytes_max) {
  if (bytes.empty() || bytes.size() % sizeof(capnp::word) != 0 || bytes.size() > bytes_max) {
    return std::nullopt;
  }
  auto words = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
  std::memcpy(words.begin(), bytes.data(), bytes.size());
  frame<T> out{kj::mv(words)};
  try {
    auto v = out.view();
    static_cast<void>((*v).totalSize());
  } catch (const kj::Exception&) {
    return std::nullopt;
  }
  return out;
}

} // namespace coppice
