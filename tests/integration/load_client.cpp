#include "tests/integration/load_client.hpp"

#include <boost/json/serialize.hpp>

#include <cstdint>
#include <stdexcept>
#include <utility>

// Runs, images and files; load_client_rude.cpp has what should not be.

namespace coppice::test {

namespace json = boost::json;

namespace {

/// Images of its own that a client keeps; it deletes what is more.
constexpr std::size_t own_images_max = 4;

/// Uploads are kept for ever: so it is the same few again and again, from empty to several pieces.
constexpr std::size_t contents_count = 6;

std::size_t content_bytes(std::size_t number) {
  return number * 50'000;
}

std::string content_of(std::size_t number) {
  return std::string(content_bytes(number), static_cast<char>('a' + number));
}

std::string text_of(const json::object& result, const char* stream) {
  return std::string{result.at(stream).at("value").as_string()};
}

/// What a run has to say; those of node.hpp use checks.
json::object result_of(const json::object& operation) {
  return operation.at("metadata").at("result").as_object();
}

std::int64_t state_of(const json::object& result, const char* key) {
  return result.at("state").at(key).as_int64();
}

void insist_on(const json::object& operation, const char* status) {
  insist(status_of(operation) == status, "an operation that should have ended as " +
                                             std::string{status} + ": " +
                                             json::serialize(operation));
}

std::string uuid_in(const http_answer& answer) {
  return std::string{answer.json().at("uuid").as_string()};
}

} // namespace

void insist(bool claim, const std::string& text) {
  if (!claim) {
    throw std::runtime_error{text};
  }
}

load_client::load_client(const node& server, std::string base, std::string name, unsigned seed)
    : server_{server}, base_{std::move(base)}, name_{std::move(name)}, random_{seed + 1} {
  http_.emplace(server_.port(), server_.own_token());
}

http_answer load_client::ask(const std::string& method, const std::string& target, unsigned status,
                             std::string body, const header_list& headers) {
  auto answer = http_->request(method, target, std::move(body), headers);
  if (!answer.keep_alive) {
    http_.emplace(server_.port(), server_.own_token());
  }
  insist(answer.status == status, method + " " + target + " was answered " +
                                      std::to_string(answer.status) + " instead of " +
                                      std::to_string(status) + ": " + answer.body.substr(0, 400));
  return answer;
}

std::size_t load_client::below(std::size_t limit) {
  return std::uniform_int_distribution<std::size_t>{0, limit - 1}(random_);
}

std::string load_client::any_image() {
  const auto index = below(own_.size() + 1);
  return index == own_.size() ? base_ : own_[index];
}

// -- runs ----------------------------------------------------------------------------------------

json::object load_client::shell(const std::string& image, const std::string& script) const {
  return {{"command", script}, {"shell", true}, {"image", image}, {"timeout", 600}};
}

std::string load_client::spawn(const json::object& request, const header_list& headers) {
  return uuid_in(ask("POST", "/v1/instances", 201, json::serialize(request), headers));
}

json::object load_client::wait(const std::string& operation) {
  auto stream = server_.events(operation, "?follow=1");
  const auto frames = stream.rest();
  insist(!frames.empty() && frames.back().event == "completion",
         "the events of " + operation + " ended with " +
             (frames.empty() ? stream.broken() : frames.back().event));
  return ask("GET", "/v1/operations/" + operation, 200).json().as_object();
}

json::object load_client::run(const json::object& request) {
  return wait(spawn(request));
}

void load_client::wait_for_event(const std::string& operation, std::size_t spid,
                                 const char* event) const {
  auto stream = server_.events(operation, "?follow=1&spid=" + std::to_string(spid));
  auto frame = stream.next_event();
  while (frame && frame->event != event) {
    frame = stream.next_event();
  }
  insist(frame.has_value(), "process " + std::to_string(spid) + " of " + operation +
                                " came to no " + event + " " + stream.broken());
}

void load_client::cancel(const std::string& operation) {
  ask("DELETE", "/v1/operations/" + operation, 202);
  insist_on(wait(operation), "CANCELLED");
}

void load_client::run_kept() {
  const auto parent = any_image();
  auto done = run(shell(parent, "mkdir -p /root/d && seq 2000 > /root/d/numbers && "
                                "echo needle " +
                                    name_ + " >> /root/d/notes; echo done"));
  insist_on(done, "SUCCESS");
  insist(text_of(result_of(done), "stdout") == "done\n", json::serialize(done));
  own_.push_back(result_image_of(done));
  if (own_.size() > own_images_max) {
    delete_one(below(own_.size()));
  }
}

void load_client::run_disposable() {
  const auto number = below(contents_count);
  auto request = shell(any_image(), "wc -c < /srv/content; echo gone > /root/gone");
  request["files"] = json::object{{"/srv/content", json::object{{"uuid", upload_one(number)}}}};
  request["disposable"] = true;
  auto done = run(request);
  insist_on(done, "SUCCESS");
  insist(text_of(result_of(done), "stdout") == std::to_string(content_bytes(number)) + "\n",
         json::serialize(done));
  insist(result_image_of(done).empty(), "a disposable run has an image");
}

void load_client::run_failing() {
  auto done = run(shell(base_, "mkdir /root/d; echo needle > /root/d/notes; exit 3"));
  insist_on(done, "SUCCESS");
  insist(state_of(result_of(done), "exit_code") == 3, json::serialize(done));
  own_.push_back(result_image_of(done)); // kept all the same
}

void load_client::run_timing_out() {
  auto request = shell(base_, "sleep 1000");
  request["timeout"] = 1;
  request["disposable"] = true;
  auto done = run(request);
  insist_on(done, "SUCCESS");
  insist(result_of(done).at("state").at("timed_out").as_bool(), json::serialize(done));
}

void load_client::run_cancelled() {
  const auto request = shell(base_, "sleep 1000");
  const header_list once{
      {"Idempotency-Key", name_ + "-" + base_ + "-" + std::to_string(random_())}};
  const auto operation = spawn(request, once);
  insist(spawn(request, once) == operation, "the same key gave two operations");
  if (below(2) == 0) {
    wait_for_event(operation, 1, "spawn");
  }
  cancel(operation);
}

void load_client::run_followed() {
  auto request = shell(base_, "for i in $(seq 30); do echo line $i; sleep 0.02; done");
  request["disposable"] = true;
  const auto operation = spawn(request);
  auto whole = server_.events(operation, "?follow=1");
  auto idle = server_.events(operation, "?follow=1"); // never read, closed at the end
  std::vector<std::string> seen;
  for (std::optional<std::uint64_t> last; seen.empty() || seen.back() != "completion";) {
    header_list headers;
    if (last) {
      headers.emplace_back("Last-Event-Id", std::to_string(*last));
    }
    auto piece = server_.events(operation, "?follow=1", headers);
    for (auto left = 1 + below(8); left > 0 && (seen.empty() || seen.back() != "completion");
         --left) {
      const auto frame = piece.next_event();
      insist(frame.has_value(), "a stream of " + operation + " ended early " + piece.broken());
      insist(frame->id == (last ? *last + 1 : 0), "an event of " + operation + " is missing");
      last = frame->id;
      seen.push_back(frame->event);
    }
  }
  insist(whole.rest().size() == seen.size(),
         "two followers of " + operation + " saw different logs");
  insist_on(wait(operation), "SUCCESS");
}

void load_client::run_subprocesses() {
  const auto operation = spawn({{"command", "cat"},
                                {"image", base_},
                                {"timeout", 600},
                                {"disposable", true},
                                {"stdin", json::object{{"value", "a"}, {"close", false}}}});
  wait_for_event(operation, 1, "spawn");
  const auto all = "/v1/operations/" + operation + "/subprocesses";
  const auto begin = [&](const json::object& spec) {
    const auto answer = ask("POST", all, 201, json::serialize(spec));
    return static_cast<std::size_t>(answer.json().at("spid").as_int64());
  };
  const auto path = [&](std::size_t spid) {
    return all + "/" + std::to_string(spid);
  };
  const auto feed = [&](std::size_t spid, const std::string& text, bool close) {
    ask("POST", path(spid) + "/stdin", 202,
        json::serialize(json::object{{"value", text}, {"close", close}}));
  };
  const auto fed =
      begin({{"command", "cat"}, {"stdin", json::object{{"value", "x"}, {"close", false}}}});
  const auto killed = begin({{"command", "sleep"}, {"args", json::array{"1000"}}});
  const auto left = begin({{"command", "sleep"}, {"args", json::array{"1000"}}});
  feed(fed, std::string(100'000, 'y'), false);
  feed(fed, "z", true);
  wait_for_event(operation, fed, "exit");
  const auto result = ask("GET", path(fed), 200).json().as_object();
  insist(text_of(result, "stdout") == "x" + std::string(100'000, 'y') + "z",
         "what was fed is not what came back");
  ask("DELETE", path(killed) + "?signal=TERM", 202);
  wait_for_event(operation, killed, "exit");
  insist(state_of(ask("GET", path(killed), 200).json().as_object(), "signal") == 15,
         "a process was not ended by its signal");
  ask("GET", all, 200);
  feed(1, "b", true);
  const auto done = wait(operation);
  insist_on(done, "SUCCESS");
  insist(text_of(result_of(done), "stdout") == "ab", json::serialize(done));
  insist(state_of(ask("GET", path(left), 200).json().as_object(), "signal") == 9,
         "a process outlived the command");
}

void load_client::import_nothing() {
  const json::object request{
      {"registry", json::object{{"url", "docker://127.0.0.1:1/nothing:latest"}}}};
  const auto operation = uuid_in(ask("POST", "/v1/images/import", 201, json::serialize(request)));
  insist_on(wait(operation), "FAILED");
}

// -- images and files ----------------------------------------------------------------------------

void load_client::inspect() {
  const auto image = any_image();
  const auto prefix = "/v1/inspect/" + image;
  switch (below(6)) {
  case 0:
    ask("GET", prefix + "/list?path=/bin", 200);
    ask("GET", prefix + "/list?path=/&text", 200);
    ask("GET", prefix + "/list?path=/nowhere", 404);
    break;
  case 1:
    insist(ask("GET", prefix + "/download?path=/bin/busybox", 200).body.size() > 100'000,
           "a short download");
    ask("HEAD", prefix + "/download?path=/bin/sh", 200);
    break;
  case 2:
    ask("GET", prefix + "/download?path=/bin/busybox", 206, {}, {{"Range", "bytes=5000-90000"}});
    ask("GET", prefix + "/download?path=/bin", 422);
    break;
  case 3:
    ask("GET", prefix + "/archive?path=/etc", 200);
    ask("GET", prefix + "/archive?path=/bin", 200, {}, {{"Accept-Encoding", "gzip"}});
    break;
  case 4:
    ask("GET", prefix + "/grep?pattern=root&path=/etc&before=1", 200);
    break;
  default: {
    const auto found = ask("GET", prefix + "/grep?pattern=needle&path=/root", 200).json();
    insist(found.at("matches").as_array().empty() == (image == base_),
           image + ": " + json::serialize(found));
  }
  }
}

void load_client::compare() {
  const auto answer = ask("GET", "/v1/images/" + base_ + "/diff/" + any_image(), 200);
  insist(answer.json().at("changes").is_array(), answer.body);
}

void load_client::tag() {
  const auto image = any_image();
  if (image == base_) {
    ask("GET", "/v1/images?tag=busybox", 200);
    return;
  }
  ask("PATCH", "/v1/images/" + image + "/tag", 200, R"({"tag":")" + name_ + R"("})");
  ask("GET", "/v1/inspect/?tag=" + name_, 302);
  ask("DELETE", "/v1/images/" + image, 409);
  ask("DELETE", "/v1/images/" + image + "/tag?tag=" + name_, 204);
  ask("GET", "/v1/inspect/?tag=" + name_, 404);
}

void load_client::delete_one(std::size_t index) {
  const auto image = own_[index];
  own_.erase(own_.begin() + static_cast<std::ptrdiff_t>(index));
  ask("DELETE", "/v1/images/" + image, 204);
  ask("GET", "/v1/images/" + image, 404);
}

void load_client::delete_image() {
  if (own_.empty()) {
    ask("DELETE", "/v1/images/" + base_, 409); // it has a tag
  } else {
    delete_one(below(own_.size()));
  }
}

void load_client::delete_all() {
  while (!own_.empty()) {
    delete_one(own_.size() - 1);
  }
}

std::string load_client::upload_one(std::size_t number) {
  return uuid_in(ask("POST", "/v1/files", 201, content_of(number)));
}

void load_client::upload() {
  const auto answer = ask("POST", "/v1/files", 201, content_of(below(contents_count))).json();
  const std::string digest{answer.at("sha256").as_string()};
  ask("HEAD", "/v1/files/" + digest, 200);
  ask("GET", "/v1/files?sha256=" + digest, 200);
  ask("GET", "/v1/files/" + std::string(64, 'a'), 404);
}

void load_client::upload_all() {
  for (std::size_t number = 0; number < contents_count; ++number) {
    upload_one(number);
  }
}

void load_client::list() {
  for (const char* target :
       {"/v1/whoami", "/v1/images?limit=20", "/v1/operations?limit=50",
        "/v1/operations?status=SUCCESS&kind=instance&limit=5&offset=3", "/v1/files?since=1h",
        "/healthz", "/readyz", "/metrics", "/docs", "/openapi.yaml"}) {
    ask("GET", target, 200);
  }
  ask("GET", "/v1/images/" + any_image() + "/ancestors", 200);
  ask("GET", "/v1/images/" + base_ + "/children", 200);
}

} // namespace coppice::test
