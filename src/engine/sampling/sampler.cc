#include "engine/sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/sampling/logprobs.h"
#include "engine/sampling/philox.h"
#include "engine/sampling/top_candidates.h"

namespace tandem::sampling {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Most distributions that top_p cuts keep fewer than this; a flatter one is bisected.
constexpr size_t kFirstTopPCandidates = 64;

// Unnormalised probability. Dividing, rather than multiplying by 1/t, keeps 0 / t == 0 exact.
float Weight(float logit, float max, float temperature) {
  return std::exp((logit - max) / temperature);
}

// How many of the weights, from the front, it takes to reach `mass`; 0 where all of them do not.
size_t CountUntil(std::span<const float> weights, double mass) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum >= mass) return i + 1;
  }
  return 0;
}

}  // namespace

Sampler::Sampler(SamplingOptions options, std::shared_ptr<const TokenMask> mask)
    : options_(std::move(options)),
      mask_(std::move(mask)),
      counts_tokens_(options_.repetition_penalty != 1.0F || options_.presence_penalty != 0.0F ||
                     options_.frequency_penalty != 0.0F) {}

Result<Sampler> Sampler::Create(SamplingOptions options, std::shared_ptr<const TokenMask> mask,
                                std::span<const int32_t> prompt) {
  TANDEM_RETURN_IF_ERROR(Validate(options, mask->n_tokens()));
  if (mask->unused().size() >= static_cast<size_t>(std::max(mask->n_tokens(), 0))) {
    return Err(ErrorCode::kInvalidArgument, "the vocabulary has no token that could be sampled");
  }
  Sampler sampler(std::move(options), std::move(mask));
  if (sampler.counts_tokens_) {
    for (int32_t id : prompt) sampler.Count(id, /*in_answer=*/false);
  }
  return sampler;
}

int Sampler::n_deciding() const {
  // A bias or a penalty may lift any of them above the others.
  if (counts_tokens_ || !options_.logit_bias.empty()) return 0;
  // What top_k leaves, top_p and min_p and the draw look at alone.
  return options_.temperature == 0.0F ? 1 : options_.top_k;
}

void Sampler::Accept(int32_t id) {
  ++n_accepted_;
  if (counts_tokens_) Count(id, /*in_answer=*/true);
}

void Sampler::Count(int32_t id, bool in_answer) {
  Occurrences& entry = occurrences_[id];
  ++entry.anywhere;
  entry.in_answer += in_answer ? 1 : 0;
  if (options_.penalty_window == 0) return;
  window_.push_back({id, in_answer});
  if (window_.size() <= static_cast<size_t>(options_.penalty_window)) return;
  const Seen oldest = window_.front();
  window_.pop_front();
  const auto it = occurrences_.find(oldest.id);
  --it->second.anywhere;
  it->second.in_answer -= oldest.in_answer ? 1 : 0;
  if (it->second.anywhere == 0) occurrences_.erase(it);
}

Result<int32_t> Sampler::Sample(std::span<const float> logits, SamplerScratch* scratch) const {
  TANDEM_RETURN_IF_ERROR(LoadLogits(logits, &scratch->logits));
  return Choose(scratch);
}

Result<int32_t> Sampler::SampleAmong(std::span<const float> logits, std::span<const int32_t> ids,
                                     SamplerScratch* scratch) const {
  TANDEM_CHECK(!ids.empty());
  TANDEM_RETURN_IF_ERROR(LoadLogits(logits, &scratch->logits));
  std::vector<float> kept;
  for (int32_t id : ids) kept.push_back(scratch->logits[static_cast<size_t>(id)]);
  std::ranges::fill(scratch->logits, kMinusInfinity);
  for (size_t i = 0; i < ids.size(); ++i) scratch->logits[static_cast<size_t>(ids[i])] = kept[i];
  return Choose(scratch);
}

int32_t Sampler::Choose(SamplerScratch* scratch) const {
  ApplyPenalties(scratch->logits);
  if (options_.temperature == 0.0F) {
    return static_cast<int32_t>(std::ranges::max_element(scratch->logits) -
                                scratch->logits.begin());
  }
  return Draw(scratch);
}

