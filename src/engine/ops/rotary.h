// Rotary position embedding in the rotate-half ("NEOX") pairing: element i with i + rotary_dim / 2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::ops {

// 1 / (factor_i * theta^(2 i / rotary_dim)) for i in [0, rotary_dim / 2).
//   factors [rotary_dim / 2], or empty: all 1
// Source: arXiv:2104.09864; the factors are LongRoPE's, arXiv:2402.13753.
std::vector<double> InverseFrequencies(int rotary_dim, double theta,
                                       std::span<const float> factors);

// cos and sin of position * inverse_frequencies[i], both times scale. Computed in double: at
// position 10^5 a float angle would be off by 0.004.
//   cos, sin (out) [inverse_frequencies.size()]
void CosSin(int64_t position, std::span<const double> inverse_frequencies, double scale, float* cos,
            float* sin);

// Rotates the first 2 * n_pairs elements of a head, in place; the others pass.
//   head [>= 2 n_pairs];  cos, sin [n_pairs]
void Rotate(float* head, int n_pairs, const float* cos, const float* sin);

}  // namespace tandem::ops
