#include "os/cpu_times.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "os/file.h"

namespace tandem::os {
namespace {

constexpr size_t kMaxStatBytes = 1 << 20;

// The columns behind "cpu": ticks of all cores together.
enum Column { kUser, kNice, kSystem, kIdle, kIoWait, kIrq, kSoftIrq, kSteal, kColumns };

}  // namespace

Result<CpuTimes> ReadCpuTimes(const std::filesystem::path& root) {
  const std::filesystem::path path = root / "proc/stat";
  TANDEM_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxStatBytes));
  std::string_view line = std::string_view(content).substr(0, content.find('\n'));
  std::array<double, kColumns> seconds{};
  const double tick = 1.0 / static_cast<double>(std::max(1L, sysconf(_SC_CLK_TCK)));
  bool valid = line.starts_with("cpu ");
  line.remove_prefix(std::min<size_t>(line.size(), 4));
  for (double& column : seconds) {
    while (line.starts_with(' ')) line.remove_prefix(1);
    uint64_t ticks = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), ticks);
    valid &= error == std::errc{};
    line.remove_prefix(static_cast<size_t>(end - line.data()));
    column = static_cast<double>(ticks) * tick;
  }
  if (!valid) {
    return Err(ErrorCode::kUnsupported, "'{}' does not begin with the times of all cores",
               path.string());
  }
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  return CpuTimes{
      .busy_s =
          seconds[kUser] + seconds[kNice] + seconds[kSystem] + seconds[kIrq] + seconds[kSoftIrq],
      .idle_s = seconds[kIdle] + seconds[kIoWait],
      .stolen_s = seconds[kSteal],
      .process_s = static_cast<double>(own.tv_sec) + static_cast<double>(own.tv_nsec) * 1e-9};
}

}  // namespace tandem::os
