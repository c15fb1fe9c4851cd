#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "engine/kernels/activations.h"
#include "engine/kernels/fine_plane.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/tile_internal.h"
#include "engine/quant/codec.h"

namespace tandem::kernels {
namespace {

using quant::Type;

constexpr Type kTypes[] = {Type::kF32,  Type::kF16,  Type::kBF16,  Type::kQ8_0,
                           Type::kQ4_0, Type::kQ4_1, Type::kQ5_0,  Type::kQ4_K,
                           Type::kQ5_K, Type::kQ6_K, Type::kIQ4_NL};

constexpr double kUnitRoundoff = 0x1p-24;

// Values in [-1, 1) from a fixed linear congruential sequence (Knuth's MMIX constants).
class Noise {
 public:
  float Next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) * 0x1p-31F;
  }
  std::vector<float> Take(int64_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = Next();
    return values;
  }

 private:
  uint64_t state_ = 1;
};

// Two dot products of the same n terms, summed in lanes of n / 8 with one rounding a step or two:
// each is within (2 n / 8 + 4) u sum|a b| of the true value (Higham, Accuracy and Stability, 3.1).
double DotTolerance(const float* a, const float* b, int64_t n) {
  double magnitude = 0;
  for (int64_t i = 0; i < n; ++i) magnitude += std::fabs(double{a[i]} * b[i]);
  return 2 * (static_cast<double>(n) / 4 + 4) * kUnitRoundoff * magnitude +
         std::numeric_limits<float>::min();
}

std::unexpected<Error> Differs(const KernelSet& set, std::string_view kernel, int64_t index,
                               double got, double want) {
  return Err(ErrorCode::kInternal,
             "self-test of the {} kernels failed: {} gives {:.9g} at {} where the scalar reference "
             "gives {:.9g}; set TANDEM_ISA=scalar and report this CPU",
             IsaName(set.isa), kernel, got, index, want);
}

Status Near(const KernelSet& set, std::string_view kernel, int64_t index, double got, double want,
            double tolerance) {
  // Not (difference > tolerance): a NaN must fail.
  if (std::fabs(got - want) <= tolerance) return {};
  return Differs(set, kernel, index, got, want);
}

// The same float, or both NaN.
Status Same(const KernelSet& set, std::string_view kernel, int64_t index, float got, float want) {
  if (got == want || (std::isnan(got) && std::isnan(want))) return {};
  return Differs(set, kernel, index, got, want);
}

// Rows of every remainder of the row tile, so many blocks (dense types: odd lengths), and tokens of
// every remainder of the token tile.
Status TestType(const KernelSet& set, Type type, Noise* noise) {
  const quant::TypeInfo& info = quant::GetType(type);
  const KernelSet& reference = ScalarKernels();
  constexpr int64_t kRows = 5;
  constexpr int64_t kTokens = 5;
  const int64_t lengths[] = {info.block_elements == 1 ? 13 : info.block_elements,
                             info.block_elements == 1 ? 72 : 2 * info.block_elements};
  for (const int64_t k : lengths) {
    const int64_t row_bytes = quant::RowBytes(type, k);
    // floats as storage: rows of F32 need their alignment
    std::vector<float> storage((kRows * row_bytes + 3) / 4);
    auto* weights = reinterpret_cast<std::byte*>(storage.data());
    const std::vector<float> values = noise->Take(kRows * k);
    for (int64_t r = 0; r < kRows; ++r) {
      TANDEM_RETURN_IF_ERROR(
          quant::QuantizeRow(type, values.data() + r * k, weights + r * row_bytes, k));
    }
    std::vector<float> panel(kRows * k);
    std::vector<float> expected(k);
    for (int64_t r = 0; r < kRows; ++r) {
      set.ForType(type).unpack(weights + r * row_bytes, k, panel.data() + r * k);
      reference.ForType(type).unpack(weights + r * row_bytes, k, expected.data());
      for (int64_t i = 0; i < k; ++i) {
        TANDEM_RETURN_IF_ERROR(
            Near(set, fmt::format("unpack of {}", info.name), i, panel[r * k + i], expected[i], 0));
      }
    }
    const std::vector<float> x = noise->Take(kTokens * k);
    std::vector<float> many(kTokens * kRows);
    set.gemm(panel.data(), k, kRows, k, x.data(), k, kTokens, many.data(), kRows);
    for (int64_t t = 0; t < kTokens; ++t) {
      const float* token = x.data() + t * k;
      float got[kRows];
      float want[kRows];
      set.ForType(type).gemv(weights, row_bytes, kRows, k, token, got);
      reference.ForType(type).gemv(weights, row_bytes, kRows, k, token, want);
      for (int64_t r = 0; r < kRows; ++r) {
        TANDEM_RETURN_IF_ERROR(Near(set, fmt::format("gemv of {}", info.name), r, got[r], want[r],
                                    DotTolerance(panel.data() + r * k, token, k)));
        TANDEM_RETURN_IF_ERROR(Near(set, fmt::format("gemm after unpack of {}", info.name), r,
                                    many[t * kRows + r], got[r], 0));
      }
    }
  }
  return {};
}

