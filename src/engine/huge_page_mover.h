// A loaded package's weights on their way to huge pages, in the background.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "engine/package/file.h"
#include "os/memory.h"

namespace tandem::engine {

enum class HugePages {
  kOff,
  kAuto,  // where memory allows for the whole of the weights
  kOn,    // as far as memory allows
};

std::string_view HugePagesName(HugePages mode);  // "off", "auto", "on"
// Errors: kInvalidArgument, naming the choices.
Result<HugePages> ParseHugePages(std::string_view name);

// Moves the weights that every token streams, tensor by tensor in the order in which they are read,
// on a thread that computes only where nobody else does. Steps may run meanwhile; no result
// changes. Before every piece it looks at the memory: what is moved can no longer be dropped under
// pressure as a file's pages can.
class HugePageMover {
 public:
  using ReadMemory = std::function<Result<os::MemoryStatus>()>;

  // Memory that stays free for others.
  static constexpr uint64_t kReserveBytes = uint64_t{512} << 20;

  HugePageMover(std::shared_ptr<const package::File> file, HugePages mode, ReadMemory read_memory);
  // Stops at the next piece.
  ~HugePageMover() = default;

  // Waits until nothing more will be moved.
  void Wait() { thread_.join(); }
  uint64_t moved_bytes() const { return moved_bytes_; }

 private:
  void Run(const std::stop_token& stop, HugePages mode);
  bool HasRoom(uint64_t n_bytes) const;

  const std::shared_ptr<const package::File> file_;
  const ReadMemory read_memory_;
  std::atomic<uint64_t> moved_bytes_ = 0;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace tandem::engine
