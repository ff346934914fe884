#pragma once

#include "gateway/http/refusal.hpp"

#include <boost/json/object.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

/// Strict reading of request bodies.
///
/// Problem: a wrong type must be refused by name, an explicit null is an absent field, an unknown
/// field is ignored. Guarantee: after reading, `error` is the first field that was wrong; the
/// values read meanwhile are absent, never wrong.
namespace coppice::gateway {

/// Values that a body may hold. The largest spawn that makes sense has some ten thousand; text of
/// the same size can hold a hundred times as many, and then takes thirty times its size.
inline constexpr std::uint64_t json_values_max = 256u << 10;

/// What each takes while the body is parsed and held.
inline constexpr std::uint64_t json_value_bytes = 64;

/// No fewer values than the text holds, without parsing it.
std::uint64_t count_json_values(std::string_view text);

/// The body as an object; nesting is limited.
answer<boost::json::object> parse_json_object(std::string_view text);

class json_fields {
public:
  /// `object` must outlive the reader.
  explicit json_fields(const boost::json::object& object)
      : object_{&object}, error_{std::make_shared<std::optional<refusal>>()} {}

  std::optional<std::string> text(std::string_view name);
  std::optional<bool> flag(std::string_view name);
  /// Whole numbers in [minimum, maximum].
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t minimum,
                                      std::int64_t maximum);
  const boost::json::array* array(std::string_view name);
  const boost::json::object* object(std::string_view name);
  /// Any type; none when absent or null.
  const boost::json::value* any(std::string_view name) const;

  /// A reader for an object inside this one; shares the error. Names read `name.field`.
  json_fields inside(std::string_view name, const boost::json::object& object) const;

  /// Records that a field is wrong: `<name> <what>`.
  void refuse_field(std::string_view name, std::string_view what);

  bool failed() const {
    return error_->has_value();
  }
  const refusal& error() const {
    return **error_;
  }

private:
  const boost::json::object* object_;
  std::string prefix_;
  std::shared_ptr<std::optional<refusal>> error_;
};

} // namespace coppice::gateway
