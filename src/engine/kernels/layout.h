// Weights as the integer kernels read them, in memory and in a package alike: strips of 16 rows,
// each a run of scales and then tiles of 16 rows x 128 columns. docs/formats/package-layout.md
// draws it byte by byte; nothing here depends on the machine, so the same bytes serve every
// instruction set.
//
//   matrix  [n_rows, n_cols]  = ceil(n_rows / 16) strips, one after the other
//   strip                     = scales [n_tiles][128 / group][16] IEEE half, zeros up to a multiple
//                               of 64 bytes; then n_tiles = ceil(n_cols / 128) tiles
//   int4 tile, 1,024 bytes    = 16 vectors of 64 bytes; byte 4 r + j of vector i holds row r,
//                               column 8 i + j in its low and column 8 i + 4 + j in its high four
//                               bits, each as code + 8
//   int8 tile, 2,048 bytes    = 32 vectors of 64 bytes; byte 4 r + j of vector i holds row r,
//                               column 4 i + j as a signed byte
//
// A weight is code * scale. Rows and columns that the matrix does not have hold code 0 and scale 0,
// so that a kernel computes whole tiles and never looks at n_cols.
//
// The functions here are for whoever writes a package, looks up a row or tests a kernel; none is
// fast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "engine/quant/types.h"

namespace tandem::kernels {

inline constexpr int kStripRows = 16;
inline constexpr int kTileCols = 128;
// Every strip and every tile starts at a multiple of this; so must the matrix.
inline constexpr int kStripAlignment = 64;

// How the weights of one matrix are coded. The numbers stand in package files.
enum class Scheme : uint32_t {
  kInt4G128 = 1,  // 4.125 bits a weight
  kInt4G32 = 2,   // 4.5 bits; holds Q4_0 exactly
  kInt8G128 = 3,  // 8.125 bits
  kInt8G32 = 4,   // 8.5 bits; holds Q8_0 exactly
};
inline constexpr int kSchemes = 5;  // for tables that are indexed by Scheme

struct SchemeInfo {
  Scheme scheme;
  std::string_view name;  // "int4g128"; static storage
  int bits;               // of a code: 4 or 8
  int group;              // columns that share a scale: 128 or 32
  int tile_bytes;         // of codes, without scales
  int tile_scale_bytes;   // of the scales of one tile
  int min_code;           // -8 or -128
  int max_code;           // 7 or 127
};

// Null for a number that names no scheme.
const SchemeInfo* FindScheme(uint32_t number);
const SchemeInfo& GetScheme(Scheme scheme);
// The scheme of a name as in SchemeInfo. Errors: kInvalidArgument.
Result<Scheme> ParseScheme(std::string_view name);

// Largest n_rows and n_cols: no real model comes near, and no product below overflows.
inline constexpr int64_t kMaxDimension = int64_t{1} << 28;

// ceil(n / 16) and ceil(n / 128) for n in [0, kMaxDimension]. Internal linkage: kernels use them.
static constexpr int64_t StripCount(int64_t n_rows) {
  return (n_rows + kStripRows - 1) / kStripRows;
}
static constexpr int64_t TileCount(int64_t n_cols) { return (n_cols + kTileCols - 1) / kTileCols; }

// Where things stand in a strip, in bytes; n_cols in [1, kMaxDimension].
int64_t StripScaleBytes(Scheme scheme, int64_t n_cols);  // also the offset of tile 0
int64_t StripBytes(Scheme scheme, int64_t n_cols);

// Bytes of a whole packed matrix, for dimensions that a file states.
// Errors: kInvalidArgument if a dimension is not in [1, kMaxDimension].
Result<int64_t> PackedBytes(Scheme scheme, int64_t n_rows, int64_t n_cols);

// Writes one strip: all StripBytes(scheme, n_cols) bytes of it, the same for the same input.
//   codes   [n_rows, n_cols] in the scheme's [min_code, max_code]; a code outside is our bug
//   scales  [n_rows, ceil(n_cols / group)] IEEE half bits
//   n_rows  in [1, 16]; rows n_rows..15 become zeros
//   strip   aligned to kStripAlignment
// Thread: any.
void PackStrip(Scheme scheme, const int8_t* codes, const uint16_t* scales, int n_rows,
               int64_t n_cols, std::byte* strip);

// The scheme that holds rows of this block type without changing a value: kInt4G32 for Q4_0,
// kInt8G32 for Q8_0. A row's blocks become its groups.
// Errors: kUnsupported for every other type.
Result<Scheme> ExactScheme(quant::Type type);

// Writes one strip from rows of GGUF blocks, in the scheme that ExactScheme() names.
//   rows       n_rows in [1, 16] rows of n_cols elements, row_bytes apart; n_cols a multiple of 32
// Errors: kUnsupported for a type without an exact scheme.
// Thread: any. Cost: about 1 GB of blocks a second.
Status PackStripExactly(quant::Type type, const std::byte* rows, size_t row_bytes, int n_rows,
                        int64_t n_cols, std::byte* strip);

// The inverse of PackStrip for the rows and columns that exist.
//   codes (out)   [n_rows, n_cols];  scales (out) [n_rows, ceil(n_cols / group)]
void UnpackStrip(Scheme scheme, const std::byte* strip, int n_rows, int64_t n_cols, int8_t* codes,
                 uint16_t* scales);

// One row of a packed matrix as floats, code * scale rounded once: an embedding look-up.
//   matrix     the packed matrix, of n_cols columns
//   dst (out)  [n_cols]
// Thread: any. Cost: touches every cache line of one strip.
void UnpackRow(Scheme scheme, const std::byte* matrix, int64_t row, int64_t n_cols, float* dst);

}  // namespace tandem::kernels
