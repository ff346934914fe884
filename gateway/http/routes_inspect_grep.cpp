#include "gateway/http/inspect_query.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/json_session_source.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/routes.hpp"
#include "storage/grep_pattern.hpp"

#include <algorithm>
#include <utility>

// Searching the files of an image.

namespace coppice::gateway {
namespace {

constexpr std::size_t paths_max = 64;
constexpr std::uint64_t context_lines_max = 100;

/// An answer with more lines is nobody's to read; the client hears that there are more.
constexpr std::uint64_t matches_max = 100'000;

/// Of the reader's work, shorter than what an answer of its may take.
constexpr std::uint64_t deadline_ms = 20'000;

struct grep_request {
  std::string path; ///< as sent, the first
  std::vector<std::string> paths;
  std::vector<std::string> patterns;
  std::vector<std::string> globs;
  std::string how;
  std::uint64_t max_count = 0;
  std::uint64_t max_total = 0;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
};

answer<proto::GrepQuery::CaseMode> parse_case(std::string_view text) {
  using mode = proto::GrepQuery::CaseMode;
  if (text.empty() || text == "sensitive") {
    return mode::SENSITIVE;
  }
  if (text == "insensitive") {
    return mode::INSENSITIVE;
  }
  if (text == "smart") {
    return mode::SMART;
  }
  return bad_request("case must be sensitive, insensitive or smart");
}

storage::grep_case case_of(proto::GrepQuery::CaseMode mode) {
  return static_cast<storage::grep_case>(mode);
}
static_assert(static_cast<int>(storage::grep_case::smart) ==
              static_cast<int>(proto::GrepQuery::CaseMode::SMART));

answer<void> parse_numbers(const query_map& query, grep_request& out) {
  auto take = [&](const char* name, std::uint64_t most, std::uint64_t& into) -> answer<void> {
    auto number = parse_number(query, name, 0, most);
    if (number.has_error()) {
      return number.error();
    }
    into = *number;
    return {};
  };
  for (auto parsed :
       {take("max_count", UINT32_MAX, out.max_count), take("max_total", UINT32_MAX, out.max_total),
        take("before", context_lines_max, out.before),
        take("after", context_lines_max, out.after)}) {
    if (parsed.has_error()) {
      return parsed;
    }
  }
  return {};
}

/// Everything that can be wrong with the request itself, before an image is looked at.
answer<grep_request> parse_grep(const query_map& query) {
  grep_request out;
  out.patterns = query.all("pattern");
  out.globs = query.all("glob");
  out.how = query.find("case").value_or("");
  auto mode = parse_case(out.how);
  if (mode.has_error()) {
    return mode.error();
  }
  if (auto numbers = parse_numbers(query, out); numbers.has_error()) {
    return numbers.error();
  }
  auto paths = query.all("path");
  if (paths.empty()) {
    paths.emplace_back("/");
  }
  if (paths.size() > paths_max) {
    return bad_request("at most " + std::to_string(paths_max) + " paths");
  }
  out.path = paths.front();
  for (const auto& path : paths) {
    auto absolute = absolute_path(path, "path");
    if (absolute.has_error()) {
      return absolute.error();
    }
    out.paths.push_back(std::move(*absolute));
  }
  auto lines = storage::line_matcher::compile(out.patterns, case_of(*mode));
  if (lines.has_error()) {
    return bad_request(lines.error().text);
  }
  auto globs = storage::glob_set::compile(out.globs);
  if (globs.has_error()) {
    return bad_request(globs.error().text);
  }
  return out;
}

void fill_texts(capnp::List<capnp::Text>::Builder out, const std::vector<std::string>& texts) {
  for (capnp::uint i = 0; i < out.size(); ++i) {
    out.set(i, capnp::Text::Reader{texts[i].c_str(), texts[i].size()});
  }
}

void fill_order(proto::InspectOpen::Builder root, const grep_request& asked) {
  auto query = root.initGrep();
  auto count = [](const auto& list) {
    return static_cast<capnp::uint>(list.size());
  };
  fill_texts(query.initPatterns(count(asked.patterns)), asked.patterns);
  fill_texts(query.initPaths(count(asked.paths)), asked.paths);
  fill_texts(query.initGlobs(count(asked.globs)), asked.globs);
  query.setCaseMode(*parse_case(asked.how));
  query.setMaxCount(asked.max_count);
  const bool is_bounded = asked.max_total != 0 && asked.max_total <= matches_max;
  query.setMaxTotal(is_bounded ? asked.max_total : matches_max);
  query.setBefore(static_cast<std::uint32_t>(asked.before));
  query.setAfter(static_cast<std::uint32_t>(asked.after));
  query.setDeadlineMs(deadline_ms);
}

std::string base64(std::string_view bytes) {
  std::string out;
  base64_encoder encoder;
  encoder.append(out, bytes);
  encoder.finish(out);
  return out;
}

void write_match(json_writer& json, proto::GrepMatch::Reader match) {
  const auto line = view(match.getLine());
  json.begin_object();
  json.member("path", view(match.getPath()));
  json.member("line_number", match.getLineNumber());
  json.member("absolute_offset", match.getAbsoluteOffset());
  json.member("line_text", line);
  json.key("line_bytes");
  is_utf8(line) ? json.value(nullptr) : json.value(base64(line));
  json.key("submatches");
  json.begin_array();
  for (auto span : match.getSubmatches()) {
    const auto begin = std::min<std::size_t>(span.getStart(), line.size());
    const auto end =
        std::max<std::size_t>(begin, std::min<std::size_t>(span.getEnd(), line.size()));
    json.begin_object();
    json.member("text", line.substr(begin, end - begin));
    json.member("start", begin);
    json.member("end", end);
    json.end_object();
  }
  json.end_array();
  json.member("type", match.getIsContext() ? "context" : "match");
  json.end_object();
}

/// `{"path":…,"patterns":[…],"matches":[…],"truncated":…}`.
class grep_source : public json_session_source {
public:
  grep_source(std::unique_ptr<inspect_session> session, const grep_request& asked)
      : json_session_source{std::move(session)} {
    json_.begin_object();
    json_.member("path", asked.path);
    json_.key("patterns");
    json_.begin_array();
    for (const auto& pattern : asked.patterns) {
      json_.value(pattern);
    }
    json_.end_array();
    json_.key("matches");
    json_.begin_array();
  }

private:
  void write(proto::InspectChunk::Reader told) override {
    if (told.isMatches()) {
      for (auto match : told.getMatches()) {
        write_match(json_, match);
      }
    }
  }

  void end(proto::InspectChunk::Reader last) override {
    json_.end_array();
    json_.member("truncated", last.getTruncated());
    json_.end_object();
  }
};

} // namespace

asio::awaitable<reply> get_inspect_grep(exchange& x) {
  auto asked = parse_grep(x.query());
  if (asked.has_error()) {
    co_return reply{asked.error()};
  }
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  inspect_session::fill_order fill = [&](auto root) {
    fill_order(root, *asked);
  };
  auto session = co_await inspect_session::open(x, *id, proto::InspectVerb::GREP, {}, fill);
  if (session.has_error()) {
    co_return reply{session.error()};
  }
  reply out;
  out.stream = std::make_unique<grep_source>(std::move(*session), *asked);
  co_return out;
}

} // namespace coppice::gateway
