// How fast a device will probably write, from the bandwidth of its memory.
#pragma once

#include <optional>
#include <string>

#include "fleet/catalogue/variant.h"
#include "fleet/device/device_database.h"

namespace tandem::fleet {

// Bandwidth of a device's memory, 10^9 bytes a second.
struct Bandwidth {
  double gb_s = 0;
  Basis basis = Basis::kUnknown;
};

// Tokens a second of one session.
struct ExpectedRate {
  double expected = 0;
  double low = 0;
  double high = 0;
  std::string how;  // one sentence: what it was computed from, and how far that is to be believed
};

// A token of decoding reads all weights once and the keys and values so far, so that it takes at
// least their bytes over the bandwidth.
//   expected  0.65 of that ideal, with the cache half full: what published runs on phones reach
//   low       0.5, with the cache full
//   high      0.9, with the cache empty: the best that was published (Phi-4-mini on an A17 Pro)
ExpectedRate RateFromBandwidth(const MemoryNeeds& needs, const Bandwidth& bandwidth);

// What a certificate measured; low and high are the same.
ExpectedRate RateFromCertificate(const SpeedFigure& speed, const Certificate& certificate);

}  // namespace tandem::fleet
