#include "fleet/compat/rate.h"

#include <string_view>

#include <fmt/format.h>

namespace tandem::fleet {
namespace {

constexpr double kExpectedShare = 0.65;
constexpr double kLowShare = 0.5;
constexpr double kHighShare = 0.9;
constexpr double kGigabyte = 1e9;

std::string_view Believed(Basis basis) {
  switch (basis) {
    case Basis::kRead:
      return "stated by its vendor";
    case Basis::kComputed:
      return "computed from its memory's clock and width";
    case Basis::kClaimed:
      return "claimed by a third party";
    case Basis::kRecalled:
      return "not confirmed by a source";
    case Basis::kMeasured:
      return "measured here";
    case Basis::kUnknown:
      return "unknown";
  }
  return "unknown";
}

}  // namespace

ExpectedRate RateFromBandwidth(const MemoryNeeds& needs, const Bandwidth& bandwidth) {
  const auto weights = static_cast<double>(needs.weights_bytes);
  const auto cache = static_cast<double>(needs.kv_cache_bytes);
  const double bytes_per_s = bandwidth.gb_s * kGigabyte;
  return {.expected = kExpectedShare * bytes_per_s / (weights + cache / 2),
          .low = kLowShare * bytes_per_s / (weights + cache),
          .high = kHighShare * bytes_per_s / weights,
          .how = fmt::format(
              "{:.1f} GB/s of memory bandwidth ({}) over {:.2f} GB that a token reads, at 65 % of "
              "the ideal (50 to 90 %); an estimate, nobody measured it",
              bandwidth.gb_s, Believed(bandwidth.basis), (weights + cache / 2) / kGigabyte)};
}

ExpectedRate RateFromCertificate(const SpeedFigure& speed, const Certificate& certificate) {
  const double rate = static_cast<double>(speed.decode_milli) / 1000;
  return {.expected = rate,
          .low = rate,
          .high = rate,
          .how = fmt::format("measured on {} by {} at a context of {} tokens", speed.device,
                             certificate.issued_by, speed.context_tokens)};
}

}  // namespace tandem::fleet
