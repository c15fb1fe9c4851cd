#include "engine/ops/rotary.h"

#include <cmath>

namespace tandem::ops {

std::vector<double> InverseFrequencies(int rotary_dim, double theta,
                                       std::span<const float> factors) {
  std::vector<double> frequencies(rotary_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / rotary_dim;
    const double factor = factors.empty() ? 1.0 : double{factors[i]};
    frequencies[i] = 1.0 / (factor * std::pow(theta, exponent));
  }
  return frequencies;
}

void CosSin(int64_t position, std::span<const double> inverse_frequencies, double scale, float* cos,
            float* sin) {
  for (size_t i = 0; i < inverse_frequencies.size(); ++i) {
    const double angle = static_cast<double>(position) * inverse_frequencies[i];
    cos[i] = static_cast<float>(std::cos(angle) * scale);
    sin[i] = static_cast<float>(std::sin(angle) * scale);
  }
}

void Rotate(float* head, int n_pairs, const float* cos, const float* sin) {
  float* other = head + n_pairs;
  for (int i = 0; i < n_pairs; ++i) {
    const float a = head[i];
    const float b = other[i];
    head[i] = a * cos[i] - b * sin[i];
    other[i] = b * cos[i] + a * sin[i];
  }
}

}  // namespace tandem::ops
