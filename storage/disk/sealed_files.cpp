#include "storage/disk/sealed_files.hpp"

#include "storage/ring/io.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace coppice::storage {

sealed_files::sealed_files(ring& on, std::filesystem::path dir, std::size_t open_max)
    : ring_{on}, dir_{std::move(dir)}, open_max_{open_max} {}

sealed_files::~sealed_files() {
  for (const auto& [image, e] : entries_) {
    ::close(e.fd);
  }
}

sealed_files::lease sealed_files::lend(const uuid& image, entry& e) {
  if (e.users++ == 0) {
    unused_.erase(e.place);
  }
  return lease{*this, image, e.fd};
}

task<result<sealed_files::lease>> sealed_files::open(uuid image) {
  if (auto known = entries_.find(image); known != entries_.end()) {
    co_return lend(image, known->second);
  }
  auto opened = co_await io::open(ring_, (dir_ / (image.text() + ".qcow2")).string(), O_RDONLY);
  if (opened.has_error()) {
    co_return opened.error();
  }
  auto [place, is_new] = entries_.try_emplace(image);
  if (is_new) {
    place->second.fd = *opened;
    place->second.place = unused_.insert(unused_.end(), image);
  } else {
    ::close(*opened); // another read was faster
  }
  auto lent = lend(image, place->second);
  close_unused_down_to(open_max_);
  co_return lent;
}

void sealed_files::give_back(const uuid& image) {
  auto& e = entries_.at(image);
  if (--e.users == 0) {
    e.place = unused_.insert(unused_.end(), image);
    if (e.is_forgotten) {
      forget(image);
    }
    close_unused_down_to(open_max_);
  }
}

void sealed_files::forget(const uuid& image) {
  auto known = entries_.find(image);
  if (known == entries_.end()) {
    return;
  }
  if (known->second.users != 0) {
    known->second.is_forgotten = true;
    return;
  }
  ::close(known->second.fd);
  unused_.erase(known->second.place);
  entries_.erase(known);
}

void sealed_files::close_unused_down_to(std::size_t count) {
  while (entries_.size() > count && !unused_.empty()) {
    forget(uuid{unused_.front()});
  }
}

} // namespace coppice::storage
