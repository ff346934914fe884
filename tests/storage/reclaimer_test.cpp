#define BOOST_TEST_MODULE reclaimer
#include "storage/catalog.hpp"
#include "storage/disk/engine.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/reclaimer.hpp"
#include "storage/retention.hpp"
#include "tests/storage/disk_fixture.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <set>

namespace coppice::storage {

namespace {

using test::content;

/// Every cluster of every image is told apart.
content numbered(std::uint64_t n) {
  content out(cluster_bytes);
  for (std::size_t at = 0; at < out.size(); at += sizeof(n)) {
    std::memcpy(out.data() + at, &n, sizeof(n));
  }
  return out;
}

constexpr cluster_number clusters = 48; // of each disk, the first is the superblock

/// Images in real files with records in a real catalog, and what each must show.
struct family_fixture : test::disk_fixture {
  struct member {
    uuid id;
    int parent = -1;
    bool is_live = true;
    std::vector<std::uint64_t> disk; ///< by cluster; 0: zeros
    std::vector<int> owner;          ///< in whose file; -1: none
  };

  family_fixture() {
    auto opened = catalog::open(dir.path() / "catalog");
    BOOST_REQUIRE_MESSAGE(opened, opened.error().text);
    records = std::move(*opened);
    start();
  }

  void start() {
    space.reset();
    disks.reset();
    engine::options how;
    how.loops = 2;
    auto started = engine::start(
        dir.path(), [this](const uuid& image) { return records->get_index(image); }, how);
    BOOST_REQUIRE(started);
    disks = std::move(*started);
    space = std::make_shared<reclaimer>(records, disks);
  }

  int add(int parent, const std::set<cluster_number>& written,
          const std::set<cluster_number>& zeroed = {}) {
    member made;
    made.id = uuid::random();
    made.parent = parent;
    const auto number = static_cast<int>(all.size());
    std::shared_ptr<const block_index> below;
    uuid parent_id;
    if (parent >= 0) {
      const auto& p = all[static_cast<std::size_t>(parent)];
      made.disk = p.disk;
      made.owner = p.owner;
      parent_id = p.id;
      below = disks->indexes().get(p.id).value();
    } else {
      made.disk.resize(clusters);
      made.owner.resize(clusters, -1);
    }
    auto disk = branch(made.id, below);
    BOOST_TEST(write(*disk, 0, test::clean_superblock(1, static_cast<std::uint32_t>(number))) == 0);
    made.disk[0] = 1;
    made.owner[0] = number;
    for (auto guest : written) {
      made.disk[guest] = ++last_content;
      made.owner[guest] = number;
      BOOST_TEST(write(*disk, guest, numbered(last_content)) == 0);
    }
    for (auto guest : zeroed) {
      BOOST_TEST(zero(*disk, guest, 1) == 0);
      made.disk[guest] = 0;
      made.owner[guest] = -1;
    }
    auto done = sealed(*disk, parent_id);
    BOOST_REQUIRE(!done.is_unchanged);
    record(made.id, parent_id, done);
    all.push_back(std::move(made));
    return number;
  }

