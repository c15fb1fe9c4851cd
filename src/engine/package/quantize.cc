#include "engine/package/quantize.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "engine/quant/half.h"

namespace tandem::package {
namespace {

constexpr int kMaxGroup = 128;
// Sums are made in so many lanes, in a fixed order, which a compiler can compute side by side.
constexpr int kLanes = 8;
// Largest magnitude of a scale in half precision.
constexpr float kMaxScale = 65504.0F;
// Where the candidates of int4 put the largest magnitude.
constexpr float kFirstCandidate = 7.0F;
constexpr float kCandidateStep = 0.25F;
constexpr int kCandidates = 21;

// A group of values, filled up with zeros to a multiple of the lanes.
struct Group {
  alignas(32) float x[kMaxGroup] = {};
  alignas(32) float weight[kMaxGroup] = {};
  int n = 0;  // a multiple of kLanes
};

float Sum(const float (&lanes)[kLanes]) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// To nearest, ties to even, for |value| below 2^22: the sum has no bits left for a fraction.
float Round(float value) {
  constexpr float kMagic = 0x1.8p23F;
  return (value + kMagic) - kMagic;
}

// What a scale's codes say about it, all sums weighted.
struct Fit {
  float code_value = 0;    // sum of code * value
  float code_squares = 0;  // sum of code^2

  // The scale of the smallest squared error for these codes, and by how much it is below the sum of
  // the values' squares.
  float scale() const { return code_squares > 0 ? code_value / code_squares : 0; }
  float gain() const { return code_squares > 0 ? code_value * code_value / code_squares : 0; }
};

Fit FitCodes(const Group& group, float inverse, float min_code, float max_code) {
  float code_value[kLanes] = {};
  float code_squares[kLanes] = {};
  for (int i = 0; i < group.n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float scaled = group.x[i + l] * inverse;
      const float code = Round(std::min(std::max(scaled, min_code), max_code));
      const float weighted = group.weight[i + l] * code;
      code_value[l] += weighted * group.x[i + l];
      code_squares[l] += weighted * code;
    }
  }
  return {Sum(code_value), Sum(code_squares)};
}

// The value of the largest magnitude.
float Extreme(const Group& group) {
  float extreme = 0;
  for (int i = 0; i < group.n; ++i) {
    if (std::fabs(group.x[i]) > std::fabs(extreme)) extreme = group.x[i];
  }
  return extreme;
}

float BestInt4Scale(const Group& group, float extreme) {
  float best_scale = extreme / -8.0F;
  float best_gain = 0;
  for (int c = 0; c < kCandidates; ++c) {
    const float target = -(kFirstCandidate + kCandidateStep * static_cast<float>(c));
    const Fit fit = FitCodes(group, target / extreme, -8.0F, 7.0F);
    if (fit.gain() > best_gain) {
      best_gain = fit.gain();
      best_scale = fit.scale();
    }
  }
  return best_scale;
}

// The codes of 4 + bits bits that two planes hold: high * 2^bits + low.
struct CodeRange {
  int min;
  int max;

  explicit CodeRange(int bits)
      : min(-(8 << bits) - (1 << (bits - 1))), max((7 << bits) + (1 << (bits - 1)) - 1) {}
};

// The step with which the range just holds values from -below to above; below 0 where it holds them
// better the other way round.
float BestStep(const CodeRange& range, float below, float above) {
  const auto min = static_cast<float>(-range.min);
  const auto max = static_cast<float>(range.max);
  const float straight = std::max(below / min, above / max);
  const float turned = std::max(above / min, below / max);
  return turned < straight ? -turned : straight;
}

// The half-precision scale of a step; as bits, 0 for what has none.
uint16_t ScaleOfStep(float step, int bits) {
  const float scale = std::ldexp(step, bits);
  const uint16_t half = quant::FloatToHalf(std::clamp(scale, -kMaxScale, kMaxScale));
  return quant::HalfToFloat(half) == 0 ? uint16_t{0} : half;
}

}  // namespace

double QuantizationError::relative() const {
  return source_squares > 0 ? std::sqrt(squares / source_squares) : 0;
}

