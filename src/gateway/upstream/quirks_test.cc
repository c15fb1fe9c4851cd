#include "gateway/upstream/quirks.h"

#include <optional>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "gateway/upstream/request_body.h"

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

// A request with everything in it that any row treats in its own way.
GenerateRequest Full(bool with_prefix) {
  GenerateRequest request;
  request.messages = {{.role = "user", .content = "Hi"}};
  if (with_prefix) request.assistant_prefix = "Hel";
  request.sampling = {.temperature = 0.5F, .min_p = 0.125F, .top_k = 5, .repetition_penalty = 1.5F};
  request.max_tokens = 11;
  return request;
}

json::object Body(UpstreamKind kind, bool with_prefix) {
  return json::parse(ChatCompletionBody(Full(with_prefix), "m", QuirksOf(kind))).get_object();
}

// What a row sends beyond model, messages, stream, stream_options and temperature.
std::string Extras(UpstreamKind kind, bool with_prefix) {
  json::object body = Body(kind, with_prefix);
  for (const char* common : {"model", "stream", "stream_options", "temperature"}) {
    EXPECT_EQ(body.erase(common), 1u) << common;
  }
  if (!with_prefix) {
    EXPECT_EQ(body.erase("messages"), 1u);
  } else {
    // Of the messages only the last one.
    body["messages"] = body.at("messages").as_array().back();
  }
  std::string text = json::serialize(body);
  return text;
}

void ExpectExtras(UpstreamKind kind, bool with_prefix, std::string_view expected) {
  EXPECT_EQ(json::parse(Extras(kind, with_prefix)), json::parse(expected))
      << UpstreamKindName(kind) << ": " << Extras(kind, with_prefix);
}

struct Row {
  UpstreamKind kind;
  std::string_view extras;       // without a prefix
  std::string_view with_prefix;  // empty: such a request is refused
  std::string_view prefix_url;   // for the base URL "https://host/v1"
};

constexpr Row kRows[] = {
    {UpstreamKind::kCompatible, R"({"max_tokens": 11})", "", ""},
    {UpstreamKind::kOpenAi, R"({"max_completion_tokens": 11})", "", ""},
    {UpstreamKind::kDeepSeek, R"({"max_tokens": 11})",
     R"({"max_tokens": 11, "thinking": {"type": "disabled"},
         "messages": {"role": "assistant", "content": "Hel", "prefix": true}})",
     "https://host/beta/chat/completions"},
    {UpstreamKind::kTandem,
     R"({"max_completion_tokens": 11, "top_k": 5, "min_p": 0.125, "repetition_penalty": 1.5})",
     R"({"max_completion_tokens": 11, "top_k": 5, "min_p": 0.125, "repetition_penalty": 1.5,
         "messages": {"role": "assistant", "content": "Hel", "prefix": true}})",
     "https://host/v1/chat/completions"},
    {UpstreamKind::kVllm,
     R"({"max_tokens": 11, "top_k": 5, "min_p": 0.125, "repetition_penalty": 1.5})",
     R"({"max_tokens": 11, "top_k": 5, "min_p": 0.125, "repetition_penalty": 1.5,
         "continue_final_message": true, "add_generation_prompt": false,
         "messages": {"role": "assistant", "content": "Hel"}})",
     "https://host/v1/chat/completions"},
    {UpstreamKind::kLlamaCpp,
     R"({"max_tokens": 11, "top_k": 5, "min_p": 0.125, "repeat_penalty": 1.5})",
     R"({"max_tokens": 11, "top_k": 5, "min_p": 0.125, "repeat_penalty": 1.5,
         "continue_final_message": true, "add_generation_prompt": false,
         "messages": {"role": "assistant", "content": "Hel"}})",
     "https://host/v1/chat/completions"},
    {UpstreamKind::kOllama, R"({"max_tokens": 11})", "", ""},
    {UpstreamKind::kGemini, R"({"max_tokens": 11})", "", ""},
    {UpstreamKind::kAnthropic, R"({"max_tokens": 11})", "", ""},
};

