// Seals one after another and all at once, through the actors that a run goes through: the store
// seals, the catalog's writer commits image and operation together. tests/bench/storage.sh runs it.
#include "actors/catalog_writer.hpp"
#include "actors/requests.hpp"
#include "actors/store.hpp"
#include "storage/qcow2/writer.hpp"
#include "tests/bench/chain.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>

namespace coppice::bench {

namespace {

constexpr unsigned seals = 64;
constexpr unsigned rounds = 9;

struct config : caf::actor_system_config {
  config() {
    add_message_types<caf::id_block::coppice>();
    set("scheduler.policy", caf::atom("sharing"));
  }
};

/// The end of one run.
struct run {
  uuid operation = uuid::random();
  uuid image = uuid::random();
};

struct inside {
  store_actor store;
  catalog_writer_actor writer;
  uuid base;
};

frame<proto::OperationRecord> record_of(const run& r, const uuid& base,
                                        proto::OperationStatus status) {
  return make_frame<proto::OperationRecord>([&](auto o) {
    r.operation.to(o.initId());
    o.setProject("bench");
    o.setKind(proto::OperationKind::INSTANCE);
    o.setStatus(status);
    base.to(o.getRequest().initInstance().initImage());
    if (status == proto::OperationStatus::SUCCESS) {
      r.image.to(o.initResultImage());
    }
  });
}

/// Seals and commits one run, then tells `waiting`.
void finish(caf::event_based_actor* self, const inside& in, const run& r,
            const caf::actor& waiting) {
  auto fail_with = [](const caf::error& e) {
    die(to_string(e));
  };
  self->request(in.store, caf::infinite, make_frame<proto::SealOverlay>([&](auto s) {
                  r.image.to(s.initOverlay());
                  in.base.to(s.initParent());
                }))
      .then(
          [=](const frame<proto::OverlaySealed>& sealed) {
            auto end = make_frame<proto::FinishOperation>([&](auto f) {
              auto record = record_of(r, in.base, proto::OperationStatus::SUCCESS);
              auto record_view = record.view();
              f.setRecord(*record_view);
              auto image = f.initImage();
              r.image.to(image.initId());
              in.base.to(image.initParent());
              r.operation.to(image.initOperation());
              image.setProject("bench");
              f.setHasImage(true);
              auto view = sealed.view();
              f.setIndex(view->getIndex());
            });
            self->request(in.writer, caf::infinite, end)
                .then([=](const frame<proto::Done>&) { self->send(waiting, 1); }, fail_with);
          },
          fail_with);
}

/// Runs whose guests have written a little and are gone.
std::vector<run> prepare(caf::scoped_actor& self, const inside& in, disk_sockets& sockets,
                         unsigned round) {
  std::vector<run> out(seals);
  auto bad = [](caf::error& e) {
    die(to_string(e));
  };
  for (unsigned i = 0; i < seals; ++i) {
    const auto& r = out[i];
    self->request(in.writer, caf::infinite, make_frame<proto::PutOperation>([&](auto p) {
                    auto record = record_of(r, in.base, proto::OperationStatus::EXECUTING);
                    auto view = record.view();
                    p.setRecord(*view);
                  }))
        .receive([](const frame<proto::Done>&) {}, bad);
    self->request(in.store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto a) {
                    r.image.to(a.initOverlay());
                    in.base.to(a.initParent());
                    a.setOwnBytesMax(1u << 30);
                  }))
        .receive([](const frame<proto::OverlayAttached>&) {}, bad);
    auto guest = must(storage::nbd_client::connect(sockets.take(r.image).release()));
    std::vector<std::byte> cluster(storage::cluster_bytes, static_cast<std::byte>(i + 1));
    for (std::uint64_t at : {10u, 11u, 500u, 501u, 9000u, 9001u, 100'000u}) {
      cluster[0] = static_cast<std::byte>(round + 1);
      must(guest->write(at * storage::cluster_bytes, cluster));
    }
  }
  return out;
}

} // namespace

void run_seals(const std::filesystem::path& state, const std::filesystem::path& raw) {
  config caf_config;
  caf::actor_system system{caf_config};
  caf::scoped_actor self{system};
  workshop shop{state};
  auto base = uuid::random();
  must(storage::qcow2::write_from_raw(raw, shop.files->overlay_path(base)));
  shop.record(base, uuid{}, shop.seal_import(base));
  shop.engine.reset();
  std::shared_ptr<storage::catalog> catalog{std::move(shop.catalog)};
  auto sockets = std::make_shared<disk_sockets>();
  std::shared_ptr<storage::engine> engine{must(storage::engine::start(
      state / "images", [catalog](const uuid& image) { return catalog->get_index(image); }, {}))};
  inside in{system.spawn<caf::detached>(store, store_parts{engine, sockets, nullptr}),
            system.spawn<caf::detached>(catalog_writer, catalog), base};
  caf::actor waiting = caf::actor_cast<caf::actor>(self);

  samples one_by_one, together, commits;
  for (unsigned round = 0; round < rounds; ++round) {
    for (bool at_once : {false, true}) {
      auto runs = prepare(self, in, *sockets, round);
      auto before = catalog->last_commit();
      auto start = clock::now();
      for (const auto& r : runs) {
        system.spawn([=](caf::event_based_actor* worker) { finish(worker, in, r, waiting); });
        if (!at_once) {
          self->receive([](int) {});
        }
      }
      for (unsigned i = 0; at_once && i < seals; ++i) {
        self->receive([](int) {});
      }
      (at_once ? together : one_by_one).add(us_since(start));
      if (at_once) {
        commits.add(static_cast<double>(catalog->last_commit() - before));
      }
    }
  }
  samples::print_head();
  one_by_one.print("64 seals with their commits, one after another");
  together.print("64 at once");
  commits.print("commits of 64 at once (a count)");
  bar("storage.5b", commits.median(), 8, true);
  bar("storage.5c", together.median() / one_by_one.median(), 0.6, true);
  self->send_exit(in.store, caf::exit_reason::kill);
  self->send_exit(in.writer, caf::exit_reason::kill);
}

} // namespace coppice::bench

int main(int argc, char** argv) {
  if (argc != 3) {
    coppice::bench::die("usage: seal_bench STATE_DIR RAW");
  }
  coppice::bench::run_seals(argv[1], argv[2]);
}
