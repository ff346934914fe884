#include "actors/node_capacity.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;

namespace {

constexpr node_size node{4, 8192};

settings configured(std::uint32_t cpus, std::uint32_t memory_mib, std::uint32_t running_max,
                    std::uint32_t cpus_max, std::uint64_t memory_max_mib) {
  settings out;
  out.vm.cpus = cpus;
  out.vm.memory_mib = memory_mib;
  out.vm.running_max = running_max;
  out.vm.cpus_max = cpus_max;
  out.vm.memory_bytes_max = memory_max_mib << 20;
  return out;
}

} // namespace

BOOST_AUTO_TEST_SUITE(node_capacity_suite)

BOOST_AUTO_TEST_CASE(emulated_machines_get_the_cores_and_others_four_times_as_much) {
  auto tcg = capacity_of({}, vmm::accelerator::tcg, node);
  BOOST_TEST(tcg.running == 4u);
  BOOST_TEST(tcg.cpus == 4u);
  BOOST_TEST(tcg.memory_mib == 6144u);
  auto kvm = capacity_of({}, vmm::accelerator::kvm, node);
  BOOST_TEST(kvm.running == 16u);
  BOOST_TEST(kvm.cpus == 16u);
  BOOST_TEST(kvm.memory_mib == 6144u);
}

BOOST_AUTO_TEST_CASE(what_is_configured_counts_and_the_default_class_always_fits) {
  struct row {
    const char* what;
    settings config;
    node_capacity expected;
  };
  for (const auto& r : {
           row{"so many machines, whatever the cores", configured(1, 256, 8, 0, 0), {8, 8, 6144}},
           row{"of the default class", configured(2, 256, 8, 0, 0), {8, 16, 6144}},
           row{"fewer than cores", configured(1, 256, 2, 0, 0), {2, 4, 6144}},
           row{"processors given", configured(1, 256, 8, 3, 0), {8, 3, 6144}},
           row{"memory given", configured(1, 256, 0, 0, 2000), {4, 4, 2000}},
           row{"a default class beyond the node", configured(6, 9000, 0, 0, 0), {4, 6, 9064}},
           row{"beyond what is given", configured(2, 512, 0, 1, 100), {4, 2, 576}},
       }) {
    auto found = capacity_of(r.config, vmm::accelerator::tcg, node);
    BOOST_TEST(found.running == r.expected.running, r.what);
    BOOST_TEST(found.cpus == r.expected.cpus, r.what);
    BOOST_TEST(found.memory_mib == r.expected.memory_mib, r.what);
    BOOST_TEST(found.has_room_for(r.config.default_class()), r.what);
  }
}

BOOST_AUTO_TEST_CASE(a_class_fits_up_to_the_last_processor_and_mebibyte) {
  const node_capacity room{1, 2, 1024};
  BOOST_TEST(room.has_room_for({2, 1024 - vm_overhead_mib}));
  BOOST_TEST(!room.has_room_for({3, 256}));
  BOOST_TEST(!room.has_room_for({2, 1024 - vm_overhead_mib + 1}));
}

BOOST_AUTO_TEST_CASE(this_machine_has_cores_and_memory) {
  auto found = size_of_this_node();
  BOOST_TEST(found.cores >= 1u);
  BOOST_TEST(found.memory_mib >= 64u);
}

BOOST_AUTO_TEST_CASE(the_smallest_class_that_fits_is_chosen) {
  settings config;
  config.vm.cpus = 1;
  config.vm.memory_mib = 256;
  config.vm.classes = {{4, 4096}, {1, 1024}, {2, 512}, {1, 1024}, {1, 256}, {1, 128}};
  const auto all = config.classes();
  BOOST_TEST(
      (all == std::vector<machine_class>{{1, 128}, {1, 256}, {1, 1024}, {2, 512}, {4, 4096}}));
  struct row {
    machine_class asked;
    std::optional<machine_class> chosen;
  };
  for (const auto& r :
       {row{{1, 1}, {{1, 128}}}, row{{1, 128}, {{1, 128}}}, row{{1, 129}, {{1, 256}}},
        row{{1, 257}, {{1, 1024}}}, row{{2, 1}, {{2, 512}}}, row{{2, 513}, {{4, 4096}}},
        row{{3, 1}, {{4, 4096}}}, row{{4, 4096}, {{4, 4096}}}, row{{5, 1}, std::nullopt},
        row{{1, 4097}, std::nullopt}}) {
    BOOST_TEST((smallest_class(all, r.asked) == r.chosen),
               r.asked.cpus << ":" << r.asked.memory_mib);
  }
}

BOOST_AUTO_TEST_SUITE_END()
