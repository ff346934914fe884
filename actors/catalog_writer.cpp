#include "actors/catalog_writer.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "storage/error.hpp"

#include <iterator>
#include <optional>
#include <utility>

namespace coppice {

using storage::catalog;

namespace {

result<frame<proto::ImageDeleted>> delete_image(catalog::transaction& in,
                                                const frame<proto::DeleteImage>& request) {
  auto view = request.view();
  auto deleted =
      in.delete_image(view->getProject().cStr(), uuid::from(view->getImage()),
                      view->getWithTags() ? storage::with_tags::yes : storage::with_tags::no);
  if (deleted.has_error()) {
    return deleted.error();
  }
  return make_frame<proto::ImageDeleted>([&](proto::ImageDeleted::Builder root) {
    auto fill = [](auto list, const std::vector<uuid>& ids) {
      for (capnp::uint i = 0; i < list.size(); ++i) {
        ids[i].to(list[i]);
      }
    };
    fill(root.initGone(static_cast<capnp::uint>(deleted->gone.size())), deleted->gone);
    fill(root.initDead(static_cast<capnp::uint>(deleted->dead.size())), deleted->dead);
  });
}

} // namespace

template <class Answer, class Apply>
caf::result<frame<Answer>> catalog_writer_state::enqueue(Apply apply) {
  auto promise = self_->make_response_promise<frame<Answer>>();
  auto value = std::make_shared<frame<Answer>>();
  waiting_.push_back({
      [value, apply = std::move(apply)](catalog::transaction& transaction) -> result<void> {
        result<frame<Answer>> r = apply(transaction);
        if (r.has_error()) {
          return r.error();
        }
        *value = std::move(*r);
        return {};
      },
      [value, promise](const failure* failed) mutable {
        if (failed) {
          promise.deliver(to_error(*failed));
        } else {
          promise.deliver(std::move(*value));
        }
      },
  });
  if (waiting_.size() >= batch_max) {
    flush();
  } else {
    request_flush();
  }
  return promise;
}

void catalog_writer_state::request_flush() {
  if (!flush_requested_) {
    // Behind everything that waits in the mailbox now: that all shares the commit.
    flush_requested_ = true;
    self_->send(self_, make_frame<proto::Tick>());
  }
}

void catalog_writer_state::flush() {
  flush_requested_ = false;
  auto changes = std::exchange(waiting_, {});
  if (changes.empty()) {
    return;
  }
  auto transaction = catalog_->begin();
  if (transaction.has_error()) {
    const auto reason = transaction.error();
    log::error("catalog transaction could not begin", "error", reason.text);
    for (auto& c : changes) {
      c.tell(&reason);
    }
    return;
  }
  std::vector<change> applied;
  std::optional<failure> failed;
  auto it = changes.begin();
  for (; it != changes.end() && !failed; ++it) {
    auto r = it->apply(*transaction);
    if (r.has_error()) {
      auto reason = r.error();
      if (reason.code == storage::ec::not_found || reason.code == storage::ec::conflict ||
          reason.code == storage::ec::unsupported || reason.code == storage::ec::busy) {
        it->tell(&reason); // refused without harm to the transaction
        continue;
      }
      failed = std::move(reason);
    }
    applied.push_back(std::move(*it));
  }
  if (!failed && !applied.empty()) {
    if (auto committed = transaction->commit(); committed.has_error()) {
      failed = committed.error();
    } else {
      ++commits_;
    }
  }
  if (failed) {
    log::error("catalog commit failed", "error", failed->text, "changes", applied.size());
  }
  for (auto& c : applied) {
    c.tell(failed ? &*failed : nullptr);
  }
  if (it != changes.end()) {
    // What came behind the failure was not tried: it gets a transaction of its own.
    waiting_.assign(std::make_move_iterator(it), std::make_move_iterator(changes.end()));
    request_flush();
  }
}

catalog_writer_actor::behavior_type
catalog_writer_state::make_behavior(std::shared_ptr<storage::catalog> opened) {
  catalog_ = std::move(opened);
  using transaction = catalog::transaction;
  auto done = [](result<void> r) -> result<frame<proto::Done>> {
    if (r.has_error()) {
      return r.error();
    }
    return make_frame<proto::Done>();
  };
  return {
      [this, done](const frame<proto::PutOperation>& r) {
        return enqueue<proto::Done>([r, done](transaction& t) {
          auto view = r.view();
          return done(t.put_operation(view->getRecord(), view->getKey()));
        });
      },
      [this, done](const frame<proto::AppendEvents>& r) {
        return enqueue<proto::Done>([r, done](transaction& t) {
          auto view = r.view();
          return done(t.append_events(uuid::from(view->getOperation()), view->getEvents()));
        });
      },
      [this, done](const frame<proto::FinishOperation>& r) {
        return enqueue<proto::Done>([r, done](transaction& t) {
          auto view = r.view();
          return done(t.finish_operation(*view));
        });
      },
      [this](const frame<proto::SetTag>& r) {
        return enqueue<proto::ImageRow>([r](transaction& t) {
          auto view = r.view();
          return t.set_tag(*view);
        });
      },
      [this, done](const frame<proto::RemoveTag>& r) {
        return enqueue<proto::Done>([r, done](transaction& t) {
          auto view = r.view();
          return done(t.remove_tag(*view));
        });
      },
      [this](const frame<proto::DeleteImage>& r) {
        return enqueue<proto::ImageDeleted>([r](transaction& t) { return delete_image(t, r); });
      },
      [this](const frame<proto::PutFile>& r) {
        return enqueue<proto::FileRecord>([r](transaction& t) {
          auto view = r.view();
          return t.put_file(*view);
        });
      },
      [this](const frame<proto::TrimEvents>& r) {
        return enqueue<proto::EventsTrimmed>([r](transaction& t) {
          auto view = r.view();
          return t.trim_events(*view);
        });
      },
      [this](const frame<proto::Tick>&) { flush(); },
  };
}

catalog_writer_actor::behavior_type
catalog_writer(catalog_writer_actor::stateful_pointer<catalog_writer_state> self,
               std::shared_ptr<storage::catalog> catalog) {
  return self->state.make_behavior(std::move(catalog));
}

} // namespace coppice
