#define BOOST_TEST_MODULE vmm_guest_protocol
#include <boost/test/unit_test.hpp>

#include "vmm/guest_protocol.hpp"

#include "protocol/limits.hpp"
#include "tests/vmm/guest_messages.hpp"

#include <random>

using namespace coppice;
using namespace coppice::tests;
using coppice::vmm::objection_to;
using coppice::vmm::parse_guest_frame;
using coppice::vmm::parse_outcome;
using coppice::vmm::parse_status;

namespace {

std::vector<from_guest> honest_messages() {
  return {ready_message(),
          mounted_message(),
          started_message(),
          output_message(0),
          output_message(limits::output_chunk_bytes),
          exited_message(),
          finished_message(),
          failed_message(),
          exec_failed_message(),
          stdin_taken_message()};
}

/// Raw words of a message with one segment: the root struct's data words follow the pointer.
std::vector<std::byte> raw(std::initializer_list<std::uint64_t> words) {
  std::vector<std::byte> out;
  for (auto w : words) {
    for (int i = 0; i < 8; ++i) {
      out.push_back(static_cast<std::byte>(w >> (8 * i)));
    }
  }
  return out;
}

parse_outcome parse(const std::vector<std::byte>& stream) {
  return parse_guest_frame(stream);
}

bool is_refused(const from_guest& message, const std::string& because) {
  auto out = parse(wire(message));
  BOOST_TEST_INFO("reason: " << out.reason);
  return out.status == parse_status::refused && out.reason.find(because) != std::string::npos &&
         out.message.empty();
}

template <class Fill>
from_guest in_run(Fill fill) {
  return make_frame<proto::FromGuest>([&](auto root) {
    root.setRun(1);
    fill(root);
  });
}

} // namespace

BOOST_AUTO_TEST_CASE(every_honest_message_is_let_in) {
  for (const auto& message : honest_messages()) {
    auto stream = wire(message);
    auto out = parse(stream);
    BOOST_TEST(out.reason == "");
    BOOST_REQUIRE(out.status == parse_status::complete);
    BOOST_TEST(out.bytes_taken == stream.size());
    BOOST_TEST(out.message.bytes().size() == message.bytes().size());
    BOOST_TEST(((*out.message.view()).which() == (*message.view()).which()));
  }
}