TEST(QuirksTest, EveryRowSendsWhatItsUpstreamKnowsAndRefusesAPrefixThatItCannotContinue) {
  std::set<UpstreamKind> seen;
  for (const Row& row : kRows) {
    seen.insert(row.kind);
    const Quirks& quirks = QuirksOf(row.kind);
    ExpectExtras(row.kind, false, row.extras);
    EXPECT_TRUE(CheckServable(quirks, Full(false))) << quirks.name;
    EXPECT_EQ(ChatCompletionUrl(quirks, "https://host/v1", false),
              "https://host/v1/chat/completions");
    const auto servable = CheckServable(quirks, Full(true));
    EXPECT_EQ(servable.has_value(), !row.with_prefix.empty()) << quirks.name;
    if (!servable) {
      EXPECT_EQ(servable.error().code, FailureCode::kUnsupported);
      EXPECT_THAT(servable.error().message, HasSubstr(std::string(quirks.name)));
      continue;
    }
    ExpectExtras(row.kind, true, row.with_prefix);
    EXPECT_EQ(ChatCompletionUrl(quirks, "https://host/v1", true), row.prefix_url);
  }
  EXPECT_EQ(seen.size(), AllQuirks().size());
}

TEST(QuirksTest, OnlyAnthropicRefusesLogprobsAndBlankStops) {
  GenerateRequest logprobs = Full(false);
  logprobs.top_logprobs = 0;
  GenerateRequest blank = Full(false);
  blank.stop = {"END", "\n\n"};
  GenerateRequest word = Full(false);
  word.stop = {"END"};
  for (const Quirks& quirks : AllQuirks()) {
    const bool anthropic = quirks.kind == UpstreamKind::kAnthropic;
    const auto of_logprobs = CheckServable(quirks, logprobs);
    const auto of_blank = CheckServable(quirks, blank);
    EXPECT_EQ(of_logprobs.has_value(), !anthropic) << quirks.name;
    EXPECT_EQ(of_blank.has_value(), !anthropic) << quirks.name;
    EXPECT_TRUE(CheckServable(quirks, word)) << quirks.name;
    if (anthropic) {
      EXPECT_EQ(of_logprobs.error().param, "logprobs");
      EXPECT_EQ(of_blank.error().param, "stop");
    }
  }
}

TEST(QuirksTest, ThePathForAPrefixReplacesTheVersionAndKeepsAProxysOwnPath) {
  const Quirks& deepseek = QuirksOf(UpstreamKind::kDeepSeek);
  for (const auto& [base, url] : {
           std::pair("https://api.deepseek.com", "https://api.deepseek.com/beta/chat/completions"),
           std::pair("https://api.deepseek.com/v1/",
                     "https://api.deepseek.com/beta/chat/completions"),
           std::pair("https://api.deepseek.com/beta",
                     "https://api.deepseek.com/beta/chat/completions"),
           std::pair("https://proxy/ds/v1", "https://proxy/ds/beta/chat/completions"),
       }) {
    EXPECT_EQ(ChatCompletionUrl(deepseek, base, true), url);
  }
  EXPECT_EQ(ChatCompletionUrl(deepseek, "https://api.deepseek.com/", false),
            "https://api.deepseek.com/chat/completions");
}

TEST(QuirksTest, KindsAreFoundByNameAndByHost) {
  for (const Quirks& quirks : AllQuirks()) {
    EXPECT_EQ(ParseUpstreamKind(quirks.name).value(), quirks.kind);
    if (!quirks.host.empty()) EXPECT_EQ(KindOfHost(quirks.host), quirks.kind);
  }
  EXPECT_EQ(KindOfHost("api.example.com"), UpstreamKind::kCompatible);
  EXPECT_EQ(KindOfHost(""), UpstreamKind::kCompatible);
  const auto wrong = ParseUpstreamKind("chatgpt");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(wrong.error().message, HasSubstr("openai, deepseek, tandem"));
}

}  // namespace
}  // namespace tandem::gateway::upstream
