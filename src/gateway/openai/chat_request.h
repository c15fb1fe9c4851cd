// The body of POST /v1/chat/completions and /v1/chat/streaming, from untrusted bytes to a checked
// GenerateRequest. Charter of gateway/openai: OpenAI's wire types, their validation, SSE events and
// the error table; it includes base/ and gateway/provider/. Deliberately absent: HTTP, routing,
// keys.
#pragma once

#include <cstddef>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/provider/provider.h"

namespace tandem::gateway::openai {

struct BodyLimits {
  // A full 128 K-token window is about 1 MB of text; the rest is room for JSON escapes and for
  // clients that send too much and should hear so in terms of tokens.
  size_t max_bytes = size_t{16} << 20;
  // Tool schemas nest; 100 is far beyond any of them and far below what the stack holds.
  size_t max_depth = 100;
};

struct ChatRequest {
  std::string model;         // as the client wrote it, in `model` or `model_id`
  GenerateRequest generate;  // without request_id
  bool stream = false;
  bool include_usage = false;       // stream_options.include_usage
  bool include_tandem = false;      // `tandem: true`, or "tandem" in `include`
  bool parallel_tool_calls = true;  // false: at most one call in the answer

  // What the client asks of the route; all of it optional.
  std::string mode;             // as written, PREFER_ON_DEVICE and the like; empty: the strategy's
  std::string user;             // the end user: whom a split or a roll-out keeps in its place
  std::string conversation_id;  // of the conversation that this request continues
  bool may_fall_back = true;    // `fallback: false`: only the first choice may answer
  std::optional<double> max_ttft_ms;  // the limits that the client sets, each above 0
  std::optional<double> max_latency_ms;
  std::optional<double> max_cost_usd;
};

// Parses and validates. Unknown fields are ignored, of duplicate fields the last counts, and an
// optional field that is null counts as absent. A last message of the assistant with `prefix:
// true`, or any with `continue_final_message: true` in the body, becomes generate.assistant_prefix.
// Errors: kPayloadTooLarge; kInvalidRequest (not JSON, not UTF-8, too deep, missing, mistyped or
//   out of range) and kUnsupported (images, n > 1, JSON modes, ...), both with `param` set to the
//   field's path, for example "messages[2].content[0].type".
// Thread: any. Cost: linear in the body.
std::expected<ChatRequest, Failure> ParseChatRequest(std::string_view body,
                                                     const BodyLimits& limits = {});

}  // namespace tandem::gateway::openai
