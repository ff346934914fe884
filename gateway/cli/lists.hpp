#pragma once

#include "actors/machine_class.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Settings that are lists, as people write them: items between commas. Each text made here is
/// parsed back to the same value.
namespace coppice::cli {

/// What stands between commas, without the blanks around it.
std::vector<std::string> items_of(std::string_view text);
std::string text_of_items(const std::vector<std::string>& items);

/// `10.0.0.1`, `10.1.0.0/16`, `fd00::/8`: an address, or a network of them.
bool is_network(std::string_view text);

inline constexpr std::uint32_t class_cpus_max = 64;
inline constexpr std::uint32_t class_memory_mib_min = 128; ///< less does not boot
inline constexpr std::uint32_t class_memory_mib_max = 65'536;
inline constexpr std::size_t classes_max = 16; ///< starting a run looks at each

/// `1:512, 2:1024`: processors and MiB. Nothing if one of them is wrong, or there are too many.
std::optional<std::vector<machine_class>> parse_classes(std::string_view text);
std::string text_of_classes(const std::vector<machine_class>& classes);
/// What they must be, for people.
std::string classes_kind();

} // namespace coppice::cli
