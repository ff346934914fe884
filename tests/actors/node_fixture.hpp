#pragma once

#include "actors/catalog_reader.hpp"
#include "actors/catalog_writer.hpp"
#include "actors/operation.hpp"
#include "storage/catalog.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/deterministic.hpp"

#include <boost/test/unit_test.hpp>

#include <memory>
#include <string>
#include <vector>

namespace coppice::test {

/// What the doubles were told, in order.
struct heard {
  std::vector<uuid> discarded;
  std::vector<uuid> released;
  std::vector<uuid> unpinned;
  std::vector<std::uint64_t> closed_slots; ///< by themselves, or with their overlays
  std::uint64_t slot_of_overlay = 0;
  std::uint64_t slots_opened = 0;
  std::vector<std::string> aborts;
  bool keeps_unchanged = false; ///< of the latest seal
  std::string disk_trouble;     ///< what discards answer
  bool is_beyond_limit = false;
};

inline store_actor::behavior_type store_double(store_actor::pointer, std::shared_ptr<heard> h) {
  return {
      [h](const frame<proto::OpenDiskSlot>&) {
        return make_frame<proto::DiskSlot>([&](auto r) { r.setSlot(++h->slots_opened); });
      },
      [h](const frame<proto::CloseDiskSlot>& m) { h->closed_slots.push_back(m.view()->getSlot()); },
      [h](const frame<proto::AttachOverlay>& m) {
        h->slot_of_overlay = m.view()->getSlot();
        return make_frame<proto::OverlayAttached>();
      },
      [h](const frame<proto::SealOverlay>& m) {
        h->keeps_unchanged = m.view()->getKeepUnchanged();
        return make_frame<proto::OverlaySealed>([](auto r) { r.setSizeBytes(4096); });
      },
      [h](const frame<proto::DiscardOverlay>& m) {
        h->discarded.push_back(uuid::from(m.view()->getOverlay()));
        if (m.view()->getCloseSlot()) {
          h->closed_slots.push_back(h->slot_of_overlay);
        }
        return make_frame<proto::OverlayDiscarded>([&](auto r) {
          r.setTrouble(h->disk_trouble);
          r.setBeyondLimit(h->is_beyond_limit);
        });
      },
      [](const frame<proto::DisksAnswered>&) {
        // nop
      },
      [](const frame<proto::BeginBlob>&) { return make_frame<proto::BlobUpload>(); },
      [](const frame<proto::AppendBlob>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::FinishBlob>&) { return make_frame<proto::BlobStored>(); },
      [](const frame<proto::AbortBlob>&) {
        // nop
      },
      [](const frame<proto::ReadBlob>& m) {
        // Every file is `size` times 'f'.
        return make_frame<proto::BlobChunk>([&](auto r) {
          std::string data(m.view()->getMaxBytes(), 'f');
          r.setData({reinterpret_cast<const capnp::byte*>(data.data()), data.size()});
        });
      },
  };
}

inline scheduler_actor::behavior_type scheduler_double(scheduler_actor::pointer,
                                                       std::shared_ptr<heard> h) {
  return {
      [](const frame<proto::AcquireSlot>&) {
        return make_frame<proto::SlotGranted>([](auto r) { r.setWaitedUs(5); });
      },
      [h](const frame<proto::ReleaseSlot>& m) {
        h->released.push_back(uuid::from(m.view()->getOperation()));
      },
      [](const frame<proto::GetQueuePlace>&) { return make_frame<proto::QueuePlace>(); },
      [](const frame<proto::SlotsReady>&) {
        // nop
      },
  };
}

inline images_actor::behavior_type images_double(images_actor::pointer, std::shared_ptr<heard> h) {
  return {
      [](const frame<proto::PinImage>& m) {
        return make_frame<proto::ImageRow>([&](auto r) {
          auto image = r.initImage();
          image.setId(m.view()->getImage());
          image.setProject(m.view()->getProject());
          image.setDepth(3);
          auto env = image.initConfig().initEnv(2);
          env[0].setName("KEPT");
          env[0].setValue("1");
          env[1].setName("CHANGED");
          env[1].setValue("old");
        });
      },
      [h](const frame<proto::UnpinImage>& m) {
        h->unpinned.push_back(uuid::from(m.view()->getOperation()));
      },
      [](const frame<proto::InspectOpen>&) -> caf::result<frame<proto::InspectSession>> {
        return make_error(ec::busy, "a double");
      },
      [](const frame<proto::InspectNext>&) -> caf::result<frame<proto::InspectChunk>> {
        return make_error(ec::gone, "a double");
      },
      [](const frame<proto::InspectClose>&) {
        // nop
      },
      [](const frame<proto::DeleteImage>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::ImageIdle>&) {
        // nop
      },
  };
}

/// A deterministic system with a real catalog and doubles for the rest.
struct node_fixture : deterministic {
  storage::test::scratch dir;
  std::shared_ptr<storage::catalog> catalog = open_catalog();
  std::shared_ptr<heard> told = std::make_shared<heard>();
  catalog_reader_actor reader = sys.spawn(catalog_reader, catalog);
  catalog_writer_actor writer = sys.spawn(catalog_writer, catalog);
  store_actor store = sys.spawn(store_double, told);
  scheduler_actor slots = sys.spawn(scheduler_double, told);
  images_actor images = sys.spawn(images_double, told);

