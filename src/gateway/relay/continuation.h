// The request by which a provider goes on with an answer that another one began.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/provider/provider.h"
#include "gateway/relay/relay.h"

namespace tandem::gateway::relay {

// `said`: what the client has seen of the answer; `n_used`: tokens of max_tokens that it took,
// fewer than there are. `how` is not kNone. kPrompted: the answer so far becomes an assistant's
// turn, and a user's turn asks to go on, with a run-up of the last words that OverlapFilter takes
// out.
GenerateRequest ContinueFrom(const GenerateRequest& request, Continuation how,
                             std::string_view said, int64_t n_used);

}  // namespace tandem::gateway::relay
