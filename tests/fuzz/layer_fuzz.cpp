#include "storage/layer_reader.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <span>
#include <string>
#include <vector>

// Layers of hostile bytes, merged in memory.
//
// Input: the first byte says how many layers; the rest is cut into that many pieces. The top bit of
// the first byte makes each piece a script instead of an archive: two bytes an operation, on eight
// names and three depths, so that the merging rules are reached without a valid tar.
// The oracle beside the sanitizers: every file that the sink made is either named by the tree, as
// often as the tree says, or was removed, once; and no name leaves the root.

namespace {

using namespace coppice;
using namespace coppice::storage;

class memory_input final : public byte_input {
public:
  explicit memory_input(std::span<const std::byte> data) : data_{data} {}

  result<std::span<const std::byte>> next() override {
    const auto part = data_.first(std::min<std::size_t>(data_.size(), 512));
    data_ = data_.subspan(part.size());
    return part;
  }

private:
  std::span<const std::byte> data_;
};

/// Counts files instead of keeping them.
class counting_sink final : public file_sink {
public:
  result<void> begin_regular(const file_attributes&) override {
    end_ = 0;
    return {};
  }
  result<void> write(std::uint64_t offset, std::span<const std::byte> data) override {
    end_ = offset + data.size();
    return {};
  }
  result<std::uint32_t> end_regular(std::uint64_t) override {
    return make();
  }
  result<std::uint32_t> make_symlink(const file_attributes&, std::string_view) override {
    return make();
  }
  result<std::uint32_t> make_special(file_kind, const file_attributes&, std::uint32_t,
                                     std::uint32_t) override {
    return make();
  }
  result<void> remove(std::uint32_t file) override {
    if (live.erase(file) != 1) {
      std::abort();
    }
    return {};
  }

  std::uint32_t make() {
    live[++last_] = 0;
    return last_;
  }

  std::map<std::uint32_t, std::uint32_t> live; ///< file: names seen in the tree

private:
  std::uint32_t last_ = 0;
  std::uint64_t end_ = 0;
};

void count_names(const layer_tree::directory& folder, counting_sink& sink) {
  for (const auto& [name, node] : folder.children) {
    if (name.empty() || name == "." || name == ".." || name.size() > name_bytes_max ||
        name.find('/') != name.npos || name.find('\0') != name.npos) {
      std::abort();
    }
    if (node.folder) {
      count_names(*node.folder, sink);
    } else if (auto file = sink.live.find(node.file.number); file != sink.live.end()) {
      ++file->second;
    } else {
      std::abort(); // a name of a file that was removed
    }
  }
}

path_components path_of(unsigned bits) {
  path_components out;
  for (auto depth = bits >> 6 & 3u; out.size() <= depth; bits >>= 2) {
    out.emplace_back(1, static_cast<char>('a' + (bits & 3u)));
  }
  return out;
}

result<void> run_script(std::span<const std::byte> script, layer_tree& tree, counting_sink& sink) {
  tree.begin_layer();
  for (std::size_t at = 0; at + 3 <= script.size(); at += 3) {
    const auto path = path_of(std::to_integer<unsigned>(script[at + 1]));
    result<void> done;
    switch (std::to_integer<unsigned>(script[at]) % 5) {
    case 0:
      done = tree.put_directory(path, {});
      break;
    case 1:
      done = tree.put_file(path, {sink.make(), file_kind::regular});
      break;
    case 2:
      done = tree.put_link(path, path_of(std::to_integer<unsigned>(script[at + 2])));
      break;
    case 3:
      done = tree.hide(path);
      break;
    default:
      done = tree.hide_content(path);
      break;
    }
    if (!done) {
      return done;
    }
  }
  return tree.end_layer();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const bool is_script = (data[0] & 0x80u) != 0;
  const auto count = 1u + data[0] % 4u;
  const auto input = std::as_bytes(std::span{data, size}).subspan(1);
  const auto each = input.size() / count;
  counting_sink sink;
  layer_tree tree{2000, [&](std::uint32_t file) {
                    return sink.remove(file);
                  }};
  layer_budget budget{1u << 20, 2000};
  for (std::size_t i = 0; i < count; ++i) {
    const auto piece = input.subspan(i * each, each);
    memory_input archive{piece};
    auto applied =
        is_script ? run_script(piece, tree, sink) : apply_layer(archive, tree, sink, budget);
    if (!applied) {
      return 0; // the import ends here; the tree is not used any more
    }
  }
  count_names(tree.root(), sink);
  for (const auto& [file, names] : sink.live) {
    if (names == 0 || names != tree.links_of(file)) {
      std::abort();
    }
  }
  return 0;
}
