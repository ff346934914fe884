#include "tests/storage/crash/disk_model.hpp"

#include "storage/file.hpp"
#include "tests/storage/scratch.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>

namespace coppice::storage::test::crash {

namespace fs = std::filesystem;

namespace {

const char* const unmodelled = "catalog/lock.mdb";

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == path.npos ? std::string{} : path.substr(0, slash);
}

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ull + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdull;
}

} // namespace

bool disk_state::is_reachable(const std::string& path) const {
  for (auto at = parent_of(path); !at.empty(); at = parent_of(at)) {
    if (!names.contains(at)) {
      return false;
    }
  }
  return true;
}

std::uint64_t disk_state::fingerprint() const {
  std::uint64_t out = names.size();
  for (const auto& [path, e] : names) {
    out = mixed(out, std::hash<std::string>{}(path));
    out = mixed(out, e.file);
    auto found = files.find(e.file);
    if (found == files.end() || !found->second->is_touched) {
      continue;
    }
    out = mixed(out, found->second->length);
    const auto& sectors = found->second->sectors;
    for (std::size_t i = 0; i < sectors.size() && i * sector_bytes < found->second->length; ++i) {
      if (sectors[i] != 0) {
        out = mixed(mixed(out, i), sectors[i]);
      }
    }
  }
  return out;
}

sector_pool::sector_pool() {
  std::string zeros(sector_bytes, '\0');
  number_of(reinterpret_cast<const std::byte*>(zeros.data()));
}

std::uint32_t sector_pool::number_of(const std::byte* content) {
  std::string key{reinterpret_cast<const char*>(content), sector_bytes};
  auto [known, is_new] =
      numbers_.try_emplace(std::move(key), static_cast<std::uint32_t>(contents_.size()));
  if (is_new) {
    contents_.push_back(&known->first);
  }
  return known->second;
}

disk_model::disk_model(const fs::path& first, const std::map<std::string, ino_t>& inodes) {
  for (const auto& found : fs::recursive_directory_iterator{first}) {
    auto path = fs::relative(found.path(), first).string();
    disk_state::entry e{found.is_directory() ? 0 : inodes.at(path), found.is_directory()};
    durable_.names.emplace(path, e);
    if (!e.is_directory) {
      auto bytes = read_file(found.path());
      auto made = std::make_shared<disk_state::file>();
      made->length = bytes.size();
      made->first_path = path;
      made->is_touched = !path.ends_with(".qcow2"); // who recovers a state may write to the others
      bytes.resize((bytes.size() + sector_bytes - 1) / sector_bytes * sector_bytes);
      for (std::size_t at = 0; at < bytes.size(); at += sector_bytes) {
        made->sectors.push_back(pool_.number_of(bytes.data() + at));
      }
      content_[e.file] = made->sectors;
      durable_.files[e.file] = std::move(made);
    }
  }
  names_ = durable_.names;
}

// -- steps ---------------------------------------------------------------------------------------

void disk_model::apply(const trace& of, const trace::event& happened,
                       const std::set<std::size_t>& ignored) {
  const auto& s = of.steps()[happened.number];
  if (s.result < 0) {
    return; // nothing happened
  }
  using kind = step::kind;
  auto is_sync = s.what == kind::sync_file || s.what == kind::sync_directory;
  if (!happened.is_end) {
    begin(s, happened.number);
    if (is_sync) {
      auto mine = belonging_to(s);
      auto& steps = covered_[happened.number];
      for (std::size_t i = 0; i < loose_.size(); ++i) {
        if (mine[i] && loose_[i].has_ended) {
          steps.push_back(loose_[i].step);
        }
      }
    }
    return;
  }
  for (auto& a : loose_) {
    a.has_ended = a.has_ended || a.step == happened.number;
  }
  if (ignored.contains(happened.number)) {
    return;
  }
  std::vector<bool> now(loose_.size());
  if (is_sync) {
    now = belonging_to(s);
    const auto& steps = covered_[happened.number];
    for (std::size_t i = 0; i < loose_.size(); ++i) {
      now[i] = now[i] && std::find(steps.begin(), steps.end(), loose_[i].step) != steps.end();
    }
  } else if (s.is_durable) {
    for (std::size_t i = 0; i < loose_.size(); ++i) {
      now[i] = loose_[i].step == happened.number;
    }
  }
  make_durable(now);
}

