// Detectors for answers that have fallen into a loop.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace tandem::session {

struct Degeneration {
  std::string check;   // "tail_period"
  std::string figure;  // "the last 60 tokens repeat a cycle of 20"
};

// Watches one answer, token by token.
class DegenerationDetector {
 public:
  virtual ~DegenerationDetector() = default;
  // What the answer has become with this token, if it has.
  virtual std::optional<Degeneration> Push(int32_t id) = 0;
};

// The hard stop: the answer ends in at least kMinCopies whole copies of a cycle of 1 to kMaxPeriod
// tokens, kMinTokens tokens or more. Exact: no hashing, nothing is sampled. Of several periods the
// shortest is reported.
// Cost: kMaxPeriod comparisons and counters a token, whatever the answer's length; under 2 KiB.
class TailPeriodDetector final : public DegenerationDetector {
 public:
  static constexpr int kMaxPeriod = 128;
  static constexpr int kMinCopies = 3;
  static constexpr int kMinTokens = 48;

  std::optional<Degeneration> Push(int32_t id) override;

 private:
  // The last kMaxPeriod tokens, twice over, so that the window before the next one is contiguous:
  // token i stands at i % kMaxPeriod and kMaxPeriod behind that.
  std::array<int32_t, 2 * kMaxPeriod> recent_{};
  // [p - 1]: how many of the latest tokens, without a gap, equal the token p before them.
  std::array<int32_t, kMaxPeriod> matches_{};
  int64_t n_tokens_ = 0;
};

}  // namespace tandem::session
