#include "vmm/agent/streams.hpp"

#include "protocol/limits.hpp"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <signal.h>

using namespace coppice;
using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(streams)

namespace {

struct pipe_fixture {
  descriptor read;
  descriptor write;

  pipe_fixture() {
    ::signal(SIGPIPE, SIG_IGN);
    int fds[2];
    BOOST_REQUIRE(::pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0);
    read = descriptor{fds[0]};
    write = descriptor{fds[1]};
  }

  void put(const std::string& text) {
    BOOST_REQUIRE(::write(write.get(), text.data(), text.size()) ==
                  static_cast<ssize_t>(text.size()));
  }

  std::string take() {
    std::string out(1u << 20, '\0');
    auto n = ::read(read.get(), out.data(), out.size());
    out.resize(static_cast<std::size_t>(n > 0 ? n : 0));
    return out;
  }
};

/// What a read of one byte returns: 1, 0 at the end of input, -1 when nothing is there yet.
ssize_t read_byte(const descriptor& from) {
  char c;
  return ::read(from.get(), &c, 1);
}

struct collected {
  std::string text;
  std::size_t largest = 0;

  output_stream::sink sink() {
    return [this](std::span<const unsigned char> data) {
      text.append(reinterpret_cast<const char*>(data.data()), data.size());
      largest = std::max(largest, data.size());
    };
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(output_beyond_the_limit_is_drained_and_counted, pipe_fixture) {
  output_stream out{std::move(read), 5};
  collected got;
  put("abc");
  out.pump(false, got.sink());
  put("defg");
  out.pump(false, got.sink());
  put("hij");
  out.pump(false, got.sink());
  BOOST_TEST(got.text == "abcde");
  BOOST_TEST(out.kept_bytes() == 5u);
  BOOST_TEST(out.total_bytes() == 10u);
  BOOST_TEST(out.is_open());
}

BOOST_FIXTURE_TEST_CASE(a_message_is_never_larger_than_agreed, pipe_fixture) {
  output_stream out{std::move(read), 1u << 20};
  collected got;
  put(std::string(60'000, 'x'));
  out.pump(false, got.sink());
  out.pump(false, got.sink());
  BOOST_TEST(got.text.size() == 60'000u);
  BOOST_TEST(got.largest <= limits::output_chunk_bytes);
}

BOOST_FIXTURE_TEST_CASE(an_open_but_empty_pipe_ends_only_with_the_last_pump, pipe_fixture) {
  output_stream out{std::move(read), 10};
  collected got;
  out.pump(false, got.sink());
  BOOST_TEST(out.is_open());
  out.pump(true, got.sink());
  BOOST_TEST(!out.is_open());
}

BOOST_FIXTURE_TEST_CASE(the_streams_end_closes_it, pipe_fixture) {
  output_stream out{std::move(read), 10};
  collected got;
  put("x");
  write.reset();
  out.pump(false, got.sink());
  BOOST_TEST(out.is_open());
  out.pump(false, got.sink());
  BOOST_TEST(!out.is_open());
  BOOST_TEST(got.text == "x");
}

BOOST_FIXTURE_TEST_CASE(only_kept_bytes_decide_whether_output_is_plain, pipe_fixture) {
  output_stream out{std::move(read), 4};
  collected got;
  put("a\t\r\n\x01");
  out.pump(false, got.sink());
  BOOST_TEST(out.is_plain());
  output_stream added{descriptor{}, 10};
  added.add("caf\xc3\xa9", got.sink());
  BOOST_TEST(!added.is_plain());
  BOOST_TEST(added.total_bytes() == 5u);
}

BOOST_FIXTURE_TEST_CASE(input_before_the_process_is_held_for_it, pipe_fixture) {
  input_stream in;
  BOOST_TEST(in.feed("one ", false));
  BOOST_TEST(in.feed("two", true));
  BOOST_TEST(in.held_bytes() == 7u);
  in.attach(std::move(write));
  BOOST_TEST(take() == "one two");
  BOOST_TEST(read_byte(read) == 0);
}

BOOST_FIXTURE_TEST_CASE(input_waits_for_a_slow_reader_and_arrives_whole, pipe_fixture) {
  input_stream in;
  in.attach(std::move(write));
  std::string data(300'000, 'a');
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<char>('a' + i % 23);
  }
  BOOST_TEST(in.feed(data, true));
  BOOST_TEST(in.waiting_fd() >= 0);
  std::string got;
  while (in.waiting_fd() >= 0) {
    auto more = take();
    BOOST_REQUIRE(!more.empty());
    got += more;
    in.write_some();
  }
  got += take();
  BOOST_TEST((got == data));
}

BOOST_FIXTURE_TEST_CASE(input_without_its_end_keeps_the_pipe_open, pipe_fixture) {
  input_stream in;
  in.attach(std::move(write));
  in.feed("x", false);
  BOOST_TEST(take() == "x");
  BOOST_TEST(read_byte(read) == -1);
  in.feed("", true);
  BOOST_TEST(read_byte(read) == 0);
}

BOOST_FIXTURE_TEST_CASE(a_process_that_does_not_read_costs_nothing, pipe_fixture) {
  input_stream in;
  in.attach(std::move(write));
  read.reset();
  BOOST_TEST(in.feed(std::string(1u << 20, 'x'), false));
  BOOST_TEST(in.held_bytes() == 0u);
  BOOST_TEST(in.waiting_fd() == -1);
}

BOOST_AUTO_TEST_CASE(more_input_than_may_be_held_is_refused) {
  input_stream in;
  BOOST_TEST(in.feed(std::string(limits::stdin_bytes_max, 'x'), false));
  BOOST_TEST(!in.feed("y", false));
  BOOST_TEST(in.held_bytes() == limits::stdin_bytes_max);
}

BOOST_FIXTURE_TEST_CASE(what_is_in_the_pipe_at_the_end_belongs_to_it_and_what_comes_later_does_not,
                        pipe_fixture) {
  output_stream out{std::move(read), 100};
  collected got;
  put("its own");
  out.end_with_what_is_there();
  put(" not its own");
  BOOST_TEST(!out.is_done());
  out.pump(false, got.sink());
  BOOST_TEST(got.text == "its own");
  BOOST_TEST(out.is_done());
  BOOST_TEST(out.is_open());
  BOOST_TEST(out.total_bytes() == 7u);
  out.keep_no_more();
  out.pump(false, got.sink());
  BOOST_TEST(got.text == "its own");
}

BOOST_FIXTURE_TEST_CASE(a_stream_that_others_emptied_is_done_all_the_same, pipe_fixture) {
  int other = ::dup(read.get());
  descriptor thief{other};
  output_stream out{std::move(read), 100};
  collected got;
  put("stolen");
  out.end_with_what_is_there();
  char buffer[10];
  BOOST_TEST(::read(thief.get(), buffer, sizeof(buffer)) == 6);
  out.pump(false, got.sink());
  BOOST_TEST(out.is_done());
}

BOOST_FIXTURE_TEST_CASE(what_the_pipe_has_taken_is_counted, pipe_fixture) {
  input_stream in;
  in.feed("abc", false);
  BOOST_TEST(in.taken_bytes() == 0u);
  in.attach(std::move(write));
  BOOST_TEST(in.taken_bytes() == 3u);
  in.feed(std::string(1u << 20, 'x'), false);
  BOOST_TEST(in.taken_bytes() + in.held_bytes() == 3u + (1u << 20));
  BOOST_TEST(!in.is_abandoned());
  read.reset();
  in.write_some();
  BOOST_TEST(in.is_abandoned());
}

BOOST_AUTO_TEST_SUITE_END()
