#include "gateway/router/latency_curve.h"

#include <algorithm>
#include <cmath>

namespace tandem::gateway {
namespace {

constexpr double kFade = 0.98;  // 0.98^35 is about a half

}  // namespace

void LatencyCurve::AddFirstToken(int64_t uncached_tokens, double ttft_ms) {
  if (!std::isfinite(ttft_ms) || ttft_ms < 0 || uncached_tokens < 0) return;
  const double x = static_cast<double>(uncached_tokens);
  weight_ = weight_ * kFade + 1;
  x_ = x_ * kFade + x;
  y_ = y_ * kFade + ttft_ms;
  xx_ = xx_ * kFade + x * x;
  xy_ = xy_ * kFade + x * ttft_ms;
  ++n_first_;
}

void LatencyCurve::AddDecode(int64_t tokens, double ms) {
  if (!std::isfinite(ms) || ms <= 0 || tokens <= 0) return;
  decode_tokens_ = decode_tokens_ * kFade + static_cast<double>(tokens);
  decode_ms_ = decode_ms_ * kFade + ms;
  ++n_decode_;
}

std::optional<LatencyCurve::Line> LatencyCurve::Fit() const {
  if (n_first_ < kMinSamples) return std::nullopt;
  const double mean_x = x_ / weight_;
  const double mean_y = y_ / weight_;
  const double variance = xx_ / weight_ - mean_x * mean_x;
  // Prompts of one length say nothing about the slope.
  if (variance <= 1e-3 * (mean_x * mean_x) + 1) return Line{mean_y, 0};
  const double slope = std::max(0.0, (xy_ / weight_ - mean_x * mean_y) / variance);
  const double intercept = mean_y - slope * mean_x;
  if (intercept >= 0) return Line{intercept, slope};
  return Line{0, xy_ / xx_};  // the best line through the origin: no time is negative
}

std::optional<double> LatencyCurve::network_ms() const {
  const auto line = Fit();
  return line ? std::optional(line->intercept_ms) : std::nullopt;
}

std::optional<double> LatencyCurve::prefill_tokens_per_second() const {
  const auto line = Fit();
  if (!line || line->ms_per_token <= 0) return std::nullopt;
  return 1e3 / line->ms_per_token;
}

std::optional<double> LatencyCurve::decode_tokens_per_second() const {
  if (n_decode_ < kMinSamples) return std::nullopt;
  return 1e3 * decode_tokens_ / decode_ms_;
}

}  // namespace tandem::gateway
