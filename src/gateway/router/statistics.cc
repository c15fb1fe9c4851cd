#include "gateway/router/statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem::gateway {

ShareInterval WilsonInterval(uint64_t hits, uint64_t n, double z) {
  if (n == 0) return {};
  const auto count = static_cast<double>(n);
  const double share = static_cast<double>(hits) / count;
  const double z2 = z * z;
  const double center = share + z2 / (2 * count);
  const double spread = z * std::sqrt(share * (1 - share) / count + z2 / (4 * count * count));
  const double scale = 1 + z2 / count;
  return {std::max(0.0, (center - spread) / scale), std::min(1.0, (center + spread) / scale)};
}

double NormalTail(double z) { return 0.5 * std::erfc(z / std::numbers::sqrt2); }

double NormalUpperQuantile(double tail) {
  // Acklam's coefficients: a/b for the middle, c/d for the tail.
  static constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
                                 -2.759285104469687e+02, 1.383577518672690e+02,
                                 -3.066479806614716e+01, 2.506628277459239e+00};
  static constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
                                 -1.556989798598866e+02, 6.680131188771972e+01,
                                 -1.328068155288572e+01};
  static constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
                                 -2.400758277161838e+00, -2.549732539343734e+00,
                                 4.374664141464968e+00,  2.938163982698783e+00};
  static constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01,
                                 2.445134137142996e+00, 3.754408661907416e+00};
  double z;
  if (tail < 0.02425) {
    const double q = std::sqrt(-2 * std::log(tail));
    z = -(((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
        ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  } else {
    const double q = 0.5 - tail;
    const double r = q * q;
    z = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
        (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  const double error = tail - NormalTail(z);
  const double step = error * std::sqrt(2 * std::numbers::pi) * std::exp(z * z / 2);
  return z - step / (1 + z * step / 2);
}

double OBrienFlemingBoundary(int look, int looks, double alpha) {
  // The score at information t behaves like Brownian motion B(t); crossing c at any t <= 1 has
  // probability 2 * P(B(1) > c). So c is the z of alpha / 2, and at share t of the information the
  // standardised score B(t) / sqrt(t) must exceed c / sqrt(t).
  const double c = NormalUpperQuantile(alpha / 2);
  const double t = static_cast<double>(std::clamp(look, 1, looks)) / looks;
  return c / std::sqrt(t);
}

}  // namespace tandem::gateway
