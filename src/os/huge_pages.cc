#include "os/huge_pages.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "os/file.h"

namespace tandem::os {
namespace {

// Moved at a time: a decode step of a model reads as much in about a millisecond.
constexpr size_t kStepBytes = 16 * kHugePageBytes;

// Writable anonymous memory that starts at a huge page and asks for them.
class FreshPages {
 public:
  explicit FreshPages(size_t n_bytes) : n_bytes_(n_bytes) {
    // One huge page more, to start at a multiple of one.
    void* memory = ::mmap(nullptr, n_bytes + kHugePageBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    auto* begin = static_cast<std::byte*>(memory);
    const auto address = reinterpret_cast<uintptr_t>(begin);
    const size_t before = (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
    if (before > 0) ::munmap(begin, before);
    if (before < kHugePageBytes) ::munmap(begin + before + n_bytes, kHugePageBytes - before);
    data_ = begin + before;
  }
  ~FreshPages() {
    if (data_ != nullptr) ::munmap(data_, n_bytes_);
  }
  FreshPages(const FreshPages&) = delete;
  FreshPages& operator=(const FreshPages&) = delete;

  std::byte* data() const { return data_; }

  // Makes the pages read-only and gives them the place of `target`, whose mapping ends. They move
  // under the lock of the address space: a reader that touches them in between waits for it.
  bool MoveTo(std::byte* target) {
    if (::mprotect(data_, n_bytes_, PROT_READ) != 0) return false;
    if (::mremap(data_, n_bytes_, n_bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
      return false;
    }
    data_ = nullptr;
    return true;
  }

 private:
  const size_t n_bytes_;
  std::byte* data_ = nullptr;
};

std::unexpected<Error> NoHugePages() {
  return Err(ErrorCode::kUnsupported,
             "this system gives no huge pages to programs: "
             "/sys/kernel/mm/transparent_hugepage/enabled must say always or madvise");
}

}  // namespace

bool HugePagesAvailable() {
  const auto enabled = ReadFile("/sys/kernel/mm/transparent_hugepage/enabled", 4096);
  return enabled && (enabled->find("[always]") != std::string::npos ||
                     enabled->find("[madvise]") != std::string::npos);
}

Result<uint64_t> MoveToHugePages(
    std::span<const std::byte> range,
    const std::function<bool(uint64_t moved_bytes, uint64_t step_bytes)>& go_on) {
  if (!HugePagesAvailable()) return NoHugePages();
  const auto address = reinterpret_cast<uintptr_t>(range.data());
  const size_t before = (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
  if (range.size() < before + kHugePageBytes) return uint64_t{0};
  const size_t n_bytes = (range.size() - before) / kHugePageBytes * kHugePageBytes;
  // The addresses are the caller's mapping; what is there changes, its bytes do not.
  auto* begin = const_cast<std::byte*>(range.data()) + before;
  uint64_t moved = 0;
  while (moved < n_bytes) {
    const size_t step = std::min<size_t>(kStepBytes, n_bytes - moved);
    if (!go_on(moved, step)) break;
    FreshPages fresh(step);
    if (fresh.data() == nullptr) return ErrnoError(errno, "memory for huge pages");
    if (::madvise(fresh.data(), step, MADV_HUGEPAGE) != 0) return NoHugePages();
    std::memcpy(fresh.data(), begin + moved, step);
    if (!fresh.MoveTo(begin + moved)) return ErrnoError(errno, "moving weights to huge pages");
    moved += step;
  }
  return moved;
}

void MakeThreadIdle() {
  // Either may be refused, which costs the others something, but breaks nothing.
  const sched_param parameters = {};
  (void)::sched_setscheduler(0, SCHED_IDLE, &parameters);
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19);
}

}  // namespace tandem::os
