// Rows of floats to codes and scales of a weight scheme, so that the values lose little.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "engine/kernels/layout.h"

namespace tandem::package {

// Sums over weights, of which an error can be stated for many rows together.
struct QuantizationError {
  double squares = 0;         // of packed - source
  double source_squares = 0;  // of source

  void Add(const QuantizationError& other) {
    squares += other.squares;
    source_squares += other.source_squares;
  }
  // rms(packed - source) / rms(source); 0 for a source of zeros.
  double relative() const;
};

// Quantises one row in groups of the scheme.
//
// int4: for each of 21 candidates, which put the value of the largest magnitude on code -7 to -12
// (beyond -8 it is clipped), codes are rounded and the scale that fits them best in the sense of
// least squares is taken; the candidate with the smallest weighted squared error wins, and codes
// are rounded once more for its scale as half precision. int8: the largest magnitude is code 127.
//   row          [n_cols]
//   importance   [n_cols] >= 0, the weight of each column's squared error; empty: all the same
//   codes (out)  [n_cols];  scales (out) [ceil(n_cols / group)] IEEE half bits, as PackStrip wants
// Errors: kCorrupt for a value that is not finite or too large for a half-precision scale.
// Thread: any. Cost: about 60 million weights a second for int4, several times as many for int8.
// Source: least-squares scales as in llama.cpp's make_qx_quants, arXiv:1603.05279 for the fit.
Result<QuantizationError> QuantizeRow(kernels::Scheme scheme, std::span<const float> row,
                                      std::span<const float> importance, int8_t* codes,
                                      uint16_t* scales);

// What a row in two planes differs by.
struct PlaneErrors {
  QuantizationError both;
  QuantizationError coarse;  // of its strips alone

  void Add(const PlaneErrors& other) {
    both.Add(other.both);
    coarse.Add(other.coarse);
  }
};

// Quantises one row to the two planes of engine/kernels/fine_plane.h: to one code of 4 + bits bits,
// whose high four are the strips' and whose low ones the fine plane's, each group by the largest
// value on either side.
//   scheme   of the strips: int4g128 or int4g32
//   bits     of the fine plane
//   codes, fine_codes (out)  [n_cols];  scales (out)  [ceil(n_cols / group)] IEEE half bits
// Errors: as QuantizeRow.
// Thread: any. Cost: some 200 million weights a second.
Result<PlaneErrors> QuantizeRowInPlanes(kernels::Scheme scheme, int bits,
                                        std::span<const float> row, int8_t* codes,
                                        int8_t* fine_codes, uint16_t* scales);

// The norm of a row of a fine plane, rounded up: what FinePlane::norms of engine/ops wants.
float FineNorm(kernels::Scheme scheme, int bits, std::span<const int8_t> fine_codes,
               std::span<const uint16_t> scales);

}  // namespace tandem::package
