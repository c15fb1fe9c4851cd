// The `messages` array of a request. Private to gateway/openai.
#pragma once

#include <vector>

#include "gateway/openai/object_reader.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway::openai {

// Errors: as ParseChatRequest, with params such as "messages[2].tool_calls[0].function.name".
Parsed<std::vector<Message>> ParseMessages(const boost::json::array& messages);

}  // namespace tandem::gateway::openai
