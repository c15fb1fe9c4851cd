#include "engine/sampling/sampling_options.h"

#include <string_view>

namespace tandem::sampling {
namespace {

std::unexpected<Error> OutOfRange(std::string_view field, float value, std::string_view range) {
  return std::unexpected(
      Error{.code = ErrorCode::kInvalidArgument,
            .message = fmt::format("{} is {}; it must be {}", field, value, range),
            .param = std::string(field)});
}

// False for NaN.
bool Within(float value, float low, float high) { return value >= low && value <= high; }

}  // namespace

Status Validate(const SamplingOptions& options, int32_t n_tokens) {
  if (!Within(options.temperature, 0.0F, 100.0F)) {
    return OutOfRange("temperature", options.temperature, "between 0 (greedy) and 100");
  }
  if (!Within(options.top_p, 0.0F, 1.0F)) {
    return OutOfRange("top_p", options.top_p, "between 0 and 1");
  }
  if (!Within(options.min_p, 0.0F, 1.0F)) {
    return OutOfRange("min_p", options.min_p, "between 0 and 1");
  }
  if (options.top_k < 0) {
    return OutOfRange("top_k", static_cast<float>(options.top_k), "0 (off) or more");
  }
  if (!Within(options.repetition_penalty, 0.01F, 100.0F)) {
    return OutOfRange("repetition_penalty", options.repetition_penalty, "between 0.01 and 100");
  }
  if (!Within(options.presence_penalty, -2.0F, 2.0F)) {
    return OutOfRange("presence_penalty", options.presence_penalty, "between -2 and 2");
  }
  if (!Within(options.frequency_penalty, -2.0F, 2.0F)) {
    return OutOfRange("frequency_penalty", options.frequency_penalty, "between -2 and 2");
  }
  if (options.penalty_window < 0) {
    return OutOfRange("penalty_window", static_cast<float>(options.penalty_window),
                      "0 (everything) or more");
  }
  for (const auto& [id, bias] : options.logit_bias) {
    if (id < 0 || id >= n_tokens) {
      return std::unexpected(
          Error{.code = ErrorCode::kInvalidArgument,
                .message = fmt::format("logit_bias names token {}; this model's tokens are 0 to {}",
                                       id, n_tokens - 1),
                .param = "logit_bias"});
    }
    if (!Within(bias, -100.0F, 100.0F)) {
      return OutOfRange("logit_bias", bias, "between -100 and 100");
    }
  }
  return {};
}

}  // namespace tandem::sampling
