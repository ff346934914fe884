/// Issue 3, shows 9: what a look-up and a page cost among a thousand and among a million.
///
///   catalog_bench fill DIR COUNT                 a catalog of COUNT images, operations and files
///   catalog_bench counts DIR COUNT               what each answer reads, counted in process
///   catalog_bench http PORT PID TOKEN COUNT  PORT PID TOKEN COUNT
///                                                two daemons, small and large, asked in turn
#include "protocol/ordered_uuid.hpp"
#include "storage/catalog.hpp"
#include "storage/lmdb.hpp"
#include "tests/support/http_client.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace coppice;
using storage::catalog;

constexpr std::int64_t first_time = 1'700'000'000'000'000'000;
constexpr std::uint64_t batch_rows = 100'000; ///< digests are random: each commit writes nearly all
                                              ///< pages of files anew
constexpr unsigned page_rows = 50;            ///< the narrowest filter has that many of a thousand
constexpr unsigned rounds = 500;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "catalog_bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T need(result<T> r) {
  if (!r) {
    give_up(r.error().text);
  }
  return std::move(*r);
}

void need(const result<void>& r) {
  if (!r) {
    give_up(r.error().text);
  }
}

// -- what is in a catalog ------------------------------------------------------------------------

enum class family : std::uint64_t { image = 1, operation, file };

/// Three at a time, 10 ms apart.
std::int64_t time_of(std::uint64_t n) {
  return first_time + static_cast<std::int64_t>(n / 3) * 10'000'000;
}

/// As the daemon makes them (protocol/ordered_uuid.hpp), but the same each time.
uuid id_of(family of, std::uint64_t n) {
  std::mt19937_64 random{n * 4 + static_cast<std::uint64_t>(of)};
  return {ordered_uuid(time_of(n)).hi, random() >> 2 | 1ull << 63};
}

bool is_tagged(std::uint64_t n) {
  return n % 2 == 0;
}

std::string tag_of(std::uint64_t n) {
  return "repo-" + std::to_string(n / 2 % 8) + ":v" + std::to_string(n);
}

