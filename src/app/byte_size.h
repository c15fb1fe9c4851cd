// Sizes in bytes as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::app {

// Bytes from "512", "512MB", "2.1GB" (powers of ten) or "512MiB", "2GiB" (powers of two).
Result<uint64_t> ParseByteSize(std::string_view text);
// "1.0 GB", "23 kB": for people.
std::string FormatByteSize(uint64_t bytes);

}  // namespace tandem::app