  ~node_fixture() {
    drain();
    for (const auto& a :
         {reader.address(), writer.address(), store.address(), slots.address(), images.address()}) {
      self->send_exit(a, caf::exit_reason::user_shutdown);
    }
    drain();
  }

  std::shared_ptr<storage::catalog> open_catalog() const {
    auto opened = storage::catalog::open(dir.path() / "catalog");
    BOOST_REQUIRE_MESSAGE(opened.has_value(), "the catalog cannot be opened");
    return std::move(*opened);
  }

  static frame<proto::OperationRecord> instance_record(const uuid& id, const uuid& image) {
    return make_frame<proto::OperationRecord>([&](auto r) {
      id.to(r.initId());
      r.setProject("default");
      r.setKind(proto::OperationKind::INSTANCE);
      r.setStatus(proto::OperationStatus::PENDING);
      r.setCreatedAtUnixNs(1000);
      auto request = r.getRequest().initInstance();
      image.to(request.initImage());
      request.setTimeoutSeconds(10);
      request.initProcess().setCommand("true");
      request.getProcess().setTruncateOutputAtBytes(8);
    });
  }

  void put(const frame<proto::OperationRecord>& record) {
    auto view = record.view();
    auto done = ask<proto::Done>(
        writer, make_frame<proto::PutOperation>([&](auto r) { r.setRecord(*view); }));
    BOOST_REQUIRE(done);
  }

  frame<proto::OperationRecord> stored(const uuid& id) {
    auto got = ask<proto::OperationRecord>(reader, make_frame<proto::GetOperation>([&](auto r) {
                                             r.setProject("default");
                                             id.to(r.initId());
                                           }));
    BOOST_REQUIRE_MESSAGE(got, "the operation is not in the catalog");
    return *got;
  }

  frame<proto::EventPage> events(const uuid& id) {
    auto got = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                       id.to(r.initOperation());
                                       r.setMaxBytes(1u << 20);
                                     }));
    BOOST_REQUIRE(got);
    return *got;
  }
};

inline frame<proto::FromGuest> guest_output(const std::string& text, bool is_stderr = false) {
  return make_frame<proto::FromGuest>([&](auto m) {
    m.setRun(1);
    auto out = m.initOutput();
    out.setSpid(1);
    out.setIsStderr(is_stderr);
    out.setData({reinterpret_cast<const capnp::byte*>(text.data()), text.size()});
  });
}

} // namespace coppice::test
