#include "gateway/dispatch/prompt_size.h"

#include <algorithm>
#include <limits>

namespace tandem::gateway::dispatch {
namespace {

constexpr int64_t kTokensPerTurn = 4;  // role, separators, end

// Fortieths of a token for the character that a lead byte begins, fitted to both tokenizers' counts
// of the sentences in the test.
int FortiethsOf(unsigned char lead) {
  if (lead < 0x80) return 9;     // ASCII
  if (lead < 0xC0) return 0;     // continues a character
  if (lead < 0xE0) return 14;    // Latin with marks, Greek, Cyrillic, Hebrew, Arabic
  if (lead < 0xE2) return 18;    // Indic scripts, Thai, Vietnamese tone marks
  return lead < 0xF0 ? 27 : 60;  // Chinese, Japanese, Korean; emoji
}

}  // namespace

int64_t EstimateTokens(std::string_view text) {
  int64_t fortieths = 0;
  for (const char c : text) fortieths += FortiethsOf(static_cast<unsigned char>(c));
  return (fortieths + 39) / 40;
}

int32_t EstimatePromptTokens(const GenerateRequest& request) {
  int64_t tokens = EstimateTokens(request.tools_json) + EstimateTokens(request.assistant_prefix);
  for (const Message& message : request.messages) {
    tokens += kTokensPerTurn + EstimateTokens(message.content) + EstimateTokens(message.name);
    for (const ToolCall& call : message.tool_calls) {
      tokens += kTokensPerTurn + EstimateTokens(call.name) + EstimateTokens(call.arguments);
    }
  }
  return static_cast<int32_t>(std::min<int64_t>(tokens, std::numeric_limits<int32_t>::max()));
}

}  // namespace tandem::gateway::dispatch
