#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"

// Each fit works on one group (a block, or a sub-block of a K-type): x[n] the values, w[n] the
// weights of their squared errors. Fits are made in float; then the scale is rounded to what the
// format can hold and every element takes the level nearest to it under that scale.

namespace tandem::quant {
namespace {

constexpr int kMaxBlock = 256;

// Below this a group is zero for us: its scale would vanish in IEEE half anyway (2^-25 rounds to
// zero), and reciprocals stay far from overflow.
constexpr float kTiny = 1e-15F;

// Nearest integer, ties to even, for |value| < 2^22: adding 1.5 * 2^23 leaves the integer in the
// low mantissa bits. Unlike lrintf it needs no call, so that loops vectorise.
int RoundToInt(float value) {
  return static_cast<int>(std::bit_cast<uint32_t>(value + 0x1.8p23F) & 0x7FFFFF) - 0x400000;
}

// The level nearest to value * inverse_scale in [low, high].
int NearestLevel(float value, float inverse_scale, int low, int high) {
  return RoundToInt(
      std::clamp(value * inverse_scale, static_cast<float>(low), static_cast<float>(high)));
}

float Inverse(float scale) { return scale != 0 ? 1 / scale : 0; }

// The element of largest magnitude, with its sign.
float SignedMax(const float* x, int n) {
  float best = 0;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(best)) best = x[i];
  }
  return best;
}

// For levels q chosen under some trial scale, the best scale is sum(wxq) / sum(wqq), and it removes
// sum(wxq)^2 / sum(wqq) from the squared error. Keeps the trial that removes most.
class ScaleSearch {
 public:
  void Offer(float sum_wxq, float sum_wqq) {
    if (sum_wqq <= 0) return;
    const float removed = sum_wxq * sum_wxq / sum_wqq;
    if (removed > best_) {
      best_ = removed;
      scale_ = sum_wxq / sum_wqq;
    }
  }
  float scale() const { return scale_; }

 private:
  float best_ = 0;
  float scale_ = 0;
};

// x ~ scale * q with q in [-levels, levels - 1]. The largest magnitude goes to -levels, which is
// one level more than the other side has; trials stretch and shrink that by up to 0.9 of a level.
float FitSymmetric(const float* x, const float* w, int n, int levels) {
  const float max = SignedMax(x, n);
  if (std::fabs(max) < kTiny) return 0;
  ScaleSearch search;
  for (int trial = -9; trial <= 9; ++trial) {
    const float inverse = -(static_cast<float>(levels) + 0.1F * static_cast<float>(trial)) / max;
    float sum_wxq = 0;
    float sum_wqq = 0;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(NearestLevel(x[i], inverse, -levels, levels - 1));
      sum_wxq += w[i] * x[i] * q;
      sum_wqq += w[i] * q * q;
    }
    search.Offer(sum_wxq, sum_wqq);
  }
  return search.scale();
}

struct AffineFit {
  float scale = 0;
  float offset = 0;
};

float AffineError(const float* x, const float* w, const uint8_t* q, int n, AffineFit fit) {
  float error = 0;
  for (int i = 0; i < n; ++i) {
    const float difference = fit.scale * static_cast<float>(q[i]) + fit.offset - x[i];
    error += w[i] * difference * difference;
  }
  return error;
}

// The least-squares line through the points (q[i], x[i]).
AffineFit FitLine(const float* x, const float* w, const uint8_t* q, int n,
                  bool offset_not_positive) {
  float sum_w = 0;
  float sum_wq = 0;
  float sum_wqq = 0;
  float sum_wx = 0;
  float sum_wxq = 0;
  for (int i = 0; i < n; ++i) {
    const auto level = static_cast<float>(q[i]);
    sum_w += w[i];
    sum_wq += w[i] * level;
    sum_wqq += w[i] * level * level;
    sum_wx += w[i] * x[i];
    sum_wxq += w[i] * x[i] * level;
  }
  const float determinant = sum_w * sum_wqq - sum_wq * sum_wq;
  if (determinant > 0) {
    const AffineFit fit = {(sum_w * sum_wxq - sum_wx * sum_wq) / determinant,
                           (sum_wqq * sum_wx - sum_wq * sum_wxq) / determinant};
    if (!(offset_not_positive && fit.offset > 0)) return fit;
  }
  return {sum_wqq > 0 ? sum_wxq / sum_wqq : 0, 0};
}

