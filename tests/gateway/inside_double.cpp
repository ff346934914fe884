#include "tests/gateway/inside_actors.hpp"

#include <caf/atom.hpp>
#include <caf/send.hpp>

#include <openssl/sha.h>

namespace coppice::test {

std::string sha256_of(std::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

inside_double::actor_config::actor_config() {
  add_message_types<caf::id_block::coppice>();
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", std::size_t{2});
}

inside_double::inside_double() {
  catalog = system.spawn(catalog_reader_double, this);
  catalog_writer = system.spawn(catalog_writer_double, this);
  store = system.spawn(store_double, this);
  images = system.spawn(images_double, this);
  watch_keeper = system.spawn(watch_keeper_double, this);
  operations = system.spawn(operations_double, this);
  scheduler = system.spawn(scheduler_double, this);
  add_token("secret", "default");
}

inside_double::~inside_double() {
  locked([this] { unanswered.clear(); });
  caf::anon_send_exit(watch_keeper, caf::exit_reason::user_shutdown);
}

void inside_double::add_token(const std::string& token, const std::string& project, bool may_spawn,
                              bool may_list, bool may_delete_image) {
  add_token_with(token, project, [&](proto::TokenRecord::Builder root) {
    root.setMaySpawn(may_spawn);
    root.setMayList(may_list);
    root.setMayDeleteImage(may_delete_image);
  });
}

void inside_double::add_token_with(const std::string& token, const std::string& project,
                                   const std::function<void(proto::TokenRecord::Builder)>& change) {
  auto record = make_frame<proto::TokenRecord>([&](auto root) {
    uuid::random().to(root.initId());
    root.setProject(project);
    change(root);
  });
  std::scoped_lock lock{mutex};
  tokens[sha256_of(token)] = record;
}

uuid inside_double::add_image(const std::string& project, std::vector<std::string> tags) {
  std::scoped_lock lock{mutex};
  image_table.push_back({uuid::random(), project, std::move(tags), uuid::random()});
  return image_table.back().id;
}

uuid inside_double::add_operation(
    const std::string& project, const std::function<void(proto::OperationRecord::Builder)>& fill) {
  auto id = uuid::random();
  auto record = make_frame<proto::OperationRecord>([&](auto root) {
    id.to(root.initId());
    root.setProject(project);
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    fill(root);
  });
  std::scoped_lock lock{mutex};
  operation_table[id] = record;
  return id;
}

namespace {

void push_event(inside_double& in, const uuid& operation,
                const std::function<void(proto::Event::Builder)>& fill) {
  auto& events = in.event_table[operation];
  events.push_back(make_frame<proto::Event>([&](auto root) {
    root.setId(events.size());
    root.setSpid(1);
    fill(root);
  }));
}

} // namespace

void inside_double::add_event(const uuid& operation,
                              const std::function<void(proto::Event::Builder)>& fill) {
  locked([&] { push_event(*this, operation, fill); });
  caf::anon_send(watch_keeper, caf::ok_atom::value);
}

void inside_double::end_operation(const uuid& operation, proto::OperationStatus status) {
  locked([&] {
    auto& record = operation_table.at(operation);
    capnp::MallocMessageBuilder message;
    message.setRoot(*record.view());
    message.getRoot<proto::OperationRecord>().setStatus(status);
    record = frame<proto::OperationRecord>{message};
    push_event(*this, operation, [&](proto::Event::Builder event) {
      event.setSpid(0);
      event.initCompletion().setStatus(status);
    });
  });
  caf::anon_send(watch_keeper, caf::ok_atom::value);
}

void inside_double::wake_watchers(bool is_live) {
  caf::anon_send(watch_keeper, is_live);
}

void inside_double::wait_for_watches(std::uint64_t count) {
  std::unique_lock lock{mutex};
  asked.wait(lock, [&] { return watches >= count; });
}

} // namespace coppice::test
