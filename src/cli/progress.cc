#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "app/packages.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

// Packing less takes well below a second.
constexpr uint64_t kWorthALine = uint64_t{100} << 20;

}  // namespace

PackProgress::PackProgress(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) != 0) {}

void PackProgress::Show(uint64_t done_bytes, uint64_t total_bytes) {
  if (!terminal_) {
    if (!drawn_ && total_bytes >= kWorthALine) {
      PrintError(fmt::format("{} ({})\n", what_, app::FormatByteSize(total_bytes)));
    }
    drawn_ = true;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  PrintError(fmt::format("\r\x1b[2K{}: {:3.0f} % of {}", what_,
                         100.0 * static_cast<double>(done_bytes) /
                             static_cast<double>(std::max<uint64_t>(1, total_bytes)),
                         app::FormatByteSize(total_bytes)));
}

void PackProgress::End() {
  if (terminal_ && drawn_) PrintError("\r\x1b[2K");
  drawn_ = false;
}

Result<std::filesystem::path> PackOnce(const std::filesystem::path& data_dir,
                                       const std::filesystem::path& model) {
  PackProgress progress(fmt::format("packing {}, once", model.filename().string()));
  auto package = app::Packages(data_dir).Get(model, [&](uint64_t done_bytes, uint64_t total_bytes) {
    progress.Show(done_bytes, total_bytes);
  });
  progress.End();
  return package;
}

}  // namespace tandem::cli
