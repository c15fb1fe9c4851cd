// Products with a matrix in two planes, for a model's head: coarse codes in strips, which every
// token streams, and what they leave over in rows (engine/kernels/fine_plane.h), which most tokens
// hardly touch. The coarse products tell which few rows can be the largest; those are completed.
//
//   MatMul(kernels, pool, {&coarse, 1}, activations, n_tokens, y);  // packed_matmul.h
//   CompleteTop(kernels, pool, coarse, fine, activations, t, n_tokens, wish, &scratch, y + t * n);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/ops/packed_matmul.h"
#include "engine/ops/thread_pool.h"

namespace tandem::ops {

// A view of what the strips of a PackedMatrix leave over; n_rows and n_cols are that one's.
struct FinePlane {
  int bits = 0;                     // 3 or 4; 0: there is none
  const std::byte* rows = nullptr;  // [n_rows] of kernels::FineRowBytes(bits, n_cols)
  const float* norms = nullptr;     // [n_rows] at least the Euclidean norm of each row

  bool empty() const { return bits == 0; }
};

// Memory of the functions below, for up to max_tokens.
struct PlaneScratch {
  PlaneScratch(const kernels::KernelSet& kernels, int64_t n_rows, int64_t n_cols,
               int64_t max_tokens);
  static uint64_t Bytes(const kernels::KernelSet& kernels, int64_t n_rows, int64_t n_cols,
                        int64_t max_tokens);

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  struct Row {
    int32_t id;
    float coarse;
  };
  int64_t token_lines;             // of a token
  std::vector<Line> tokens;        // [max_tokens, token_lines] a block of one each
  std::vector<float> strip_best;   // [n_strips] largest coarse product of the strip
  std::vector<float> strip_bound;  // [n_strips] none of its products can be larger
  std::vector<int32_t> strips;     // [kScanRows]
  std::vector<Row> chosen;         // [kMaxChosen]
};

// The rows that a scan completes at least.
inline constexpr int kScanRows = 64;
// The largest CompleteTop::top.
inline constexpr int kMaxTop = kScanRows;

// What CompleteTop did, to know how often the bound costs what.
struct ScanReport {
  int64_t n_completed = 0;  // rows
  bool widened = false;     // rows beyond the first kScanRows could have been among the largest
  bool outside = false;     // and the largest one was
};

// Completes products so that the `top` largest are right: their ids and their bits are those of
// CompleteAll. All others either are right too, or keep their coarse value and are smaller than
// these in both.
//
// The kScanRows largest coarse products are completed first. A row's fine product is at most the
// norm of its fine row times that of the token (Cauchy-Schwarz; roundings are added), so every row
// whose coarse product comes within that of the top-th completed one is completed as well. Where
// those are many, all are.
//   activations  as MatMul had them, of n_tokens;  t in [0, n_tokens)
//   top          1 to kMaxTop
//   excluded     ids that do not count; their products become -infinity
//   y (in, out)  [n_rows] the coarse products of token t. One that is NaN stays NaN.
// Thread: the pool's caller. Never allocates.
// Source: the bound is that of maximum inner product search, arXiv:1202.6101.
ScanReport CompleteTop(const kernels::KernelSet& kernels, ThreadPool& pool,
                       const PackedMatrix& coarse, const FinePlane& fine,
                       std::span<const std::byte> activations, int64_t t, int64_t n_tokens, int top,
                       std::span<const int32_t> excluded, PlaneScratch* scratch, float* y);

// Completes the products of tokens [begin, end): y = coarse + fine, one rounding.
//   y (in, out)  [end - begin, n_rows] from token `begin` on
// Thread: the pool's caller. Never allocates. Cost: reads both planes once.
void CompleteAll(const kernels::KernelSet& kernels, ThreadPool& pool, const PackedMatrix& coarse,
                 const FinePlane& fine, std::span<const std::byte> activations, int64_t begin,
                 int64_t end, int64_t n_tokens, PlaneScratch* scratch, float* y);

}  // namespace tandem::ops
