#define BOOST_TEST_MODULE json_events
#include "gateway/http/json_events.hpp"
#include "protocol/frame.hpp"
#include "protocol/uuid.hpp"
#include "tests/support/event_stream.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <functional>
#include <string>
#include <string_view>

using namespace coppice;
using namespace coppice::gateway;
using coppice::test::sse_frame;
using coppice::test::sse_parser;

namespace {

using fill = std::function<void(proto::Event::Builder)>;

std::string text_of(const fill& make) {
  auto event = make_frame<proto::Event>([&](auto root) {
    root.setId(3);
    root.setAtUnixNs(1'780'948'800'100'000'000);
    root.setSpid(1);
    make(root);
  });
  std::string out;
  append_event_frame(out, *event.view());
  return out;
}

sse_frame frame_of(const fill& make) {
  sse_parser parser;
  parser.feed(text_of(make));
  auto frame = parser.next();
  BOOST_REQUIRE(frame);
  BOOST_TEST(parser.is_empty());
  return *frame;
}

/// The `data` member, as text.
std::string data_of(const fill& make) {
  auto frame = frame_of(make);
  auto body = frame.json();
  BOOST_TEST(body.at("type").as_string() == frame.event);
  return boost::json::serialize(body.at("data"));
}

capnp::Data::Reader bytes(std::string_view text) {
  return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}

} // namespace

BOOST_AUTO_TEST_CASE(a_frame_has_id_event_and_one_line_of_data) {
  auto text = text_of([](auto event) { event.setStdout(bytes("hi\n")); });
  BOOST_TEST(text == "id: 3\n"
                     "event: stdout\n"
                     R"(data: {"id":3,"ts":"2026-06-08T20:00:00.100Z","spid":1,"type":"stdout",)"
                     R"("data":{"value":"hi\n","encoding":"ascii"}})"
                     "\n\n");
}

BOOST_AUTO_TEST_CASE(init_tells_of_the_sandbox) {
  auto data = data_of([](auto event) {
    auto init = event.initInit();
    init.setStartedAtUnixNs(1'780'948'800'000'000'000);
    init.setHostname("box");
    init.setKernel("6.1.0");
    init.setMachine("x86_64");
    init.setInitPid(1);
  });
  BOOST_TEST(data == R"({"started_at":"2026-06-08T20:00:00Z","runtime_path":"/init",)"
                     R"("verbose":false,"init_pid":1,"hostname":"box","kernel":"6.1.0",)"
                     R"("machine":"x86_64"})");
}

BOOST_AUTO_TEST_CASE(spawn_tells_what_is_executed) {
  auto data = data_of([](auto event) {
    auto spawn = event.initSpawn();
    spawn.setPid(42);
    spawn.setCommand("/bin/sh");
    auto args = spawn.initArgs(2);
    args.set(0, "-c");
    args.set(1, "echo \"a\"\n");
    spawn.setShell(true);
    spawn.setCwd("/root");
    spawn.setUid(7);
    spawn.setGid(8);
    spawn.setTimeoutSeconds(60);
    spawn.setTruncateAtBytes(1 << 20);
  });
  BOOST_TEST(data == R"({"pid":42,"command":"/bin/sh","cwd":"/root","args":["-c","echo \"a\"\n"],)"
                     R"("shell":true,"uid":7,"gid":8,"timeout":60,"truncate_at":1048576})");
}

BOOST_AUTO_TEST_CASE(streams_are_text_or_base64_each_event_by_itself) {
  BOOST_TEST(data_of([](auto event) { event.initStdin().setData(bytes("a\tb")); }) ==
             R"({"value":"a\tb","encoding":"ascii"})");
  BOOST_TEST(data_of([](auto event) { event.initStdin().setTruncated(true); }) ==
             R"({"value":"","encoding":"ascii","truncated":true})");
  BOOST_TEST(data_of([](auto event) { event.setStdout(bytes("\xc3\xa4")); }) ==
             R"({"value":"w6Q=","encoding":"base64"})");
  BOOST_TEST(data_of([](auto event) {
               event.setStderr(bytes(std::string_view{"\0", 1}));
             }) == R"({"value":"AA==","encoding":"base64"})");
  BOOST_TEST(data_of([](auto event) { event.setStdout(bytes("")); }) ==
             R"({"value":"","encoding":"ascii"})");
}

