// Battery and heat, where the operating system tells.
#pragma once

#include <filesystem>
#include <optional>

namespace tandem::os {

struct PowerStatus {
  std::optional<double> battery_share;  // 0..1 while it discharges; empty on mains or unknown
  bool hot = false;                     // a thermal zone is above where it wants to be cooled
};

// Reads /sys/class/power_supply and /sys/class/thermal below `root`. What cannot be read is
// unknown, never an error: most machines have neither. Cost: a few small files; keep the answer.
PowerStatus ReadPowerStatus(const std::filesystem::path& root = "/");

}  // namespace tandem::os