// x ~ scale * q + offset with q in [0, max_level] and scale >= 0.
AffineFit FitAffine(const float* x, const float* w, int n, int max_level,
                    bool offset_not_positive) {
  float low = x[0];
  float high = x[0];
  for (int i = 1; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  if (offset_not_positive) low = std::min(low, 0.0F);
  if (high - low < kTiny) return {0, low};

  const auto levels = static_cast<float>(max_level);
  std::array<uint8_t, 32> q;
  AffineFit best = {(high - low) / levels, low};
  float best_error = INFINITY;
  for (int trial = -10; trial <= 10; ++trial) {
    const float inverse = (levels + 0.1F * static_cast<float>(trial)) / (high - low);
    for (int i = 0; i < n; ++i) {
      q[static_cast<size_t>(i)] =
          static_cast<uint8_t>(NearestLevel(x[i] - low, inverse, 0, max_level));
    }
    for (const AffineFit fit :
         {AffineFit{1 / inverse, low}, FitLine(x, w, q.data(), n, offset_not_positive)}) {
      const float error = AffineError(x, w, q.data(), n, fit);
      if (fit.scale > 0 && error < best_error) {
        best_error = error;
        best = fit;
      }
    }
  }
  return best;
}

// By value from the least to the greatest level: the index of the level that is nearest to it. All
// middles between levels are halves or integers, so that rounding to an integer first can only
// change what happens within half a unit of an integer middle, where either choice is as good.
constexpr auto kIq4NlIndexes = [] {
  std::array<uint8_t, 113 + 127 + 1> indexes = {};
  size_t index = 0;
  for (size_t i = 0; i < indexes.size(); ++i) {
    const int value = static_cast<int>(i) - 127;
    const auto distance = [&](size_t level) {
      const int difference = value - kIq4NlLevels[level];
      return difference < 0 ? -difference : difference;
    };
    while (index < 15 && distance(index + 1) < distance(index)) ++index;
    indexes[i] = static_cast<uint8_t>(index);
  }
  return indexes;
}();

int NearestIq4NlIndex(float level) {
  const int at = RoundToInt(std::clamp(level, -127.0F, 113.0F)) + 127;
  return kIq4NlIndexes[static_cast<size_t>(at)];
}

// x ~ scale * T[q]. Either end of the table may take the largest magnitude.
float FitIq4Nl(const float* x, const float* w, int n) {
  const float max = SignedMax(x, n);
  if (std::fabs(max) < kTiny) return 0;
  ScaleSearch search;
  for (const int8_t end : {kIq4NlLevels.front(), kIq4NlLevels.back()}) {
    for (int trial = -7; trial <= 7; ++trial) {
      const float inverse = (static_cast<float>(end) + static_cast<float>(trial)) / max;
      float sum_wxq = 0;
      float sum_wqq = 0;
      for (int i = 0; i < n; ++i) {
        const auto index = static_cast<size_t>(NearestIq4NlIndex(x[i] * inverse));
        const auto level = static_cast<float>(kIq4NlLevels[index]);
        sum_wxq += w[i] * x[i] * level;
        sum_wqq += w[i] * level * level;
      }
      search.Offer(sum_wxq, sum_wqq);
    }
  }
  return search.scale();
}

// False when the scale does not fit.
bool StoreHalf(float value, uint16_t* half) {
  *half = FloatToHalf(value);
  return (*half & 0x7C00) != 0x7C00;
}

bool Encode(const float* x, const float* w, BlockQ4_0* block) {
  if (!StoreHalf(FitSymmetric(x, w, 32, 8), &block->d)) return false;
  const float inverse = Inverse(HalfToFloat(block->d));
  for (int j = 0; j < 16; ++j) {
    const int low = NearestLevel(x[j], inverse, -8, 7) + 8;
    const int high = NearestLevel(x[j + 16], inverse, -8, 7) + 8;
    block->qs[j] = static_cast<uint8_t>(low | (high << 4));
  }
  return true;
}

bool Encode(const float* x, const float* w, BlockQ4_1* block) {
  const AffineFit fit = FitAffine(x, w, 32, 15, /*offset_not_positive=*/false);
  if (!StoreHalf(fit.scale, &block->d) || !StoreHalf(fit.offset, &block->m)) return false;
  const float inverse = Inverse(HalfToFloat(block->d));
  const float m = HalfToFloat(block->m);
  for (int j = 0; j < 16; ++j) {
    const int low = NearestLevel(x[j] - m, inverse, 0, 15);
    const int high = NearestLevel(x[j + 16] - m, inverse, 0, 15);
    block->qs[j] = static_cast<uint8_t>(low | (high << 4));
  }
  return true;
}

bool Encode(const float* x, const float* w, BlockQ5_0* block) {
  if (!StoreHalf(FitSymmetric(x, w, 32, 16), &block->d)) return false;
  const float inverse = Inverse(HalfToFloat(block->d));
  uint32_t qh = 0;
  for (int j = 0; j < 16; ++j) {
    const int low = NearestLevel(x[j], inverse, -16, 15) + 16;
    const int high = NearestLevel(x[j + 16], inverse, -16, 15) + 16;
    block->qs[j] = static_cast<uint8_t>((low & 15) | ((high & 15) << 4));
    qh |= static_cast<uint32_t>(low >> 4) << j | static_cast<uint32_t>(high >> 4) << (j + 16);
  }
  std::memcpy(block->qh, &qh, sizeof(qh));
  return true;
}

bool Encode(const float* x, const float* /*w*/, BlockQ8_0* block) {
  if (!StoreHalf(std::fabs(SignedMax(x, 32)) / 127, &block->d)) return false;
  const float inverse = Inverse(HalfToFloat(block->d));
  for (int j = 0; j < 32; ++j) {
    block->qs[j] = static_cast<int8_t>(NearestLevel(x[j], inverse, -128, 127));
  }
  return true;
}

// Sub-block scales and mins of a K-type block, rounded to six bits each, and the scales of those.
struct KScales {
  uint16_t d = 0;
  uint16_t dmin = 0;
  std::array<int, 8> scale = {};  // 0..63
  std::array<int, 8> min = {};    // 0..63
};

bool FitKScales(const float* x, const float* w, int max_level, KScales* out) {
  std::array<AffineFit, 8> fits;
  float max_scale = 0;
  float max_min = 0;
  for (size_t s = 0; s < 8; ++s) {
    fits[s] = FitAffine(x + 32 * s, w + 32 * s, 32, max_level, /*offset_not_positive=*/true);
    max_scale = std::max(max_scale, fits[s].scale);
    max_min = std::max(max_min, -fits[s].offset);
  }
  if (!StoreHalf(max_scale / 63, &out->d) || !StoreHalf(max_min / 63, &out->dmin)) return false;
  const float inverse_d = Inverse(HalfToFloat(out->d));
  const float inverse_dmin = Inverse(HalfToFloat(out->dmin));
  for (size_t s = 0; s < 8; ++s) {
    out->scale[s] = NearestLevel(fits[s].scale, inverse_d, 0, 63);
    out->min[s] = NearestLevel(-fits[s].offset, inverse_dmin, 0, 63);
  }
  return true;
}

void PackKScales(const KScales& from, uint8_t* packed) {
  for (size_t s = 0; s < 4; ++s) {
    packed[s] = static_cast<uint8_t>(from.scale[s] | ((from.scale[s + 4] >> 4) << 6));
    packed[s + 4] = static_cast<uint8_t>(from.min[s] | ((from.min[s + 4] >> 4) << 6));
    packed[s + 8] = static_cast<uint8_t>((from.scale[s + 4] & 15) | ((from.min[s + 4] & 15) << 4));
  }
}

// The level of each of the 256 elements under the rounded scales.
void ChooseKLevels(const float* x, const KScales& scales, int max_level, uint8_t* q) {
  for (size_t s = 0; s < 8; ++s) {
    const float scale = HalfToFloat(scales.d) * static_cast<float>(scales.scale[s]);
    const float min = HalfToFloat(scales.dmin) * static_cast<float>(scales.min[s]);
    const float inverse = Inverse(scale);
    for (size_t l = 32 * s; l < 32 * s + 32; ++l) {
      q[l] = static_cast<uint8_t>(NearestLevel(x[l] + min, inverse, 0, max_level));
    }
  }
}

bool Encode(const float* x, const float* w, BlockQ4_K* block) {
  KScales scales;
  if (!FitKScales(x, w, 15, &scales)) return false;
  std::array<uint8_t, 256> q;
  ChooseKLevels(x, scales, 15, q.data());
  block->d = scales.d;
  block->dmin = scales.dmin;
  PackKScales(scales, block->scales);
  for (size_t g = 0; g < 4; ++g) {
    for (size_t l = 0; l < 32; ++l) {
      block->qs[32 * g + l] = static_cast<uint8_t>(q[64 * g + l] | (q[64 * g + 32 + l] << 4));
    }
  }
  return true;
}

bool Encode(const float* x, const float* w, BlockQ5_K* block) {
  KScales scales;
  if (!FitKScales(x, w, 31, &scales)) return false;
  std::array<uint8_t, 256> q;
  ChooseKLevels(x, scales, 31, q.data());
  block->d = scales.d;
  block->dmin = scales.dmin;
  PackKScales(scales, block->scales);
  for (size_t l = 0; l < 32; ++l) {
    int high_bits = 0;
    for (size_t s = 0; s < 8; ++s) high_bits |= (q[32 * s + l] >> 4) << s;
    block->qh[l] = static_cast<uint8_t>(high_bits);
    for (size_t g = 0; g < 4; ++g) {
      block->qs[32 * g + l] =
          static_cast<uint8_t>((q[64 * g + l] & 15) | ((q[64 * g + 32 + l] & 15) << 4));
    }
  }
  return true;
}

bool Encode(const float* x, const float* w, BlockQ6_K* block) {
  std::array<float, 16> fits;
  for (size_t s = 0; s < 16; ++s) fits[s] = FitSymmetric(x + 16 * s, w + 16 * s, 16, 32);
  // The scale of largest magnitude becomes -128, the end that has one step more.
  if (!StoreHalf(SignedMax(fits.data(), 16) / -128, &block->d)) return false;
  const float d = HalfToFloat(block->d);
  const float inverse_d = Inverse(d);
  std::array<int, 256> q;  // 0..63
  for (size_t s = 0; s < 16; ++s) {
    const int scale = NearestLevel(fits[s], inverse_d, -128, 127);
    block->scales[s] = static_cast<int8_t>(scale);
    const float inverse = Inverse(d * static_cast<float>(scale));
    for (size_t l = 16 * s; l < 16 * s + 16; ++l) {
      q[l] = NearestLevel(x[l], inverse, -32, 31) + 32;
    }
  }
  for (size_t n = 0; n < 2; ++n) {
    const int* half = q.data() + 128 * n;
    for (size_t l = 0; l < 32; ++l) {
      block->ql[64 * n + l] = static_cast<uint8_t>((half[l] & 15) | ((half[l + 64] & 15) << 4));
      block->ql[64 * n + l + 32] =
          static_cast<uint8_t>((half[l + 32] & 15) | ((half[l + 96] & 15) << 4));
      block->qh[32 * n + l] =
          static_cast<uint8_t>((half[l] >> 4) | ((half[l + 32] >> 4) << 2) |
                               ((half[l + 64] >> 4) << 4) | ((half[l + 96] >> 4) << 6));
    }
  }
  return true;
}

bool Encode(const float* x, const float* w, BlockIQ4_NL* block) {
  if (!StoreHalf(FitIq4Nl(x, w, 32), &block->d)) return false;
  const float inverse = Inverse(HalfToFloat(block->d));
  for (int j = 0; j < 16; ++j) {
    const int low = NearestIq4NlIndex(x[j] * inverse);
    const int high = NearestIq4NlIndex(x[j + 16] * inverse);
    block->qs[j] = static_cast<uint8_t>(low | (high << 4));
  }
  return true;
}

// Weights of a block, divided by their sum so that no product over- or underflows; equal ones where
// none are given or all are zero.
void NormalizeWeights(const float* importance, int n, float* w) {
  float sum = 0;
  if (importance != nullptr) {
    for (int i = 0; i < n; ++i) sum += importance[i];
  }
  const bool usable = sum > 0 && std::isfinite(sum);
  for (int i = 0; i < n; ++i) w[i] = usable ? importance[i] / sum : 1.0F;
}

Status CheckFinite(const float* values, int64_t n, const char* what, bool negative_allowed) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[i]) || (!negative_allowed && values[i] < 0)) {
      return Err(ErrorCode::kInvalidArgument, "{} {} of the row is {}: it cannot be quantised",
                 what, i, values[i]);
    }
  }
  return {};
}

