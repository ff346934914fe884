#define BOOST_TEST_MODULE http_parts
#include <boost/test/unit_test.hpp>

#include "gateway/http/client_address.hpp"
#include "gateway/http/gzip.hpp"
#include "gateway/http/pace.hpp"
#include "gateway/http/request_head.hpp"
#include "gateway/http/request_id.hpp"
#include "tests/support/gunzip.hpp"

#include <boost/asio/ip/address.hpp>

#include <cstdint>
#include <string>
#include <vector>

using namespace coppice::gateway;
using namespace std::chrono_literals;
using coppice::test::gunzip;

// What the server decides about a request by itself, without sockets and clocks.

namespace {

/// The status that a head is refused with; 0: it passes.
unsigned judge(const std::string& head) {
  auto wrong = check_head(head);
  return wrong ? wrong->status : 0;
}

std::string request(const std::string& headers, const std::string& line = "POST / HTTP/1.1") {
  return line + "\r\nHost: x\r\n" + headers + "\r\n";
}

ip_address ip(const std::string& text) {
  return boost::asio::ip::make_address(text);
}

} // namespace

BOOST_AUTO_TEST_SUITE(heads)

BOOST_AUTO_TEST_CASE(usual_requests_pass) {
  for (const auto& head :
       {request(""), request("Content-Length: 0\r\n"), request("content-length:5\r\n"),
        request("Transfer-Encoding: chunked\r\n"), request("transfer-encoding: \tCHUNKED \r\n"),
        request("Expect: 100-continue\r\n"), request("X-Empty:\r\nX-Text: a\tb \xc3\xa9\r\n"),
        request("", "GET http://x/v1?path=/etc/passwd&tag=a:b HTTP/1.1"),
        request("", "M-SEARCH * HTTP/1.0"), std::string{"GET / HTTP/1.0\r\n\r\n"}}) {
    BOOST_TEST(judge(head) == 0u, head);
  }
}

