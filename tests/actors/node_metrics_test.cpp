#include "actors/node_metrics.hpp"
#include "protocol/frame.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <string>

namespace {

using namespace coppice;
using namespace std::chrono_literals;
using test::has_line;

struct fixture {
  node_metrics metrics;

  bool says(const std::string& line) const {
    return has_line(metrics.text(), line);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(node_metrics_suite, fixture)

BOOST_AUTO_TEST_CASE(what_has_not_happened_yet_is_zero_and_not_absent) {
  for (const auto* line :
       {"coppice_runs_total{end=\"success\"} 0", "coppice_runs_total{end=\"timeout\"} 0",
        "coppice_imports_total{end=\"failed\"} 0", "coppice_pool_takes_total{result=\"hit\"} 0",
        "coppice_run_phase_seconds_count{phase=\"boot\",vm_start=\"pool\"} 0",
        "coppice_queue_length{kind=\"instance\"} 0", "coppice_vms{state=\"waiting\"} 0",
        "coppice_templates_total{event=\"refused\"} 0"}) {
    BOOST_TEST(says(line), line);
  }
}

BOOST_AUTO_TEST_CASE(a_run_is_counted_by_its_end_and_its_phases_by_how_its_vm_started) {
  auto phases = make_frame<proto::Phases>([](auto p) {
    p.setVmStart(proto::VmStart::TEMPLATE);
    p.setQueueUs(500);
    p.setExecUs(2'000'000);
    p.setTotalUs(2'500'000);
  });
  auto view = phases.view();
  metrics.run_ended(node_metrics::ending::timeout, *view);
  BOOST_TEST(says("coppice_runs_total{end=\"timeout\"} 1"));
  BOOST_TEST(says("coppice_run_phase_seconds_count{phase=\"exec\",vm_start=\"template\"} 1"));
  BOOST_TEST(says("coppice_run_phase_seconds_sum{phase=\"exec\",vm_start=\"template\"} 2"));
  BOOST_TEST(says(
      "coppice_run_phase_seconds_bucket{phase=\"queue\",vm_start=\"template\",le=\"0.001\"} 1"));
  BOOST_TEST(
      says("coppice_run_phase_seconds_bucket{phase=\"total\",vm_start=\"template\",le=\"1\"} 0"));
  // It was not reached.
  BOOST_TEST(says("coppice_run_phase_seconds_count{phase=\"seal\",vm_start=\"template\"} 0"));
  BOOST_TEST(says("coppice_run_phase_seconds_count{phase=\"exec\",vm_start=\"pool\"} 0"));
}

BOOST_AUTO_TEST_CASE(requests_are_counted_by_route_and_class_of_status) {
  metrics.request_answered("GET", "/v1/images/{}", 200, 3ms);
  metrics.request_answered("GET", "/v1/images/{}", 206, 3ms);
  metrics.request_answered("GET", "/v1/images/{}", 404, 3ms);
  metrics.request_answered("other", "other", 0, 3ms);
  metrics.request_answered("other", "other", 999, 3ms);
  const std::string of = "coppice_http_requests_total{method=\"GET\",route=\"/v1/images/{}\",";
  BOOST_TEST(says(of + "status=\"2xx\"} 2"));
  BOOST_TEST(says(of + "status=\"4xx\"} 1"));
  BOOST_TEST(
      says("coppice_http_requests_total{method=\"other\",route=\"other\",status=\"other\"} 2"));
  BOOST_TEST(says("coppice_http_request_seconds_count{method=\"GET\",route=\"/v1/images/{}\"} 3"));
}

BOOST_AUTO_TEST_CASE(free_space_is_asked_for_when_the_text_is_made) {
  BOOST_TEST(says("coppice_store_free_bytes 0"));
  std::uint64_t free = 5;
  metrics.on_free_space([&] { return std::optional{free}; });
  BOOST_TEST(says("coppice_store_free_bytes 5"));
  free = 7;
  BOOST_TEST(says("coppice_store_free_bytes 7"));
}

BOOST_AUTO_TEST_SUITE_END()
