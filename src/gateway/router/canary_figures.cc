#include "gateway/router/canary_figures.h"

#include <algorithm>
#include <cstring>

namespace tandem::gateway {
namespace {

constexpr char kFormat = 1;

size_t StratumOf(const CanarySample& sample) {
  return static_cast<size_t>(PromptBucket(sample.prompt_tokens) * 2 + (sample.streamed ? 1 : 0));
}

void AppendCount(uint64_t count, std::string* to) {
  char bytes[sizeof(count)];
  std::memcpy(bytes, &count, sizeof(bytes));
  to->append(bytes, sizeof(bytes));
}

bool ReadCount(std::string_view* from, uint64_t* count) {
  // A sum of so many nodes that it overflows is no count.
  if (from->size() < sizeof(*count)) return false;
  std::memcpy(count, from->data(), sizeof(*count));
  from->remove_prefix(sizeof(*count));
  return *count < uint64_t{1} << 48;
}

bool ReadArm(std::string_view* from, CanaryFigures::Arm* arm) {
  for (uint64_t* count : {&arm->requests, &arm->errors, &arm->degenerate, &arm->engaged}) {
    if (!ReadCount(from, count)) return false;
  }
  for (auto* histograms : {&arm->ttft_ms, &arm->ms_per_token}) {
    for (metrics::Histogram& histogram : *histograms) {
      if (!metrics::Histogram::ReadFrom(from, &histogram)) return false;
    }
  }
  return metrics::Histogram::ReadFrom(from, &arm->total_ms);
}

}  // namespace

int PromptBucket(int32_t prompt_tokens) {
  if (prompt_tokens <= 256) return 0;
  if (prompt_tokens <= 1024) return 1;
  return prompt_tokens <= 4096 ? 2 : 3;
}

metrics::Histogram CanaryFigures::Arm::AllTtftMs() const {
  metrics::Histogram all;
  for (const metrics::Histogram& stratum : ttft_ms) all.Merge(stratum);
  return all;
}

void CanaryFigures::Record(const CanarySample& sample) {
  Arm& of = arm(sample.canary);
  ++of.requests;
  of.errors += sample.error;
  of.degenerate += sample.degenerate;
  of.engaged += sample.engaged;
  if (sample.canary) failures_in_a_row = sample.error ? failures_in_a_row + 1 : 0;
  if (sample.error) return;  // how fast a failure was says nothing about the speed of answers
  const size_t stratum = StratumOf(sample);
  if (sample.ttft_ms > 0) of.ttft_ms[stratum].Add(sample.ttft_ms);
  if (sample.ms_per_token > 0) of.ms_per_token[stratum].Add(sample.ms_per_token);
  if (sample.total_ms > 0) of.total_ms.Add(sample.total_ms);
}

void CanaryFigures::Engage(bool canary) {
  Arm& of = arm(canary);
  if (of.engaged < of.requests) ++of.engaged;
}

void CanaryFigures::Merge(const CanaryFigures& other) {
  for (size_t i = 0; i < arms.size(); ++i) {
    Arm& to = arms[i];
    const Arm& from = other.arms[i];
    to.requests += from.requests;
    to.errors += from.errors;
    to.degenerate += from.degenerate;
    to.engaged += from.engaged;
    for (size_t stratum = 0; stratum < kStrata; ++stratum) {
      to.ttft_ms[stratum].Merge(from.ttft_ms[stratum]);
      to.ms_per_token[stratum].Merge(from.ms_per_token[stratum]);
    }
    to.total_ms.Merge(from.total_ms);
  }
  failures_in_a_row = std::max(failures_in_a_row, other.failures_in_a_row);
}

std::string CanaryFigures::Encode() const {
  std::string bytes(1, kFormat);
  for (const Arm& arm : arms) {
    for (const uint64_t count : {arm.requests, arm.errors, arm.degenerate, arm.engaged}) {
      AppendCount(count, &bytes);
    }
    for (const auto* histograms : {&arm.ttft_ms, &arm.ms_per_token}) {
      for (const metrics::Histogram& histogram : *histograms) histogram.AppendTo(&bytes);
    }
    arm.total_ms.AppendTo(&bytes);
  }
  AppendCount(static_cast<uint64_t>(failures_in_a_row), &bytes);
  return bytes;
}

Result<CanaryFigures> CanaryFigures::Decode(std::string_view bytes) {
  CanaryFigures figures;
  bool good = !bytes.empty() && bytes.front() == kFormat;
  if (good) bytes.remove_prefix(1);
  for (Arm& arm : figures.arms) good = good && ReadArm(&bytes, &arm);
  uint64_t failures = 0;
  good = good && ReadCount(&bytes, &failures) && bytes.empty();
  if (!good) return Err(ErrorCode::kCorrupt, "the figures of a roll-out are none of this version");
  figures.failures_in_a_row = static_cast<int>(std::min<uint64_t>(failures, 1'000'000'000));
  return figures;
}

}  // namespace tandem::gateway