BOOST_AUTO_TEST_CASE(exit_has_fifteen_resources_all_whole_numbers) {
  auto frame = frame_of([](auto event) {
    auto exit = event.initExit();
    exit.setPid(42);
    exit.setExitCode(-1);
    exit.setSignal(9);
    exit.setTimedOut(true);
    exit.setElapsedUs(1'234'567);
    auto usage = exit.initUsage();
    usage.setUserTimeUs(1);
    usage.setSystemTimeUs(2);
    usage.setMaxRssKib(3);
    usage.setSharedMemory(4);
    usage.setUnsharedMemory(5);
    usage.setSwaps(6);
    usage.setMinorFaults(7);
    usage.setMajorFaults(8);
    usage.setVoluntarySwitches(9);
    usage.setInvoluntarySwitches(10);
    usage.setBlockInputOps(11);
    usage.setBlockOutputOps(12);
    usage.setMessagesSent(13);
    usage.setMessagesReceived(14);
    usage.setSignalsReceived(15);
  });
  auto data = frame.json().at("data").as_object();
  auto resources = data.at("resources");
  data.erase("resources");
  BOOST_TEST(boost::json::serialize(data) == R"({"pid":42,"code":-1,"signal":9,"timed_out":true,)"
                                             R"("core_dump":false,"duration_ms":1234})");
  BOOST_TEST(boost::json::serialize(resources) ==
             R"({"user_time_us":1,"sys_time_us":2,"max_rss_kb":3,"shared_memory":4,)"
             R"("unshared_memory":5,"swaps":6,"minor_faults":7,"major_faults":8,)"
             R"("voluntary_ctx_switches":9,"involuntary_ctx_switches":10,"block_input_ops":11,)"
             R"("block_output_ops":12,"ipc_msgs_sent":13,"ipc_msgs_received":14,)"
             R"("signals_received":15})");
}

BOOST_AUTO_TEST_CASE(truncated_size_cap_and_shutdown_tell_their_numbers) {
  BOOST_TEST(data_of([](auto event) {
               auto cut = event.initTruncated();
               cut.setIsStderr(true);
               cut.setKeptBytes(10);
               cut.setDroppedBytes(20);
             }) == R"({"stream":"stderr","bytes_emitted":10,"bytes_dropped":20})");
  BOOST_TEST(data_of([](auto event) { event.initTruncated(); }) ==
             R"({"stream":"stdout","bytes_emitted":0,"bytes_dropped":0})");
  BOOST_TEST(data_of([](auto event) {
               auto cap = event.initSizeCap();
               cap.setLimitBytes(100);
               cap.setLoggedBytes(99);
             }) == R"({"limit_bytes":100,"file_size":99})");
  BOOST_TEST(data_of([](auto event) {
               auto down = event.initShutdown();
               down.setStoppedAtUnixNs(1'780'948'800'000'000'000);
               down.setReason("job_complete");
             }) == R"({"stopped_at":"2026-06-08T20:00:00Z","reason":"job_complete"})");
}

BOOST_AUTO_TEST_CASE(completion_has_what_there_is) {
  auto image = uuid::random();
  BOOST_TEST(data_of([&](auto event) {
               auto end = event.initCompletion();
               end.setStatus(proto::OperationStatus::SUCCESS);
               end.setDurationUs(2'500'999);
               image.to(end.initResultImage());
               end.setImageSizeBytes(4096);
             }) == R"({"status":"SUCCESS","duration_ms":2500,"result_image_uuid":")" +
                       image.text() + R"(","image_size_bytes":4096})");
  BOOST_TEST(data_of([](auto event) {
               auto end = event.initCompletion();
               end.setStatus(proto::OperationStatus::FAILED);
               end.setError("no \xff disk");
             }) == "{\"status\":\"FAILED\",\"duration_ms\":0,\"error\":\"no \xef\xbf\xbd disk\"}");
}

BOOST_AUTO_TEST_CASE(what_a_guest_makes_too_long_is_cut_below_what_clients_take) {
  const std::string control(400'000, '\x01'); // six bytes each in JSON
  auto text = text_of([&](auto event) {
    auto spawn = event.initSpawn();
    spawn.setCommand(control);
    auto args = spawn.initArgs(3);
    for (unsigned i = 0; i < 3; ++i) {
      args.set(i, control);
    }
  });
  BOOST_TEST(text.size() < 4u << 20);
  sse_parser parser;
  parser.feed(text);
  auto data = parser.next()->json().at("data");
  BOOST_TEST(data.at("command").as_string().size() == control.size());
  BOOST_TEST(data.at("args").as_array().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_break_has_no_id_and_keeps_to_one_line) {
  std::string out;
  append_break(out, "first\nsecond");
  BOOST_TEST(out == ": the stream breaks here\n\n"
                    "event: sse_error\ndata: first second\n\n");
}
