#pragma once

#include "tests/gateway/inside_double.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <algorithm>
#include <string>
#include <string_view>

/// The actors of inside_double, and what several of them need.
namespace coppice::test {

// inside_catalog.cpp
catalog_reader_actor::behavior_type catalog_reader_double(catalog_reader_actor::pointer self,
                                                          inside_double* in);
catalog_writer_actor::behavior_type catalog_writer_double(catalog_writer_actor::pointer self,
                                                          inside_double* in);

// inside_images.cpp
store_actor::behavior_type store_double(store_actor::pointer self, inside_double* in);
images_actor::behavior_type images_double(images_actor::pointer self, inside_double* in);

// inside_operations.cpp
operations_actor::behavior_type operations_double(operations_actor::pointer self,
                                                  inside_double* in);
scheduler_actor::behavior_type scheduler_double(scheduler_actor::pointer self, inside_double* in);

/// The questions of followers, until there is news.
struct watch_keeper_state {
  struct question {
    uuid operation;
    std::uint64_t have_events;
    caf::response_promise asked;
  };

  watch_keeper_state() = default;

  std::vector<question> waiting;
};
caf::behavior watch_keeper_double(caf::stateful_actor<watch_keeper_state>* self, inside_double* in);

std::string sha256_of(std::string_view bytes);

inline std::string bytes_in(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

inline capnp::Data::Reader data_of(const std::string& bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

inline caf::error nothing() {
  return make_error(ec::not_found, "no such thing");
}

template <class Table>
auto find_image(Table& table, const std::string& project, const uuid& id) {
  return std::find_if(table.begin(), table.end(), [&](const auto& candidate) {
    return candidate.id == id && candidate.project == project;
  });
}

} // namespace coppice::test
