#define BOOST_TEST_MODULE nbd_protocol
#include <boost/test/unit_test.hpp>

#include "storage/disk/nbd_handshake.hpp"
#include "tests/storage/nbd_client.hpp"
#include "tests/storage/scratch.hpp"

#include <cerrno>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

constexpr std::uint64_t disk_bytes = 64ull << 30;

struct conversation {
  n::handshake server{disk_bytes, "disk"};
  bytes out;
  std::size_t taken = 0;

  /// Feeds `in` in pieces until it ends or the handshake does.
  result<void> feed(const bytes& in, std::size_t piece_max = 1u << 20) {
    std::size_t at = 0;
    while (at < in.size() && !server.is_done()) {
      auto piece = std::span{in}.subspan(at, std::min(piece_max, in.size() - at));
      auto step = server.take(piece, out);
      if (!step) {
        return step.error();
      }
      BOOST_REQUIRE_GT(*step, 0u);
      at += *step;
      taken += *step;
    }
    return {};
  }

  std::vector<option_answer> answers() const {
    return answers_in(out);
  }
};

/// The answers to one option after the client flags and structured replies.
std::vector<option_answer> answers_to(const bytes& option) {
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::structured_reply)));
  c.out.clear();
  BOOST_REQUIRE(c.feed(option));
  return c.answers();
}

void check_types(const std::vector<option_answer>& answers,
                 const std::vector<n::option_reply>& expected) {
  BOOST_REQUIRE_EQUAL(answers.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    BOOST_CHECK_EQUAL(static_cast<std::uint32_t>(answers[i].type),
                      static_cast<std::uint32_t>(expected[i]));
  }
}

n::error objection(const bytes& raw, n::agreement agreed = {true, true}) {
  auto r = n::parse_request(raw);
  BOOST_REQUIRE(r);
  return n::objection_to(*r, disk_bytes, agreed);
}

bool is_refused(const bytes& raw, n::agreement agreed = {true, true}) {
  return objection(raw, agreed) == n::error::inval;
}

using reply = n::option_reply;

} // namespace

BOOST_AUTO_TEST_SUITE(handshake)

BOOST_AUTO_TEST_CASE(the_greeting_is_that_of_fixed_newstyle) {
  auto raw = n::greeting();
  BOOST_CHECK(std::equal(raw.begin(), raw.begin() + 16, bytes_of("NBDMAGICIHAVEOPT").begin()));
  BOOST_CHECK_EQUAL(load_be<std::uint16_t>(raw, 16), 3);
}

BOOST_AUTO_TEST_CASE(go_tells_size_flags_and_block_sizes_and_begins_the_transmission) {
  auto answers = answers_to(option_of(n::option::go, go_data("disk")));
  check_types(answers, {reply::info, reply::info, reply::ack});
  BOOST_CHECK_EQUAL(load_be<std::uint16_t>(answers[0].data, 0), n::info_export);
  BOOST_CHECK_EQUAL(load_be<std::uint64_t>(answers[0].data, 2), disk_bytes);
  // has flags, flush, fua, trim, write zeroes, df, fast zero
  BOOST_CHECK_EQUAL(load_be<std::uint16_t>(answers[0].data, 10), 0b1000'1110'1101);
  BOOST_CHECK_EQUAL(answers[0].data.size(), 12u);
  BOOST_CHECK_EQUAL(load_be<std::uint16_t>(answers[1].data, 0), n::info_block_size);
  BOOST_CHECK_EQUAL(load_be<std::uint32_t>(answers[1].data, 2), 4096u);
  BOOST_CHECK_EQUAL(load_be<std::uint32_t>(answers[1].data, 6), 4096u);
  BOOST_CHECK_EQUAL(load_be<std::uint32_t>(answers[1].data, 10), 32u << 20);
  BOOST_CHECK_EQUAL(answers[1].data.size(), 14u);
}

BOOST_AUTO_TEST_CASE(without_structured_replies_there_is_no_df) {
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::go, go_data(""))));
  BOOST_CHECK(c.server.is_done());
  BOOST_CHECK(!c.server.agreed().structured_replies);
  BOOST_CHECK_EQUAL(load_be<std::uint16_t>(c.answers().at(0).data, 10) & n::export_send_df, 0);
}

BOOST_AUTO_TEST_CASE(info_tells_the_same_and_goes_on) {
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::info, go_data("disk", {}))));
  check_types(c.answers(), {reply::info, reply::info, reply::ack});
  BOOST_CHECK(!c.server.is_done());
  BOOST_REQUIRE(c.feed(option_of(n::option::go, go_data("disk", {0, 1, 2, 3}))));
  BOOST_CHECK(c.server.is_done());
}