template <typename Block>
Status EncodeRow(const float* src, std::byte* dst, int64_t n, const float* importance) {
  TANDEM_RETURN_IF_ERROR(CheckFinite(src, n, "value", /*negative_allowed=*/true));
  if (importance != nullptr) {
    TANDEM_RETURN_IF_ERROR(CheckFinite(importance, n, "weight", /*negative_allowed=*/false));
  }
  auto* blocks = reinterpret_cast<Block*>(dst);
  std::array<float, kMaxBlock> weights;
  for (int64_t b = 0; b < n / Block::kElements; ++b) {
    const int64_t first = b * Block::kElements;
    NormalizeWeights(importance == nullptr ? nullptr : importance + first, Block::kElements,
                     weights.data());
    if (!Encode(src + first, weights.data(), &blocks[b])) {
      return Err(ErrorCode::kInvalidArgument,
                 "the values {} to {} of the row are too large: their scale does not fit IEEE half",
                 first, first + Block::kElements - 1);
    }
  }
  return {};
}

template <uint16_t (*kFromFloat)(float)>
void EncodeWords(const float* src, std::byte* dst, int64_t n) {
  auto* words = reinterpret_cast<uint16_t*>(dst);
  for (int64_t i = 0; i < n; ++i) words[i] = kFromFloat(src[i]);
}

}  // namespace