std::vector<bool> disk_model::belonging_to(const step& s) const {
  std::vector<bool> out(loose_.size());
  for (std::size_t i = 0; i < loose_.size(); ++i) {
    const auto& a = loose_[i];
    auto is_name = a.what == atom::kind::name || a.what == atom::kind::no_name;
    out[i] = s.what == step::kind::sync_directory ? is_name && parent_of(a.path) == s.path
                                                  : !is_name && a.file == s.file;
  }
  return out;
}

void disk_model::begin(const step& s, std::size_t number) {
  switch (s.what) {
  case step::kind::make_file:
    add_name(s.path, number, {s.file, false}, atom::kind::name);
    break;
  case step::kind::make_directory:
    add_name(s.path, number, {0, true}, atom::kind::name);
    break;
  case step::kind::write:
  case step::kind::punch:
    add_write(s, number);
    break;
  case step::kind::set_length:
    add_length(s, number, s.length, false);
    break;
  case step::kind::rename: {
    auto moved = names_.at(s.path);
    add_name(s.path_to, number, moved, atom::kind::name);
    add_name(s.path, number, moved, atom::kind::no_name);
    break;
  }
  case step::kind::remove:
    add_name(s.path, number, names_.at(s.path), atom::kind::no_name);
    break;
  default:
    break;
  }
}

void disk_model::add_name(const std::string& path, std::size_t number, const disk_state::entry& e,
                          atom::kind what) {
  atom a;
  a.what = what;
  a.step = number;
  a.file = e.file;
  a.path = path;
  a.is_directory = e.is_directory;
  a.text = (what == atom::kind::name ? "name " : "absence of ") + path;
  loose_.push_back(std::move(a));
  if (what == atom::kind::name) {
    names_[path] = e;
  } else {
    names_.erase(path);
  }
  if (!e.is_directory && !durable_.files.contains(e.file)) {
    auto made = std::make_shared<disk_state::file>();
    made->is_touched = true;
    durable_.files[e.file] = std::move(made);
  }
}

void disk_model::add_write(const step& s, std::size_t number) {
  auto is_hole = s.what == step::kind::punch;
  auto end = s.offset + (is_hole ? s.length : static_cast<std::uint64_t>(s.result));
  auto& seen = content_[s.file];
  seen.resize(std::max<std::size_t>(seen.size(), (end + sector_bytes - 1) / sector_bytes));
  for (auto sector = s.offset / sector_bytes; sector * sector_bytes < end; ++sector) {
    auto first = std::max(s.offset, sector * sector_bytes);
    auto last = std::min(end, (sector + 1) * sector_bytes);
    auto bytes = pool_.content_of(seen[sector]); // what the write leaves of the sector stays
    if (is_hole) {
      std::memset(bytes.data() + (first - sector * sector_bytes), 0, last - first);
    } else {
      std::memcpy(bytes.data() + (first - sector * sector_bytes),
                  s.data.data() + (first - s.offset), last - first);
    }
    atom a;
    a.step = number;
    a.file = s.file;
    a.sector = sector;
    a.content = pool_.number_of(reinterpret_cast<const std::byte*>(bytes.data()));
    a.text = "sector " + std::to_string(sector) + " of " + s.path;
    seen[sector] = a.content;
    loose_.push_back(std::move(a));
  }
  if (!is_hole) {
    add_length(s, number, end, true);
  }
}

void disk_model::add_length(const step& s, std::size_t number, std::uint64_t length,
                            bool is_extension) {
  auto known = durable_.files.at(s.file)->length;
  auto is_certain = true; // that it is `known`
  for (const auto& a : loose_) {
    if (a.what == atom::kind::length && a.file == s.file) {
      is_certain = false;
    }
  }
  if (is_extension && is_certain && length <= known) {
    return;
  }
  atom a;
  a.what = atom::kind::length;
  a.step = number;
  a.file = s.file;
  a.length = length;
  a.is_extension = is_extension;
  a.text = "length " + std::to_string(length) + " of " + s.path;
  loose_.push_back(std::move(a));
}

// -- states --------------------------------------------------------------------------------------