BOOST_AUTO_TEST_CASE(an_export_that_does_not_exist_is_unknown) {
  check_types(answers_to(option_of(n::option::go, go_data("other"))), {reply::err_unknown});
  check_types(answers_to(option_of(n::option::info, go_data("dis"))), {reply::err_unknown});
  check_types(answers_to(option_of(n::option::set_meta_context, context_data("other", {}))),
              {reply::err_unknown});
  conversation c;
  auto name = bytes_of("other");
  check_fails(
      c.feed(client_flags() + option_of(n::option::export_name, {name.begin(), name.end()})),
      n::ec::broken, "does not exist");
}

BOOST_AUTO_TEST_CASE(go_whose_lengths_contradict_each_other_is_invalid) {
  auto good = go_data("disk");
  for (std::size_t length = 0; length < good.size(); ++length) {
    check_types(answers_to(option_of(n::option::go,
                                     {good.begin(), good.begin() + static_cast<long>(length)})),
                {reply::err_invalid});
  }
  check_types(answers_to(option_of(n::option::go, good + bytes(1))), {reply::err_invalid});
  bytes huge_name;
  put(huge_name, std::uint32_t{0xffffffff});
  check_types(answers_to(option_of(n::option::go, huge_name + bytes(20))), {reply::err_invalid});
}

BOOST_AUTO_TEST_CASE(export_name_begins_the_transmission_with_or_without_zeroes) {
  for (auto flags : {1u, 3u, 0u, 2u}) {
    conversation c;
    auto name = bytes_of("disk");
    BOOST_REQUIRE(c.feed(client_flags(flags) +
                         option_of(n::option::export_name, {name.begin(), name.end()})));
    BOOST_CHECK(c.server.is_done());
    BOOST_CHECK_EQUAL(c.out.size(), (flags & 2) != 0 ? 10u : 134u);
    BOOST_CHECK_EQUAL(load_be<std::uint64_t>(c.out, 0), disk_bytes);
  }
}

BOOST_AUTO_TEST_CASE(a_client_without_fixed_newstyle_may_only_name_an_export) {
  conversation c;
  check_fails(c.feed(client_flags(2) + option_of(n::option::go, go_data("disk"))), n::ec::broken,
              "without fixed newstyle");
}

BOOST_AUTO_TEST_CASE(list_names_the_one_export) {
  auto answers = answers_to(option_of(n::option::list));
  check_types(answers, {reply::server, reply::ack});
  bytes expected;
  put_string(expected, "disk");
  BOOST_CHECK(answers[0].data == expected);
  check_types(answers_to(option_of(n::option::list, bytes(1))), {reply::err_invalid});
}

BOOST_AUTO_TEST_CASE(abort_is_acknowledged_and_ends) {
  conversation c;
  check_fails(c.feed(client_flags() + option_of(n::option::abort, bytes(5))), n::ec::aborted, "");
  check_types(c.answers(), {reply::ack});
}

BOOST_AUTO_TEST_CASE(unknown_options_are_unsupported_and_harmless) {
  for (std::uint32_t number : {0u, 4u, 5u, 11u, 0xffffffffu}) {
    auto answers = answers_to(option_of(number, bytes(100)));
    check_types(answers, {reply::err_unsup});
    BOOST_CHECK_EQUAL(answers[0].option, number);
  }
}

BOOST_AUTO_TEST_CASE(structured_replies_take_no_data) {
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::structured_reply, bytes(1))));
  check_types(c.answers(), {reply::err_invalid});
  BOOST_CHECK(!c.server.agreed().structured_replies);
}

BOOST_AUTO_TEST_CASE(the_allocation_context_is_set_once_it_is_named) {
  conversation c;
  BOOST_REQUIRE(c.feed(qemu_handshake()));
  BOOST_CHECK(c.server.is_done());
  BOOST_CHECK(c.server.agreed().structured_replies);
  BOOST_CHECK(c.server.agreed().allocation_context);
  auto answers = c.answers();
  check_types(answers,
              {reply::ack, reply::meta_context, reply::ack, reply::info, reply::info, reply::ack});
  bytes expected;
  put(expected, n::allocation_context_id);
  put_text(expected, "base:allocation");
  BOOST_CHECK(answers[1].data == expected);
}

