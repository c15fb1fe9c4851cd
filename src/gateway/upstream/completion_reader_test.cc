#include "gateway/upstream/completion_reader.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "gateway/openai/tool_calls.h"

namespace tandem::gateway::upstream {
namespace {

using testing::HasSubstr;

struct Read {
  std::string text;
  std::vector<TokenLogprob> logprobs;
  std::optional<Finished> finished;
  std::optional<Failure> failure;
  Usage failed_usage;
  int ends = 0;
};

// The body in pieces of `step` bytes.
Read ReadBody(std::string_view body, size_t step,
              CompletionReader::Form form = CompletionReader::Form::kStream) {
  Read read;
  EventSink sink = [&read](GenerateEvent event) {
    if (auto* delta = std::get_if<TextDelta>(&event)) {
      read.text += delta->text;
      read.logprobs.insert(read.logprobs.end(), delta->logprobs.begin(), delta->logprobs.end());
    } else if (auto* finished = std::get_if<Finished>(&event)) {
      read.finished = *finished;
      ++read.ends;
    } else {
      read.failure = std::get<Failed>(event).failure;
      read.failed_usage = std::get<Failed>(event).usage;
      ++read.ends;
    }
  };
  CompletionReader reader(form, &sink);
  for (size_t at = 0; at < body.size(); at += step) reader.Push(body.substr(at, step));
  reader.End();
  return read;
}

constexpr std::string_view kGood =
    ": keep-alive\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hmm\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\xC3\xBC\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"\xC3\x9F\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,"
    "\"prompt_cache_hit_tokens\":4}}\n\n"
    "data: [DONE]\n\n";

TEST(CompletionReaderTest, AStreamInAnyPiecesGivesTextUsageAndOneEnd) {
  for (size_t step = 1; step < 40; ++step) {
    const Read read = ReadBody(kGood, step);
    EXPECT_EQ(read.text, "Gr\xC3\xBC\xC3\x9F");
    ASSERT_TRUE(read.finished) << (read.failure ? read.failure->message : "");
    EXPECT_EQ(read.finished->reason, FinishReason::kStop);
    EXPECT_EQ(read.finished->usage.prompt_tokens, 5);
    EXPECT_EQ(read.finished->usage.completion_tokens, 2);
    EXPECT_EQ(read.finished->usage.cached_tokens, 4);
    EXPECT_EQ(read.ends, 1);
  }
}

TEST(CompletionReaderTest, AStreamCutAnywhereBeforeItsFinishReasonNeverLooksComplete) {
  const size_t complete = kGood.find("\"stop\"}]}\n\n") + 11;
  for (size_t cut = 0; cut < kGood.size(); ++cut) {
    const Read read = ReadBody(kGood.substr(0, cut), 7);
    EXPECT_EQ(read.ends, 1) << cut;
    if (cut < complete) {
      ASSERT_TRUE(read.failure) << cut;
      EXPECT_EQ(read.failure->code, FailureCode::kUnavailable);
    } else {
      EXPECT_TRUE(read.finished) << cut;
    }
  }
}

TEST(CompletionReaderTest, WhatAnUpstreamCanGetWrongIsAFailure) {
  const auto message = [](std::string_view body) {
    const Read read = ReadBody(body, 1000);
    EXPECT_EQ(read.ends, 1);
    return read.failure ? read.failure->message : "no failure";
  };
  EXPECT_THAT(message(""), HasSubstr("empty answer"));
  EXPECT_THAT(message("data: [DONE]\n\n"), HasSubstr("empty answer"));
  EXPECT_THAT(message("data: nonsense\n\n"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("data: [1]\n\n"), HasSubstr("not a JSON object"));
  EXPECT_THAT(message("data: {}\n\n"), HasSubstr("without choices"));
  EXPECT_THAT(message("data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
              HasSubstr("overloaded"));
  EXPECT_THAT(message("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
                      "data: {\"error\":\"x\"}\n\n"),
              HasSubstr("upstream failed"));
  EXPECT_THAT(message("data: {\"choices\":[{\"delta\":{},\"finish_reason\":"
                      "\"insufficient_system_resource\"}]}\n\n"),
              HasSubstr("ran out of resources"));
  EXPECT_THAT(message("data: " + std::string(2 << 20, 'x')), HasSubstr("malformed"));
  EXPECT_THAT(message("data: " + std::string(10'000, '[') + "\n\n"),
              HasSubstr("not a JSON object"));
  EXPECT_THAT(message("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1}]}}]}\n\n"),
              HasSubstr("numbers its function calls"));
}

TEST(CompletionReaderTest, FinishReasonsAreTranslated) {
  const auto reason = [](const std::string& name) {
    return ReadBody("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"" + name + "\"}]}\n\n",
                    9)
        .finished.value()
        .reason;
  };
  EXPECT_EQ(reason("stop"), FinishReason::kStop);
  EXPECT_EQ(reason("tool_calls"), FinishReason::kStop);
  EXPECT_EQ(reason("length"), FinishReason::kLength);
  EXPECT_EQ(reason("content_filter"), FinishReason::kContentFilter);
}

// A chunk with a fragment of a function call.
std::string Fragment(int index, const std::string& name, const std::string& arguments) {
  return "data: " +
         boost::json::serialize(boost::json::object{
             {"choices",
              {{{"delta",
                 {{"tool_calls",
                   {{{"index", index},
                     {"function", {{"name", name}, {"arguments", arguments}}}}}}}}}}}}) +
         "\n\n";
}
constexpr std::string_view kCallsEnd =
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";

TEST(CompletionReaderTest, FunctionCallsArePassedOnAsTheyCome) {
  std::vector<std::string> pieces;
  EventSink sink = [&](const GenerateEvent& event) {
    if (const auto* delta = std::get_if<TextDelta>(&event)) pieces.push_back(delta->text);
  };
  CompletionReader reader(CompletionReader::Form::kStream, &sink);
  for (const auto& [name, arguments] :
       {std::pair("find", ""), {"", "{\"q\":"}, {"", "\"a\\n"}, {"", "b\"}"}}) {
    reader.Push(Fragment(0, name, arguments));
  }
  EXPECT_THAT(pieces,
              testing::ElementsAre("<tool_call>\n{\"name\":\"find\",\"arguments\":\"{\\\"q\\\":",
                                   "\\\"a\\\\n", "b\\\"}"));
  reader.Push(kCallsEnd);
  reader.End();
  EXPECT_EQ(pieces.back(), "\"}\n</tool_call>");
}

TEST(CompletionReaderTest, CallsLeaveOneBehindTheOther) {
  const auto calls = [](const std::string& body) {
    const Read read = ReadBody(body + std::string(kCallsEnd), 13);
    if (read.failure) return std::vector{read.failure->message};
    std::vector<openai::ToolCallEvent> events;
    openai::ToolCallParser parser;
    parser.Push(read.text, &events);
    parser.Finish(&events);
    std::vector<std::string> list;
    for (const openai::ToolCallEvent& event : events) {
      const auto* call = std::get_if<ToolCall>(&event);
      list.push_back(call ? call->name + call->arguments : std::get<std::string>(event));
    }
    return list;
  };
  using testing::ElementsAre;
  EXPECT_THAT(calls(Fragment(0, "f", "{\"q\":") + Fragment(0, "", "1}")),
              ElementsAre("f{\"q\":1}"));
  EXPECT_THAT(calls(Fragment(0, "f", "")), ElementsAre("f{}"));
  EXPECT_THAT(calls(Fragment(0, "f", "{\"a") + Fragment(0, "", "\":")), ElementsAre("f{\"a\":"))
      << "what is no JSON is the model's mistake";
  EXPECT_THAT(calls(Fragment(0, "f", "{}") + Fragment(1, "g", "{\"x\": [\"}\"]}") +
                    Fragment(0, "", "") + Fragment(2, "h", "")),
              ElementsAre("f{}", "g{\"x\": [\"}\"]}", "h{}"));
  EXPECT_THAT(calls(Fragment(0, "f", "{") + Fragment(1, "g", "{}") + Fragment(0, "", "}")),
              ElementsAre(HasSubstr("mixes up")));
}

TEST(CompletionReaderTest, AWholeObjectIsAnAnswerToo) {
  const Read read = ReadBody(
      R"({"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop",
          "logprobs":{"content":[{"token":"Hi","logprob":-0.5,
            "top_logprobs":[{"token":"Hi","logprob":-0.5}]}]}}],
          "usage":{"prompt_tokens":3,"completion_tokens":1}})",
      10, CompletionReader::Form::kWhole);
  ASSERT_TRUE(read.finished) << read.failure->message;
  EXPECT_EQ(read.text, "Hi");
  ASSERT_EQ(read.logprobs.size(), 1u);
  EXPECT_EQ(read.logprobs[0].logprob, -0.5F);
  EXPECT_EQ(read.logprobs[0].top.size(), 1u);
}

TEST(CompletionReaderTest, OnlyWhatTheModelWroteIsAPiece) {
  const auto pieces = [](std::string_view body) {
    EventSink sink = [](const GenerateEvent&) {};
    CompletionReader reader(CompletionReader::Form::kStream, &sink);
    reader.Push(body);
    return reader.n_pieces();
  };
  EXPECT_EQ(pieces(": keep-alive\n\n\n\n"), 0u);
  EXPECT_EQ(
      pieces("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
      0u);
  EXPECT_EQ(pieces("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"), 1u);
  EXPECT_EQ(pieces("data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"a\"}}]}\n\n"), 1u);
  EXPECT_EQ(pieces("data: {\"choices\":[{\"delta\":{\"reasoning\":\"a\"}}]}\n\n"), 1u);
  EXPECT_EQ(pieces("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":"
                   "{\"arguments\":\"{\"}}]}}]}\n\n"),
            1u);
}

TEST(CompletionReaderTest, AnErrorInTheStreamKeepsItsMeaningAndTheUsageSoFar) {
  const Read read = ReadBody(
      "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],"
      "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\n"
      "data: {\"error\":{\"message\":\"x\",\"code\":\"rate_limit_exceeded\"}}\n\n",
      11);
  ASSERT_TRUE(read.failure);
  EXPECT_EQ(read.failure->code, FailureCode::kRateLimited);
  EXPECT_EQ(read.failed_usage, (Usage{.prompt_tokens = 7, .completion_tokens = 1}));
}

}  // namespace
}  // namespace tandem::gateway::upstream
