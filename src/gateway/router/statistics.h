// Small-sample statistics for decisions on live traffic. Pure functions.
#pragma once

#include <cstdint>

namespace tandem::gateway {

// Two-sided Wilson score interval of a share, at z standard deviations.
// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
// JASA 22 (1927).
struct ShareInterval {
  double low = 0;
  double high = 1;
};
ShareInterval WilsonInterval(uint64_t hits, uint64_t n, double z);

// z for which a standard normal variable exceeds it with probability `tail` (0 < tail < 0.5).
// Absolute error below 1e-8. Source: P. J. Acklam's rational approximation (2003), refined by one
// Halley step.
double NormalUpperQuantile(double tail);

// Upper tail probability of the standard normal distribution.
double NormalTail(double z);

// The z that look number `look` (1-based) of `looks` must exceed, so that all looks together raise
// a false alarm with probability of about `alpha` (one-sided): the boundary of O'Brien and Fleming,
// strict at first and close to a single test's at the end.
// Source: P. C. O'Brien, T. R. Fleming, "A multiple testing procedure for clinical trials",
// Biometrics 35 (1979); the constant comes from the Brownian motion's reflection principle, which
// is exact for many looks and conservative for few.
double OBrienFlemingBoundary(int look, int looks, double alpha);

}  // namespace tandem::gateway
