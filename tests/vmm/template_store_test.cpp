#define BOOST_TEST_MODULE vmm_template_store
#include <boost/test/unit_test.hpp>

#include "tests/vmm/guest_messages.hpp"
#include "vmm/template_store.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

using namespace coppice;
using namespace coppice::tests;
using namespace coppice::vmm;

namespace fs = std::filesystem;

namespace {

struct fixture {
  fixture() {
    char path[] = "/tmp/coppice-templates-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(path) != nullptr);
    folder = path;
    options.qemu = (folder / "qemu").string();
    options.kernel = folder / "kernel";
    options.initramfs = folder / "initramfs";
    options.memory_mib = 16;
    write(options.qemu, "a program");
    BOOST_REQUIRE(::chmod(options.qemu.c_str(), 0755) == 0);
    write(options.kernel, "a kernel");
    write(options.initramfs, "an agent");
  }
  ~fixture() {
    fs::remove_all(folder);
  }

  static void write(const fs::path& file, const std::string& text) {
    std::ofstream{file, std::ios::binary} << text;
  }
  static std::string read(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
  }

  template_ingredients ingredients() {
    auto out = collect_ingredients(options);
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out ? std::string{} : out.error().text));
    return *out;
  }

  static unique_fd memory_file(const std::string& begin, std::size_t bytes) {
    unique_fd out{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    BOOST_REQUIRE(::ftruncate(out.get(), static_cast<off_t>(bytes)) == 0);
    BOOST_REQUIRE(::pwrite(out.get(), begin.data(), begin.size(), 0) ==
                  static_cast<ssize_t>(begin.size()));
    return out;
  }

  std::shared_ptr<const vm_template> make() {
    vm_template::parts parts;
    parts.ingredients = ingredients();
    parts.ram = memory_file("", 16u << 20);
    const std::string page(4096, 'r');
    for (off_t at : {off_t{0}, off_t{4096}, off_t{8} << 20, (off_t{16} << 20) - 4096}) {
      BOOST_REQUIRE(::pwrite(parts.ram.get(), page.data(), page.size(), at) == 4096);
    }
    // Allocated, but of zeros: not worth a byte on disk.
    BOOST_REQUIRE(::pwrite(parts.ram.get(), std::string(4096, '\0').data(), 4096, 1 << 20) == 4096);
    parts.state = memory_file(std::string(5000, 's'), 5000);
    parts.ready = ready_message();
    auto out = vm_template::make(std::move(parts));
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out ? std::string{} : out.error().text));
    return *out;
  }

  template_store open(std::uint64_t bytes_max = 1u << 20) {
    auto out = template_store::open(folder / "kept", {bytes_max});
    BOOST_REQUIRE_MESSAGE(out.has_value(), (out ? std::string{} : out.error().text));
    return *out;
  }

  fs::path file_of(const vm_template& made) {
    return folder / "kept" / (to_text(made.key()) + ".template");
  }

  /// Loading gives nothing, says why, and the file is gone.
  void check_refused(const fs::path& file, const std::string& why) {
    auto out = open().load(ingredients());
    BOOST_TEST(!out.found);
    BOOST_TEST(out.refused.find(why) != std::string::npos, out.refused);
    BOOST_TEST(!fs::exists(file));
  }

  fs::path folder;
  machine_options options;
};

