#define BOOST_TEST_MODULE json_text
#include "gateway/http/json_text.hpp"

#include "gateway/http/json_fields.hpp"
#include "gateway/http/listing_text.hpp"

#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <string>

using namespace coppice::gateway;
namespace json = boost::json;

namespace {

std::string encoded(std::string_view bytes, std::size_t piece) {
  base64_encoder encoder;
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += piece) {
    encoder.append(out, bytes.substr(i, piece));
  }
  encoder.finish(out);
  return out;
}

std::string parsed_back(std::string_view bytes) {
  std::string text;
  append_json_string(text, bytes);
  auto value = json::parse(text);
  return {value.as_string().data(), value.as_string().size()};
}

std::string number(double value) {
  json_writer out;
  out.value(value);
  return out.take();
}

} // namespace

BOOST_AUTO_TEST_CASE(every_byte_string_becomes_valid_json) {
  std::string all;
  for (int c = 0; c < 256; ++c) {
    all += static_cast<char>(c);
  }
  BOOST_TEST(parsed_back(all).substr(0, 128) == all.substr(0, 128));
  BOOST_TEST(parsed_back("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x8C\xB3") // ä € 🌳
             == "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x8C\xB3");
  const std::string bad = "\xEF\xBF\xBD";
  BOOST_TEST(parsed_back("a\xFFz") == "a" + bad + "z");
  BOOST_TEST(parsed_back("\xC0\x80") == bad + bad);                     // overlong
  BOOST_TEST(parsed_back("\xED\xA0\x80") == bad + bad + bad);           // surrogate
  BOOST_TEST(parsed_back("\xE2\x82") == bad + bad);                     // cut short
  BOOST_TEST(parsed_back("\xF4\x90\x80\x80") == bad + bad + bad + bad); // beyond U+10FFFF
}

BOOST_AUTO_TEST_CASE(base64_of_pieces_is_base64_of_the_whole) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    bytes += static_cast<char>(i * 7);
  }
  for (std::size_t size = 0; size < 12; ++size) {
    auto part = bytes.substr(0, size);
    for (std::size_t piece = 1; piece <= 5; ++piece) {
      BOOST_TEST(encoded(part, piece) == encoded(part, 1000));
    }
    BOOST_TEST(base64_decode(encoded(part, 4)).value_or("?") == part);
  }
  BOOST_TEST(encoded("Man", 1) == "TWFu");
  BOOST_TEST(encoded("Ma", 1) == "TWE=");
  BOOST_TEST(encoded("M", 1) == "TQ==");
  BOOST_TEST(base64_decode(encoded(bytes, 7)).value_or("?") == bytes);
}

BOOST_AUTO_TEST_CASE(what_is_not_base64_is_refused) {
  for (auto text : {"T", "TQ", "TQ=", "TQ===", "T=Q=", "TQ==TQ==", "T!Fu", "=", "===="}) {
    BOOST_TEST(!base64_decode(text).has_value(), text);
  }
  BOOST_TEST(base64_decode("TW\nFu").value_or("?") == "Man");
  BOOST_TEST(base64_decode("").value_or("?").empty());
}

BOOST_AUTO_TEST_CASE(plain_output_is_printable_ascii_with_tabs_and_line_ends) {
  BOOST_TEST(is_plain(" ~\t\r\n"));
  BOOST_TEST(is_plain(""));
  BOOST_TEST(!is_plain("\x7F"));
  BOOST_TEST(!is_plain("\x1B[0m"));
  BOOST_TEST(!is_plain("\xC3\xA4"));
  BOOST_TEST(!is_plain(std::string(1, '\0')));
}

BOOST_AUTO_TEST_CASE(numbers_are_written_as_people_write_them) {
  BOOST_TEST(number(0.0) == "0.0");
  BOOST_TEST(number(1.25) == "1.25");
  BOOST_TEST(number(0.000001) == "0.000001");
  BOOST_TEST(number(123456789.0) == "123456789.0");
}

BOOST_AUTO_TEST_CASE(a_writer_puts_commas_between_values_only) {
  json_writer out;
  out.begin_object();
  out.member("a", 1);
  out.key("b");
  out.begin_array();
  out.end_array();
  out.key("c");
  out.begin_array();
  out.value("x");
  out.value(nullptr);
  out.begin_object();
  out.end_object();
  out.end_array();
  out.member("d", true);
  out.end_object();
  BOOST_TEST(out.take() == R"({"a":1,"b":[],"c":["x",null,{}],"d":true})");
}

BOOST_AUTO_TEST_CASE(a_body_must_be_one_object) {
  BOOST_TEST(parse_json_object(R"( {"a":1} )").has_value());
  for (auto text : {"", "{", "[]", "null", "{} x", R"({"a":})", "\xFF"}) {
    auto parsed = parse_json_object(text);
    BOOST_REQUIRE(parsed.has_error());
    BOOST_TEST(parsed.error().status == 400u);
  }
  std::string deep(1000, '[');
  BOOST_TEST(parse_json_object(R"({"a":)" + deep).has_error());
}

BOOST_AUTO_TEST_CASE(fields_of_a_wrong_type_are_named_and_null_is_absent) {
  auto object = *parse_json_object(
      R"({"n":null,"t":5,"i":1.5,"b":"yes","big":18446744073709551615,"in":{"x":7}})");
  json_fields fine{object};
  BOOST_TEST(!fine.text("n").has_value());
  BOOST_TEST(!fine.flag("absent").has_value());
  BOOST_TEST(!fine.failed());

  auto refused = [&](auto read) {
    json_fields fields{object};
    read(fields);
    BOOST_REQUIRE(fields.failed());
    return fields.error().text;
  };
  BOOST_TEST(refused([](auto& f) { f.text("t"); }) == "t must be a string");
  BOOST_TEST(refused([](auto& f) { f.integer("i", 0, 9); }) == "i must be a whole number");
  BOOST_TEST(refused([](auto& f) { f.integer("big", 0, 9); }) == "big must be between 0 and 9");
  BOOST_TEST(refused([](auto& f) { f.flag("b"); }) == "b must be true or false");
  BOOST_TEST(refused([](auto& f) { f.array("in"); }) == "in must be an array");
  BOOST_TEST(refused([](auto& f) { f.inside("in", *f.object("in")).text("x"); }) ==
             "in.x must be a string");
}

BOOST_AUTO_TEST_CASE(listings_read_like_ls) {
  BOOST_TEST(mode_text(0100644) == "-rw-r--r--");
  BOOST_TEST(mode_text(0041777) == "drwxrwxrwt");
  BOOST_TEST(mode_text(0104755) == "-rwsr-xr-x");
  BOOST_TEST(mode_text(0102644) == "-rw-r-Sr--");
  BOOST_TEST(human_size(1023) == "1023");
  BOOST_TEST(human_size(1536) == "1.5K");
  BOOST_TEST(human_size(20u << 20) == "20M");
  BOOST_TEST(human_size(UINT64_MAX) == "16E");
}
