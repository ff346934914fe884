#pragma once

#include "storage/importer.hpp"
#include "tests/storage/scratch.hpp"
#include "tests/support/oci_layout.hpp"

#include <string>
#include <vector>

/// One import and its judges: e2fsck and debugfs on a raw copy that qemu-img made.
namespace coppice::storage::test {

class judged_import {
public:
  /// Imports an image of these layers. It must succeed, and e2fsck must find nothing to say.
  explicit judged_import(const std::vector<std::string>& tars) : layout{dir / "layout"} {
    layout.set_image(tars);
    auto done = import_oci_layout(layout.path(), qcow2(), {});
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    outcome = std::move(*done);
    must("qemu-img convert -f qcow2 -O raw " + qcow2().string() + " " + raw().string());
    must("e2fsck -fn " + raw().string());
  }

  std::filesystem::path qcow2() const {
    return dir / "image.qcow2";
  }
  std::filesystem::path raw() const {
    return dir / "image.raw";
  }

  /// What debugfs says to one request; without its version line.
  std::string debugfs(const std::string& request) const {
    auto out = must("debugfs -R '" + request + "' " + raw().string());
    return out.substr(out.find('\n') + 1);
  }
  std::string stat(const std::string& path) const {
    return debugfs("stat \"" + path + "\"");
  }
  std::string cat(const std::string& path) const {
    return debugfs("cat \"" + path + "\"");
  }
  bool has(const std::string& path) const {
    return stat(path).find("File not found") == std::string::npos;
  }

  void check_stat(const std::string& path, const std::vector<std::string>& parts) const {
    const auto text = stat(path);
    for (const auto& part : parts) {
      BOOST_CHECK_MESSAGE(text.find(part) != std::string::npos, path << " lacks \"" << part
                                                                     << "\":\n"
                                                                     << text);
    }
  }

  scratch dir;
  coppice::test::layout_folder layout;
  imported outcome;
};

/// An import that must fail with this code and this in its text, and leave nothing behind.
template <class Ec>
void check_refused(const std::vector<std::string>& tars, Ec code, std::string_view part,
                   const import_limits& limits = {}) {
  scratch dir;
  coppice::test::layout_folder layout{dir / "layout"};
  layout.set_image(tars);
  check_fails(import_oci_layout(layout.path(), dir / "image.qcow2", limits), code, part);
  BOOST_CHECK(!std::filesystem::exists(dir / "image.qcow2"));
  BOOST_CHECK(!std::filesystem::exists(dir / "image.qcow2.raw"));
}

} // namespace coppice::storage::test
