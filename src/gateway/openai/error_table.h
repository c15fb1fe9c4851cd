// The one table from a Failure to the wire: HTTP status, OpenAI's `type`, and the `code` that
// clients match on.
#pragma once

#include <string>
#include <string_view>

#include "gateway/provider/failure.h"

namespace tandem::gateway::openai {

struct WireError {
  int http_status;
  std::string_view type;  // "invalid_request_error", ...
  std::string_view code;  // "model_not_found", "OUT_OF_MEMORY", ...
};

// Total: every code has a row.
const WireError& WireErrorOf(FailureCode code);

// {"message":...,"type":...,"code":...,"param":...}; param is null where none is to blame. A
// message that is not valid UTF-8 (it may quote bytes of a file) is sanitised.
std::string ErrorObject(const Failure& failure);

// {"error":{...}}: the body of a failed call.
std::string ErrorBody(const Failure& failure);

}  // namespace tandem::gateway::openai
