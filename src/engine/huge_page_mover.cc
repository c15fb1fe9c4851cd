#include "engine/huge_page_mover.h"

#include <span>
#include <utility>
#include <vector>

#include "base/log.h"
#include "os/huge_pages.h"

namespace tandem::engine {
namespace {

constexpr std::pair<HugePages, std::string_view> kNames[] = {
    {HugePages::kOff, "off"}, {HugePages::kAuto, "auto"}, {HugePages::kOn, "on"}};

// Runs of tensors in strips: what a token streams. Embedding tables and fine planes are read in
// places, and stay in the file.
std::vector<std::span<const std::byte>> StreamedRanges(const package::File& file) {
  std::vector<std::span<const std::byte>> ranges;
  bool joins = false;  // the tensor before was streamed too
  for (const package::Tensor& tensor : file.tensors()) {
    const bool streamed = tensor.layout == package::Layout::kStrips;
    if (streamed && joins) {
      const std::byte* begin = ranges.back().data();
      ranges.back() = {begin, tensor.data + tensor.n_bytes};
    } else if (streamed) {
      ranges.push_back(tensor.bytes());
    }
    joins = streamed;
  }
  return ranges;
}

}  // namespace

std::string_view HugePagesName(HugePages mode) {
  for (const auto& [known, name] : kNames) {
    if (known == mode) return name;
  }
  return "off";
}

Result<HugePages> ParseHugePages(std::string_view name) {
  for (const auto& [mode, known] : kNames) {
    if (known == name) return mode;
  }
  return Err(ErrorCode::kInvalidArgument, "'{}' is no choice for huge pages; use off, auto or on",
             name.substr(0, 64));
}

HugePageMover::HugePageMover(std::shared_ptr<const package::File> file, HugePages mode,
                             ReadMemory read_memory)
    : file_(std::move(file)),
      read_memory_(std::move(read_memory)),
      thread_([this, mode](const std::stop_token& stop) { Run(stop, mode); }) {}

bool HugePageMover::HasRoom(uint64_t n_bytes) const {
  const auto memory = read_memory_();
  return memory && memory->available_bytes >= n_bytes + kReserveBytes;
}

void HugePageMover::Run(const std::stop_token& stop, HugePages mode) {
  if (mode == HugePages::kOff) return;
  os::MakeThreadIdle();
  const auto ranges = StreamedRanges(*file_);
  uint64_t total = 0;
  for (const auto range : ranges) total += range.size();
  if (mode == HugePages::kAuto && !HasRoom(total)) {
    log::Info(
        "{}: the weights stay in the file's pages: {} bytes in huge pages would leave others "
        "too little memory",
        file_->name(), total);
    return;
  }
  for (const auto range : ranges) {
    bool out_of_memory = false;
    const uint64_t before = moved_bytes_;
    const auto moved = os::MoveToHugePages(range, [&](uint64_t done, uint64_t step) {
      moved_bytes_ = before + done;
      out_of_memory = !HasRoom(step);
      return !stop.stop_requested() && !out_of_memory;
    });
    if (!moved) {
      log::Warning("{}: weights stay in the file's pages: {}", file_->name(),
                   moved.error().message);
      return;
    }
    moved_bytes_ = before + *moved;
    if (stop.stop_requested()) return;
    if (out_of_memory) {
      log::Warning("{}: {} of {} bytes of weights are in huge pages; there is no memory for more",
                   file_->name(), before + *moved, total);
      return;
    }
  }
  log::Info("{}: {} bytes of weights are in huge pages", file_->name(), moved_bytes_.load());
}

}  // namespace tandem::engine
