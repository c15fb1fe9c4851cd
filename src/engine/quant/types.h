// Charter of engine/quant/: the block formats of GGUF tensors (types.h, blocks.h, half.h) and their
// scalar reference codecs (codec.h), which every kernel is checked against. Includes base/ only.
// Deliberately absent: speed (engine/kernels has it) and any notion of a file or a model.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace tandem::quant {

// The types that Tandem reads and writes. The numbers are ggml's and stand in files.
enum class Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kBF16 = 30,
};

struct TypeInfo {
  Type type;
  std::string_view name;  // "Q4_K"; static storage
  int block_elements;     // consecutive elements of a row that share a block; 1 for F32, F16, BF16
  int block_bytes;
  int alignment;  // of a block in memory, in bytes: 4 for F32, 2 for all others
};

// Null for an id that Tandem does not decode; GgmlTypeName may still know what it is.
const TypeInfo* FindType(uint32_t ggml_id);
const TypeInfo& GetType(Type type);

// The type of a name as in TypeInfo, in any case ("q4_k"). Errors: kInvalidArgument.
Result<Type> ParseType(std::string_view name);

// ggml's name of any id that ggml has given out, such as "IQ2_XXS"; empty for one that it never
// gave out or has withdrawn.
std::string_view GgmlTypeName(uint32_t ggml_id);

// Bytes of n_elements in a row. n_elements must be a multiple of the type's block_elements, not
// negative, and small enough that the result fits int64_t (true of any row that fits in memory).
int64_t RowBytes(Type type, int64_t n_elements);

}  // namespace tandem::quant