BOOST_AUTO_TEST_CASE(contexts_are_replaced_by_the_last_set_even_if_it_fails) {
  auto set = [](const bytes& data) {
    return option_of(n::option::set_meta_context, data);
  };
  auto good = set(context_data("disk", {"x-other:thing", "base:allocation"}));
  for (const auto& after : {set(context_data("disk", {})), set(context_data("disk", {"base:"})),
                            set(context_data("other", {"base:allocation"})), set(bytes(3)),
                            set(context_data("disk", {"base:allocation"}) + bytes(1)),
                            set(context_data("disk", {"base:allocations"}))}) {
    conversation c;
    BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::structured_reply) + good));
    BOOST_CHECK(c.server.agreed().allocation_context);
    BOOST_REQUIRE(c.feed(after));
    BOOST_CHECK(!c.server.agreed().allocation_context);
  }
}

BOOST_AUTO_TEST_CASE(contexts_need_structured_replies) {
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::set_meta_context,
                                                  context_data("disk", {"base:allocation"}))));
  check_types(c.answers(), {reply::err_invalid});
  BOOST_CHECK(!c.server.agreed().allocation_context);
}

BOOST_AUTO_TEST_CASE(listing_contexts_sets_none) {
  auto list = [](const std::vector<std::string>& queries) {
    return answers_to(option_of(n::option::list_meta_context, context_data("disk", queries)));
  };
  check_types(list({}), {reply::meta_context, reply::ack});
  check_types(list({"base:"}), {reply::meta_context, reply::ack});
  check_types(list({"base:allocation", "base:allocation"}), {reply::meta_context, reply::ack});
  check_types(list({"qemu:"}), {reply::ack});
  BOOST_CHECK_EQUAL(load_be<std::uint32_t>(list({}).at(0).data, 0), 0u);
  conversation c;
  BOOST_REQUIRE(c.feed(client_flags() + option_of(n::option::structured_reply) +
                       option_of(n::option::list_meta_context, context_data("disk", {}))));
  BOOST_CHECK(!c.server.agreed().allocation_context);
}

BOOST_AUTO_TEST_CASE(four_billion_queries_are_refused_at_once) {
  bytes data;
  put_string(data, "disk");
  put(data, std::uint32_t{0xffffffff});
  put_string(data, "base:allocation");
  check_types(answers_to(option_of(n::option::set_meta_context, data)), {reply::err_invalid});
}

