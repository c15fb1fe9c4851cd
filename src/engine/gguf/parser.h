// From bytes to views of one GGUF file: everything is checked here, once. Private to the room;
// file.h is what others use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/gguf/file.h"

namespace tandem::gguf {

struct ParsedFile {
  uint32_t version = 0;
  uint64_t alignment = 0;
  std::vector<KeyValue> metadata;     // in the file's order
  std::vector<size_t> keys_in_order;  // indices into metadata, sorted by key; no two are equal
  std::vector<Tensor> tensors;        // in the file's order; names may repeat
};

// `bytes` must be aligned to 4 and outlive the result; `name` stands for the file in messages.
// Errors: kCorrupt, kUnsupported.
Result<ParsedFile> ParseFile(std::span<const std::byte> bytes, std::string_view name);

}  // namespace tandem::gguf
