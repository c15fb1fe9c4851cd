// Answers on the wire: the complete object, OpenAI's stream of chunks, and the line stream of
// /v1/chat/streaming. Text is appended, no tree is built: a chunk costs well under a microsecond.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider/provider.h"

namespace tandem::gateway::openai {

// What all parts of one answer share.
struct AnswerHead {
  std::string id;       // "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;    // the one that answers
};

// How the request was routed: the `tandem` object of the body, where the client asked for it.
struct RouteInfo {
  std::string request_id;
  std::string requested_model;
  std::string model;
  Tier tier = Tier::kDeviceSmall;
  std::string reason;
  Privacy privacy = Privacy::kAny;  // that applied
};

// The end of an answer that went well.
struct AnswerEnd {
  FinishReason reason = FinishReason::kStop;
  bool has_tool_calls = false;  // finish_reason is then "tool_calls"
  Usage usage = {};
  double ttft_ms = 0;
  double e2e_ms = 0;
  std::vector<Attempt> attempts = {};  // who was asked, and whose text is where
};

// "stop", "length", "tool_calls" or "content_filter".
std::string_view FinishReasonName(const AnswerEnd& end);

// The complete answer to a request that does not stream.
struct Completion {
  AnswerHead head;
  std::string content;
  std::vector<ToolCall> tool_calls;                   // with ids
  std::optional<std::vector<TokenLogprob>> logprobs;  // absent: not asked for
  AnswerEnd end;
  std::optional<RouteInfo> route;  // absent: not asked for
};

// {"id":...,"object":"chat.completion",...}
std::string CompletionBody(const Completion& completion);

// One streamed answer as the bytes of its server-sent events. The order of calls is Start, any
// number of Text and Call, then End or Fail. Thread: one.
class AnswerStream {
 public:
  virtual ~AnswerStream() = default;
  virtual std::string Start() = 0;
  virtual std::string Text(std::string_view text, const std::vector<TokenLogprob>& logprobs) = 0;
  virtual std::string Call(const ToolCall& call) = 0;
  virtual std::string End(const AnswerEnd& end) = 0;
  // An error in the middle of a stream, as an object with `error`. A stream that failed never looks
  // complete: no finish_reason and no [DONE] follow.
  virtual std::string Fail(const Failure& failure) = 0;
};

struct StreamOptions {
  bool include_usage = false;      // a last chunk with usage, and "usage":null in the others
  bool logprobs = false;           // "logprobs" objects in the chunks
  std::optional<RouteInfo> route;  // absent: not asked for
};

// OpenAI's chunks: the role first, [DONE] last.
std::unique_ptr<AnswerStream> NewChunkStream(AnswerHead head, StreamOptions options);

// For simple line readers: every non-empty line is "data: " and one JSON object with `content`
// (maybe empty) and `done`, which is true in the last one only. No comments, no event names, no
// [DONE]. An error ends it as {"error":{...},"content":"","done":true}. Log probabilities are not
// part of this format.
std::unique_ptr<AnswerStream> NewLineStream(AnswerHead head, StreamOptions options);

}  // namespace tandem::gateway::openai