BOOST_AUTO_TEST_CASE(the_same_bytes_in_any_pieces_give_the_same) {
  auto in = qemu_handshake(); // its last option is GO: the others go before it
  auto go = option_of(n::option::go, go_data("disk"));
  in.resize(in.size() - go.size());
  in = in + option_of(77, bytes(300)) + option_of(n::option::list) +
       option_of(n::option::list_meta_context, context_data("disk", {})) +
       option_of(n::option::info, go_data("nothing")) + go;
  conversation whole;
  BOOST_REQUIRE(whole.feed(in));
  BOOST_REQUIRE(whole.server.is_done());
  for (std::size_t piece = 1; piece < 64; ++piece) {
    conversation pieces;
    BOOST_REQUIRE(pieces.feed(in, piece));
    BOOST_CHECK(pieces.server.is_done());
    BOOST_CHECK(pieces.out == whole.out);
  }
  for (std::size_t cut = 0; cut <= in.size(); ++cut) {
    conversation halves;
    auto middle = in.begin() + static_cast<long>(cut);
    BOOST_REQUIRE(halves.feed({in.begin(), middle}));
    BOOST_REQUIRE(halves.feed({middle, in.end()}));
    BOOST_CHECK(halves.out == whole.out);
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_taken_beyond_the_handshake) {
  conversation c;
  auto hello = qemu_handshake();
  BOOST_REQUIRE(c.feed(hello + bytes(1000)));
  BOOST_CHECK_EQUAL(c.taken, hello.size());
  BOOST_CHECK_EQUAL(c.server.take(bytes(10), c.out).value(), 0u);
}

BOOST_AUTO_TEST_CASE(one_option_is_taken_at_a_time_so_replies_are_bounded) {
  conversation c;
  auto option = option_of(n::option::list);
  auto in = client_flags() + option + option + option;
  BOOST_CHECK_EQUAL(c.server.take(in, c.out).value(), 4 + option.size());
  check_types(c.answers(), {reply::server, reply::ack});
}

BOOST_AUTO_TEST_CASE(what_cannot_be_followed_ends_the_handshake) {
  conversation flags;
  check_fails(flags.feed(client_flags(4)), n::ec::broken, "client flags");
  conversation magic;
  check_fails(magic.feed(client_flags() + bytes(16)), n::ec::broken, "IHAVEOPT");
  conversation length;
  auto option = option_of(n::option::go);
  store_be(option, 12, std::uint32_t{n::option_data_bytes_max + 1});
  check_fails(length.feed(client_flags() + option), n::ec::broken, "8193 bytes");
  conversation many;
  BOOST_REQUIRE(many.feed(client_flags()));
  for (std::size_t i = 0; i < n::options_max; ++i) {
    BOOST_REQUIRE(many.feed(option_of(99)));
  }
  check_fails(many.feed(option_of(99)), n::ec::broken, "options");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(transmission)

using n::command;

BOOST_AUTO_TEST_CASE(a_request_is_read_as_it_was_written) {
  auto r = n::parse_request(request_of(command::write, 0x1122334455667788, 0x99aabb000, 8192, 1));
  BOOST_REQUIRE(r);
  BOOST_CHECK(r->is(command::write));
  BOOST_CHECK_EQUAL(r->cookie, 0x1122334455667788u);
  BOOST_CHECK_EQUAL(r->offset, 0x99aabb000u);
  BOOST_CHECK_EQUAL(r->length, 8192u);
  BOOST_CHECK_EQUAL(r->flags, 1);
  BOOST_CHECK_EQUAL(r->payload_bytes(), 8192u);
  auto wrong = request_of(command::read, 1, 0, 4096);
  wrong[3] = std::byte{0};
  BOOST_CHECK(!n::parse_request(wrong));
}

BOOST_AUTO_TEST_CASE(ranges_must_lie_on_the_disk_in_whole_clusters) {
  for (auto c : {command::read, command::write, command::trim, command::write_zeroes,
                 command::block_status}) {
    BOOST_CHECK(!is_refused(request_of(c, 1, 0, 4096)));
    BOOST_CHECK(!is_refused(request_of(c, 1, disk_bytes - 4096, 4096)));
    BOOST_CHECK(is_refused(request_of(c, 1, disk_bytes - 4096, 8192)));
    BOOST_CHECK(is_refused(request_of(c, 1, disk_bytes, 4096)));
    BOOST_CHECK(is_refused(request_of(c, 1, 0xffff'ffff'ffff'f000, 4096)));
    BOOST_CHECK(is_refused(request_of(c, 1, 0xffff'ffff'ffff'f000, 8192)));
    BOOST_CHECK(is_refused(request_of(c, 1, 512, 4096)));
    BOOST_CHECK(is_refused(request_of(c, 1, 4096, 512)));
    BOOST_CHECK(is_refused(request_of(c, 1, 4096, 0)));
  }
}

BOOST_AUTO_TEST_CASE(only_payloads_are_limited_to_32_mib) {
  for (auto c : {command::read, command::write}) {
    BOOST_CHECK(!is_refused(request_of(c, 1, 0, 32u << 20)));
    BOOST_CHECK(is_refused(request_of(c, 1, 0, (32u << 20) + 4096)));
  }
  for (auto c : {command::trim, command::write_zeroes, command::block_status}) {
    BOOST_CHECK(!is_refused(request_of(c, 1, 0, 0xfffff000)));
  }
  auto is_hostile = [](command c, std::uint32_t length) {
    return n::is_hostile(*n::parse_request(request_of(c, 1, 0, length)));
  };
  BOOST_CHECK(is_hostile(command::write, 0xfffff000));
  BOOST_CHECK(!is_hostile(command::write, 32u << 20));
  BOOST_CHECK(!is_hostile(command::read, 0xfffff000));
}

BOOST_AUTO_TEST_CASE(flags_go_with_the_commands_that_know_them) {
  struct known {
    command c;
    std::uint16_t flags;
  };
  for (auto [c, flags] :
       {known{command::read, n::flag_fua | n::flag_df}, known{command::write, n::flag_fua},
        known{command::trim, n::flag_fua},
        known{command::write_zeroes, n::flag_fua | n::flag_no_hole | n::flag_fast_zero},
        known{command::block_status, n::flag_fua | n::flag_req_one}}) {
    for (unsigned bit = 0; bit < 16; ++bit) {
      auto flag = static_cast<std::uint16_t>(1u << bit);
      BOOST_CHECK_EQUAL(is_refused(request_of(c, 1, 0, 4096, flag)), (flags & flag) == 0);
    }
  }
  BOOST_CHECK(is_refused(request_of(command::read, 1, 0, 4096, n::flag_df), {false, false}));
}

BOOST_AUTO_TEST_CASE(flush_and_disc_carry_nothing) {
  for (auto c : {command::flush, command::disc}) {
    BOOST_CHECK(!is_refused(request_of(c, 1, 0, 0)));
    BOOST_CHECK(is_refused(request_of(c, 1, 0, 1)));
    BOOST_CHECK(is_refused(request_of(c, 1, 1, 0)));
  }
}

BOOST_AUTO_TEST_CASE(block_status_needs_its_context) {
  BOOST_CHECK(is_refused(request_of(command::block_status, 1, 0, 4096), {true, false}));
}

BOOST_AUTO_TEST_CASE(unknown_commands_are_refused) {
  for (unsigned type : {5u, 8u, 9u, 0xffffu}) {
    BOOST_CHECK(is_refused(request_of(static_cast<command>(type), 1, 0, 4096)));
  }
}

BOOST_AUTO_TEST_CASE(replies_are_simple_but_where_the_protocol_wants_a_chunk) {
  auto encoded = [](command c, n::error what, n::agreement agreed) {
    bytes out(n::short_reply_bytes_max);
    out.resize(
        n::encode_reply(*n::parse_request(request_of(c, 0xabcd, 4096, 4096)), what, agreed, out));
    return out;
  };
  bytes simple;
  put(simple, n::simple_reply_magic);
  put(simple, std::uint32_t{5});
  put(simple, std::uint64_t{0xabcd});
  BOOST_CHECK(encoded(command::write, n::error::io, {true, true}) == simple);
  BOOST_CHECK(encoded(command::read, n::error::io, {false, false}) == simple);
  bytes chunk;
  put(chunk, n::structured_reply_magic);
  put(chunk, std::uint16_t{1});
  put(chunk, std::uint16_t{0x8001});
  put(chunk, std::uint64_t{0xabcd});
  put(chunk, std::uint32_t{6});
  put(chunk, std::uint32_t{5});
  put(chunk, std::uint16_t{0});
  BOOST_CHECK(encoded(command::read, n::error::io, {true, true}) == chunk);
  BOOST_CHECK(encoded(command::block_status, n::error::io, {true, true}) == chunk);
}

BOOST_AUTO_TEST_CASE(a_read_is_answered_by_one_chunk) {
  bytes out(n::read_header_bytes_max);
  auto r = *n::parse_request(request_of(command::read, 7, 0x5000, 0x3000));
  BOOST_CHECK_EQUAL(n::encode_read_header(r, {true, true}, out), 28u);
  bytes expected;
  put(expected, n::structured_reply_magic);
  put(expected, std::uint16_t{1});
  put(expected, std::uint16_t{1});
  put(expected, std::uint64_t{7});
  put(expected, std::uint32_t{0x3008});
  put(expected, std::uint64_t{0x5000});
  BOOST_CHECK(out == expected);
  BOOST_CHECK_EQUAL(n::encode_read_header(r, {false, false}, out), 16u);
  BOOST_CHECK_EQUAL(load_be<std::uint32_t>(out, 0), n::simple_reply_magic);
}

BOOST_AUTO_TEST_CASE(block_status_is_one_chunk_of_descriptors) {
  bytes out(n::status_reply_bytes(2));
  auto r = *n::parse_request(request_of(command::block_status, 7, 0, 0x5000));
  n::encode_status_header(r, 2, out);
  n::encode_status_run(0, 0x1000, 0, out);
  n::encode_status_run(1, 0x4000, 3, out);
  bytes expected;
  put(expected, n::structured_reply_magic);
  put(expected, std::uint16_t{1});
  put(expected, std::uint16_t{5});
  put(expected, std::uint64_t{7});
  put(expected, std::uint32_t{20});
  for (auto word : {1u, 0x1000u, 0u, 0x4000u, 3u}) {
    put(expected, std::uint32_t{word});
  }
  BOOST_CHECK(out == expected);
}

BOOST_AUTO_TEST_CASE(errno_becomes_one_of_the_few_errors_of_the_wire) {
  BOOST_CHECK(n::error_of(0) == n::error::none);
  BOOST_CHECK(n::error_of(EDQUOT) == n::error::nospc);
  BOOST_CHECK(n::error_of(EFBIG) == n::error::nospc);
  BOOST_CHECK(n::error_of(EROFS) == n::error::perm);
  BOOST_CHECK(n::error_of(ESHUTDOWN) == n::error::shutdown);
  BOOST_CHECK(n::error_of(EBADF) == n::error::io);
}

BOOST_AUTO_TEST_SUITE_END()
