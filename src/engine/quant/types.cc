#include "engine/quant/types.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/check.h"
#include "engine/quant/blocks.h"

namespace tandem::quant {
namespace {

template <typename Block>
constexpr TypeInfo Describe(Type type, std::string_view name) {
  return {type, name, Block::kElements, sizeof(Block), alignof(Block)};
}

constexpr std::array kTypes = {
    TypeInfo{Type::kF32, "F32", 1, 4, 4},           TypeInfo{Type::kF16, "F16", 1, 2, 2},
    TypeInfo{Type::kBF16, "BF16", 1, 2, 2},         Describe<BlockQ4_0>(Type::kQ4_0, "Q4_0"),
    Describe<BlockQ4_1>(Type::kQ4_1, "Q4_1"),       Describe<BlockQ5_0>(Type::kQ5_0, "Q5_0"),
    Describe<BlockQ8_0>(Type::kQ8_0, "Q8_0"),       Describe<BlockQ4_K>(Type::kQ4_K, "Q4_K"),
    Describe<BlockQ5_K>(Type::kQ5_K, "Q5_K"),       Describe<BlockQ6_K>(Type::kQ6_K, "Q6_K"),
    Describe<BlockIQ4_NL>(Type::kIQ4_NL, "IQ4_NL"),
};

// Indexed by ggml id; empty where ggml has withdrawn the id (4, 5, 31-33, 36-38).
constexpr std::array<std::string_view, 43> kGgmlNames = {
    "F32",     "F16",   "Q4_0",   "Q4_1",  "",      "",       "Q5_0", "Q5_1",    "Q8_0",
    "Q8_1",    "Q2_K",  "Q3_K",   "Q4_K",  "Q5_K",  "Q6_K",   "Q8_K", "IQ2_XXS", "IQ2_XS",
    "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",   "I16",     "I32",
    "I64",     "F64",   "IQ1_M",  "BF16",  "",      "",       "",     "TQ1_0",   "TQ2_0",
    "",        "",      "",       "MXFP4", "NVFP4", "Q1_0",   "Q2_0"};

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

}  // namespace

const TypeInfo* FindType(uint32_t ggml_id) {
  for (const TypeInfo& info : kTypes) {
    if (static_cast<uint32_t>(info.type) == ggml_id) return &info;
  }
  return nullptr;
}

const TypeInfo& GetType(Type type) {
  const TypeInfo* info = FindType(static_cast<uint32_t>(type));
  TANDEM_CHECK(info != nullptr);
  return *info;
}

Result<Type> ParseType(std::string_view name) {
  for (const TypeInfo& info : kTypes) {
    if (EqualIgnoringCase(info.name, name)) return info.type;
  }
  return Err(ErrorCode::kInvalidArgument,
             "no tensor type '{}'; known: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q4_K Q5_K Q6_K IQ4_NL",
             name);
}

std::string_view GgmlTypeName(uint32_t ggml_id) {
  return ggml_id < kGgmlNames.size() ? kGgmlNames[ggml_id] : std::string_view();
}

int64_t RowBytes(Type type, int64_t n_elements) {
  const TypeInfo& info = GetType(type);
  TANDEM_CHECK(n_elements >= 0 && n_elements % info.block_elements == 0);
  return n_elements / info.block_elements * info.block_bytes;
}

}  // namespace tandem::quant