Status TestAttention(const KernelSet& set, bool half, Noise* noise) {
  constexpr int kHeadDim = 24;  // one pair of vectors and a single one
  constexpr int kPositions = 5;
  const AttentionKernels& kernels = half ? set.attention_f16 : set.attention_f32;
  const AttentionKernels& reference =
      half ? ScalarKernels().attention_f16 : ScalarKernels().attention_f32;
  const std::string_view name = half ? "attention over f16" : "attention over f32";
  std::vector<float> plane = noise->Take(kPositions * kHeadDim);
  std::vector<uint16_t> half_plane(plane.size());
  ScalarKernels().half_from_float(plane.data(), static_cast<int64_t>(plane.size()),
                                  half_plane.data());
  const auto* rows = half ? reinterpret_cast<const std::byte*>(half_plane.data())
                          : reinterpret_cast<const std::byte*>(plane.data());
  // Half precision rounds the plane by at most 2^-11; the tolerance is for the sums alone, so the
  // magnitudes may as well come from the floats, a hair larger.
  const double slack = 1.001;
  for (int n_queries = 1; n_queries <= kMaxQueries; ++n_queries) {
    const std::vector<float> queries = noise->Take(n_queries * kHeadDim);
    std::vector<float> got(n_queries * kTilePositions);
    std::vector<float> want(n_queries * kTilePositions);
    kernels.qk(queries.data(), n_queries, rows, kPositions, kHeadDim, 0.25F, got.data());
    reference.qk(queries.data(), n_queries, rows, kPositions, kHeadDim, 0.25F, want.data());
    for (int q = 0; q < n_queries; ++q) {
      for (int p = 0; p < kPositions; ++p) {
        const int i = q * kTilePositions + p;
        TANDEM_RETURN_IF_ERROR(Near(set, name, i, got[i], want[i],
                                    slack * DotTolerance(queries.data() + q * kHeadDim,
                                                         plane.data() + p * kHeadDim, kHeadDim)));
      }
    }
    std::vector<float> out = noise->Take(n_queries * kHeadDim);
    std::vector<float> expected = out;
    kernels.av(want.data(), n_queries, rows, kPositions, kHeadDim, out.data());
    reference.av(want.data(), n_queries, rows, kPositions, kHeadDim, expected.data());
    for (size_t i = 0; i < out.size(); ++i) {
      // At most kPositions products of magnitude below 6, and the start value, below 1.
      TANDEM_RETURN_IF_ERROR(Near(set, name, static_cast<int64_t>(i), out[i], expected[i],
                                  4 * (kPositions + 1) * kUnitRoundoff * (6.0 * kPositions + 1)));
    }
  }
  return {};
}

