#include "engine/ops/two_planes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/kernels/activations.h"
#include "engine/kernels/fine_plane.h"

namespace tandem::ops {
namespace {

using kernels::kStripRows;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Rows that are completed one by one; more are streamed, all of them.
constexpr int64_t kChosenShare = 4;
// Of a chunk of work: some 10 us each.
constexpr int64_t kChunkStrips = 1024;
constexpr int64_t kChunkRows = 32;

int64_t MaxChosen(int64_t n_rows) {
  return std::min<int64_t>(n_rows, kScanRows + n_rows / kChosenShare);
}

int64_t TokenLines(const kernels::KernelSet& kernels, int64_t n_cols) {
  // Groups of 32 have the most scales.
  return kernels::ActivationBytes(*kernels.tiles, 1, n_cols, 32) / 64;
}

std::byte* TokenAt(PlaneScratch* scratch, int64_t i) {
  return scratch->tokens[static_cast<size_t>(i * scratch->token_lines)].bytes;
}

// What the fine plane adds to row r.
float FineProduct(const kernels::KernelSet& kernels, const PackedMatrix& coarse,
                  const FinePlane& fine, int64_t row, const std::byte* token) {
  const std::byte* scales = coarse.data +
                            row / kStripRows * kernels::StripBytes(coarse.scheme, coarse.n_cols) +
                            row % kStripRows * 2;
  return kernels.tiles->fine_dot(fine.rows + row * kernels::FineRowBytes(fine.bits, coarse.n_cols),
                                 scales, fine.bits, coarse.group(),
                                 kernels::TileCount(coarse.n_cols), token);
}

// A factor of the rows' norms that bounds their fine products, as fine_dot rounds them: a lane adds
// up one product a group, each rounded twice, and the sum of all magnitudes is at most the product
// of the norms.
float BoundFactor(const PackedMatrix& coarse, const std::byte* token) {
  const double norm = kernels::TokenNorm(token, coarse.n_cols, coarse.group());
  const auto n_groups = static_cast<double>((coarse.n_cols + coarse.group() - 1) / coarse.group());
  return static_cast<float>(norm * (1 + (n_groups + 16) * 0x1p-23));
}

// The largest product that a row can have. Products of subnormal numbers need the last term.
float Bound(float coarse, float norm, float factor) {
  return coarse + (norm * factor + std::numeric_limits<float>::min());
}

// Fills strip_best and strip_bound. A NaN is larger than nothing.
void SurveyStrips(ThreadPool& pool, int64_t n_rows, const float* norms, float factor,
                  const float* y, PlaneScratch* scratch) {
  pool.ParallelFor(kernels::StripCount(n_rows), kChunkStrips, [&](int, int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t first = strip * kStripRows;
      const int64_t last = std::min(first + kStripRows, n_rows);
      float best = kMinusInfinity;
      float bound = kMinusInfinity;
      for (int64_t r = first; r < last; ++r) {
        best = y[r] > best ? y[r] : best;
        const float largest = Bound(y[r], norms[r], factor);
        bound = largest > bound ? largest : bound;
      }
      scratch->strip_best[static_cast<size_t>(strip)] = best;
      scratch->strip_bound[static_cast<size_t>(strip)] = bound;
    }
  });
}

// A list of the kScanRows largest of what it is given, as a heap with the smallest in front.
template <typename Value, typename Key>
void Keep(const Value& value, const Key& key, std::vector<Value>* heap) {
  const auto larger = [&key](const Value& a, const Value& b) { return key(a) > key(b); };
  if (heap->size() == kScanRows) {
    if (!(key(value) > key(heap->front()))) return;
    std::ranges::pop_heap(*heap, larger);
    heap->pop_back();
  }
  heap->push_back(value);
  std::ranges::push_heap(*heap, larger);
}

// Puts the kScanRows rows of the largest coarse products into `chosen`: each is in one of as many
// strips, those with the largest best.
void ChooseFirst(int64_t n_rows, const float* y, PlaneScratch* scratch) {
  scratch->strips.clear();
  scratch->chosen.clear();
  const auto best_of = [scratch](int32_t s) { return scratch->strip_best[static_cast<size_t>(s)]; };
  for (size_t s = 0; s < scratch->strip_best.size(); ++s) {
    if (scratch->strip_best[s] == kMinusInfinity) continue;
    Keep(static_cast<int32_t>(s), best_of, &scratch->strips);
  }
  std::ranges::sort(scratch->strips);  // so that ties do not depend on the heap
  const auto coarse_of = [](const PlaneScratch::Row& row) { return row.coarse; };
  for (const int32_t strip : scratch->strips) {
    const int64_t first = int64_t{strip} * kStripRows;
    for (int64_t r = first; r < std::min(first + kStripRows, n_rows); ++r) {
      if (!(y[r] > kMinusInfinity)) continue;
      Keep(PlaneScratch::Row{static_cast<int32_t>(r), y[r]}, coarse_of, &scratch->chosen);
    }
  }
}

// Completes chosen rows from index `begin` on.
void CompleteChosen(const kernels::KernelSet& kernels, ThreadPool& pool, const PackedMatrix& coarse,
                    const FinePlane& fine, const std::byte* token, size_t begin,
                    const std::vector<PlaneScratch::Row>& chosen, float* y) {
  const auto n = static_cast<int64_t>(chosen.size() - begin);
  pool.ParallelFor(n, kChunkRows, [&](int, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const PlaneScratch::Row& row = chosen[begin + static_cast<size_t>(i)];
      y[row.id] = row.coarse + FineProduct(kernels, coarse, fine, row.id, token);
    }
  });
}

