// Products of attention that stand in for another set's, each in a file with its own flags; the
// contract is IntegerAttention::multiply's. Plain declarations only.
#pragma once

#include <cstdint>

namespace tandem::kernels {

void multiply_s32_s16_s8_4x64_avx512vnni(const int16_t* a, int a_stride, int n_rows,
                                         const int8_t* b, int b_stride, int n, int n_k, int32_t* c,
                                         int c_stride);
void multiply_s32_s16_s8_4x8_neon(const int16_t* a, int a_stride, int n_rows, const int8_t* b,
                                  int b_stride, int n, int n_k, int32_t* c, int c_stride);

}  // namespace tandem::kernels
