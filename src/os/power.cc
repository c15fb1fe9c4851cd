#include "os/power.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "os/file.h"

namespace tandem::os {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSysFileBytes = 4096;

// The file's text without the line end; empty where it cannot be read.
std::string Line(const fs::path& path) {
  auto text = ReadFile(path, kMaxSysFileBytes);
  if (!text) return {};
  return text->substr(0, text->find('\n'));
}

std::optional<int64_t> Number(const fs::path& path) {
  const std::string line = Line(path);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc{} || end != line.data() + line.size()) return std::nullopt;
  return value;
}

template <typename Visit>
void ForEachEntry(const fs::path& directory, Visit visit) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    visit(it->path());
  }
}

// A zone is hot above the first temperature at which it asks for cooling by slowing down
// ("passive") or worse ("hot").
bool IsHot(const fs::path& zone) {
  const auto now = Number(zone / "temp");
  if (!now) return false;
  bool hot = false;
  ForEachEntry(zone, [&](const fs::path& entry) {
    const std::string name = entry.filename();
    constexpr std::string_view kPrefix = "trip_point_";
    constexpr std::string_view kSuffix = "_type";
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return;
    const std::string kind = Line(entry);
    if (kind != "passive" && kind != "hot") return;
    const auto limit = Number(zone / (name.substr(0, name.size() - kSuffix.size()) + "_temp"));
    hot |= limit && *limit > 0 && *now >= *limit;
  });
  return hot;
}

}  // namespace

PowerStatus ReadPowerStatus(const fs::path& root) {
  PowerStatus status;
  ForEachEntry(root / "sys/class/power_supply", [&](const fs::path& supply) {
    if (Line(supply / "type") != "Battery" || Line(supply / "scope") == "Device") return;
    if (Line(supply / "status") != "Discharging") return;
    const auto percent = Number(supply / "capacity");
    if (!percent || *percent < 0 || *percent > 100) return;
    const double share = static_cast<double>(*percent) / 100;
    status.battery_share = std::min(status.battery_share.value_or(1), share);
  });
  ForEachEntry(root / "sys/class/thermal", [&](const fs::path& zone) {
    if (zone.filename().string().starts_with("thermal_zone")) status.hot |= IsHot(zone);
  });
  return status;
}

}  // namespace tandem::os