Result<QuantizationError> QuantizeRow(kernels::Scheme scheme, std::span<const float> row,
                                      std::span<const float> importance, int8_t* codes,
                                      uint16_t* scales) {
  const kernels::SchemeInfo& info = kernels::GetScheme(scheme);
  TANDEM_CHECK(importance.empty() || importance.size() == row.size());
  const bool int4 = info.bits == 4;
  const float min_code = int4 ? -8.0F : -127.0F;
  const float max_code = int4 ? 7.0F : 127.0F;
  QuantizationError error;
  for (size_t begin = 0; begin < row.size(); begin += static_cast<size_t>(info.group)) {
    const size_t n = std::min(static_cast<size_t>(info.group), row.size() - begin);
    Group group;
    group.n = static_cast<int>((n + kLanes - 1) / kLanes * kLanes);
    for (size_t i = 0; i < n; ++i) {
      group.x[i] = row[begin + i];
      group.weight[i] = importance.empty() ? 1.0F : importance[begin + i];
      if (!std::isfinite(group.x[i])) {
        return Err(ErrorCode::kCorrupt, "the value in column {} is {}", begin + i, group.x[i]);
      }
    }
    const float extreme = Extreme(group);
    // Magnitudes are kept where neither an inverse nor a square leaves the range of floats.
    float scale = 0;
    if (std::fabs(extreme) > 1e-12F) {
      if (std::fabs(extreme) > kMaxScale * max_code) {
        return Err(ErrorCode::kCorrupt,
                   "the value {} in columns {}..{} is too large for a half-precision scale",
                   extreme, begin, begin + n - 1);
      }
      scale = int4 ? BestInt4Scale(group, extreme) : std::fabs(extreme) / 127.0F;
    }
    const uint16_t half = quant::FloatToHalf(std::clamp(scale, -kMaxScale, kMaxScale));
    const float kept = quant::HalfToFloat(half);
    scales[begin / static_cast<size_t>(info.group)] = kept == 0 ? uint16_t{0} : half;
    const float inverse = kept == 0 ? 0 : 1.0F / kept;
    for (size_t i = 0; i < n; ++i) {
      const float code = Round(std::min(std::max(group.x[i] * inverse, min_code), max_code));
      codes[begin + i] = static_cast<int8_t>(code);
      const double difference = static_cast<double>(kept) * code - group.x[i];
      error.squares += difference * difference;
      error.source_squares += static_cast<double>(group.x[i]) * group.x[i];
    }
  }
  return error;
}

Result<PlaneErrors> QuantizeRowInPlanes(kernels::Scheme scheme, int bits,
                                        std::span<const float> row, int8_t* codes,
                                        int8_t* fine_codes, uint16_t* scales) {
  const auto group = static_cast<size_t>(kernels::GetScheme(scheme).group);
  const CodeRange range(bits);
  PlaneErrors errors;
  for (size_t begin = 0; begin < row.size(); begin += group) {
    const std::span<const float> values = row.subspan(begin, std::min(group, row.size() - begin));
    float below = 0;
    float above = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) {
        return Err(ErrorCode::kCorrupt, "the value in column {} is {}", begin + i, values[i]);
      }
      below = std::max(below, -values[i]);
      above = std::max(above, values[i]);
    }
    if (std::max(below, above) > kMaxScale * 7) {
      return Err(ErrorCode::kCorrupt,
                 "the value {} in columns {}..{} is too large for a half-precision scale",
                 std::max(below, above), begin, begin + values.size() - 1);
    }
    const float step = BestStep(range, below, above);
    const uint16_t half = ScaleOfStep(step, bits);
    scales[begin / group] = half;
    const float kept = std::ldexp(quant::HalfToFloat(half), -bits);
    const float inverse = kept == 0 ? 0 : 1.0F / kept;
    for (size_t i = 0; i < values.size(); ++i) {
      const float rounded = Round(values[i] * inverse);
      const int code = static_cast<int>(
          std::clamp(rounded, static_cast<float>(range.min), static_cast<float>(range.max)));
      const int high = (code + (1 << (bits - 1))) >> bits;
      codes[begin + i] = static_cast<int8_t>(high);
      fine_codes[begin + i] = static_cast<int8_t>(code - (high << bits));
      const double value = values[i];
      const double both = static_cast<double>(kept) * code - value;
      const double coarse = static_cast<double>(kept) * (high << bits) - value;
      errors.both.squares += both * both;
      errors.coarse.squares += coarse * coarse;
      errors.both.source_squares += value * value;
    }
  }
  errors.coarse.source_squares = errors.both.source_squares;
  return errors;
}

float FineNorm(kernels::Scheme scheme, int bits, std::span<const int8_t> fine_codes,
               std::span<const uint16_t> scales) {
  const auto group = static_cast<size_t>(kernels::GetScheme(scheme).group);
  double squares = 0;
  for (size_t begin = 0; begin < fine_codes.size(); begin += group) {
    int sum = 0;
    for (const int8_t code :
         fine_codes.subspan(begin, std::min(group, fine_codes.size() - begin))) {
      sum += code * code;
    }
    const double step = std::ldexp(double{quant::HalfToFloat(scales[begin / group])}, -bits);
    squares += step * step * sum;
  }
  // More than what the sum, the root and the conversion can round down.
  return static_cast<float>(std::sqrt(squares) * (1 + 0x1p-22));
}

}  // namespace tandem::package
