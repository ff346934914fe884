#pragma once

#include "tests/gateway/routes_fixture.hpp"

#include <memory>
#include <string>

/// Everything wrong is tried over one connection: each refusal is told as the contract says, and
/// the next request is heard.
namespace coppice::test {

struct refusals_fixture : server_fixture {
  std::string image = inside.add_image("default", {"base"}).text();
  std::string other_image = inside.add_image("default", {}).text();
  std::string running = inside
                            .add_operation("default",
                                           [](proto::OperationRecord::Builder record) {
                                             record.setStatus(proto::OperationStatus::EXECUTING);
                                             record.getRequest().initInstance();
                                           })
                            .text();

  http_client& kept() {
    if (!kept_) {
      kept_ = std::make_unique<http_client>(running_port(), "secret");
    }
    return *kept_;
  }

  /// The `error` of the refusal; empty: it was none, or not as it must be, which has been told.
  std::string refused(const std::string& method, const std::string& target, unsigned status,
                      const std::string& body = {}, const header_list& headers = {}) {
    auto answer = kept().request(method, target, body, headers);
    return told(answer, status, method + " " + target.substr(0, 200) + " " + body.substr(0, 200));
  }

  std::string told(const http_answer& answer, unsigned status, const std::string& what) {
    BOOST_TEST(answer.status == status, what << " is answered " << answer.status << " "
                                             << answer.body.substr(0, 200) << ", not " << status);
    BOOST_TEST(answer.keep_alive, what);
    if (!answer.keep_alive) {
      kept_.reset();
    }
    if (answer.status < 400) {
      return {};
    }
    BOOST_TEST(answer.header("Content-Type") == "application/json", what);
    BOOST_TEST(keys(answer.json()) == (std::vector<std::string>{"error", "status"}),
               boost::test_tools::per_element());
    auto text = error_of(answer);
    BOOST_TEST(!text.empty(), what);
    return text;
  }

  std::uint16_t running_port() {
    return server_fixture::running().port();
  }

  /// Nothing that was refused came to anything.
  bool is_untouched() {
    return inside.locked([this] {
      return inside.started.empty() && inside.process_orders.empty() && inside.uploads.empty() &&
             inside.deleted_images.empty() && inside.removed_tags.empty() &&
             inside.image_table.at(0).tags.size() == 1;
    });
  }

private:
  std::unique_ptr<http_client> kept_;
};

} // namespace coppice::test
