#include "gateway/cli/admin_client.hpp"
#include "gateway/cli/command.hpp"
#include "gateway/cli/units.hpp"

#include <CLI/CLI.hpp>

#include <boost/json.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace coppice::cli {
namespace {

namespace json = boost::json;
using clock = std::chrono::steady_clock;

constexpr std::chrono::seconds answer_deadline{30};
constexpr std::chrono::milliseconds poll_interval{250};
constexpr std::chrono::seconds progress_interval{5};

struct import_options {
  config_options config;
  std::string source;
  std::string tag;
  std::string project = "default";
  std::string timeout = "30m";
};

failure refused(std::string text) {
  return {std::make_error_code(std::errc::invalid_argument), std::move(text)};
}

/// The answer as an object, or the daemon's own words for what is wrong.
result<json::object> object_in(const admin_client::answer& answer) {
  boost::system::error_code error;
  auto value = json::parse(answer.body, error);
  if (answer.status >= 300) {
    auto* text = !error && value.is_object() ? value.as_object().if_contains("error") : nullptr;
    return refused(text && text->is_string()
                       ? std::string{text->as_string()}
                       : "the daemon answered with status " + std::to_string(answer.status));
  }
  if (error || !value.is_object()) {
    return refused("the daemon's answer is not a JSON object");
  }
  return std::move(value.as_object());
}

std::string text_of_member(const json::object& object, std::string_view name) {
  auto* value = object.if_contains(name);
  return value && value->is_string() ? std::string{value->as_string()} : std::string{};
}

/// Asks the daemon to start the import and gives the operation's id.
result<std::string> start_import(const admin_client& daemon, const import_options& options,
                                 std::chrono::seconds timeout) {
  json::object body;
  body["timeout"] = timeout.count();
  if (!options.tag.empty()) {
    body["tag"] = options.tag;
  }
  std::string target;
  constexpr std::string_view layout_scheme = "oci:";
  if (options.source.starts_with(layout_scheme) && !options.source.starts_with("oci://")) {
    std::error_code error;
    auto layout = std::filesystem::canonical(options.source.substr(layout_scheme.size()), error);
    if (error || !std::filesystem::exists(layout / "oci-layout", error)) {
      return refused(options.source.substr(layout_scheme.size()) +
                     " is not the folder of an OCI layout: it has no file 'oci-layout'");
    }
    body["oci_layout"] = layout.string();
    body["project"] = options.project;
    target = "/admin/import";
  } else if (options.source.starts_with("docker://")) {
    body["registry"] = json::object{{"url", options.source}};
    target = "/v1/images/import";
  } else {
    return refused("'" + options.source +
                   "' is no source; give oci:PATH or docker://HOST/NAME:TAG");
  }
  auto answer = daemon.request("POST", target, json::serialize(body), answer_deadline);
  if (!answer) {
    return answer.error();
  }
  auto object = object_in(*answer);
  if (!object) {
    return object.error();
  }
  auto id = text_of_member(*object, "uuid");
  if (id.empty()) {
    return refused("the daemon's answer names no operation");
  }
  return id;
}

void report(const std::string& status, clock::time_point started) {
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(clock::now() - started).count();
  std::fprintf(stderr, "%6lld s  %s\n", static_cast<long long>(seconds), status.c_str());
}

/// Waits for the end of the operation, at most `timeout`, and gives the image.
result<std::string> wait_for(const admin_client& daemon, const std::string& id,
                             std::chrono::seconds timeout) {
  auto started = clock::now();
  auto reported = started;
  std::string last;
  while (true) {
    auto answer = daemon.request("GET", "/v1/operations/" + id, "", answer_deadline);
    if (!answer) {
      return answer.error();
    }
    auto object = object_in(*answer);
    if (!object) {
      return object.error();
    }
    auto status = text_of_member(*object, "status");
    if (status != last || clock::now() - reported >= progress_interval) {
      report(status, started);
      last = status;
      reported = clock::now();
    }
    if (status == "SUCCESS") {
      return text_of_member(*object, "result_image_uuid");
    }
    if (status == "FAILED" || status == "CANCELLED") {
      auto why = text_of_member(*object, "error");
      return refused("the import " + std::string{status == "FAILED" ? "failed" : "was cancelled"} +
                     (why.empty() ? "" : ": " + why));
    }
    if (clock::now() - started > timeout) {
      return refused("operation " + id + " is still " + status + " after " +
                     duration_text(timeout) + "; it goes on without this command");
    }
    std::this_thread::sleep_for(poll_interval);
  }
}

int import_image(const import_options& options) {
  auto values = options.config.load();
  if (!values) {
    return failed(values.error().text);
  }
  auto timeout = parse_duration(options.timeout);
  if (!timeout || timeout->count() == 0) {
    return failed("--timeout must be a duration with a unit, as in 30m");
  }
  admin_client daemon{values->admin_socket_path(), options.project};
  auto id = start_import(daemon, options, *timeout);
  if (!id) {
    return failed(id.error().text);
  }
  std::fprintf(stderr, "importing %s (operation %s)\n", options.source.c_str(), id->c_str());
  auto image = wait_for(daemon, *id, *timeout);
  if (!image) {
    return failed(image.error().text);
  }
  std::printf("%s\n", image->c_str());
  return 0;
}

} // namespace

void add_import(CLI::App& app, int& status) {
  auto* command = app.add_subcommand("import", "Import an image and print its id");
  auto options = std::make_shared<import_options>();
  options->config.add_to(*command);
  command
      ->add_option("source", options->source,
                   "oci:PATH, an OCI layout folder on this machine, or docker://HOST/NAME:TAG")
      ->required();
  command->add_option("--tag", options->tag, "Tag for the image; moves there from another image")
      ->type_name("NAME");
  command->add_option("--project", options->project, "Project that gets it (default: default)")
      ->type_name("NAME");
  command->add_option("--timeout", options->timeout, "How long it may take (default: 30m)")
      ->type_name("DURATION");
  command->footer("The running daemon does the work; this waits for it.");
  command->callback([options, &status] { status = import_image(*options); });
}

} // namespace coppice::cli
