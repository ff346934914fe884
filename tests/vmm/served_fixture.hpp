#pragma once

#include "storage/disk/engine.hpp"
#include "storage/error.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/vmm/template_fixture.hpp"

namespace coppice::tests {

/// Guests whose disks the storage engine serves: branches of one image with the sibling program.
struct served_fixture : template_fixture, storage::test::disk_fixture {
  served_fixture() {
    make_raw_disk();
    import_raw_disk();
    storage::engine::options how;
    how.loops = 1;
    auto started = storage::engine::start(
        dir.path(),
        [](const uuid& of) -> result<frame<proto::ImageIndex>> {
          return fail(storage::ec::not_found, "no index of image " + of.text());
        },
        how);
    BOOST_REQUIRE(started.has_value());
    disks = std::move(*started);
    disks->put_index(image, index);
  }

  void import_raw_disk() {
    auto disk = branch(image, nullptr);
    std::ifstream in{folder / "raw", std::ios::binary};
    storage::test::content cluster(storage::cluster_bytes);
    const storage::test::content zeros(storage::cluster_bytes);
    for (storage::cluster_number at = 0; in.read(reinterpret_cast<char*>(cluster.data()),
                                                 static_cast<std::streamsize>(cluster.size()));
         ++at) {
      if (cluster != zeros) {
        BOOST_REQUIRE(write(*disk, at, cluster) == 0);
      }
    }
    index = sealed(*disk, uuid{}).index;
  }

  struct served_slot {
    storage::engine::slot_number number = 0;
    vmm::disk_attachment disk;
  };

  served_slot open_slot() {
    auto out = disks->open_slot();
    BOOST_REQUIRE(out.has_value());
    return {out->number, vmm::served_disk(vmm::unique_fd{out->client})};
  }

  template <class T>
  T wait(std::future<result<T>> told) {
    auto out = told.get();
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out ? std::string{} : out.error().text));
    if constexpr (!std::is_void_v<T>) {
      return std::move(*out);
    }
  }

  /// A new branch of the image becomes the slot's disk.
  uuid attach(storage::engine::slot_number slot) {
    const auto id = uuid::random();
    auto told = std::make_shared<std::promise<result<void>>>();
    disks->attach({slot, id, image, 1u << 30},
                  [told](result<void> done) { told->set_value(std::move(done)); });
    wait(told->get_future());
    return id;
  }

  void discard(const uuid& id) {
    auto told = std::make_shared<std::promise<result<storage::engine::discarded>>>();
    disks->discard(id, [told](auto done) { told->set_value(std::move(done)); });
    wait(told->get_future());
  }

  storage::sealed_image seal_branch(const uuid& id) {
    auto told = std::make_shared<std::promise<result<storage::sealed_image>>>();
    disks->seal(id, [told](auto done) { told->set_value(std::move(done)); });
    return wait(told->get_future());
  }

  /// As template_fixture's, of a sealed branch.
  std::string sample_of_image(const uuid& id) {
    BOOST_TEST(shell("qemu-img convert -O raw '" + file_of(id).string() +
                     "' seen && e2fsck -fn seen > e2fsck.txt 2>&1 && "
                     "debugfs -R 'cat /sample' seen > sample 2> /dev/null"));
    std::ifstream in{folder / "sample"};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  /// Of what sample_of_image has last looked at, without its times.
  std::string superblock_of_seen() {
    BOOST_TEST(
        shell("dumpe2fs -h seen 2> /dev/null | grep -v ' time: \\|Lifetime\\|Checksum:' > super"));
    std::ifstream in{folder / "super"};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  uuid image = uuid::random();
  std::shared_ptr<const storage::block_index> index;
  std::unique_ptr<storage::engine> disks;
};

} // namespace coppice::tests