// Every number of rows; columns of every remainder of the column tiles; an odd number of positions.
Status TestIntegerAttention(const KernelSet& set, Noise* noise) {
  const IntegerAttention& kernels = *set.attention_int8;
  const IntegerAttention& reference = kIntegerAttentionScalar;
  constexpr int kColumns = 64 + 16 + 8;
  constexpr int kDepth = 24;
  std::vector<int8_t> codes(kDepth * kColumns);
  for (int8_t& code : codes) code = static_cast<int8_t>(noise->Next() * 127.9F);
  std::vector<int16_t> left(kMaxQueries * kDepth);
  for (int16_t& value : left) value = static_cast<int16_t>(noise->Next() * 32767.9F);
  for (int n_rows = 1; n_rows <= kMaxQueries; ++n_rows) {
    for (const int n : {8, 16, 24, 64, 72, kColumns}) {
      std::vector<int32_t> got(n_rows * kColumns, -1);
      std::vector<int32_t> want = got;
      kernels.multiply(left.data(), kDepth, n_rows, codes.data(), kColumns, n, kDepth, got.data(),
                       kColumns);
      reference.multiply(left.data(), kDepth, n_rows, codes.data(), kColumns, n, kDepth,
                         want.data(), kColumns);
      for (size_t i = 0; i < got.size(); ++i) {
        TANDEM_RETURN_IF_ERROR(
            Near(set, "attention's product", static_cast<int64_t>(i), got[i], want[i], 0));
      }
    }
  }

  constexpr int kN = 96;  // blocks of 32
  const std::vector<float> x = noise->Take(kN);
  for (const int block : {8, 32}) {
    std::vector<float> got = x;
    std::vector<float> want = x;
    kernels.hadamard(got.data(), kN, block);
    reference.hadamard(want.data(), kN, block);
    for (int i = 0; i < kN; ++i) {
      TANDEM_RETURN_IF_ERROR(Near(set, "hadamard", i, got[i], want[i], 0));
    }
  }
  for (const float factor : {1.0F, 1e-35F, std::numeric_limits<float>::infinity()}) {
    std::vector<float> scaled = x;
    for (float& value : scaled) value *= factor;
    int8_t bytes[2][kN];
    int16_t words[2][kN];
    float scales[2][2];
    for (int i = 0; i < 2; ++i) {
      const IntegerAttention& side = i == 0 ? kernels : reference;
      scales[i][0] = side.quantize_s8(scaled.data(), kN, bytes[i]);
      scales[i][1] = side.quantize_s16(scaled.data(), kN, 32767.0F, words[i]);
    }
    TANDEM_RETURN_IF_ERROR(Same(set, "quantize_s8's scale", 0, scales[0][0], scales[1][0]));
    TANDEM_RETURN_IF_ERROR(Same(set, "quantize_s16's scale", 0, scales[0][1], scales[1][1]));
    for (int i = 0; i < kN; ++i) {
      TANDEM_RETURN_IF_ERROR(Near(set, "quantize_s8", i, bytes[0][i], bytes[1][i], 0));
      TANDEM_RETURN_IF_ERROR(Near(set, "quantize_s16", i, words[0][i], words[1][i], 0));
    }
  }

  std::vector<int32_t> dots(kTilePositions);
  for (int32_t& dot : dots) dot = static_cast<int32_t>(noise->Next() * 1e6F);
  std::vector<float> scales = noise->Take(2 * kTilePositions);
  for (float& scale : scales) scale = std::fabs(scale) + 0.01F;
  const float lowest = -std::numeric_limits<float>::infinity();
  SoftmaxRow got = {.max = lowest};
  SoftmaxRow want = {.max = lowest};
  for (const int n : {kTilePositions, 13, 8}) {
    int16_t got_weights[kTilePositions];
    int16_t want_weights[kTilePositions];
    kernels.softmax(dots.data(), n, 4e-6F, scales.data(), scales.data() + kTilePositions, &got,
                    got_weights);
    reference.softmax(dots.data(), n, 4e-6F, scales.data(), scales.data() + kTilePositions, &want,
                      want_weights);
    // exp() is within 4e-7 of the true value on both sides, a weight within half a code.
    TANDEM_RETURN_IF_ERROR(Near(set, "softmax's maximum", n, got.max, want.max, 0));
    TANDEM_RETURN_IF_ERROR(Near(set, "softmax's sum", n, got.sum, want.sum, 1e-5 * want.sum));
    TANDEM_RETURN_IF_ERROR(
        Near(set, "softmax's correction", n, got.correction, want.correction, 1e-6));
    TANDEM_RETURN_IF_ERROR(Near(set, "softmax's scale", n, got.weight_scale, want.weight_scale,
                                1e-6 * want.weight_scale));
    for (int p = 0; p < kTilePositions; ++p) {
      TANDEM_RETURN_IF_ERROR(
          Near(set, "softmax's weights", p, got_weights[p], want_weights[p], p < n ? 1 : 0));
    }
    for (int32_t& dot : dots) dot += 100'000;
  }

  std::vector<float> out = x;
  std::vector<float> expected = x;
  std::vector<int32_t> sums(kN);
  for (int32_t& sum : sums) sum = static_cast<int32_t>(noise->Next() * 1e9F);
  kernels.accumulate(sums.data(), 0.37F, 1e-9F, kN, out.data());
  reference.accumulate(sums.data(), 0.37F, 1e-9F, kN, expected.data());
  for (int i = 0; i < kN; ++i) {
    TANDEM_RETURN_IF_ERROR(Near(set, "accumulate", i, out[i], expected[i], 0));
  }
  return {};
}

