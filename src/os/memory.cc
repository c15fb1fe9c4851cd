#include "os/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "os/file.h"

namespace tandem::os {
namespace {

constexpr size_t kMaxProcFileBytes = 1 << 20;

std::optional<uint64_t> ParseNumber(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

// The number behind "Name:" in a file such as /proc/meminfo, in bytes (those files count in kB).
std::optional<uint64_t> FieldBytes(std::string_view content, std::string_view name) {
  size_t at = 0;
  while (at < content.size()) {
    const size_t end = std::min(content.find('\n', at), content.size());
    std::string_view line = content.substr(at, end - at);
    if (line.starts_with(name) && line.substr(name.size()).starts_with(":")) {
      const auto kilobytes = ParseNumber(line.substr(name.size() + 1));
      if (!kilobytes) return std::nullopt;
      return *kilobytes * 1024;
    }
    at = end + 1;
  }
  return std::nullopt;
}

std::optional<uint64_t> NumberIn(const std::filesystem::path& path) {
  const auto content = ReadFile(path, kMaxProcFileBytes);
  if (!content) return std::nullopt;  // absent, or "max": no limit
  return ParseNumber(*content);
}

struct CgroupMemory {
  uint64_t limit_bytes;
  uint64_t used_bytes;
};

// One level's limit and what is used under it; page cache that the kernel can drop is not counted
// as used.
std::optional<CgroupMemory> ReadLevel(const std::filesystem::path& directory, bool version2) {
  const auto limit = NumberIn(directory / (version2 ? "memory.max" : "memory.limit_in_bytes"));
  if (!limit) return std::nullopt;
  uint64_t used =
      NumberIn(directory / (version2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
  if (const auto stat = ReadFile(directory / "memory.stat", kMaxProcFileBytes)) {
    const std::string_view key = version2 ? "\ninactive_file " : "\ntotal_inactive_file ";
    const std::string text = "\n" + *stat;
    if (const size_t at = text.find(key); at != std::string::npos) {
      used -=
          std::min(used, ParseNumber(std::string_view(text).substr(at + key.size())).value_or(0));
    }
  }
  return CgroupMemory{*limit, used};
}

// The cgroup directories of this process, from its own up to the root: each may limit.
std::vector<CgroupMemory> ReadCgroups(const std::filesystem::path& root) {
  std::vector<CgroupMemory> levels;
  const auto content = ReadFile(root / "proc/self/cgroup", kMaxProcFileBytes);
  if (!content) return levels;
  size_t at = 0;
  while (at < content->size()) {
    const size_t end = std::min(content->find('\n', at), content->size());
    const std::string_view line = std::string_view(*content).substr(at, end - at);
    at = end + 1;
    // "0::/path" is version 2, "7:memory:/path" version 1.
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 && controllers != "memory") continue;
    const std::filesystem::path mount =
        root / (version2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    std::filesystem::path below = std::string(line.substr(std::min(second + 2, line.size())));
    while (true) {
      if (auto level = ReadLevel(mount / below, version2)) levels.push_back(*level);
      if (below.empty()) break;
      below = below.parent_path();
    }
  }
  return levels;
}

}  // namespace

Result<MemoryStatus> ReadMemoryStatus(const std::filesystem::path& root) {
  TANDEM_ASSIGN_OR_RETURN(const std::string meminfo,
                          ReadFile(root / "proc/meminfo", kMaxProcFileBytes));
  const auto total = FieldBytes(meminfo, "MemTotal");
  const auto available = FieldBytes(meminfo, "MemAvailable");
  if (!total || !available) {
    return Err(ErrorCode::kUnsupported, "'{}' has no MemTotal or MemAvailable",
               (root / "proc/meminfo").string());
  }
  MemoryStatus status;
  status.total_bytes = *total;
  status.limit_bytes = *total;
  status.available_bytes = *available;
  for (const CgroupMemory& level : ReadCgroups(root)) {
    status.limit_bytes = std::min(status.limit_bytes, level.limit_bytes);
    const uint64_t free = level.limit_bytes - std::min(level.limit_bytes, level.used_bytes);
    status.available_bytes = std::min(status.available_bytes, free);
  }
  if (const auto self = ReadFile(root / "proc/self/status", kMaxProcFileBytes)) {
    status.process_resident_bytes = FieldBytes(*self, "VmRSS").value_or(0);
    status.process_peak_bytes = FieldBytes(*self, "VmHWM").value_or(0);
  }
  return status;
}

bool ResetPeakMemory() {
  const FileDescriptor file(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
  return file.valid() && ::write(file.get(), "5", 1) == 1;
}

Result<AnonymousMemory> AnonymousMemory::Create(size_t n_bytes) {
  if (n_bytes == 0) return AnonymousMemory(nullptr, 0);
  void* data =
      mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  if (data == MAP_FAILED) {
    return Err(ErrorCode::kResourceExhausted, "the system has no {} bytes of memory: {}", n_bytes,
               std::generic_category().message(errno));
  }
  return AnonymousMemory(static_cast<std::byte*>(data), n_bytes);
}

AnonymousMemory::~AnonymousMemory() {
  if (data_ != nullptr) munmap(data_, n_bytes_);
}

}  // namespace tandem::os
