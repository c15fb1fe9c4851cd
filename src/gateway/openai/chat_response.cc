#include "gateway/openai/chat_response.h"

#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "gateway/openai/error_table.h"
#include "gateway/openai/json_text.h"

namespace tandem::gateway::openai {
namespace {

void AppendField(std::string_view key, std::string_view value, std::string* out) {
  *out += '"';
  *out += key;  // ours: needs no escape
  *out += "\":";
  AppendJsonString(value, out);
}

void AppendUsage(const Usage& usage, std::string* out) {
  fmt::format_to(std::back_inserter(*out),
                 "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

// "token","logprob","bytes" of one token. A token that is half a character has no text of its own;
// its bytes say what it is.
void AppendToken(std::string_view token, float logprob, std::string* out) {
  AppendField("token", token, out);
  *out += ",\"logprob\":";
  AppendJsonNumber(logprob, out);
  *out += ",\"bytes\":[";
  for (size_t i = 0; i < token.size(); ++i) {
    fmt::format_to(std::back_inserter(*out), "{}{}", i == 0 ? "" : ",",
                   static_cast<unsigned char>(token[i]));
  }
  *out += ']';
}

void AppendLogprobs(const std::vector<TokenLogprob>& logprobs, std::string* out) {
  *out += "{\"content\":[";
  for (size_t i = 0; i < logprobs.size(); ++i) {
    *out += i == 0 ? "{" : ",{";
    AppendToken(logprobs[i].token, logprobs[i].logprob, out);
    *out += ",\"top_logprobs\":[";
    for (size_t j = 0; j < logprobs[i].top.size(); ++j) {
      *out += j == 0 ? "{" : ",{";
      AppendToken(logprobs[i].top[j].token, logprobs[i].top[j].logprob, out);
      *out += '}';
    }
    *out += "]}";
  }
  *out += "],\"refusal\":null}";
}

// "id","type","function" without the braces around, so that a stream can put an index in front.
void AppendCallFields(const ToolCall& call, std::string* out) {
  AppendField("id", call.id, out);
  *out += ",\"type\":\"function\",\"function\":{";
  AppendField("name", call.name, out);
  *out += ',';
  AppendField("arguments", call.arguments, out);
  *out += '}';
}

// "attempts": who was asked in which order, what became of it, and which bytes of the text are
// theirs: where there is more than one with text, the seams.
void AppendAttempts(const std::vector<Attempt>& attempts, std::string* out) {
  *out += "\"attempts\":[";
  for (size_t i = 0; i < attempts.size(); ++i) {
    const Attempt& attempt = attempts[i];
    *out += i == 0 ? "{" : ",{";
    AppendField("target", attempt.target, out);
    *out += ',';
    AppendField("model", attempt.model, out);
    *out += ',';
    AppendField("tier", TierName(attempt.tier), out);
    *out += ',';
    AppendField("reason", attempt.reason, out);
    *out += ',';
    AppendField("outcome", AttemptOutcomeName(attempt.outcome), out);
    if (attempt.failure) {
      *out += ',';
      AppendField("code", WireErrorOf(*attempt.failure).code, out);
    }
    fmt::format_to(std::back_inserter(*out),
                   ",\"text\":[{},{}],\"prompt_tokens\":{},\"completion_tokens\":{}}}",
                   attempt.text_begin, attempt.text_end, attempt.usage.prompt_tokens,
                   attempt.usage.completion_tokens);
  }
  *out += ']';
}

void AppendRoute(const RouteInfo& route, const AnswerEnd& end, std::string* out) {
  *out += "{";
  AppendField("request_id", route.request_id, out);
  *out += ',';
  AppendField("tier", TierName(route.tier), out);
  *out += ',';
  AppendField("model", route.model, out);
  *out += ',';
  AppendField("requested_model", route.requested_model, out);
  *out += ',';
  AppendField("route_reason", route.reason, out);
  *out += ',';
  AppendField("privacy", PrivacyName(route.privacy), out);
  *out += ',';
  AppendAttempts(end.attempts, out);
  fmt::format_to(std::back_inserter(*out), ",\"ttft_ms\":{:.3f},\"e2e_ms\":{:.3f}}}", end.ttft_ms,
                 end.e2e_ms);
}

// id, object, created, model: how every object of an answer begins.
std::string ObjectStart(const AnswerHead& head, std::string_view object) {
  std::string out = "{";
  AppendField("id", head.id, &out);
  out += ',';
  AppendField("object", object, &out);
  fmt::format_to(std::back_inserter(out), ",\"created\":{},", head.created);
  AppendField("model", head.model, &out);
  return out;
}

class ChunkStream final : public AnswerStream {
 public:
  ChunkStream(const AnswerHead& head, StreamOptions options)
      : options_(std::move(options)),
        prefix_("data: " + ObjectStart(head, "chat.completion.chunk") + ",\"choices\":["),
        suffix_(options_.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n"),
        text_prefix_(prefix_ + "{\"index\":0,\"delta\":{\"content\":"),
        text_suffix_("},\"logprobs\":null,\"finish_reason\":null}" + suffix_) {}

  std::string Start() override {
    return Chunk(R"("role":"assistant","content":"")", nullptr, "null", suffix_);
  }

  std::string Text(std::string_view text, const std::vector<TokenLogprob>& logprobs) override {
    if (options_.logprobs) {
      std::string delta;
      AppendField("content", text, &delta);
      return Chunk(delta, &logprobs, "null", suffix_);
    }
    // Nearly all chunks: one piece of memory, and nothing but the text to go through.
    std::string out;
    out.reserve(text_prefix_.size() + text.size() + text_suffix_.size() + 16);
    out += text_prefix_;
    AppendJsonString(text, &out);
    out += text_suffix_;
    return out;
  }

  std::string Call(const ToolCall& call) override {
    std::string delta = fmt::format("\"tool_calls\":[{{\"index\":{},", n_calls_++);
    AppendCallFields(call, &delta);
    delta += "}]";
    return Chunk(delta, nullptr, "null", suffix_);
  }

  std::string End(const AnswerEnd& end) override {
    const std::string reason = fmt::format("\"{}\"", FinishReasonName(end));
    std::string suffix = suffix_;
    if (options_.route) {
      std::string route = ",\"tandem\":";
      AppendRoute(*options_.route, end, &route);
      suffix.insert(suffix.rfind('}'), route);
    }
    std::string out = Chunk("", nullptr, reason, suffix);
    if (options_.include_usage) {
      out += prefix_;
      out += "],\"usage\":";
      AppendUsage(end.usage, &out);
      out += "}\n\n";
    }
    out += "data: [DONE]\n\n";
    return out;
  }

  std::string Fail(const Failure& failure) override {
    return "data: " + ErrorBody(failure) + "\n\n";
  }

 private:
  std::string Chunk(std::string_view delta, const std::vector<TokenLogprob>* logprobs,
                    std::string_view finish_reason, std::string_view suffix) const {
    std::string out;
    out.reserve(prefix_.size() + delta.size() + suffix.size() + 80);
    out += prefix_;
    out += "{\"index\":0,\"delta\":{";
    out += delta;
    out += "},\"logprobs\":";
    if (options_.logprobs && logprobs != nullptr) {
      AppendLogprobs(*logprobs, &out);
    } else {
      out += "null";
    }
    out += ",\"finish_reason\":";
    out += finish_reason;
    out += '}';
    out += suffix;
    return out;
  }

  const StreamOptions options_;
  const std::string prefix_;       // of every chunk, up to the choices
  const std::string suffix_;       // of every chunk but the one with usage
  const std::string text_prefix_;  // of a chunk of text without log probabilities, up to the text
  const std::string text_suffix_;
  int n_calls_ = 0;
};

class LineStream final : public AnswerStream {
 public:
  LineStream(AnswerHead head, StreamOptions options)
      : head_(std::move(head)), options_(std::move(options)) {}

  // The format has no opening event: the first line carries text.
  std::string Start() override { return {}; }

  std::string Text(std::string_view text, const std::vector<TokenLogprob>& /*logprobs*/) override {
    std::string out = "data: {";
    AppendField("content", text, &out);
    out += ",\"done\":false}\n\n";
    return out;
  }

  std::string Call(const ToolCall& call) override {
    std::string out = "data: {\"content\":\"\",\"tool_calls\":[{";
    AppendCallFields(call, &out);
    out += "}],\"done\":false}\n\n";
    return out;
  }

  std::string End(const AnswerEnd& end) override {
    std::string out = "data: {\"content\":\"\",\"done\":true,";
    AppendField("finish_reason", FinishReasonName(end), &out);
    out += ',';
    AppendField("id", head_.id, &out);
    out += ',';
    AppendField("model", head_.model, &out);
    out += ",\"usage\":";
    AppendUsage(end.usage, &out);
    if (options_.route) {
      out += ",\"tandem\":";
      AppendRoute(*options_.route, end, &out);
    }
    out += "}\n\n";
    return out;
  }

  std::string Fail(const Failure& failure) override {
    return "data: {\"error\":" + ErrorObject(failure) + ",\"content\":\"\",\"done\":true}\n\n";
  }

 private:
  const AnswerHead head_;
  const StreamOptions options_;
};

}  // namespace

std::string_view FinishReasonName(const AnswerEnd& end) {
  switch (end.reason) {
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContentFilter:
      return "content_filter";
    case FinishReason::kStop:
    // Neither reaches a client as an answer: one left, the other gets an error.
    case FinishReason::kCancelled:
    case FinishReason::kDegenerate:
      break;
  }
  return end.has_tool_calls ? "tool_calls" : "stop";
}

std::string CompletionBody(const Completion& completion) {
  std::string out = ObjectStart(completion.head, "chat.completion");
  out += R"(,"choices":[{"index":0,"message":{"role":"assistant","content":)";
  if (completion.content.empty() && !completion.tool_calls.empty()) {
    out += "null";
  } else {
    AppendJsonString(completion.content, &out);
  }
  out += ",\"refusal\":null";
  if (!completion.tool_calls.empty()) {
    out += ",\"tool_calls\":";
    char separator = '[';
    for (const ToolCall& call : completion.tool_calls) {
      out += separator;
      out += '{';
      AppendCallFields(call, &out);
      out += '}';
      separator = ',';
    }
    out += ']';
  }
  out += "},\"logprobs\":";
  if (completion.logprobs) {
    AppendLogprobs(*completion.logprobs, &out);
  } else {
    out += "null";
  }
  out += ',';
  AppendField("finish_reason", FinishReasonName(completion.end), &out);
  out += "}],\"usage\":";
  AppendUsage(completion.end.usage, &out);
  if (completion.route) {
    out += ",\"tandem\":";
    AppendRoute(*completion.route, completion.end, &out);
  }
  out += '}';
  return out;
}

std::unique_ptr<AnswerStream> NewChunkStream(AnswerHead head, StreamOptions options) {
  return std::make_unique<ChunkStream>(head, std::move(options));
}

std::unique_ptr<AnswerStream> NewLineStream(AnswerHead head, StreamOptions options) {
  return std::make_unique<LineStream>(std::move(head), std::move(options));
}

}  // namespace tandem::gateway::openai