Status TestElementwise(const KernelSet& set, Noise* noise) {
  constexpr int64_t kN = 21;  // two vectors and a tail
  const KernelSet& reference = ScalarKernels();
  std::vector<float> x = noise->Take(kN);
  for (int64_t i = 0; i < kN; ++i) x[i] = (x[i] - 1.0F) * 4.0F * static_cast<float>(i);
  x[3] = -1000.0F;
  std::vector<float> got = x;
  std::vector<float> want = x;
  const float got_sum = set.exp_sum(got.data(), kN, 0.0F);
  const float want_sum = reference.exp_sum(want.data(), kN, 0.0F);
  TANDEM_RETURN_IF_ERROR(Near(set, "exp_sum's sum", 0, got_sum, want_sum, 1e-5 * want_sum));
  for (int64_t i = 0; i < kN; ++i) {
    // Each is within 4e-7 of the true value.
    TANDEM_RETURN_IF_ERROR(Near(set, "exp_sum", i, got[i], want[i], 8e-7 * want[i]));
  }
  const std::vector<float> up = noise->Take(kN);
  set.silu_mul(x.data(), up.data(), kN, got.data());
  reference.silu_mul(x.data(), up.data(), kN, want.data());
  for (int64_t i = 0; i < kN; ++i) {
    TANDEM_RETURN_IF_ERROR(Near(set, "silu_mul", i, got[i], want[i], 2e-6 * std::fabs(want[i])));
  }
  TANDEM_RETURN_IF_ERROR(Near(set, "dot", 0, set.dot(x.data(), up.data(), kN),
                              reference.dot(x.data(), up.data(), kN),
                              DotTolerance(x.data(), up.data(), kN)));
  std::vector<uint16_t> got_half(kN);
  std::vector<uint16_t> want_half(kN);
  set.half_from_float(x.data(), kN, got_half.data());
  reference.half_from_float(x.data(), kN, want_half.data());
  for (int64_t i = 0; i < kN; ++i) {
    TANDEM_RETURN_IF_ERROR(Near(set, "half_from_float", i, got_half[i], want_half[i], 0));
  }
  return {};
}

