// How long one target takes, learnt from its answers: the figures that Decide predicts with.
#pragma once

#include <cstdint>
#include <optional>

namespace tandem::gateway {

// Time to first token as a straight line over prompt length (its intercept is the network and the
// queue, its slope the prefill rate), by least squares with exponentially fading weights; time per
// output token as a fading mean. Older answers count half after about 35 newer ones.
// Thread: one at a time. Pure.
class LatencyCurve {
 public:
  // One answer. `uncached_tokens`: of the prompt, those that no cache held.
  void AddFirstToken(int64_t uncached_tokens, double ttft_ms);
  void AddDecode(int64_t tokens, double ms);  // after the first token

  // Absent before kMinSamples answers.
  std::optional<double> network_ms() const;
  std::optional<double> prefill_tokens_per_second() const;  // absent too where length has no effect
  std::optional<double> decode_tokens_per_second() const;

  static constexpr int kMinSamples = 3;

 private:
  struct Line {
    double intercept_ms;
    double ms_per_token;
  };
  std::optional<Line> Fit() const;

  int n_first_ = 0;
  double weight_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;
  double decode_tokens_ = 0, decode_ms_ = 0;
  int n_decode_ = 0;
};

}  // namespace tandem::gateway
