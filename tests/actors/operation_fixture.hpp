#pragma once

#include "actors/operation.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

namespace coppice::test {

using namespace std::chrono_literals;
using status = proto::OperationStatus;

inline work_actor::behavior_type work_double(work_actor::pointer, std::shared_ptr<test::heard> h) {
  return {
      [h](const frame<proto::AbortWork>& m) { h->aborts.push_back(m.view()->getReason().cStr()); },
      [](const frame<proto::FromGuest>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::VmFailed>&) {
        // nop
      },
      [](const frame<proto::ChildExited>&) {
        // nop
      },
      [](const frame<proto::Tick>&) {
        // nop
      },
      [](const frame<proto::ProcessOrder>&) {
        return make_frame<proto::ProcessAnswer>([](auto r) { r.setSpid(7); });
      },
  };
}

/// What becomes of what is written to the catalog.
struct writer_script {
  bool fails_records = false;
  bool fails_events = false;
  bool fails_ends = false;
  bool holds_events = false;
  int tries = 0; ///< of all that failed
  std::function<void()> held;

  caf::error no_space() {
    ++tries;
    return make_error(ec::storage, "no space left");
  }
};

/// The real writer behind a door.
inline catalog_writer_actor::behavior_type writer_door(catalog_writer_actor::pointer self,
                                                       std::shared_ptr<writer_script> s,
                                                       const catalog_writer_actor& to) {
  using done = caf::result<frame<proto::Done>>;
  return {
      [=](const frame<proto::PutOperation>& m) -> done {
        return s->fails_records ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::AppendEvents>& m) -> done {
        if (s->holds_events) {
          auto promise = self->make_response_promise<frame<proto::Done>>();
          s->held = [=]() mutable {
            promise.delegate(to, m);
          };
          return promise;
        }
        return s->fails_events ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::FinishOperation>& m) -> done {
        return s->fails_ends ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::SetTag>& m) { return self->delegate(to, m); },
      [=](const frame<proto::RemoveTag>& m) { return self->delegate(to, m); },
      [=](const frame<proto::DeleteImage>& m) { return self->delegate(to, m); },
      [=](const frame<proto::PutFile>& m) { return self->delegate(to, m); },
      [=](const frame<proto::TrimEvents>& m) { return self->delegate(to, m); },
      [=](const frame<proto::Tick>&) {
        std::exchange(s->held, {})(); // here, as a promise is its actor's
      },
  };
}

/// An operation whose work the test plays, over the real catalog.
struct operation_fixture : node_fixture {
  std::shared_ptr<writer_script> writes = std::make_shared<writer_script>();
  catalog_writer_actor door = sys.spawn(writer_door, writes, writer);
  uuid id = uuid::random();
  uuid image = uuid::random();
  uuid result_image;
  work_actor work;
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  operation_actor op = start();

  operation_actor start() {
    auto record = instance_record(id, image);
    put(record);
    auto parts = std::make_shared<operation_parts>();
    parts->catalog = door;
    parts->store = store;
    parts->scheduler = slots;
    parts->images = images;
    parts->metrics = metrics;
    parts->spawn_work = [this](operation_actor::pointer parent,
                               const frame<proto::OperationRecord>&, const uuid& result) {
      result_image = result;
      work = parent->spawn<caf::monitored>(work_double, told);
      return work;
    };
    auto out = sys.spawn(operation, parts, record);
    drain();
    return out;
  }

  ~operation_fixture() {
    self->send_exit(work, caf::exit_reason::kill);
    drain();
    self->send_exit(op, caf::exit_reason::kill);
    drain();
    self->send_exit(door, caf::exit_reason::kill);
    drain();
  }

  template <class T>
  void say(const frame<T>& message) {
    self->send(op, message);
    drain();
  }

  void run_until_executing() {
    say(make_frame<proto::OperationStarted>());
    say(make_frame<proto::OperationExecuting>([](auto r) { r.initSpawn().setPid(42); }));
  }

  frame<proto::OperationOutcome> success() {
    return make_frame<proto::OperationOutcome>([&](auto r) {
      r.setSuccess();
      r.setHasResult(true);
      r.initResult().setExitCode(0);
      r.getResult().initStdout().setTotalBytes(99);
      auto made = r.initImage();
      result_image.to(made.initId());
      made.setProject("default");
      made.setSizeBytes(4096);
      id.to(made.initOperation());
      r.setHasImage(true);
      r.initIndex().initExtents(1); // the catalog does not look inside
    });
  }

  status state() {
    return stored(id).view()->getStatus();
  }

  bool has_image() {
    auto got = ask<proto::ImageRow>(reader, make_frame<proto::GetImage>([&](auto r) {
                                      r.setProject("default");
                                      result_image.to(r.initId());
                                    }));
    return static_cast<bool>(got);
  }

  auto cancel() {
    return ask<proto::OperationRecord>(op, make_frame<proto::CancelOperation>([&](auto r) {
                                         r.setProject("default");
                                         id.to(r.initId());
                                       }));
  }

  /// Asks to be woken; what it is told comes into the slot.
  std::shared_ptr<std::optional<frame<proto::OperationProgress>>> watch(std::uint64_t have_events) {
    auto slot = std::make_shared<std::optional<frame<proto::OperationProgress>>>();
    auto request = make_frame<proto::WatchOperation>([&](auto r) {
      id.to(r.initId());
      r.setHaveEvents(have_events);
    });
    sys.spawn([slot, request, to = op](caf::event_based_actor* asker) {
      asker->request(to, caf::infinite, request)
          .then([slot](const frame<proto::OperationProgress>& answered) { *slot = answered; });
    });
    drain();
    return slot;
  }

  /// Asks for what there is to be readable; the answer comes into the slot.
  std::shared_ptr<std::optional<bool>> flush() {
    auto slot = std::make_shared<std::optional<bool>>();
    sys.spawn([slot, to = op](caf::event_based_actor* asker) {
      asker->request(to, caf::infinite, make_frame<proto::FlushOperation>())
          .then([slot](const frame<proto::Done>&) { *slot = true; },
                [slot](const caf::error&) { *slot = false; });
    });
    drain();
    return slot;
  }

  void release() {
    self->send(door, make_frame<proto::Tick>());
    drain();
  }

  bool gone() {
    auto answer = ask<proto::Done>(op, make_frame<proto::FlushOperation>());
    return !answer;
  }
};

} // namespace coppice::test
