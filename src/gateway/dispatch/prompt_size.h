// How many tokens a prompt has, before any tokenizer has seen it.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/provider/provider.h"

namespace tandem::gateway::dispatch {

// An estimate that is the same for every model, from the scripts alone. Within a third of
// Phi-4-mini's and MiMo's own counts on prose in the languages that the classifier knows; decisions
// must not hang on more than that. Cost: one pass, about a nanosecond a byte.
int64_t EstimateTokens(std::string_view text);
// All messages, tools and the prefix, with what a chat template puts around each turn.
int32_t EstimatePromptTokens(const GenerateRequest& request);

}  // namespace tandem::gateway::dispatch
