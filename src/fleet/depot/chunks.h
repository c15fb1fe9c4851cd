// The digests of a file's chunks, computed from the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

struct DigestedFile {
  uint64_t size_bytes = 0;
  std::string sha256;
  std::vector<std::string> chunks;  // of each chunk; none for an empty file
};

// Reads a file. `progress` (may be empty) gets the bytes of each read.
// Errors: those of opening it; kIo; kCancelled.
// Cost: one pass, each byte digested twice.
Result<DigestedFile> DigestFile(const std::filesystem::path& path, uint64_t chunk_bytes,
                                const std::function<void(uint64_t)>& progress,
                                const std::stop_token& stop);

}  // namespace tandem::fleet
