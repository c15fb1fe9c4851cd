// Times and spans of time as people write and read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::cli {

// "45s", "30m", "24h", "90d", "2w"; 0 without a unit. At most 100 years.
// Errors: kInvalidArgument with the units.
Result<std::chrono::seconds> ParseSpan(std::string_view text);

// "2026-11-23T06:30:00Z" of seconds since 1970.
std::string FormatTime(int64_t seconds);

}  // namespace tandem::cli