Status Sampler::LoadLogits(std::span<const float> logits, std::vector<float>* out) const {
  const auto n = static_cast<size_t>(mask_->n_tokens());
  TANDEM_CHECK(logits.size() >= n);
  out->assign(logits.begin(), logits.begin() + static_cast<ptrdiff_t>(n));
  for (int32_t id : mask_->unused()) (*out)[id] = 0;  // anything finite until it is put out
  // One branch-free pass: an exponent of all ones is NaN or infinity.
  constexpr uint32_t kExponent = 0x7F800000;
  bool finite = true;
  for (float value : *out) finite &= (std::bit_cast<uint32_t>(value) & kExponent) != kExponent;
  if (!finite) {
    const auto bad = std::ranges::find_if(*out, [](float v) { return !std::isfinite(v); });
    return NotFiniteError(static_cast<int32_t>(bad - out->begin()), *bad);
  }
  for (int32_t id : mask_->unused()) (*out)[id] = kMinusInfinity;
  return {};
}

void Sampler::ApplyPenalties(std::span<float> logits) const {
  // Finite logits near the end of the range could overflow here and turn the draw into infinity
  // minus infinity.
  static constexpr float kLimit = std::numeric_limits<float>::max() / 4;
  // Null for ids that are out already; a prompt may hold padding ids.
  const auto find = [logits](int32_t id) -> float* {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) return nullptr;
    float* logit = &logits[static_cast<size_t>(id)];
    return *logit == kMinusInfinity ? nullptr : logit;
  };
  for (const auto& entry : options_.logit_bias) {
    if (float* logit = find(entry.first)) {
      *logit = std::clamp(*logit + entry.second, -kLimit, kLimit);
    }
  }
  const float repetition = options_.repetition_penalty;
  for (const auto& entry : occurrences_) {
    float* logit = find(entry.first);
    if (logit == nullptr) continue;
    float penalised = *logit < 0 ? *logit * repetition : *logit / repetition;
    if (const auto n = static_cast<float>(entry.second.in_answer); n > 0) {
      penalised -= options_.frequency_penalty * n + options_.presence_penalty;
    }
    *logit = std::clamp(penalised, -kLimit, kLimit);
  }
}

int32_t Sampler::Draw(SamplerScratch* scratch) const {
  const float max = *std::ranges::max_element(scratch->logits);
  SelectSurvivors(max, scratch);
  double total = 0;
  for (float weight : scratch->weights) total += weight;
  const double target = UniformDraw(options_.seed, n_accepted_) * total;
  double sum = 0;
  size_t chosen = 0;
  for (size_t i = 0; i < scratch->weights.size(); ++i) {
    if (scratch->weights[i] == 0) continue;
    chosen = i;  // stays with the last possible one should rounding leave sum at the target
    sum += scratch->weights[i];
    if (sum > target) break;
  }
  return scratch->ids.empty() ? static_cast<int32_t>(chosen) : scratch->ids[chosen];
}

// Where nothing is cut, ids stays empty: weights are those of 0, 1, 2, ...
void Sampler::SelectSurvivors(float max, SamplerScratch* scratch) const {
  const std::vector<float>& logits = scratch->logits;
  std::vector<int32_t>& ids = scratch->ids;
  std::vector<float>& weights = scratch->weights;
  const float temperature = options_.temperature;
  const auto fill_weights = [&] {
    weights.resize(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) weights[i] = Weight(logits[ids[i]], max, temperature);
  };

  ids.clear();
  weights.clear();
  const size_t n_top_k = options_.top_k > 0
                             ? std::min(static_cast<size_t>(options_.top_k), logits.size())
                             : logits.size();
  if (options_.top_p >= 1.0F && n_top_k == logits.size()) {
    weights.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      const float weight = Weight(logits[i], max, temperature);
      weights[i] = weight >= options_.min_p ? weight : 0;
    }
    return;
  }

  if (n_top_k < logits.size()) {
    SelectTop(logits, n_top_k, &ids);
    fill_weights();
  }
  if (options_.top_p < 1.0F) {
    double total = 0;
    if (n_top_k < logits.size()) {
      for (float weight : weights) total += weight;
    } else {
      for (float logit : logits) total += Weight(logit, max, temperature);
    }
    const double mass = options_.top_p * total;
    if (n_top_k == logits.size()) {
      SelectTop(logits, kFirstTopPCandidates, &ids);
      fill_weights();
    }
    if (const size_t kept = CountUntil(weights, mass); kept > 0) {
      ids.resize(kept);
    } else if (n_top_k == logits.size()) {
      SelectMass(
          logits, mass, [&](int32_t id) { return Weight(logits[id], max, temperature); }, &ids);
    }  // else rounding kept the sum of all of them below the mass
  }
  if (options_.min_p > 0.0F) {
    std::erase_if(
        ids, [&](int32_t id) { return Weight(logits[id], max, temperature) < options_.min_p; });
  }
  std::ranges::sort(ids);
  fill_weights();
}

}  // namespace tandem::sampling
