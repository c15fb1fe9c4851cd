// A GenerateRequest as the JSON body of an OpenAI-compatible chat completion.
#pragma once

#include <string>
#include <string_view>

#include "gateway/provider/provider.h"

namespace tandem::gateway::upstream {

// Always streamed, with usage: a complete answer is a stream that is collected. Sampling fields
// that OpenAI's API does not know (top_k, min_p, repetition_penalty) are sent only where
// `extensions` says that the upstream takes them. Token ids of logit_bias belong to one tokenizer,
// so they are not sent to another model's upstream.
std::string ChatCompletionBody(const GenerateRequest& request, std::string_view model,
                               bool extensions);

}  // namespace tandem::gateway::upstream
