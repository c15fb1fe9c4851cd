#include "app/byte_size.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace tandem::app {

Result<uint64_t> ParseByteSize(std::string_view text) {
  static constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
      {"", 1},
      {"B", 1},
      {"kB", 1'000},
      {"KB", 1'000},
      {"MB", 1'000'000},
      {"GB", 1'000'000'000},
      {"TB", 1'000'000'000'000},
      {"KiB", uint64_t{1} << 10},
      {"MiB", uint64_t{1} << 20},
      {"GiB", uint64_t{1} << 30},
      {"TiB", uint64_t{1} << 40},
  };
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const auto* found =
      std::ranges::find(kUnits, unit, &std::pair<std::string_view, uint64_t>::first);
  const double bytes = found == std::end(kUnits) ? 0 : number * static_cast<double>(found->second);
  // 2^63 is far beyond any machine and still exact to convert.
  if (error != std::errc{} || found == std::end(kUnits) || !(bytes >= 1 && bytes < 0x1p63)) {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is not a size; write for example 512MB, 2.1GB or 4GiB", text);
  }
  return static_cast<uint64_t>(bytes);
}

std::string FormatByteSize(uint64_t bytes) {
  static constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return value < 9.95 && unit > 0 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                                  : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

}  // namespace tandem::app