Status QuantizeRow(Type type, const float* src, std::byte* dst, int64_t n,
                   const float* importance) {
  const TypeInfo& info = GetType(type);
  if (n < 0 || n % info.block_elements != 0) {
    return Err(ErrorCode::kInvalidArgument,
               "a row of {} elements cannot be {}, which needs a multiple of {}", n, info.name,
               info.block_elements);
  }
  if (n == 0) return {};  // src and dst may be null
  switch (type) {
    case Type::kF32:
      std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
      return {};
    case Type::kF16:
      EncodeWords<FloatToHalf>(src, dst, n);
      return {};
    case Type::kBF16:
      EncodeWords<FloatToBFloat16>(src, dst, n);
      return {};
    case Type::kQ4_0:
      return EncodeRow<BlockQ4_0>(src, dst, n, importance);
    case Type::kQ4_1:
      return EncodeRow<BlockQ4_1>(src, dst, n, importance);
    case Type::kQ5_0:
      return EncodeRow<BlockQ5_0>(src, dst, n, importance);
    case Type::kQ8_0:
      return EncodeRow<BlockQ8_0>(src, dst, n, importance);
    case Type::kQ4_K:
      return EncodeRow<BlockQ4_K>(src, dst, n, importance);
    case Type::kQ5_K:
      return EncodeRow<BlockQ5_K>(src, dst, n, importance);
    case Type::kQ6_K:
      return EncodeRow<BlockQ6_K>(src, dst, n, importance);
    case Type::kIQ4_NL:
      return EncodeRow<BlockIQ4_NL>(src, dst, n, importance);
  }
  return Err(ErrorCode::kInternal, "tensor type {} has no quantiser", static_cast<uint32_t>(type));
}

}  // namespace tandem::quant
