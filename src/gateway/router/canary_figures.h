// What both arms of a roll-out's step saw: counters and histograms. Each node counts its own; the
// sum over all nodes, which is exact, is what the roll-out is judged by.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "metrics/histogram.h"

namespace tandem::gateway {

// Prompt lengths up to 256, 1,024, 4,096 tokens, and beyond.
int PromptBucket(int32_t prompt_tokens);

struct CanarySample {
  bool canary = false;
  bool streamed = false;
  int32_t prompt_tokens = 0;
  bool error = false;       // no answer, or a fallback had to give it
  bool degenerate = false;  // the detectors ended it
  double ttft_ms = 0;       // 0: none was measured
  double ms_per_token = 0;  // likewise
  double total_ms = 0;      // likewise; shown, not judged by: answers differ in length
  bool engaged = false;     // the application reported that the user made use of the answer
};

// Thread: one at a time.
struct CanaryFigures {
  static constexpr int kStrata = 8;  // streamed or not x four prompt buckets

  struct Arm {
    uint64_t requests = 0;
    uint64_t errors = 0;
    uint64_t degenerate = 0;
    uint64_t engaged = 0;
    std::array<metrics::Histogram, kStrata> ttft_ms;
    std::array<metrics::Histogram, kStrata> ms_per_token;
    metrics::Histogram total_ms;

    metrics::Histogram AllTtftMs() const;  // of every stratum
  };

  std::array<Arm, 2> arms;  // baseline, canary
  // The canary's newest answers that all failed; of several nodes the longest such run of one,
  // since nobody knows in which order they came.
  int failures_in_a_row = 0;

  const Arm& arm(bool canary) const { return arms[canary ? 1 : 0]; }
  Arm& arm(bool canary) { return arms[canary ? 1 : 0]; }

  void Record(const CanarySample& sample);
  // The application reported afterwards that the user made use of an answer of that arm.
  void Engage(bool canary);
  // Exact: as if all that `other` saw had been seen here.
  void Merge(const CanaryFigures& other);

  // A format of its own, for other nodes of the same version. Errors of Decode: kCorrupt.
  std::string Encode() const;
  static Result<CanaryFigures> Decode(std::string_view bytes);
};

}  // namespace tandem::gateway