void disk_model::apply(const atom& a, disk_state& to,
                       std::map<ino_t, std::shared_ptr<disk_state::file>>& changed) {
  if (a.what == atom::kind::name) {
    to.names[a.path] = {a.file, a.is_directory};
    return;
  }
  if (a.what == atom::kind::no_name) {
    to.names.erase(a.path);
    return;
  }
  auto& file = changed[a.file];
  if (!file) {
    file = std::make_shared<disk_state::file>(*to.files.at(a.file));
    file->is_touched = true;
    to.files[a.file] = file;
  }
  if (a.what == atom::kind::sector) {
    file->sectors.resize(std::max<std::size_t>(file->sectors.size(), a.sector + 1));
    file->sectors[a.sector] = a.content;
  } else if (a.is_extension) {
    file->length = std::max(file->length, a.length);
  } else {
    file->length = a.length;
    file->sectors.resize(
        std::min<std::size_t>(file->sectors.size(), (a.length + sector_bytes - 1) / sector_bytes));
  }
}

void disk_model::apply_all(const std::vector<atom>& atoms, const std::vector<bool>& which,
                           disk_state& to) {
  std::map<ino_t, std::shared_ptr<disk_state::file>> changed;
  for (std::size_t i = 0; i < atoms.size(); ++i) {
    if (which[i]) {
      apply(atoms[i], to, changed);
    }
  }
}

void disk_model::make_durable(const std::vector<bool>& which) {
  apply_all(loose_, which, durable_);
  std::vector<atom> left;
  for (std::size_t i = 0; i < loose_.size(); ++i) {
    if (!which[i]) {
      left.push_back(std::move(loose_[i]));
    }
  }
  loose_ = std::move(left);
}

disk_state disk_model::state(const std::vector<bool>& survives) const {
  auto out = durable_;
  apply_all(loose_, survives, out);
  std::erase_if(out.names, [&](const auto& each) { return !out.is_reachable(each.first); });
  return out;
}

void disk_model::build(const disk_state& shown, const fs::path& first, const fs::path& to) const {
  BOOST_REQUIRE(::mkdir(to.c_str(), 0700) == 0);
  std::map<ino_t, fs::path> made; // a file may have two names
  for (const auto& [path, e] : shown.names) {
    auto at = to / path;
    if (e.is_directory) {
      BOOST_REQUIRE(::mkdir(at.c_str(), 0700) == 0);
      continue;
    }
    const auto& file = *shown.files.at(e.file);
    auto [known, is_new] = made.try_emplace(e.file, at);
    if (!is_new || !file.is_touched) {
      auto from = is_new ? first / file.first_path : known->second;
      BOOST_REQUIRE_MESSAGE(::link(from.c_str(), at.c_str()) == 0, from << " to " << at);
      continue;
    }
    auto fd = ::open(at.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    BOOST_REQUIRE(fd >= 0);
    std::string run;
    auto count =
        std::min<std::size_t>(file.sectors.size(), (file.length + sector_bytes - 1) / sector_bytes);
    for (std::size_t i = 0; i < count; ++i) {
      if (file.sectors[i] != 0) {
        run += pool_.content_of(file.sectors[i]);
      }
      if (!run.empty() && (i + 1 == count || file.sectors[i + 1] == 0)) {
        auto offset = static_cast<off_t>((i + 1) * sector_bytes - run.size());
        BOOST_REQUIRE(::pwrite(fd, run.data(), run.size(), offset) ==
                      static_cast<ssize_t>(run.size()));
        run.clear();
      }
    }
    BOOST_REQUIRE(::ftruncate(fd, static_cast<off_t>(file.length)) == 0);
    ::close(fd);
  }
}

std::string disk_model::difference(const fs::path& root) const {
  auto all = state(std::vector<bool>(loose_.size(), true));
  for (const auto& found : fs::recursive_directory_iterator{root}) {
    auto path = fs::relative(found.path(), root).string();
    auto known = all.names.find(path);
    if (known == all.names.end()) {
      return path + " is there";
    }
    auto e = known->second;
    all.names.erase(known);
    if (e.is_directory || path == unmodelled) {
      continue;
    }
    const auto& file = *all.files.at(e.file);
    auto bytes = read_file(found.path());
    if (bytes.size() != file.length) {
      return path + " has " + std::to_string(bytes.size()) + " bytes, the trace says " +
             std::to_string(file.length);
    }
    for (std::size_t at = 0; at < bytes.size(); at += sector_bytes) {
      auto number = at / sector_bytes < file.sectors.size() ? file.sectors[at / sector_bytes] : 0;
      if (std::memcmp(bytes.data() + at, pool_.content_of(number).data(),
                      std::min(sector_bytes, bytes.size() - at)) != 0) {
        return path + " differs at " + std::to_string(at);
      }
    }
  }
  return all.names.empty() ? std::string{} : all.names.begin()->first + " is not there";
}

} // namespace coppice::storage::test::crash