// The top-th largest of the chosen rows' products; -infinity where they are fewer.
float TopValue(int top, const std::vector<PlaneScratch::Row>& chosen, const float* y) {
  float largest[kMaxTop];
  int n = 0;  // of them, descending
  for (const PlaneScratch::Row& row : chosen) {
    const float value = y[row.id];
    if (n == top && !(value > largest[n - 1])) continue;
    int at = n < top ? n++ : n - 1;
    for (; at > 0 && value > largest[at - 1]; --at) largest[at] = largest[at - 1];
    largest[at] = value;
  }
  return n == top ? largest[n - 1] : kMinusInfinity;
}

// The id of the largest product; -1 where there is none.
int32_t BestId(const std::vector<PlaneScratch::Row>& chosen, const float* y) {
  int32_t best = -1;
  for (const PlaneScratch::Row& row : chosen) {
    if (best < 0 || y[row.id] > y[best] || (y[row.id] == y[best] && row.id < best)) best = row.id;
  }
  return best;
}

// Adds every row that can have a product of `least` to `chosen`. False where they are too many.
bool ChooseMore(int64_t n_rows, const float* norms, float factor, float least, const float* y,
                PlaneScratch* scratch) {
  std::vector<PlaneScratch::Row>& chosen = scratch->chosen;
  const auto first_end = static_cast<ptrdiff_t>(chosen.size());
  const auto max_chosen = static_cast<size_t>(MaxChosen(n_rows));
  std::ranges::sort(chosen, {}, &PlaneScratch::Row::id);
  for (size_t s = 0; s < scratch->strip_bound.size(); ++s) {
    if (!(scratch->strip_bound[s] >= least)) continue;
    const auto first = static_cast<int64_t>(s) * kStripRows;
    for (int64_t r = first; r < std::min(first + kStripRows, n_rows); ++r) {
      const auto id = static_cast<int32_t>(r);
      // A completed row's y may be below its coarse product; it is in the list all the same.
      if (!(Bound(y[r], norms[r], factor) >= least)) continue;
      const bool done = std::binary_search(
          chosen.begin(), chosen.begin() + first_end, PlaneScratch::Row{id, 0},
          [](const PlaneScratch::Row& a, const PlaneScratch::Row& b) { return a.id < b.id; });
      if (done) continue;
      if (chosen.size() == max_chosen) return false;
      chosen.push_back({id, y[r]});
    }
  }
  return true;
}

}  // namespace

PlaneScratch::PlaneScratch(const kernels::KernelSet& kernels, int64_t n_rows, int64_t n_cols,
                           int64_t max_tokens)
    : token_lines(TokenLines(kernels, n_cols)),
      tokens(static_cast<size_t>(max_tokens * token_lines)),
      strip_best(static_cast<size_t>(kernels::StripCount(n_rows))),
      strip_bound(strip_best.size()) {
  strips.reserve(kScanRows);
  chosen.reserve(static_cast<size_t>(MaxChosen(n_rows)));
}