BOOST_AUTO_TEST_CASE(a_request_whose_end_is_open_to_doubt_is_refused) {
  for (const auto* headers : {"Content-Length: 5\r\nContent-Length: 5\r\n",
                              "Content-Length: 5\r\nContent-Length: 6\r\n",
                              "Content-Length: 5, 5\r\n",
                              "Content-Length: +5\r\n",
                              "Content-Length: -5\r\n",
                              "Content-Length: 0x5\r\n",
                              "Content-Length: 5 5\r\n",
                              "Content-Length:\r\n",
                              "Content-Length: 99999999999999999999\r\n",
                              "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                              "Transfer-Encoding: xchunked\r\n",
                              "Transfer-Encoding: gzip, chunked\r\n",
                              "Transfer-Encoding: chunked, identity\r\n",
                              "Transfer-Encoding: identity\r\n",
                              "Transfer-Encoding: \"chunked\"\r\n",
                              "Transfer-Encoding:\r\n",
                              "Transfer-Encoding: \x0b"
                              "chunked\r\n",
                              "Transfer-Encoding : chunked\r\n",
                              "Content-Length : 5\r\n",
                              " Content-Length: 5\r\n",
                              "X: a\r\n Content-Length: 5\r\n",
                              "X: a\r\n\tb\r\n",
                              "X: a\nContent-Length: 5\r\n",
                              "X: a\rContent-Length: 5\r\n",
                              "no colon\r\n",
                              ": no name\r\n",
                              "na\xc3\xa9me: x\r\n",
                              "na me: x\r\n",
                              "X: a\x01\r\n",
                              "X: a\x7f\r\n",
                              "Host: y\r\n",
                              "Authorization: a\r\nAuthorization: b\r\n"}) {
    BOOST_TEST(judge(request(headers)) == 400u, headers);
  }
  BOOST_TEST(judge("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == 400u);
  BOOST_TEST(judge("POST / HTTP/1.1\r\n\r\n") == 400u, "no Host");
  BOOST_TEST(judge("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n") == 400u);
  BOOST_TEST(judge(request("Expect: a miracle\r\n")) == 417u);
}

BOOST_AUTO_TEST_CASE(a_first_line_that_is_none_is_refused) {
  for (const auto* line :
       {"", " GET / HTTP/1.1", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET /",
        "GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/1.10", "GET / http/1.1", "GET\t/ HTTP/1.1",
        "GET /\x01 HTTP/1.1", "G(T / HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/1.1\rX"}) {
    BOOST_TEST(judge(request("", line)) == 400u, line);
  }
  BOOST_TEST(judge(request("", std::string(33, 'G') + " / HTTP/1.1")) == 400u);
}

BOOST_AUTO_TEST_CASE(the_end_of_a_head_is_found_however_it_is_cut) {
  const auto head = request("Content-Length: 3\r\n");
  const auto bytes = head + "abc\r\n\r\n";
  for (std::size_t step = 1; step < bytes.size(); ++step) {
    head_scanner scanner{head_limits{}};
    std::size_t found = 0;
    for (std::size_t end = step; found == 0 && end < bytes.size() + step; end += step) {
      auto progress = scanner.scan(std::string_view{bytes}.substr(0, end));
      BOOST_TEST(!progress.refused);
      found = progress.head_bytes.value_or(0);
    }
    BOOST_TEST(found == head.size(), step);
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_become_a_head_is_refused_before_it_is_whole) {
  const head_limits limits{100, 200, 10};
  auto status = [&](const std::string& bytes) {
    auto progress = head_scanner{limits}.scan(bytes);
    return progress.refused ? progress.refused->status : 0u;
  };
  BOOST_TEST(status("GET /" + std::string(90, 'x')) == 0u);
  BOOST_TEST(status("GET /" + std::string(96, 'x')) == 414u);
  BOOST_TEST(status("GET / HTTP/1.1\r\nX: " + std::string(190, 'x')) == 0u);
  BOOST_TEST(status("GET / HTTP/1.1\r\nX: " + std::string(200, 'x')) == 431u);
  std::string lines = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 10; ++i) {
    lines += "a: b\r\n";
  }
  BOOST_TEST(*head_scanner{limits}.scan(lines + "\r\n").head_bytes == lines.size() + 2);
  BOOST_TEST(status(lines + "a: b\r\n") == 0u);
  BOOST_TEST(status(lines + "a: b\r\n\r\n") == 431u);
  BOOST_TEST(status("GET / HTTP/1.1\n") == 400u);
  BOOST_TEST(status("GET / HTTP/1.1\r\nX: a\n") == 400u);
  BOOST_TEST(status(std::string{"GET /\0", 6}) == 400u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(gzip)

BOOST_AUTO_TEST_CASE(gzip_is_used_only_where_the_client_allows_it) {
  for (const auto* yes :
       {"gzip", "GZIP", "gzip, deflate", "deflate, gzip;q=0.5", "x-gzip", "*", "br;q=1.0, *;q=0.1",
        "gzip;q=1", "gzip ; q=0.001", "identity;q=0.5, gzip;q=1.000", ",,gzip", "gzip;a=b"}) {
    BOOST_TEST(accepts_gzip(yes), yes);
  }
  for (const auto* no : {"", "identity", "deflate", "gzip;q=0", "gzip;q=0.000", "gzip;q=0, *",
                         "*;q=0", "gzipped", "gzip;q=", "gzip;q=-1", "gzip;q=2", "gzip;q=1.5",
                         "gzip;q=0.0000", "gzip;q=x", ";q=1", "br, identity;q=1"}) {
    BOOST_TEST(!accepts_gzip(no), no);
  }
}

BOOST_AUTO_TEST_CASE(what_was_flushed_can_be_read_and_the_end_is_marked) {
  gzip_encoder encoder;
  gunzip reader;
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    auto frame = "id: " + std::to_string(i) + "\n" + std::string(static_cast<std::size_t>(i), 'x');
    expected += frame;
    auto packed = encoder.add(frame);
    packed += encoder.flush();
    BOOST_TEST(reader.read(packed) == frame);
    BOOST_TEST(!reader.is_ended());
  }
  BOOST_TEST(reader.read(encoder.finish()).empty());
  BOOST_TEST(reader.is_ended());
}

BOOST_AUTO_TEST_CASE(large_pieces_come_out_as_they_went_in) {
  std::string large;
  for (std::uint64_t i = 0; large.size() < 3'000'000; ++i) {
    large += std::to_string(i * 7919);
  }
  gzip_encoder encoder;
  auto packed = encoder.add(large);
  packed += encoder.finish();
  BOOST_TEST(packed.size() < large.size());
  gunzip reader;
  BOOST_TEST((reader.read(packed) == large));
  BOOST_TEST(reader.is_ended());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(paces)

BOOST_AUTO_TEST_CASE(a_client_that_keeps_the_rate_may_go_on_for_ever) {
  pace p{10s, 100};
  pace::clock::time_point now{};
  for (int i = 0; i < 1000; ++i) {
    auto deadline = p.deadline(now);
    BOOST_TEST((deadline - now == 10s));
    now += 9s;
    p.moved(now, 1000);
  }
}

BOOST_AUTO_TEST_CASE(a_trickle_does_not_move_the_deadline) {
  pace p{10s, 100};
  pace::clock::time_point now{};
  const auto end = p.deadline(now);
  for (int i = 0; i < 9; ++i) {
    now += 1s;
    p.moved(now, 1);
    BOOST_TEST((p.deadline(now) == end));
  }
}

BOOST_AUTO_TEST_CASE(what_the_server_takes_in_between_is_not_the_clients) {
  pace p{10s, 100};
  pace::clock::time_point now{};
  static_cast<void>(p.deadline(now));
  now += 4s;
  p.moved(now, 1);
  now += 1h;
  BOOST_TEST((p.deadline(now) - now == 6s));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(clients)

BOOST_AUTO_TEST_CASE(an_ipv6_client_is_its_network) {
  BOOST_TEST((client_of(ip("10.0.0.1")) == ip("10.0.0.1")));
  BOOST_TEST((client_of(ip("2001:db8:1:2:3:4:5:6")) == ip("2001:db8:1:2::")));
  BOOST_TEST((client_of(ip("2001:db8:1:3::1")) != client_of(ip("2001:db8:1:2::1"))));
}

BOOST_AUTO_TEST_CASE(lists_have_addresses_and_networks) {
  const address_list list{{"10.0.0.1", "10.1.0.0/16", "10.2.128.0/17", "fd00::/8", "::1"}};
  for (const auto* in : {"10.0.0.1", "10.1.2.3", "10.2.200.1", "fd12::1", "::1"}) {
    BOOST_TEST(list.has(ip(in)), in);
  }
  for (const auto* out : {"10.0.0.2", "10.2.1.1", "11.1.0.0", "fe80::1", "::2", "0.0.0.1"}) {
    BOOST_TEST(!list.has(ip(out)), out);
  }
  BOOST_TEST(address_list{{"0.0.0.0/0"}}.has(ip("1.2.3.4")));
}

BOOST_AUTO_TEST_CASE(only_trusted_proxies_are_believed) {
  const address_list proxies{{"10.0.0.0/8"}};
  auto client = [&](const char* peer, const char* header) {
    return original_client(proxies, ip(peer), header).to_string();
  };
  BOOST_TEST(client("1.1.1.1", "2.2.2.2") == "1.1.1.1");
  BOOST_TEST(client("10.0.0.1", "") == "10.0.0.1");
  BOOST_TEST(client("10.0.0.1", "2.2.2.2") == "2.2.2.2");
  BOOST_TEST(client("10.0.0.1", "9.9.9.9, 2.2.2.2") == "2.2.2.2");
  BOOST_TEST(client("10.0.0.1", "9.9.9.9, 2.2.2.2 , 10.0.0.7") == "2.2.2.2");
  BOOST_TEST(client("10.0.0.1", "[2001:db8::1]") == "2001:db8::1");
  BOOST_TEST(client("10.0.0.1", "::ffff:2.2.2.2") == "2.2.2.2");
  BOOST_TEST(client("10.0.0.1", "2.2.2.2, nonsense") == "10.0.0.1");
}

BOOST_AUTO_TEST_CASE(request_ids_of_clients_are_kept_when_they_are_harmless) {
  for (const auto* good : {"a", "7d1c-22", "trace:01/2.3_4+5=,@"}) {
    BOOST_TEST(is_request_id(good), good);
  }
  BOOST_TEST(is_request_id(std::string(128, 'x')));
  BOOST_TEST(!is_request_id(std::string(129, 'x')));
  for (const auto* bad : {"", "a b", "a\"b", "a\nb", "<a>", "\xc3\xa9"}) {
    BOOST_TEST(!is_request_id(bad), bad);
  }
  BOOST_TEST(make_request_id(1) != make_request_id(2));
  BOOST_TEST(is_request_id(make_request_id(UINT64_MAX)));
}

BOOST_AUTO_TEST_SUITE_END()
