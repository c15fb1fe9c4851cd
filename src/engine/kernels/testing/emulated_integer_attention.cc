// integer_attention_avx512vnni.cc over emulated instructions.
#define TANDEM_EMULATE_AVX512VNNI
#define multiply_s32_s16_s8_4x64_avx512vnni multiply_s32_s16_s8_4x64_emulated

#include "engine/kernels/integer_attention_avx512vnni.cc"  // NOLINT(bugprone-suspicious-include)
#include "engine/kernels/testing/emulated_avx512vnni.h"

namespace tandem::kernels {
const decltype(IntegerAttention::multiply) kMultiplyEmulatedAvx512Vnni =
    multiply_s32_s16_s8_4x64_emulated;
}  // namespace tandem::kernels
