// A GenerateRequest as the JSON body of an OpenAI-compatible chat completion.
#pragma once

#include <string>
#include <string_view>

#include "gateway/provider/provider.h"
#include "gateway/upstream/quirks.h"

namespace tandem::gateway::upstream {

// Always streamed, with usage: a complete answer is a stream that is collected. What goes under
// which name, and what is left out because the upstream does not know it, `quirks` says; the
// request has passed CheckServable. Token ids of logit_bias belong to one tokenizer, so they are
// not sent to another model's upstream.
std::string ChatCompletionBody(const GenerateRequest& request, std::string_view model,
                               const Quirks& quirks);

}  // namespace tandem::gateway::upstream