// Storage that starts at a multiple of 64 bytes.
class Aligned {
 public:
  explicit Aligned(int64_t bytes) : lines_(bytes / kStripAlignment + 1) {}
  std::byte* data() { return lines_[0].bytes; }

 private:
  struct alignas(kStripAlignment) Line {
    std::byte bytes[kStripAlignment];
  };
  std::vector<Line> lines_;
};

constexpr Scheme kTileSchemes[] = {Scheme::kInt4G128, Scheme::kInt4G32, Scheme::kInt8G128,
                                   Scheme::kInt8G32};

// Two strips, the second of one row. Codes at random and at the ends of their range, where sums are
// widest.
Status TestTiles(const KernelSet& set, Scheme scheme, int64_t n_cols,
                 std::initializer_list<int64_t> batches, Noise* noise) {
  constexpr int64_t kRows = 17;
  const SchemeInfo& info = GetScheme(scheme);
  const int64_t n_groups = (n_cols + info.group - 1) / info.group;
  const int64_t strip_bytes = StripBytes(scheme, n_cols);
  Aligned strips(2 * strip_bytes);
  std::vector<int8_t> codes(kRows * n_cols);
  for (int8_t& code : codes) {
    const float value = (noise->Next() + 1.0F) / 2 * static_cast<float>(1 << info.bits);
    code = static_cast<int8_t>(info.min_code + static_cast<int>(value));
  }
  std::fill_n(codes.begin(), n_cols, static_cast<int8_t>(info.max_code));
  std::fill_n(codes.begin() + n_cols, n_cols, static_cast<int8_t>(info.min_code));
  std::vector<uint16_t> scales(kRows * n_groups);
  for (uint16_t& scale : scales) scale = quant::FloatToHalf(noise->Next());
  PackStrip(scheme, codes.data(), scales.data(), kStripRows, n_cols, strips.data());
  PackStrip(scheme, codes.data() + kStripRows * n_cols, scales.data() + kStripRows * n_groups, 1,
            n_cols, strips.data() + strip_bytes);
  for (const int64_t n_tokens : batches) {
    std::vector<float> x = noise->Take(n_tokens * n_cols);
    std::fill_n(x.begin(), n_cols, 1.0F);
    std::vector<float> got(n_tokens * kRows);
    std::vector<float> want(n_tokens * kRows);
    for (const bool reference : {false, true}) {
      const TileSet& tiles = reference ? kTilesScalar : *set.tiles;
      Aligned blocks(ActivationBytes(tiles, n_tokens, n_cols, info.group));
      // The reference's quantiser for both: each kernel is blamed for its own mistakes.
      TileSet with_reference = tiles;
      with_reference.quantize = kTilesScalar.quantize;
      QuantizeTokens(with_reference, x.data(), n_cols, nullptr, 0, 0, n_tokens, n_tokens, n_cols,
                     info.group, blocks.data());
      MultiplyStrips(tiles, scheme, strips.data(), kRows, n_cols, blocks.data(), n_tokens,
                     reference ? want.data() : got.data(), kRows);
    }
    for (size_t i = 0; i < got.size(); ++i) {
      TANDEM_RETURN_IF_ERROR(Same(set,
                                  fmt::format("{} of {} times {} tokens",
                                              n_tokens > 8 ? "gemm" : "gemv", info.name, n_tokens),
                                  static_cast<int64_t>(i), got[i], want[i]));
    }
  }
  return {};
}