uint64_t PlaneScratch::Bytes(const kernels::KernelSet& kernels, int64_t n_rows, int64_t n_cols,
                             int64_t max_tokens) {
  const int64_t n_bytes =
      max_tokens * TokenLines(kernels, n_cols) * static_cast<int64_t>(sizeof(Line)) +
      kernels::StripCount(n_rows) * 2 * static_cast<int64_t>(sizeof(float)) +
      kScanRows * static_cast<int64_t>(sizeof(int32_t)) +
      MaxChosen(n_rows) * static_cast<int64_t>(sizeof(Row));
  return static_cast<uint64_t>(n_bytes);
}

ScanReport CompleteTop(const kernels::KernelSet& kernels, ThreadPool& pool,
                       const PackedMatrix& coarse, const FinePlane& fine,
                       std::span<const std::byte> activations, int64_t t, int64_t n_tokens, int top,
                       std::span<const int32_t> excluded, PlaneScratch* scratch, float* y) {
  TANDEM_CHECK(top >= 1 && top <= kMaxTop);
  const int64_t n_rows = coarse.n_rows;
  for (const int32_t id : excluded) {
    if (id >= 0 && id < n_rows) y[id] = kMinusInfinity;
  }
  std::byte* token = TokenAt(scratch, 0);
  kernels::CopyToken(*kernels.tiles, activations.data(), t, n_tokens, coarse.n_cols, coarse.group(),
                     token);
  const float factor = BoundFactor(coarse, token);
  if (!std::isfinite(factor)) return {};  // all products are NaN already
  SurveyStrips(pool, n_rows, fine.norms, factor, y, scratch);
  ChooseFirst(n_rows, y, scratch);
  std::vector<PlaneScratch::Row>& chosen = scratch->chosen;
  CompleteChosen(kernels, pool, coarse, fine, token, 0, chosen, y);

  ScanReport report{.n_completed = std::ssize(chosen)};
  const int32_t first_best = BestId(chosen, y);
  const float least = TopValue(top, chosen, y);
  const size_t n_first = chosen.size();
  if (!ChooseMore(n_rows, fine.norms, factor, least, y, scratch)) {
    // The first rows are completed with all the others.
    for (size_t i = 0; i < n_first; ++i) y[chosen[i].id] = chosen[i].coarse;
    CompleteAll(kernels, pool, coarse, fine, activations, t, t + 1, n_tokens, scratch, y);
    report.n_completed = n_rows;
    report.widened = true;
    report.outside = first_best < 0 || std::max_element(y, y + n_rows) - y != first_best;
    return report;
  }
  if (chosen.size() > n_first) {
    CompleteChosen(kernels, pool, coarse, fine, token, n_first, chosen, y);
    report.n_completed = std::ssize(chosen);
    report.widened = true;
    report.outside = BestId(chosen, y) != first_best;
  }
  return report;
}

void CompleteAll(const kernels::KernelSet& kernels, ThreadPool& pool, const PackedMatrix& coarse,
                 const FinePlane& fine, std::span<const std::byte> activations, int64_t begin,
                 int64_t end, int64_t n_tokens, PlaneScratch* scratch, float* y) {
  TANDEM_CHECK((end - begin) * scratch->token_lines <= std::ssize(scratch->tokens));
  for (int64_t t = begin; t < end; ++t) {
    kernels::CopyToken(*kernels.tiles, activations.data(), t, n_tokens, coarse.n_cols,
                       coarse.group(), TokenAt(scratch, t - begin));
  }
  pool.ParallelFor(coarse.n_rows, kChunkRows, [&](int, int64_t from, int64_t to) {
    for (int64_t r = from; r < to; ++r) {
      for (int64_t t = 0; t < end - begin; ++t) {
        y[t * coarse.n_rows + r] += FineProduct(kernels, coarse, fine, r, TokenAt(scratch, t));
      }
    }
  });
}

}  // namespace tandem::ops