BOOST_AUTO_TEST_CASE(every_cut_short_stream_waits_for_more) {
  for (const auto& message : honest_messages()) {
    auto stream = wire(message);
    const auto step = std::max<std::size_t>(1, stream.size() / 64);
    for (std::size_t size = 0; size < stream.size(); size += step) {
      auto out = parse_guest_frame(std::span{stream}.first(size));
      BOOST_REQUIRE(out.status == parse_status::incomplete);
      BOOST_REQUIRE(out.bytes_taken == 0u);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_follows_a_frame_is_left_alone) {
  auto stream = wire(ready_message());
  const auto first = stream.size();
  const auto second = wire(mounted_message());
  stream.insert(stream.end(), second.begin(), second.end());
  auto out = parse(stream);
  BOOST_REQUIRE(out.status == parse_status::complete);
  BOOST_TEST(out.bytes_taken == first);
  auto rest = parse_guest_frame(std::span{stream}.subspan(first));
  BOOST_REQUIRE(rest.status == parse_status::complete);
  BOOST_TEST(((*rest.message.view()).isMounted()));
}

BOOST_AUTO_TEST_CASE(the_size_is_judged_before_the_content_comes) {
  const auto limit = limits::channel_frame_bytes_max / 8;
  auto header = [](std::uint64_t words) {
    std::vector<std::byte> out;
    for (int i = 0; i < 4; ++i) {
      out.push_back(static_cast<std::byte>(words >> (8 * i)));
    }
    return out;
  };
  BOOST_TEST((parse(header(limit)).status == parse_status::incomplete));
  BOOST_TEST((parse(header(limit + 1)).status == parse_status::refused));
  BOOST_TEST((parse(header(0xffffffff)).status == parse_status::refused));
  BOOST_TEST((parse(header(0)).status == parse_status::refused));
}

BOOST_AUTO_TEST_CASE(a_message_of_an_unknown_kind_is_refused) {
  // Segment table, root pointer to a struct of two data words, run = 1, discriminant = 99.
  auto out = parse(wire(raw({0x0000000300000000, 0x0000000200000000, 1, 99})));
  BOOST_TEST((out.status == parse_status::refused));
  BOOST_TEST(out.reason == "message: of no known kind");
}

BOOST_AUTO_TEST_CASE(pointers_that_leave_the_message_are_refused) {
  // output (3) whose struct pointer names a place far outside.
  auto out = parse(wire(raw({0x0000000400000000, 0x0001000200000000, 1, 3, 0x0001000100010000})));
  BOOST_TEST((out.status == parse_status::refused));
}

BOOST_AUTO_TEST_CASE(the_run_number_zero_belongs_to_ready_alone) {
  BOOST_TEST(is_refused(mounted_message(0), "run"));
  auto ready = make_frame<proto::FromGuest>([](auto root) {
    root.setRun(3);
    root.initReady();
  });
  BOOST_TEST(is_refused(ready, "run"));
}

BOOST_AUTO_TEST_CASE(numbers_out_of_range_are_refused) {
  BOOST_TEST(is_refused(output_message(1, 0), "output.spid"));
  BOOST_TEST(is_refused(output_message(1, vmm::guest_spid_max + 1), "output.spid"));
  BOOST_TEST(is_refused(failed_message(-1), "failed.errorNumber"));
  BOOST_TEST(is_refused(failed_message(vmm::guest_errno_max + 1), "failed.errorNumber"));
  for (auto spid : {0u, vmm::guest_spid_max + 1, 0xffffffffu}) {
    BOOST_TEST(is_refused(exec_failed_message(spid), "execFailed.spid"));
    BOOST_TEST(is_refused(stdin_taken_message(spid), "stdinTaken.spid"));
  }
  BOOST_TEST(is_refused(exec_failed_message(2, -1), "execFailed.errorNumber"));
  BOOST_TEST(is_refused(exec_failed_message(2, vmm::guest_errno_max + 1), "errorNumber"));
  BOOST_TEST(objection_to(stdin_taken_message(1, UINT64_MAX)) == ""); // who sent it clamps it
  auto exited = [](std::int32_t code, std::int32_t signal) {
    return in_run([&](auto root) {
      auto e = root.initExited();
      e.setSpid(1);
      e.initResult().setExitCode(code);
      e.getResult().setSignal(signal);
    });
  };
  BOOST_TEST(is_refused(exited(256, -1), "exitCode"));
  BOOST_TEST(is_refused(exited(-2, -1), "exitCode"));
  BOOST_TEST(is_refused(exited(-1, 65), "signal"));
  BOOST_TEST(objection_to(exited(255, -1)) == "");
  BOOST_TEST(objection_to(exited(-1, 64)) == "");
  auto kept = in_run([](auto root) {
    auto e = root.initExited();
    e.setSpid(1);
    e.initResult().initStdout().setKeptBytes(1);
  });
  BOOST_TEST(is_refused(kept, "keeps more"));
}

BOOST_AUTO_TEST_CASE(output_beyond_a_chunk_is_refused) {
  BOOST_TEST(is_refused(output_message(limits::output_chunk_bytes + 1), "output.data"));
}

BOOST_AUTO_TEST_CASE(texts_are_bounded) {
  BOOST_TEST(objection_to(finished_message(false, std::string(16 << 10, 'x'))) == "");
  BOOST_TEST(
      is_refused(finished_message(false, std::string((16 << 10) + 1, 'x')), "finished.error"));
  auto ready = make_frame<proto::FromGuest>(
      [](auto root) { root.initReady().setKernel(std::string((4 << 10) + 1, 'k')); });
  BOOST_TEST(is_refused(ready, "ready.kernel"));
  auto exec_failed = in_run([](auto root) {
    root.initExecFailed().setSpid(2);
    root.getExecFailed().setError(std::string((16 << 10) + 1, 'e'));
  });
  BOOST_TEST(is_refused(exec_failed, "execFailed.error"));
}

BOOST_AUTO_TEST_CASE(a_long_command_line_is_let_in) {
  auto long_shell = in_run([](auto root) {
    auto s = root.initStarted();
    s.setSpid(1);
    s.initArgs(1).set(0, std::string(1u << 20, 'a'));
  });
  BOOST_TEST(objection_to(long_shell) == "");
}

BOOST_AUTO_TEST_CASE(only_utf8_without_nul_is_a_text) {
  for (const char* good : {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8c\xb2",
                           "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    BOOST_TEST(objection_to(finished_message(false, good)) == "");
  }
  const std::string bad[] = {"\x80",
                             "\xc0\x80",
                             "\xc3",
                             "\xe0\x80\x80",
                             "\xed\xa0\x80",
                             "\xf0\x80\x80\x80",
                             "\xf5\x80",
                             "\xf4\x90\x80\x80",
                             "a\xff",
                             "\xe2\x82",
                             std::string{"a\0b", 3}};
  for (const auto& text : bad) {
    BOOST_TEST(is_refused(finished_message(false, text), "not a text"));
  }
}

BOOST_AUTO_TEST_CASE(arguments_that_share_their_bytes_say_no_more_than_the_frame_carries) {
  // In one segment, so that every pointer is a plain one.
  capnp::MallocMessageBuilder builder{4096};
  auto root = builder.initRoot<proto::FromGuest>();
  root.setRun(1);
  auto started = root.initStarted();
  started.setSpid(1);
  auto args = started.initArgs(8);
  args.set(0, std::string(4096, 'a'));
  for (unsigned i = 1; i < 8; ++i) {
    args.set(i, "b");
  }
  const from_guest honest{builder};
  BOOST_TEST(objection_to(honest) == "");
  // Let each of the other arguments point at the bytes of the first.
  std::vector<std::byte> content{honest.bytes().begin(), honest.bytes().end()};
  auto word_at = [&](std::size_t i) {
    std::uint64_t w = 0;
    std::memcpy(&w, content.data() + 8 * i, 8);
    return w;
  };
  const std::uint64_t first_length = (4097ull << 35) | (2ull << 32); // byte list of 4097
  std::size_t found = 0;
  for (std::size_t i = 1; i + 8 < content.size() / 8 && found == 0; ++i) {
    found = (word_at(i) & ~0xffffffffull) == first_length ? i : 0;
  }
  BOOST_REQUIRE(found != 0);
  const auto offset = static_cast<std::uint64_t>(word_at(found) & 0xffffffffu) >> 2;
  for (std::size_t i = 1; i < 8; ++i) {
    const std::uint64_t w = first_length | ((offset - i) << 2 | 1);
    std::memcpy(content.data() + 8 * (found + i), &w, 8);
  }
  auto out = parse(wire(content));
  BOOST_TEST((out.status == parse_status::refused));
  BOOST_TEST(out.reason.find("more than the frame carries") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(damaged_messages_are_refused_or_harmless) {
  std::mt19937 random{20260101};
  std::size_t refused = 0;
  for (const auto& message : honest_messages()) {
    const auto intact = wire(message);
    for (int round = 0; round < 2000; ++round) {
      auto stream = intact;
      for (int flips = 0; flips < 1 + round % 4; ++flips) {
        // Mostly the head, where the pointers are.
        const auto at = 4 + random() % std::min<std::size_t>(stream.size() - 4, 96);
        stream[at] = static_cast<std::byte>(random());
      }
      auto out = parse(stream);
      BOOST_REQUIRE(out.status != parse_status::incomplete);
      if (out.status == parse_status::refused) {
        ++refused;
        BOOST_REQUIRE(!out.reason.empty());
      } else {
        BOOST_REQUIRE(objection_to(out.message) == "");
      }
    }
  }
  BOOST_TEST(refused > 1000u); // or the damage never hit anything
}