  void record(const uuid& id, const uuid& parent, const sealed_image& done) {
    auto image = make_frame<proto::ImageRecord>([&](proto::ImageRecord::Builder to) {
      id.to(to.initId());
      to.setProject("default");
      to.setSizeBytes(done.own_bytes);
      if (parent) {
        parent.to(to.initParent());
      }
    });
    auto index = make_frame<proto::ImageIndex>([&](proto::ImageIndex::Builder to) {
      done.index->checkpoint().to(to.initCheckpoint());
      auto bytes = done.index->encode();
      to.setExtents({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
    });
    auto t = records->begin();
    BOOST_REQUIRE(t);
    BOOST_REQUIRE(t->put_image(*image.view(), *index.view()));
    BOOST_REQUIRE(t->commit());
  }

  /// The record alone, durably; what is to be done to files then.
  image_deletion erase(int number) {
    auto& m = all[static_cast<std::size_t>(number)];
    auto t = records->begin();
    BOOST_REQUIRE(t);
    auto done = t->delete_image("default", m.id);
    BOOST_REQUIRE_MESSAGE(done, done.error().text);
    BOOST_REQUIRE(t->commit());
    m.is_live = false;
    return std::move(*done);
  }

  std::uint64_t give_back(const image_deletion& what) {
    std::uint64_t freed = 0;
    for (const auto& image : what.gone) {
      auto done = space->remove(image);
      BOOST_REQUIRE_MESSAGE(done, done.error().text);
      freed += *done;
    }
    for (const auto& image : what.dead) {
      auto done = space->punch(image);
      BOOST_REQUIRE_MESSAGE(done, done.error().text);
      freed += *done;
    }
    return freed;
  }

  /// What a start does: files without a record go, deleted ones are looked at again.
  void restart() {
    start();
    for (const auto& entry : std::filesystem::directory_iterator{dir.path()}) {
      auto id = uuid::parse(entry.path().stem().string());
      if (id && !records->has_image_file(*id)) {
        std::filesystem::remove(entry.path());
      }
    }
    for (const auto& image : records->list_dead_files().value()) {
      auto done = space->punch(image);
      BOOST_REQUIRE_MESSAGE(done, done.error().text);
    }
  }

  bool needs_file(int number) const {
    for (std::size_t i = 0; i < all.size(); ++i) {
      for (int at = static_cast<int>(i); all[i].is_live && at >= 0;
           at = all[static_cast<std::size_t>(at)].parent) {
        if (at == number) {
          return true;
        }
      }
    }
    return false;
  }

  bool is_seen(int owner, cluster_number guest) const {
    return std::any_of(all.begin(), all.end(),
                       [&](const member& m) { return m.is_live && m.owner[guest] == owner; });
  }

  /// Through nothing that has the file open or its index in memory.
  void check_content(const member& m) {
    sealed_files fresh{*io, dir.path(), 8};
    index_cache indexes{[this](const uuid& image) { return records->get_index(image); }, 1u << 20};
    auto index = indexes.get(m.id);
    BOOST_REQUIRE_MESSAGE(index, index.error().text);
    overlay disk{*io, fresh, *index,
                 overlay::place{uuid::random(), dir.path() / "none", disk_bytes, 0}};
    auto found = read(disk, 0, clusters);
    for (cluster_number guest = 1; guest < clusters; ++guest) {
      const auto wanted = numbered(m.disk[guest]);
      BOOST_REQUIRE_MESSAGE(std::equal(wanted.begin(), wanted.end(),
                                       found.begin() + std::ptrdiff_t{guest} * cluster_bytes),
                            "cluster " << guest << " has changed");
    }
  }

  /// Whether that cluster of a file takes space.
  static bool has_data(const file& in, cluster_number at) {
    const auto offset = static_cast<off_t>(std::uint64_t{at} << cluster_bits);
    return ::lseek(in.fd(), offset, SEEK_DATA) == offset;
  }

  void check_dead_file(int number) {
    const auto& m = all[static_cast<std::size_t>(number)];
    auto opened = file::open(file_of(m.id), O_RDONLY);
    BOOST_REQUIRE(opened);
    auto bytes = qcow2::open_bytes(file_of(m.id));
    BOOST_REQUIRE(bytes);
    auto sealed_as = qcow2::read_sealed(**bytes);
    BOOST_REQUIRE_MESSAGE(sealed_as, sealed_as.error().text);
    for (const auto& run : sealed_as->own) {
      for (cluster_number i = 0; run.file != own_extent::zeros && i < run.count; ++i) {
        BOOST_REQUIRE_EQUAL(has_data(*opened, run.file + i), is_seen(number, run.guest + i));
      }
    }
  }

  void check_judge(const member& m) {
    test::must("qemu-img check -q " + file_of(m.id).string());
  }

  void check_all(bool with_judge) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto number = static_cast<int>(i);
      const bool is_there = std::filesystem::exists(file_of(all[i].id));
      BOOST_REQUIRE_EQUAL(is_there, needs_file(number));
      if (all[i].is_live) {
        check_content(all[i]);
      } else if (is_there) {
        check_dead_file(number);
      }
      if (is_there && with_judge) {
        check_judge(all[i]);
      }
    }
  }