void put_image(catalog::transaction& t, std::uint64_t n) {
  auto record = make_frame<proto::ImageRecord>([&](proto::ImageRecord::Builder to) {
    id_of(family::image, n).to(to.initId());
    id_of(family::operation, n).to(to.initOperation());
    to.setProject("default");
    to.setCreatedAtUnixNs(time_of(n));
    to.setSizeBytes(40'960);
    auto env = to.initConfig().initEnv(2);
    env[0].setName("PATH");
    env[0].setValue("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    env[1].setName("LANG");
    env[1].setValue("C.UTF-8");
  });
  need(t.put_image(*record.view()));
  if (is_tagged(n)) {
    auto tag = make_frame<proto::SetTag>([&](proto::SetTag::Builder to) {
      to.setProject("default");
      id_of(family::image, n).to(to.initImage());
      to.setTag(tag_of(n));
    });
    need(t.set_tag(*tag.view()));
  }
}

void fill_operation(proto::OperationRecord::Builder to, std::uint64_t n) {
  id_of(family::operation, n).to(to.initId());
  to.setProject("default");
  to.setKind(n % 3 == 0 ? proto::OperationKind::IMAGE_IMPORT : proto::OperationKind::INSTANCE);
  to.setCreatedAtUnixNs(time_of(n));
  if (n % 3 == 0) {
    to.getRequest().initImport().setUrl("docker://registry.example/team/image:1.2");
    return;
  }
  auto run = to.getRequest().initInstance();
  run.initProcess().setCommand("make -j4 check");
  run.setImageReference("tag:repo-1:v2");
  run.setTimeoutSeconds(60);
}

void put_operation(catalog::transaction& t, std::uint64_t n) {
  auto record = make_frame<proto::OperationRecord>(
      [&](proto::OperationRecord::Builder to) { fill_operation(to, n); });
  need(t.put_operation(*record.view()));
  auto end = make_frame<proto::FinishOperation>([&](proto::FinishOperation::Builder to) {
    auto ended = to.initRecord();
    fill_operation(ended, n);
    ended.setStatus(n % 4 == 1 ? proto::OperationStatus::FAILED : proto::OperationStatus::SUCCESS);
    ended.setEndedAtUnixNs(time_of(n) + 1'000'000'000);
    ended.initResult().setExitCode(0);
    ended.setHasResult(n % 3 != 0);
    auto events = to.initEvents(2);
    events[0].initInit();
    events[1].setId(1);
    events[1].initCompletion();
  });
  need(t.finish_operation(*end.view()));
}

void put_file(catalog::transaction& t, std::uint64_t n) {
  auto request = make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
    auto record = to.initRecord();
    const auto id = id_of(family::file, n);
    id.to(record.initId());
    record.setProject("default");
    record.setSizeBytes(1000 + n);
    record.setCreatedAtUnixNs(time_of(n));
    record.setUpdatedAtUnixNs(time_of(n));
    auto digest = record.initSha256(32);
    std::generate(digest.begin(), digest.end(), std::mt19937{static_cast<unsigned>(id.lo)});
  });
  need(t.put_file(*request.view()));
}

void fill(const std::string& dir, std::uint64_t count) {
  auto c = need(catalog::open(dir));
  for (auto put : {put_image, put_operation, put_file}) {
    for (std::uint64_t n = 1; n <= count;) {
      auto t = need(c->begin());
      for (const auto end = std::min(count, n + batch_rows - 1); n <= end; ++n) {
        put(t, n);
      }
      need(t.commit());
    }
  }
}

// -- what is asked -------------------------------------------------------------------------------

/// One kind of request, by HTTP and in process; `n` picks among `count`.
struct probe {
  const char* name;
  bool is_page;
  bool is_in_bar; ///< false: shown, not judged
  std::function<std::string(std::uint64_t n, std::uint64_t count)> target;
  std::function<void(const catalog& c, std::uint64_t n, std::uint64_t count)> read;
};

std::string unix_seconds(std::int64_t unix_ns) {
  char text[40];
  std::snprintf(text, sizeof text, "%lld.%09lld", static_cast<long long>(unix_ns / 1'000'000'000),
                static_cast<long long>(unix_ns % 1'000'000'000));
  return text;
}

template <class Request, class Answer>
auto reading(result<frame<Answer>> (catalog::*how)(typename Request::Reader) const,
             std::function<void(typename Request::Builder, std::uint64_t, std::uint64_t)> fill_in) {
  return [how, fill_in](const catalog& c, std::uint64_t n, std::uint64_t count) {
    auto request = make_frame<Request>([&](typename Request::Builder to) {
      to.setProject("default");
      fill_in(to, n, count);
    });
    need((c.*how)(*request.view()));
  };
}

template <class Request, class Answer>
probe page(const char* name, const char* path,
           result<frame<Answer>> (catalog::*how)(typename Request::Reader) const,
           std::function<std::string(std::uint64_t, std::uint64_t)> query,
           std::function<void(typename Request::Builder, std::uint64_t, std::uint64_t)> fill_in,
           bool is_in_bar = true) {
  return {name, true, is_in_bar,
          [path, query](std::uint64_t n, std::uint64_t count) {
            return std::string{path} + "?limit=" + std::to_string(page_rows) + query(n, count);
          },
          reading<Request, Answer>(how, [fill_in](auto to, std::uint64_t n, std::uint64_t count) {
            to.setLimit(page_rows);
            fill_in(to, n, count);
          })};
}

auto text(const char* fixed) {
  return [fixed](std::uint64_t, std::uint64_t) {
    return std::string{fixed};
  };
}

std::string until_text(std::uint64_t n, std::uint64_t) {
  return "&until=" + unix_seconds(time_of(n));
}

std::vector<probe> image_probes() {
  using list = proto::ListImages::Builder;
  constexpr auto how = &catalog::list_images;
  constexpr auto path = "/v1/images";
  using request = proto::ListImages;
  return {
      page<request>("images", path, how, text(""), [](list, auto, auto) {}),
      page<request>("images until a time", path, how, until_text,
                    [](list to, auto n, auto) { to.setUntilUnixNs(time_of(n)); }),
      page<request>("tagged images", path, how, text("&tagged=1"),
                    [](list to, auto, auto) { to.setTaggedOnly(true); }),
      page<request>("images by tag prefix", path, how, text("&tag=repo-5:v"),
                    [](list to, auto, auto) { to.setTagPrefix("repo-5:v"); }),
      page<request>(
          "images by tag prefix and time", path, how,
          [](std::uint64_t, std::uint64_t count) {
            return "&tag=repo-5:v&since=" + unix_seconds(time_of(count / 8));
          },
          [](list to, auto, auto count) {
            to.setTagPrefix("repo-5:v");
            to.setSinceUnixNs(time_of(count / 8));
          }),
      page<request>(
          "images, last page (offset)", path, how,
          [](std::uint64_t, std::uint64_t count) {
            return "&offset=" + std::to_string(count - page_rows);
          },
          [](list to, auto, auto count) { to.setOffset(count - page_rows); }, false),
  };
}

std::vector<probe> operation_probes() {
  using list = proto::ListOperations::Builder;
  constexpr auto how = &catalog::list_operations;
  constexpr auto path = "/v1/operations";
  using request = proto::ListOperations;
  auto failed = [](list to) {
    to.setFilterStatus(true);
    to.setStatus(proto::OperationStatus::FAILED);
  };
  auto imports = [](list to) {
    to.setFilterKind(true);
    to.setKind(proto::OperationKind::IMAGE_IMPORT);
  };
  return {
      page<request>("operations", path, how, text(""), [](list, auto, auto) {}),
      page<request>("operations until a time", path, how, until_text,
                    [](list to, auto n, auto) { to.setUntilUnixNs(time_of(n)); }),
      page<request>("operations by status", path, how, text("&status=FAILED"),
                    [failed](list to, auto, auto) { failed(to); }),
      page<request>("operations by kind", path, how, text("&kind=image_import"),
                    [imports](list to, auto, auto) { imports(to); }),
      page<request>("operations by status and kind", path, how,
                    text("&status=FAILED&kind=image_import"),
                    [failed, imports](list to, auto, auto) {
                      failed(to);
                      imports(to);
                    }),
  };
}

std::vector<probe> probes() {
  std::vector<probe> all{
      {"look up an image", false, true,
       [](std::uint64_t n, std::uint64_t) {
         return "/v1/inspect/" + id_of(family::image, n).text() + "/";
       },
       reading<proto::GetImage, proto::ImageRow>(
           &catalog::get_image,
           [](auto to, auto n, auto) { id_of(family::image, n).to(to.initId()); })},
      {"look up an operation", false, true,
       [](std::uint64_t n, std::uint64_t) {
         return "/v1/operations/" + id_of(family::operation, n).text();
       },
       reading<proto::GetOperation, proto::OperationRecord>(
           &catalog::get_operation,
           [](auto to, auto n, auto) { id_of(family::operation, n).to(to.initId()); })},
      {"resolve a tag", false, true,
       [](std::uint64_t n, std::uint64_t) { return "/v1/inspect/?tag=" + tag_of(n & ~1ull); },
       reading<proto::ResolveTag, proto::ImageRow>(
           &catalog::resolve_tag, [](auto to, auto n, auto) { to.setTag(tag_of(n & ~1ull)); })},
      {"whoami", false, true, [](std::uint64_t, std::uint64_t) { return "/v1/whoami"; },
       reading<proto::CountActive, proto::ActiveCounts>(&catalog::count_active,
                                                        [](auto, auto, auto) {})},
  };
  for (auto more : {image_probes(), operation_probes()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  using request = proto::ListFiles;
  all.push_back(
      page<request>("files", "/v1/files", &catalog::list_files, text(""), [](auto, auto, auto) {}));
  all.push_back(page<request>("files until a time", "/v1/files", &catalog::list_files, until_text,
                              [](auto to, auto n, auto) { to.setUntilUnixNs(time_of(n)); }));
  return all;
}

/// In the newer half, so that whole pages lie behind it.
class picker {
public:
  std::uint64_t pick(std::uint64_t count) {
    return count - random_() % (count / 4);
  }

private:
  std::mt19937_64 random_{9};
};

// -- counts --------------------------------------------------------------------------------------

unsigned tree_height(const std::string& dir) {
  auto env = need(storage::lmdb::environment::open(dir, {catalog::map_bytes_default, 64, 128}));
  auto in = need(storage::lmdb::transaction::begin(env, storage::lmdb::mode::write));
  unsigned height = 0;
  for (const char* name : {"images", "operations", "operation_index", "image_index", "tags"}) {
    MDB_stat found{};
    if (::mdb_stat(in.handle(), need(in.open_table(name)), &found) == 0) {
      height = std::max(height, found.ms_depth);
    }
  }
  return height;
}

void show_counts(const std::string& dir, std::uint64_t count) {
  const auto height = tree_height(dir);
  auto c = need(catalog::open(dir));
  std::printf("| %llu of each; tree height %u | records | keys stepped over | look-ups by key |\n"
              "|---|---|---|---|\n",
              static_cast<unsigned long long>(count), height);
  picker pick;
  std::uint64_t most = 0;
  std::uint64_t limit = 0;
  for (const auto& p : probes()) {
    storage::lmdb::read_counts worst;
    for (unsigned i = 0; i < 20; ++i) {
      const auto before = storage::lmdb::counts_of_thread();
      p.read(*c, pick.pick(count), count);
      const auto after = storage::lmdb::counts_of_thread();
      worst.records = std::max(worst.records, after.records - before.records);
      worst.steps = std::max(worst.steps, after.steps - before.steps);
      worst.look_ups = std::max(worst.look_ups, after.look_ups - before.look_ups);
    }
    std::printf("| %s | %llu | %llu | %llu |\n", p.name,
                static_cast<unsigned long long>(worst.records),
                static_cast<unsigned long long>(worst.steps),
                static_cast<unsigned long long>(worst.look_ups));
    const auto allowed = height + (p.is_page ? page_rows : 1);
    if (limit == 0 || worst.records * limit > most * allowed) {
      most = worst.records;
      limit = allowed;
    }
  }
  std::printf("bar: storage.9-records %llu %llu %s\n", static_cast<unsigned long long>(most),
              static_cast<unsigned long long>(limit), most <= limit ? "ok" : "short");
}

// -- over HTTP -----------------------------------------------------------------------------------

struct daemon_under_test {
  daemon_under_test(char** argument)
      : client{static_cast<std::uint16_t>(std::atoi(argument[0])), argument[2]}, pid{argument[1]},
        count{std::strtoull(argument[3], nullptr, 10)} {}

  test::http_client client;
  std::string pid;
  std::uint64_t count;
  picker pick;
  std::vector<double> times_us;
  std::size_t rows = 0;

  void ask(const probe& p) {
    const auto target = p.target(pick.pick(count), count);
    const auto begin = std::chrono::steady_clock::now();
    auto answer = client.get(target);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (answer.status != 200 && answer.status != 302) {
      give_up(target + " was answered " + std::to_string(answer.status) + ": " + answer.body);
    }
    times_us.push_back(took.count());
    rows = 0;
    for (auto at = answer.body.find("\"uuid\":"); at != std::string::npos;
         at = answer.body.find("\"uuid\":", at + 1)) {
      ++rows;
    }
  }

  double take_median() {
    std::sort(times_us.begin(), times_us.end());
    const auto median = times_us[times_us.size() / 2];
    times_us.clear();
    return median;
  }

  /// Of smaps_rollup, in MiB.
  double memory(const std::string& field) const {
    std::ifstream in{"/proc/" + pid + "/smaps_rollup"};
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(field + ":")) {
        return std::strtod(line.c_str() + field.size() + 1, nullptr) / 1024;
      }
    }
    give_up("/proc/" + pid + "/smaps_rollup has no " + field);
  }
};

void measure(daemon_under_test& small, daemon_under_test& large) {
  std::printf("| request (n %u each, in turn) | p50 us, %llu | p50 us, %llu | ratio |\n"
              "|---|---|---|---|\n",
              rounds, static_cast<unsigned long long>(small.count),
              static_cast<unsigned long long>(large.count));
  double worst = 0;
  for (const auto& p : probes()) {
    for (unsigned i = 0; i < rounds / 10; ++i) { // the page cache and the allocator
      small.ask(p);
      large.ask(p);
    }
    small.times_us.clear();
    large.times_us.clear();
    for (unsigned i = 0; i < rounds; ++i) {
      small.ask(p);
      large.ask(p);
    }
    if (p.is_page && (small.rows != page_rows || large.rows != page_rows)) {
      give_up(std::string{p.name} + ": the pages have " + std::to_string(small.rows) + " and " +
              std::to_string(large.rows) + " rows");
    }
    const auto one = small.take_median();
    const auto other = large.take_median();
    std::printf("| %s%s | %.0f | %.0f | %.2f |\n", p.name, p.is_in_bar ? "" : ", not in the bar",
                one, other, other / one);
    worst = p.is_in_bar ? std::max(worst, other / one) : worst;
  }
  std::printf("bar: storage.9-latency %.2f 1.5 %s\n", worst, worst <= 1.5 ? "ok" : "short");
  // What a process has for itself alone; the catalog is mapped from the page cache.
  const auto grown = large.memory("Anonymous") - small.memory("Anonymous");
  std::printf("| memory, MiB | %llu | %llu |\n|---|---|---|\n",
              static_cast<unsigned long long>(small.count),
              static_cast<unsigned long long>(large.count));
  for (const char* field : {"Anonymous", "Private_Dirty", "Private_Clean", "Rss"}) {
    std::printf("| %s | %.1f | %.1f |\n", field, small.memory(field), large.memory(field));
  }
  std::printf("bar: storage.9-memory %.1f 16 %s\n", grown, grown <= 16 ? "ok" : "short");
}

} // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "fill" && argc == 4) {
    fill(argv[2], std::strtoull(argv[3], nullptr, 10));
  } else if (what == "counts" && argc == 4) {
    show_counts(argv[2], std::strtoull(argv[3], nullptr, 10));
  } else if (what == "http" && argc == 10) {
    daemon_under_test small{argv + 2};
    daemon_under_test large{argv + 6};
    measure(small, large);
  } else {
    give_up("see the first lines of tests/bench/catalog_bench.cpp");
  }
}