Status TestFineDot(const KernelSet& set, int bits, int group, Noise* noise) {
  constexpr int64_t kCols = 300;  // whole tiles and a part of one
  std::vector<int8_t> codes(kCols);
  for (int8_t& code : codes) {
    code = static_cast<int8_t>(std::floor(noise->Next() * static_cast<float>(1 << (bits - 1))));
  }
  std::vector<std::byte> row(FineRowBytes(bits, kCols));
  PackFineRow(bits, codes, row.data());
  const std::vector<float> x = noise->Take(kCols);
  Aligned block(BlockBytes(TileCount(kCols), group, 1));
  kTilesScalar.quantize(x.data(), kCols, group, 1, 0, block.data());
  std::vector<uint16_t> scales(TileCount(kCols) * (kTileCols / group) * kStripRows);
  for (uint16_t& scale : scales) scale = quant::FloatToHalf(noise->Next());
  const auto* row_scales = reinterpret_cast<const std::byte*>(scales.data() + kStripRows - 1);
  return Same(
      set, fmt::format("fine_dot of {} bits by {}", bits, group), 0,
      set.tiles->fine_dot(row.data(), row_scales, bits, group, TileCount(kCols), block.data()),
      kTilesScalar.fine_dot(row.data(), row_scales, bits, group, TileCount(kCols), block.data()));
}

Status TestQuantize(const KernelSet& set, int group, Noise* noise) {
  constexpr int64_t kCols = 277;  // whole groups, whole vectors and a tail
  constexpr int kBlockTokens = 3;
  const int64_t bytes = BlockBytes(TileCount(kCols), group, kBlockTokens);
  std::vector<float> x = noise->Take(kCols);
  std::fill_n(x.begin() + 128, 64, 0.0F);
  const std::vector<float> weight = noise->Take(kCols);
  for (const bool norm : {false, true}) {
    Aligned got(bytes);
    Aligned want(bytes);
    for (int slot = 0; slot < kBlockTokens; ++slot) {
      if (norm) {
        set.tiles->norm_quantize(x.data(), weight.data(), 1e-5, kCols, group, kBlockTokens, slot,
                                 got.data());
        kTilesScalar.norm_quantize(x.data(), weight.data(), 1e-5, kCols, group, kBlockTokens, slot,
                                   want.data());
      } else {
        set.tiles->quantize(x.data(), kCols, group, kBlockTokens, slot, got.data());
        kTilesScalar.quantize(x.data(), kCols, group, kBlockTokens, slot, want.data());
      }
    }
    for (int64_t i = 0; i < bytes; ++i) {
      TANDEM_RETURN_IF_ERROR(Near(set, fmt::format("{}quantize by {}", norm ? "norm_" : "", group),
                                  i, static_cast<int>(got.data()[i]),
                                  static_cast<int>(want.data()[i]), 0));
    }
  }
  return {};
}

}  // namespace

Status SelfTest(const KernelSet& set) {
  Noise noise;
  for (const Type type : kTypes) TANDEM_RETURN_IF_ERROR(TestType(set, type, &noise));
  TANDEM_RETURN_IF_ERROR(TestAttention(set, false, &noise));
  TANDEM_RETURN_IF_ERROR(TestAttention(set, true, &noise));
  TANDEM_RETURN_IF_ERROR(TestIntegerAttention(set, &noise));
  TANDEM_RETURN_IF_ERROR(TestElementwise(set, &noise));
  for (const int group : {32, 128}) TANDEM_RETURN_IF_ERROR(TestQuantize(set, group, &noise));
  for (const int group : {32, 128}) {
    for (int bits = kMinFineBits; bits <= kMaxFineBits; ++bits) {
      TANDEM_RETURN_IF_ERROR(TestFineDot(set, bits, group, &noise));
    }
  }
  for (const Scheme scheme : kTileSchemes) {
    // Two tiles, the second of three columns; every size of block.
    TANDEM_RETURN_IF_ERROR(TestTiles(set, scheme, 131, {1, 2, 3, 4, 5, 8, 9, 14}, &noise));
  }
  // More tiles than a GEMM takes in one run.
  for (const Scheme scheme : {Scheme::kInt4G128, Scheme::kInt8G128}) {
    TANDEM_RETURN_IF_ERROR(TestTiles(set, scheme, 1030, {9}, &noise));
  }
  return {};
}

}  // namespace tandem::kernels