  std::shared_ptr<catalog> records;
  std::shared_ptr<engine> disks;
  std::shared_ptr<reclaimer> space;
  std::vector<member> all;
  std::uint64_t last_content = 1000;
};

bool failed_with(const result<std::uint64_t>& answer, ec code) {
  return !answer && answer.error().code == make_error_code(code) && !answer.error().text.empty();
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(reclaiming_files, family_fixture)

BOOST_AUTO_TEST_CASE(what_the_child_replaced_is_given_back_and_the_rest_stays) {
  auto base = add(-1, {1, 2, 3, 4, 5, 6, 7, 8});
  auto child = add(base, {1, 2}, {5});
  auto freed = give_back(erase(base));
  BOOST_TEST(freed >= 4 * cluster_bytes); // the superblock, 1, 2, 5
  check_all(true);
  BOOST_TEST(give_back({{}, {all[0].id}}) == 0u); // again
  freed = give_back(erase(child));
  BOOST_TEST(freed > 0u);
  check_all(true);
  BOOST_TEST(!std::filesystem::exists(file_of(all[0].id)));
}

BOOST_AUTO_TEST_CASE(whatever_is_deleted_in_whatever_order_live_images_show_what_they_showed) {
  std::mt19937 random{31};
  auto below = [&](std::size_t n) {
    return static_cast<cluster_number>(random() % n);
  };
  auto some = [&](std::size_t n) {
    std::set<cluster_number> out;
    for (auto left = below(n); left > 0; --left) {
      out.insert(1 + below(clusters - 1));
    }
    return out;
  };
  for (int i = 0; i < 28; ++i) {
    auto written = some(16);
    written.insert(1 + below(clusters - 1));
    auto zeroed = some(6);
    std::set<cluster_number> only_zeroed;
    std::set_difference(zeroed.begin(), zeroed.end(), written.begin(), written.end(),
                        std::inserter(only_zeroed, only_zeroed.end()));
    // Deep more than wide, with a second tree.
    add(i == 0 || i == 14 ? -1 : std::max(0, i - 1 - static_cast<int>(below(3))), written,
        only_zeroed);
  }
  check_all(true);
  std::vector<int> order(all.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<int>(i);
  }
  std::shuffle(order.begin(), order.end(), random);
  for (std::size_t i = 0; i < order.size(); ++i) {
    auto what = erase(order[i]);
    if (below(3) != 0) {
      give_back(what);
    } else {
      // A crash somewhere on the way, then a start.
      what.gone.resize(below(what.gone.size() + 1));
      what.dead.resize(what.gone.empty() ? below(what.dead.size() + 1) : 0);
      give_back(what);
      restart();
    }
    check_all(i % 9 == 0);
  }
  for (const auto& entry : std::filesystem::directory_iterator{dir.path()}) {
    BOOST_TEST(entry.path().filename() == "catalog");
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_is_needed_or_live_is_left_alone) {
  auto base = add(-1, {1, 2, 3});
  auto child = add(base, {1});
  const auto base_id = all[static_cast<std::size_t>(base)].id;
  BOOST_CHECK(failed_with(space->remove(base_id), ec::conflict));
  BOOST_TEST(space->punch(base_id).value() == 0u);
  auto what = erase(base);
  BOOST_TEST(what.gone.empty());
  BOOST_CHECK(failed_with(space->remove(base_id), ec::conflict));
  BOOST_TEST(space->punch(uuid::random()).value() == 0u);
  check_content(all[static_cast<std::size_t>(child)]);
}

BOOST_AUTO_TEST_CASE(when_an_index_cannot_be_read_nothing_is_punched) {
  auto base = add(-1, {1, 2, 3});
  auto child = add(base, {1});
  add(child, {2});
  erase(base);
  engine::options how;
  how.loops = 1;
  std::shared_ptr<engine> blind = engine::start(
                                      dir.path(),
                                      [](const uuid&) -> result<frame<proto::ImageIndex>> {
                                        return fail(ec::io, "no catalog");
                                      },
                                      how)
                                      .value();
  reclaimer careful{records, blind};
  BOOST_CHECK(failed_with(careful.punch(all[0].id), ec::io));
  auto opened = file::open(file_of(all[0].id), O_RDONLY);
  BOOST_REQUIRE(opened);
  BOOST_TEST(has_data(*opened, qcow2::data_begin(disk_bytes))); // its superblock, which nobody sees
}

BOOST_AUTO_TEST_CASE(a_stopped_reclaimer_does_nothing_more) {
  auto base = add(-1, {1, 2, 3});
  add(base, {1});
  auto other = add(-1, {1});
  erase(base);
  auto what = erase(other);
  space->stop();
  BOOST_CHECK(failed_with(space->punch(all[0].id), ec::conflict));
  BOOST_CHECK(failed_with(space->remove(what.gone.at(0)), ec::conflict));
  restart();
  check_all(true);
}

BOOST_AUTO_TEST_CASE(the_forecast_says_what_is_given_back) {
  auto base = add(-1, {1, 2, 3, 4, 5, 6, 7, 8});
  auto middle = add(base, {1, 2, 3, 10, 11});
  auto left = add(middle, {10, 4});
  auto right = add(middle, {11, 5});
  auto leaf = add(right, {12});
  auto id = [&](int n) {
    return all[static_cast<std::size_t>(n)].id;
  };
  auto ask = [&](std::initializer_list<int> numbers) {
    std::unordered_set<uuid> ids;
    for (auto n : numbers) {
      ids.insert(id(n));
    }
    return forecast_reclaim(*records, dir.path(), ids).value();
  };
  BOOST_TEST(ask({}).file_bytes + ask({}).punched_bytes == 0u);
  auto wanted = ask({base, middle});
  BOOST_TEST(wanted.files == 0u);
  BOOST_TEST(wanted.punched_files == 2u);
  // Of the base its superblock and 1, 2, 3; of the middle one its superblock.
  BOOST_TEST(wanted.punched_bytes == 5 * cluster_bytes);
  erase(base);
  erase(middle);
  BOOST_TEST(ask({}).punched_bytes == 5 * cluster_bytes); // deleted before, not yet given back
  restart();
  BOOST_TEST(ask({}).punched_bytes == 0u);
  wanted = ask({right, leaf});
  BOOST_TEST(wanted.files == 2u);
  BOOST_TEST(wanted.punched_bytes == 2 * cluster_bytes); // 4 of the base, 10 of the middle one
  give_back(erase(leaf));
  BOOST_TEST(give_back(erase(right)) > 0u);
  BOOST_TEST(ask({}).punched_bytes == 0u);
  wanted = ask({left});
  BOOST_TEST(wanted.files == 3u); // the whole tree
  BOOST_TEST(give_back(erase(left)) == wanted.file_bytes);
  check_all(true);
}

BOOST_AUTO_TEST_CASE(the_forecast_counts_the_files_that_nothing_will_need) {
  std::mt19937 random{5};
  for (int i = 0; i < 20; ++i) {
    add(i == 0 ? -1 : std::max(0, i - 1 - static_cast<int>(random() % 2)), {1});
  }
  for (int round = 0; round < 40; ++round) {
    std::unordered_set<uuid> ids;
    for (auto& m : all) {
      m.is_live = random() % 4 == 0;
      if (!m.is_live) {
        ids.insert(m.id);
      }
    }
    std::uint64_t unneeded = 0;
    for (int number = 0; number < static_cast<int>(all.size()); ++number) {
      unneeded += needs_file(number) ? 0 : 1;
    }
    auto told = forecast_reclaim(*records, dir.path(), ids);
    BOOST_REQUIRE(told);
    BOOST_REQUIRE_EQUAL(told->files, unneeded);
  }
}

BOOST_AUTO_TEST_CASE(a_removed_file_is_closed_when_its_last_read_has_ended) {
  add(-1, {1});
  sealed_files open{*io, dir.path(), 8};
  {
    auto used = io::run(*io, open.open(all[0].id));
    BOOST_REQUIRE(used);
    open.forget(all[0].id);
    BOOST_TEST(open.open_count() == 1u);
  }
  BOOST_TEST(open.open_count() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(an_owner_without_privileges_can_punch_a_read_only_file) {
  test::scratch dir;
  const auto image = uuid::random();
  const auto path = dir.path() / (image.text() + ".qcow2");
  {
    auto out = file::open(path, O_RDWR | O_CREAT | O_EXCL);
    BOOST_REQUIRE(out);
    BOOST_REQUIRE(out->write_at(0, content(8 * cluster_bytes, std::byte{7})));
    BOOST_REQUIRE(out->sync());
    BOOST_REQUIRE(out->set_mode(0400));
  }
  constexpr uid_t nobody = 65534;
  if (::geteuid() == 0) {
    BOOST_REQUIRE(::chown(path.c_str(), nobody, nobody) == 0);
    BOOST_REQUIRE(::chown(dir.path().c_str(), nobody, nobody) == 0);
  }
  const auto child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::setgid(nobody) != 0 || ::setuid(nobody) != 0)) {
      ::_exit(2);
    }
    engine::options how;
    how.loops = 1;
    auto disks = engine::start(
        dir.path(),
        [](const uuid&) -> result<frame<proto::ImageIndex>> { return fail(ec::not_found, "none"); },
        how);
    std::promise<result<std::uint64_t>> told;
    (*disks)->punch(image, {{0, 3, 2}},
                    [&](result<std::uint64_t> freed) { told.set_value(std::move(freed)); });
    auto freed = told.get_future().get();
    if (!freed) {
      std::fprintf(stderr, "%s\n", freed.error().text.c_str());
    }
    ::_exit(freed && *freed == 3 * cluster_bytes ? 0 : 1);
  }
  int status = -1;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(status == 0);
  struct stat now {};
  BOOST_REQUIRE(::stat(path.c_str(), &now) == 0);
  BOOST_TEST((now.st_mode & 0777u) == 0400u);
  auto in = file::open(path, O_RDONLY);
  content found(8 * cluster_bytes);
  BOOST_TEST(in->read_at(0, found).value() == found.size());
  for (std::size_t i = 0; i < 8; ++i) {
    const auto wanted = i >= 2 && i < 5 ? std::byte{0} : std::byte{7};
    BOOST_CHECK(found[i * cluster_bytes] == wanted);
  }
}

} // namespace coppice::storage
