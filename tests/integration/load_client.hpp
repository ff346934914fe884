#pragma once

#include "tests/integration/node.hpp"

#include <boost/json/object.hpp>

#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace coppice::test {

/// One client that does all sorts of things, one after the other, and looks at what is answered.
///
/// Every method throws what it has to complain about; none uses the checks of a test, which are for
/// its first thread only. Owner: one thread.
class load_client {
public:
  /// `name` is its own: of its tags and keys.
  load_client(const node& server, std::string base, std::string name, unsigned seed);

  // -- runs --------------------------------------------------------------------------------------

  /// On the base or an image of its own; the result is its own then.
  void run_kept();
  /// With an uploaded file.
  void run_disposable();
  void run_failing();
  void run_timing_out();
  /// At once or while it runs; asked for twice with the same key.
  void run_cancelled();
  /// By one whose connections break, one that does not read, and one that sees it whole.
  void run_followed();
  /// With standard input and signals.
  void run_subprocesses();
  /// From a registry that is not there.
  void import_nothing();

  // -- images and files --------------------------------------------------------------------------

  void inspect();
  void compare();
  void tag();
  void delete_image();
  void delete_all();
  void upload();
  /// Everything that any client uploads: the daemon keeps it for ever.
  void upload_all();
  void list();

  // -- what should not be ------------------------------------------------------------------------

  /// What is understood and cannot be done.
  void ask_wrongly();
  /// What is no request.
  void send_nonsense();
  /// In the middle of whatever there is.
  void drop_connections();

private:
  http_answer ask(const std::string& method, const std::string& target, unsigned status,
                  std::string body = {}, const header_list& headers = {});
  boost::json::object shell(const std::string& image, const std::string& script) const;
  std::string spawn(const boost::json::object& request, const header_list& headers = {});
  /// Follows it to its completion and gives its record.
  boost::json::object wait(const std::string& operation);
  boost::json::object run(const boost::json::object& request);
  /// Follows a process, or the command itself, until there is such an event.
  void wait_for_event(const std::string& operation, std::size_t spid, const char* event) const;
  void cancel(const std::string& operation);
  std::string upload_one(std::size_t number);
  void delete_one(std::size_t index);
  std::string any_image();
  std::size_t below(std::size_t limit);

  const node& server_;
  std::string base_;
  std::string name_;
  std::minstd_rand random_;
  std::optional<http_client> http_; ///< kept for most of what is asked
  std::vector<std::string> own_;    ///< images
};

/// Throws the text unless the claim is true.
void insist(bool claim, const std::string& text);

} // namespace coppice::test
