#define BOOST_TEST_MODULE frame
#include "protocol/frame.hpp"
#include "protocol/messages.capnp.h"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace coppice;

namespace {

frame<proto::ReadBlob> sample() {
  return make_frame<proto::ReadBlob>([](proto::ReadBlob::Builder to) {
    const std::vector<kj::byte> digest(32, 7);
    to.setSha256({digest.data(), digest.size()});
    to.setOffset(1ull << 40);
    to.setMaxBytes(5);
  });
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

} // namespace

BOOST_AUTO_TEST_CASE(a_copy_of_a_frame_is_the_same_words) {
  const auto one = sample();
  const auto two = one;
  BOOST_CHECK(one.words().begin() == two.words().begin());
  BOOST_CHECK_EQUAL(two.view()->getOffset(), 1ull << 40);
}

BOOST_AUTO_TEST_CASE(a_view_outlives_its_frame) {
  auto gone = sample();
  auto v = gone.view();
  gone = {};
  BOOST_CHECK(gone.empty());
  BOOST_CHECK_EQUAL(v->getSha256().size(), 32);
}

BOOST_AUTO_TEST_CASE(copy_frame_copies_a_part_of_another_message) {
  auto outer = make_frame<proto::PutFile>(
      [](proto::PutFile::Builder to) { to.initRecord().setProject("theirs"); });
  auto inner = copy_frame<proto::FileRecord>(outer.view()->getRecord());
  outer = {};
  BOOST_CHECK(inner.view()->getProject() == "theirs");
}

BOOST_AUTO_TEST_CASE(bytes_from_outside_become_a_frame_at_any_alignment) {
  const auto bytes = copy_of(sample().bytes());
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::vector<std::byte> moved(bytes.size() + shift);
    std::copy(bytes.begin(), bytes.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    auto taken = checked<proto::ReadBlob>(std::span{moved}.subspan(shift), 1024);
    BOOST_REQUIRE(taken);
    BOOST_CHECK_EQUAL(taken->view()->getMaxBytes(), 5);
  }
}

BOOST_AUTO_TEST_CASE(a_frame_that_is_cut_or_too_large_is_refused) {
  const auto bytes = copy_of(sample().bytes());
  const std::span all{bytes};
  BOOST_CHECK(!checked<proto::ReadBlob>({}, 1024));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    BOOST_CHECK_MESSAGE(!checked<proto::ReadBlob>(all.first(size), 1024), size << " bytes");
  }
  BOOST_CHECK(!checked<proto::ReadBlob>(all, bytes.size() - 1));
  BOOST_CHECK(checked<proto::ReadBlob>(all, bytes.size()));
}

BOOST_AUTO_TEST_CASE(a_frame_whose_pointer_leaves_the_message_is_refused) {
  // One segment of three words: the root has no data and one pointer, to a list far behind the end.
  const std::uint64_t words[] = {
      0x0000000200000000ull,                // segment count - 1 = 0, two words
      0x0001000000000000ull,                // struct: offset 0, 0 data words, 1 pointer
      (0x7fffffffull << 35) | 2u | 1u << 12 // list of bytes, elsewhere
  };
  const std::span bytes{reinterpret_cast<const std::byte*>(words), sizeof(words)};
  BOOST_CHECK(!checked<proto::BlobChunk>(bytes, 1024));
}

BOOST_AUTO_TEST_CASE(a_list_that_is_far_longer_than_its_frame_is_refused_when_it_is_read) {
  // A list of 2^29 - 1 empty structs costs no bytes on the wire, but a word each to read.
  const std::uint64_t words[] = {
      0x0000000300000000ull, 0x0001000000000000ull,
      (7ull << 32) | 1u,  // composite list of 0 words behind the tag
      0x1ffffffcull << 2, // the tag: that many elements without data or pointers
  };
  const std::span bytes{reinterpret_cast<const std::byte*>(words), sizeof(words)};
  auto taken = checked<proto::EventPage>(bytes, 1024);
  BOOST_REQUIRE(taken);
  auto v = taken->view();
  BOOST_CHECK_THROW(v->getEvents(), kj::Exception);
}

BOOST_AUTO_TEST_CASE(any_changed_byte_is_refused_or_read_without_harm) {
  const auto bytes = copy_of(sample().bytes());
  std::size_t taken = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int value : {0, 1, 0x7f, 0x80, 0xff}) {
      auto changed = bytes;
      changed[at] = static_cast<std::byte>(value);
      auto frame = checked<proto::ReadBlob>(changed, 1024);
      if (!frame) {
        continue;
      }
      ++taken;
      try {
        BOOST_CHECK_LE(frame->view()->getSha256().size(), bytes.size());
      } catch (const kj::Exception&) {
        // A pointer of the wrong kind shows only here.
      }
    }
  }
  BOOST_CHECK_GT(taken, 0);
}
