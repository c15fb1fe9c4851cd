// Rows of floats to and from rows of blocks, in portable scalar code: the reference for kernels,
// and the quantiser for tools and packages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "engine/quant/half.h"
#include "engine/quant/types.h"

namespace tandem::quant {

// Decodes n elements in float32, each operation rounded by itself, in the order of blocks.h.
//   src        RowBytes(type, n) bytes, aligned to GetType(type).alignment
//   dst (out)  [n]
//   n          a multiple of the type's block_elements
// Any bytes are a valid row: infinities and NaNs in scales come out as such.
// Thread: any.
void DequantizeRow(Type type, const std::byte* src, float* dst, int64_t n);

// Encodes n elements so that the squared error, weighted by importance, is small: F16 and BF16
// round to nearest even; Q8_0 scales by its largest magnitude; the others try scales around the
// obvious one and keep the best least-squares fit of a block or sub-block.
//   src         [n]
//   dst (out)   RowBytes(type, n) bytes, aligned to GetType(type).alignment
//   importance  [n], finite and not negative: weight of each element's squared error, or null for
//               equal weights; Q8_0, F16, BF16 and F32 do not look at it
// Errors: kInvalidArgument if n is not a multiple of block_elements, if a value or weight that a
// block type would have to encode is not finite, or if a scale does not fit IEEE half (values
// beyond about 5e5 for 4 bits); dst is then unspecified.
// Thread: any.
// Cost: 10 to 20 million elements a second where scales are searched, 350 million for Q8_0.
Status QuantizeRow(Type type, const float* src, std::byte* dst, int64_t n,
                   const float* importance = nullptr);

}  // namespace tandem::quant
