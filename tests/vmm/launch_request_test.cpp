#define BOOST_TEST_MODULE vmm_launch_request
#include <boost/test/unit_test.hpp>

#include "vmm/launch_request.hpp"
#include "vmm/launcher.hpp"

#include <cstring>

using namespace coppice::vmm;

namespace {

launch_request some_request() {
  launch_request out;
  out.kind = child_kind::qemu;
  out.needs_kvm = true;
  out.address_space_bytes = 1ull << 33;
  out.file_bytes = 5;
  out.memory_bytes = 1ull << 30;
  out.placements = {0, 1, 2, 20, placement::lifeline};
  out.arguments = {"-M", "microvm", "", std::string(3000, 'x')};
  return out;
}

/// As a daemon that was taken over might: not through encode's own checks.
std::vector<std::byte> bytes_with(std::size_t offset, std::uint64_t value, std::size_t size) {
  auto bytes = *encode(some_request());
  std::memcpy(bytes.data() + offset, &value, size);
  return bytes;
}

constexpr std::size_t kind_offset = 4;
constexpr std::size_t flags_offset = 5;
constexpr std::size_t arguments_offset = 6;
constexpr std::size_t descriptors_offset = 8;
constexpr std::size_t placements_offset = 34;

void require_refused(std::span<const std::byte> bytes, std::size_t descriptors,
                     const std::string& why) {
  auto parsed = parse_launch_request(bytes, descriptors);
  BOOST_REQUIRE(!parsed);
  BOOST_TEST((parsed.error().code == ec::protocol));
  BOOST_TEST(parsed.error().text.find(why) != std::string::npos, parsed.error().text);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_request_arrives_as_it_was_sent) {
  auto sent = some_request();
  auto parsed = parse_launch_request(*encode(sent), sent.placements.size());
  BOOST_REQUIRE(parsed.has_value());
  BOOST_TEST((parsed->kind == sent.kind));
  BOOST_TEST(parsed->needs_kvm);
  BOOST_TEST(parsed->address_space_bytes == sent.address_space_bytes);
  BOOST_TEST(parsed->file_bytes == sent.file_bytes);
  BOOST_TEST(parsed->memory_bytes == sent.memory_bytes);
  BOOST_TEST(parsed->placements == sent.placements);
  BOOST_TEST(parsed->arguments == sent.arguments);
}

BOOST_AUTO_TEST_CASE(every_truncation_and_every_extension_is_refused) {
  const auto bytes = *encode(some_request());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    BOOST_TEST(!parse_launch_request(std::span{bytes}.first(size), 5));
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  require_refused(longer, 5, "length");
}

BOOST_AUTO_TEST_CASE(kinds_that_do_not_exist_are_refused) {
  require_refused(bytes_with(kind_offset, 0, 1), 5, "no such kind");
  for (unsigned kind = child_kinds; kind < 256; ++kind) {
    require_refused(bytes_with(kind_offset, kind, 1), 5, "no such kind");
  }
}

BOOST_AUTO_TEST_CASE(unknown_flags_are_refused_and_kvm_is_for_qemu_alone) {
  require_refused(bytes_with(flags_offset, 2, 1), 5, "unknown flag");
  require_refused(bytes_with(flags_offset, 0x81, 1), 5, "unknown flag");
  auto request = some_request();
  request.kind = child_kind::skopeo;
  BOOST_TEST(!encode(request));
  require_refused(bytes_with(kind_offset, static_cast<unsigned>(child_kind::skopeo), 1), 5, "KVM");
}

BOOST_AUTO_TEST_CASE(counts_are_bounded_before_anything_is_kept) {
  require_refused(bytes_with(arguments_offset, 0xffff, 2), 5, "too many");
  require_refused(bytes_with(arguments_offset, launch_limits::arguments_max + 1, 2), 5, "too many");
  require_refused(bytes_with(descriptors_offset, launch_limits::descriptors_max + 1, 2), 5,
                  "too many");
  require_refused(std::vector<std::byte>(launch_limits::request_bytes_max + 1), 0, "too long");
}

BOOST_AUTO_TEST_CASE(the_descriptors_that_came_must_be_those_that_are_placed) {
  const auto bytes = *encode(some_request());
  require_refused(bytes, 4, "another number of descriptors");
  require_refused(bytes, 6, "another number of descriptors");
  require_refused(bytes, 0, "another number of descriptors");
}

BOOST_AUTO_TEST_CASE(places_are_in_range_and_given_once) {
  require_refused(bytes_with(placements_offset, 256, 2), 5, "out of range");
  require_refused(bytes_with(placements_offset, 0x7fff, 2), 5, "out of range");
  require_refused(bytes_with(placements_offset, 0xfffc, 2), 5, "out of range"); // -4
  require_refused(bytes_with(placements_offset, 20, 2), 5, "twice");
  require_refused(bytes_with(placements_offset, 0xffff, 2), 5, "twice"); // a second life-line
  auto request = some_request();
  request.placements.pop_back();
  BOOST_TEST(encode(request).error().text.find("life-line") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(folders_are_only_for_the_kinds_that_work_on_one) {
  for (auto kind : {child_kind::qemu, child_kind::inspect_worker}) {
    for (auto place : {placement::scratch, placement::layout}) {
      auto request = some_request();
      request.kind = kind;
      request.needs_kvm = false;
      request.placements = {placement::lifeline, place};
      BOOST_REQUIRE(!encode(request));
      BOOST_TEST(encode(request).error().text.find("no folder") != std::string::npos);
    }
  }
  auto request = some_request();
  request.kind = child_kind::import_worker;
  request.needs_kvm = false;
  request.placements = {placement::lifeline, placement::scratch, placement::layout};
  BOOST_TEST(encode(request).has_value());
}

BOOST_AUTO_TEST_CASE(an_argument_cannot_hide_a_second_one) {
  auto request = some_request();
  request.arguments = {std::string{"a\0b", 3}};
  BOOST_TEST(encode(request).error().text.find("zero byte") != std::string::npos);
  request.arguments = {"a b"};
  auto bytes = *encode(request);
  bytes[bytes.size() - 2] = std::byte{0};
  require_refused(bytes, 5, "zero byte");
}

BOOST_AUTO_TEST_CASE(requests_that_are_too_long_are_not_sent) {
  auto request = some_request();
  request.arguments.assign(launch_limits::arguments_max + 1, "x");
  BOOST_TEST(!encode(request));
  request.arguments = {std::string(launch_limits::request_bytes_max, 'x')};
  BOOST_TEST(!encode(request));
  request.arguments.assign(3, std::string(launch_limits::request_bytes_max / 2, 'x'));
  BOOST_TEST(!encode(request));
}

BOOST_AUTO_TEST_CASE(the_launcher_reads_its_own_command_line_and_no_other) {
  launcher_config config;
  config.contents.programs[static_cast<std::size_t>(child_kind::qemu)] = "/usr/bin/q=e m u";
  config.contents.programs[static_cast<std::size_t>(child_kind::skopeo)] = "/s";
  config.contents.guest_files = {"/k=1", "/i"};
  config.uid_first = 2'000'000'000;
  config.uid_count = 7;
  config.owner_uid = 12;
  config.owner_gid = 13;
  auto read = parse_launcher_arguments(to_arguments(config));
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST(read->contents.programs == config.contents.programs);
  BOOST_TEST(read->contents.guest_files == config.contents.guest_files);
  BOOST_TEST(read->uid_first == config.uid_first);
  BOOST_TEST(read->uid_count == config.uid_count);
  BOOST_TEST(read->owner_uid == config.owner_uid);
  BOOST_TEST(read->owner_gid == config.owner_gid);
  for (const char* wrong : {"", "uid-first", "uid-first=x", "uid-first=-1", "uid-first=4294967296",
                            "program.sh=/bin/sh", "program.plain=/bin/sh", "other=1"}) {
    BOOST_TEST(!parse_launcher_arguments({wrong}).has_value(), wrong);
  }
}
