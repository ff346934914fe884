#include "gateway/cli/logging.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace coppice::cli {

result<void> start_logging(const settings& values) {
  std::shared_ptr<spdlog::sinks::sink> sink;
  try {
    if (values.log.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(values.log.file);
    }
  } catch (const spdlog::spdlog_ex& e) {
    return failure{std::make_error_code(std::errc::io_error),
                   "cannot write the log file " + values.log.file + ": " + e.what()};
  }
  auto logger = std::make_shared<spdlog::logger>("coppice", std::move(sink));
  logger->set_level(spdlog::level::from_str(values.log.level));
  logger->set_pattern("ts=%Y-%m-%dT%H:%M:%S.%fZ level=%l %v", spdlog::pattern_time_type::utc);
  // Whoever debugs a crash needs the last line.
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

} // namespace coppice::cli
