#pragma once

#include "gateway/http/json_fields.hpp"
#include "gateway/http/refusal.hpp"
#include "protocol/types.capnp.h"

#include <boost/json/object.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What a client says about one process, be it the command of a run or one beside it: checked, and
/// with every default filled in.
namespace coppice::gateway {

/// Limits on one request, so that the order to the guest fits one frame of its channel
/// (limits::channel_frame_bytes_max): the texts together, and what their lists add.
inline constexpr std::size_t arguments_max = 4096;
inline constexpr std::size_t variables_max = 4096;
inline constexpr std::size_t text_bytes_max = 1u << 20;
inline constexpr std::size_t path_bytes_max = 4096; ///< PATH_MAX

/// Standard input, decoded.
struct input_order {
  std::string bytes;
  bool is_base64 = false; ///< how it was sent
  bool close = true;      ///< end of input follows
};

struct process_order {
  std::string command;
  std::vector<std::string> args;
  bool shell = false;
  std::vector<std::pair<std::string, std::string>> env;
  std::string cwd; ///< empty: not said
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::uint64_t truncate_output_at = 0;
  input_order stdin;
};

// -- for bodies that have more than this ---------------------------------------------------------

/// C strings are what the guest's kernel takes.
bool has_nul(std::string_view text);
std::string read_text(json_fields& fields, std::string_view name, std::size_t bytes_max);
std::optional<std::uint32_t> read_id(json_fields& fields, std::string_view name);

/// All but stdin.
process_order read_process(json_fields& fields);
/// The field `stdin`; empty and closed where there is none.
input_order read_stdin(json_fields& fields);
std::size_t text_bytes(const process_order& order);

// -- whole bodies --------------------------------------------------------------------------------

/// The body of `POST /operations/{id}/subprocesses`. 400, naming the field.
answer<process_order> parse_exec_order(const boost::json::object& body);

/// The body of `POST /operations/{id}/subprocesses/{spid}/stdin`. 400, naming the field.
answer<input_order> parse_input_order(const boost::json::object& body);

/// `TERM`, `SIGTERM` or `15`; nothing where there is no such signal.
std::optional<std::int32_t> parse_signal(std::string_view text);

/// Fills all but stdin.
void fill_process(const process_order& order, proto::ProcessSpec::Builder process);

inline capnp::Data::Reader data_of(const std::string& bytes) {
  return {reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()};
}

} // namespace coppice::gateway
