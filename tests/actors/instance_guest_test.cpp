#include "tests/actors/instance_fixture.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_SUITE(instance_guest_suite, test::instance_fixture)

BOOST_AUTO_TEST_CASE(output_beyond_the_limit_is_counted_and_not_passed_on) {
  start(); // keeps 8 bytes
  started();
  output("12345");
  output("67890");
  output("more");
  exited();
  finished();
  BOOST_TEST(said->output == "12345678");
  auto view = said->outcome->view();
  BOOST_TEST(view->getResult().getStdout().getKeptBytes() == 8u);
  BOOST_TEST(view->getResult().getStdout().getTotalBytes() == 14u);
}

BOOST_AUTO_TEST_CASE(a_guest_that_never_starts_the_command_is_given_up) {
  start();
  advance(59s);
  BOOST_TEST(!said->outcome.has_value());
  advance(2s);
  BOOST_TEST(error().find("in time") != std::string::npos);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_guest_that_ignores_the_deadline_is_killed) {
  start(); // timeout 10 s, grace 20 s
  started();
  advance(29s);
  BOOST_TEST(!said->outcome.has_value());
  advance(2s);
  BOOST_TEST(error().find("deadline") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(messages_out_of_place_change_nothing) {
  start();
  finished();
  exited();
  output("early");
  BOOST_TEST(!said->outcome.has_value());
  started();
  started();
  finished();
  BOOST_TEST(said->executing == 1);
  BOOST_TEST(!said->outcome.has_value());
  BOOST_TEST(said->output.empty());
}

BOOST_AUTO_TEST_CASE(preserved_environment_stays_with_the_image) {
  start([](auto r) {
    r.setPreserveEnv(true);
    auto env = r.getProcess().initEnv(2);
    env[0].setName("CHANGED");
    env[0].setValue("new");
    env[1].setName("ADDED");
    env[1].setValue("2");
  });
  started();
  exited();
  finished();
  auto view = said->outcome->view();
  std::string env;
  for (auto e : view->getImage().getConfig().getEnv()) {
    env += std::string{e.getName().cStr()} + "=" + e.getValue().cStr() + " ";
  }
  BOOST_TEST(env == "KEPT=1 CHANGED=new ADDED=2 ");
  BOOST_TEST(told->keeps_unchanged); // or the variables were lost where no file has changed
}

BOOST_AUTO_TEST_CASE(an_environment_that_the_image_has_already_makes_no_image) {
  start([](auto r) {
    r.setPreserveEnv(true);
    auto env = r.getProcess().initEnv(1);
    env[0].setName("KEPT");
    env[0].setValue("1");
  });
  started();
  exited();
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(!told->keeps_unchanged);
}

BOOST_AUTO_TEST_CASE(files_and_stdin_are_sent_whole_in_pieces_and_in_order) {
  start([](auto r) {
    auto files = r.initFiles(2);
    files[0].setPath("/a");
    files[0].setSizeBytes(limits::transfer_chunk_bytes);
    files[1].setPath("/b");
    files[1].setSizeBytes(2 * limits::transfer_chunk_bytes);
    r.initStdin(limits::transfer_chunk_bytes + 1);
  });
  std::vector<std::size_t> sizes(2);
  std::size_t stdin_bytes = 0;
  bool closed = false;
  BOOST_REQUIRE(!script->orders.empty());
  BOOST_TEST(script->orders[0].view()->isStart());
  for (const auto& m : script->orders) {
    auto view = m.view();
    if (view->isFileChunk()) {
      sizes.at(view->getFileChunk().getIndex()) += view->getFileChunk().getData().size();
    } else if (view->isStdin()) {
      BOOST_TEST(!closed);
      stdin_bytes += view->getStdin().getData().size();
      closed = view->getStdin().getClose();
    }
  }
  BOOST_TEST(sizes[0] == limits::transfer_chunk_bytes);
  BOOST_TEST(sizes[1] == 2 * limits::transfer_chunk_bytes);
  BOOST_TEST(stdin_bytes == limits::transfer_chunk_bytes + 1);
  BOOST_TEST(closed);
}

BOOST_AUTO_TEST_CASE(what_a_guest_could_not_prepare_for_is_the_requests_fault_but_not_its_disk) {
  auto fails_at = [&](const char* stage) {
    start();
    guest([&](auto m) {
      m.initFailed().setStage(stage);
      m.getFailed().setError("no such user");
    });
    BOOST_TEST(error().find(stage) != std::string::npos);
    const bool is_task = is_task_fault();
    said->outcome.reset();
    return is_task;
  };
  BOOST_TEST(fails_at("prepare"));
  BOOST_TEST(fails_at("files"));
  BOOST_TEST(!fails_at("mount"));
}

BOOST_AUTO_TEST_CASE(a_run_that_met_the_oom_killer_says_so) {
  start();
  started();
  guest([](auto m) {
    auto e = m.initExited();
    e.setSpid(1);
    e.initResult().setSignal(9);
    e.getResult().setOomKilled(true);
  });
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(said->outcome->view()->getResult().getOomKilled());
}

BOOST_AUTO_TEST_SUITE_END()