std::string content(int fd, std::size_t bytes) {
  std::string out(bytes, '\0');
  BOOST_REQUIRE(::pread(fd, out.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(store, fixture)

BOOST_AUTO_TEST_CASE(every_ingredient_changes_the_key) {
  std::set<std::string> keys{to_text(key_of(ingredients()))};
  auto check_new = [&](const char* what, const template_ingredients& of) {
    BOOST_TEST(keys.insert(to_text(key_of(of))).second, what);
  };
  const auto same = options;
  write(options.qemu, "a Program");
  check_new("qemu", ingredients());
  write(options.qemu, "a program");
  BOOST_TEST(keys.count(to_text(key_of(ingredients()))) == 1u); // by content, not by date
  write(options.kernel, "a Kernel");
  check_new("kernel", ingredients());
  write(options.kernel, "a kernel");
  write(options.initramfs, "an Agent");
  check_new("agent", ingredients());
  write(options.initramfs, "an agent");
  options.accel = accelerator::kvm;
  check_new("accelerator", ingredients());
  auto kvm = ingredients();
  kvm.host += "another stepping";
  check_new("host", kvm);
  options = same;
  options.memory_mib = 32;
  check_new("memory", ingredients());
  options = same;
  options.cpus = 2;
  check_new("processors", ingredients());
  options = same;
  auto changed = ingredients();
  for (auto& argument : changed.arguments) {
    argument += 'x'; // processor, machine, devices, the kernel's arguments
    check_new("argument", changed);
    argument.pop_back();
  }
  changed.arguments.insert(changed.arguments.end(), {"-device", "virtio-net-device"});
  check_new("network", changed);
  // The rate itself is compared with a tolerance; paths and times of files say nothing.
  changed = ingredients();
  changed.tsc_khz += 1;
  changed.qemu_path = "elsewhere";
  changed.kernel_file.inode += 1;
  BOOST_TEST(keys.count(to_text(key_of(changed))) == 1u);
}

BOOST_AUTO_TEST_CASE(what_is_kept_comes_back_byte_for_byte) {
  auto made = make();
  BOOST_REQUIRE(open().save(*made).has_value());
  struct stat st {};
  BOOST_REQUIRE(::stat(file_of(*made).c_str(), &st) == 0);
  BOOST_TEST((st.st_mode & 07777) == 0600);
  BOOST_TEST(st.st_size < 32 << 10); // four pages, the state, and little else
  auto kept = open().load(ingredients());
  BOOST_REQUIRE_MESSAGE(kept.found, kept.refused);
  BOOST_TEST((kept.found->key() == made->key()));
  BOOST_TEST(((*kept.found->ready().view()).getReady().getKernel() == "6.1.0"));
  for (auto open_part : {&vm_template::open_ram, &vm_template::open_state}) {
    const bool is_ram = open_part == &vm_template::open_ram;
    const auto bytes = is_ram ? made->ram_bytes() : made->state_bytes();
    const auto before = (made.get()->*open_part)();
    const auto after = (kept.found.get()->*open_part)();
    BOOST_REQUIRE((before.has_value() && after.has_value()));
    BOOST_TEST((content(before->get(), bytes) == content(after->get(), bytes)));
  }
  BOOST_TEST(!open()
                  .load([&] {
                    auto other = ingredients();
                    other.cpus = 7;
                    return other;
                  }())
                  .found);
}

BOOST_AUTO_TEST_CASE(nobody_can_change_a_template_by_its_descriptors) {
  auto made = make();
  for (auto open_part : {&vm_template::open_ram, &vm_template::open_state}) {
    auto fd = (made.get()->*open_part)();
    BOOST_REQUIRE(fd.has_value());
    const auto path = "/proc/self/fd/" + std::to_string(fd->get());
    const unique_fd writable{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    BOOST_TEST(::pwrite(writable.get(), "x", 1, 0) == -1);
    BOOST_TEST(::ftruncate(writable.get(), 1) == -1);
    BOOST_TEST(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0) ==
               MAP_FAILED);
    // Each has an offset of its own.
    auto other = (made.get()->*open_part)();
    BOOST_REQUIRE(other.has_value());
    BOOST_TEST(::lseek(fd->get(), 100, SEEK_SET) == 100);
    BOOST_TEST(::lseek(other->get(), 0, SEEK_CUR) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_is_altered_anywhere_or_cut_off_is_refused) {
  auto made = make();
  BOOST_REQUIRE(open().save(*made).has_value());
  const auto whole = read(file_of(*made));
  std::vector<std::size_t> places;
  for (std::size_t at = 0; at < 400; ++at) { // header and ready message
    places.push_back(at);
  }
  for (std::size_t at = 400; at < whole.size(); at += 499) {
    places.push_back(at);
  }
  places.push_back(whole.size() - 1);
  for (auto at : places) {
    auto altered = whole;
    altered[at] = static_cast<char>(altered[at] ^ 0x41);
    write(file_of(*made), altered);
    ::chmod(file_of(*made).c_str(), 0600);
    auto out = open().load(ingredients());
    BOOST_TEST(!out.found, "byte " << at);
    BOOST_TEST(!out.refused.empty(), "byte " << at);
    BOOST_TEST(!fs::exists(file_of(*made)));
  }
  for (std::size_t bytes :
       {std::size_t{0}, std::size_t{50}, std::size_t{96}, whole.size() / 2, whole.size() - 1}) {
    write(file_of(*made), whole.substr(0, bytes));
    ::chmod(file_of(*made).c_str(), 0600);
    check_refused(file_of(*made), "it is damaged");
  }
  write(file_of(*made), whole + "x");
  ::chmod(file_of(*made).c_str(), 0600);
  check_refused(file_of(*made), "it is damaged");
}

BOOST_AUTO_TEST_CASE(a_file_under_another_templates_name_is_refused) {
  auto made = make();
  BOOST_REQUIRE(open().save(*made).has_value());
  const auto old = file_of(*made);
  write(options.kernel, "another kernel");
  auto wanted = to_text(key_of(ingredients()));
  fs::rename(old, folder / "kept" / (wanted + ".template"));
  check_refused(folder / "kept" / (wanted + ".template"), "other ingredients");
}

BOOST_AUTO_TEST_CASE(a_template_of_another_clock_is_refused_and_a_measuring_error_is_not) {
  auto made = make();
  auto now = ingredients();
  if (now.tsc_khz == 0) {
    return; // a host without a constant clock
  }
  BOOST_REQUIRE(open().save(*made).has_value());
  now.tsc_khz += now.tsc_khz / 10'000;
  BOOST_TEST(open().load(now).found);
  now.tsc_khz += now.tsc_khz / 100;
  auto out = open().load(now);
  BOOST_TEST(!out.found);
  BOOST_TEST(out.refused.find("clock") != std::string::npos, out.refused);
}

BOOST_AUTO_TEST_CASE(a_file_that_others_may_write_is_refused) {
  auto made = make();
  BOOST_REQUIRE(open().save(*made).has_value());
  BOOST_REQUIRE(::chmod(file_of(*made).c_str(), 0620) == 0);
  check_refused(file_of(*made), "this user alone");
  BOOST_REQUIRE(open().save(*made).has_value());
  fs::rename(file_of(*made), folder / "elsewhere");
  fs::create_symlink(folder / "elsewhere", file_of(*made));
  auto out = open().load(ingredients());
  BOOST_TEST(!out.found);
  BOOST_TEST(!out.refused.empty());
  BOOST_TEST(fs::exists(folder / "elsewhere"));
  BOOST_REQUIRE(::chmod((folder / "kept").c_str(), 0777) == 0);
  BOOST_TEST(!template_store::open(folder / "kept", {1u << 20}).has_value());
}

BOOST_AUTO_TEST_CASE(the_oldest_files_go_when_there_is_no_room_and_leavings_of_a_crash_at_once) {
  auto first = make();
  BOOST_REQUIRE(open().save(*first).has_value());
  const auto one_bytes = open().bytes();
  write(options.kernel, "second");
  auto second = make();
  BOOST_REQUIRE(open().save(*second).has_value());
  write(options.kernel, "a kernel");
  // The first was used last.
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  BOOST_REQUIRE(::utimensat(AT_FDCWD, file_of(*second).c_str(), long_ago, 0) == 0);
  BOOST_TEST(open().load(ingredients()).found);
  write(options.kernel, "third");
  auto third = make();
  write(folder / "kept" / "x.template.new", "half");
  BOOST_REQUIRE(open(2 * one_bytes + 100).save(*third).has_value());
  BOOST_TEST(!fs::exists(folder / "kept" / "x.template.new"));
  BOOST_TEST(fs::exists(file_of(*first)));
  BOOST_TEST(!fs::exists(file_of(*second)));
  BOOST_TEST(fs::exists(file_of(*third)));
  // One that is too large alone changes nothing.
  BOOST_TEST((open(100).save(*second).error().code == ec::io));
  BOOST_TEST(open().bytes() == 2 * one_bytes);
  const sha256_digest wanted[] = {third->key()};
  open().keep_only(wanted);
  BOOST_TEST(!fs::exists(file_of(*first)));
  BOOST_TEST(fs::exists(file_of(*third)));
}

BOOST_AUTO_TEST_CASE(the_last_space_of_a_disk_is_left_to_others) {
  struct statvfs at {};
  BOOST_REQUIRE(::statvfs(folder.c_str(), &at) == 0);
  const auto made = make();
  auto store = template_store::open(
      folder / "kept", {1u << 20, std::uint64_t{at.f_blocks} * at.f_frsize}); // more than it has
  BOOST_REQUIRE(store.has_value());
  const auto saved = store->save(*made);
  BOOST_REQUIRE(!saved.has_value());
  BOOST_TEST(saved.error().text.find("must leave") != std::string::npos, saved.error().text);
  BOOST_TEST(store->bytes() == 0u);
  BOOST_TEST(open().save(*made).has_value()); // nothing else stood in its way
}

BOOST_AUTO_TEST_CASE(a_machine_does_not_start_from_what_does_not_fit) {
  auto made = make();
  BOOST_TEST(made->check_fits(options).has_value());
  auto other = options;
  other.memory_mib = 17;
  BOOST_TEST((made->check_fits(other).error().code == ec::stale));
  other = options;
  other.cpus = 2;
  BOOST_TEST((made->check_fits(other).error().code == ec::stale));
  write(options.qemu, "an upgrade");
  BOOST_TEST((made->check_fits(options).error().code == ec::stale));
  event_loop loop;
  options.from = made;
  auto started = machine::start(loop, options, no_disk(), {});
  BOOST_REQUIRE(!started.has_value());
  BOOST_TEST((started.error().code == ec::stale));
}

BOOST_AUTO_TEST_CASE(sizes_that_cannot_be_make_no_template) {
  vm_template::parts parts;
  parts.ingredients = ingredients();
  parts.ram = memory_file("", 15u << 20);
  parts.state = memory_file("s", 1);
  parts.ready = ready_message();
  BOOST_TEST((vm_template::make(std::move(parts)).error().code == ec::stale));
}

BOOST_AUTO_TEST_SUITE_END()
