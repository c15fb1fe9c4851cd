// What an upstream's refusal means: from its status, headers and body to a Failure.
#pragma once

#include <string_view>

#include <boost/json/fwd.hpp>

#include "base/clock.h"
#include "gateway/provider/failure.h"
#include "net/http_message.h"

namespace tandem::gateway::upstream {

// An error status. `upstream` names it in the message. The upstream's own words are passed on only
// where they are about the caller's mistake (400, 413, 422); others may tell about our account.
//   402, or a code or message that says that the money is spent -> kQuotaExhausted, whatever the
//        status (OpenAI: 429 insufficient_quota; Anthropic: 400 and a sentence)
//   401, 403, or a code that says so -> kCredentialRejected
//   429 -> kRateLimited; a prompt too long -> kContextLengthExceeded; 413 -> kPayloadTooLarge
//   400, 422 -> kInvalidRequest; anything else -> kUnavailable
// retry_after: retry-after-ms, Retry-After (seconds, or a date relative to `now`), or Google's
// RetryInfo in the body.
Failure FailureFromStatus(int status, const net::Headers& headers, std::string_view body,
                          std::string_view upstream, SystemTime now);

// An error object in the middle of an answer that began well: by its codes as above, and
// kUnavailable where they tell nothing.
Failure FailureFromObject(const boost::json::value& error);

}  // namespace tandem::gateway::upstream
