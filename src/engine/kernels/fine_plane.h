// The second plane of a matrix that stands in two (docs/formats/package-layout.md): what the codes
// of its strips leave over, a few bits a weight, row by row. The strips alone are what a scan
// streams; rows of this plane are read where a scan's result has to be exact.
//
//   weight(r, c) = half(scale(r, c / group)) * (code(r, c) + fine(r, c) * 2^-bits)
//
// with scale and code those of the strips, and fine in [-2^(bits-1), 2^(bits-1)).
//
//   plane  = rows, one after the other, FineRowBytes() each
//   row    = for each 128 columns: bits 4: 64 bytes, byte 32 v + i holds column 64 v + i in its low
//            and column 64 v + 32 + i in its high four bits, as fine + 8
//            bits 3: 32 bytes, byte i holds the low two bits of columns i, 32 + i, 64 + i, 96 + i
//            of fine + 4, lowest first; then four little-endian words, bit i of word k is the third
//            bit of column 32 k + i
// Columns that the matrix does not have hold fine 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "engine/kernels/layout.h"

namespace tandem::kernels {

inline constexpr int kMinFineBits = 3;
inline constexpr int kMaxFineBits = 4;

// Bytes of a row; n_cols in [1, kMaxDimension].
static constexpr int64_t FineRowBytes(int bits, int64_t n_cols) {
  return TileCount(n_cols) * (kTileCols / 8) * bits;
}

// Bytes of a plane, for dimensions that a file states.
// Errors: kInvalidArgument if a dimension is not in [1, kMaxDimension], or for other bits.
Result<int64_t> FinePlaneBytes(int bits, int64_t n_rows, int64_t n_cols);

// Writes one row: all FineRowBytes of it.
//   codes  [n_cols] in [-2^(bits-1), 2^(bits-1)); a code outside is our bug
// Thread: any.
void PackFineRow(int bits, std::span<const int8_t> codes, std::byte* row);

// The inverse.
//   codes (out)  [n_cols]
void UnpackFineRow(int bits, const std::byte* row, std::span<int8_t> codes);

// One row of a matrix in two planes as floats, each weight rounded once.
//   matrix     the strips, of int4 codes;  fine  the plane
//   dst (out)  [n_cols]
// Thread: any. Cost: touches every cache line of one strip.
void UnpackRowInPlanes(Scheme scheme, const std::byte* matrix, int bits, const std::byte* fine,
                       int64_t row, int64_t n_cols, float* dst);

}  // namespace tandem::kernels
