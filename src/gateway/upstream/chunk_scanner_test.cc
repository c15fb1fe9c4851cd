#include "gateway/upstream/chunk_scanner.h"

#include <optional>
#include <string>

#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway::upstream {
namespace {

struct Seen {
  std::string content;
  bool thought;
  friend bool operator==(const Seen&, const Seen&) = default;
};

std::optional<Seen> Scan(std::string_view text) {
  ChunkScanner scanner;
  const auto* plain = scanner.Scan(text);
  if (plain == nullptr) return std::nullopt;
  return Seen{std::string(plain->content), plain->thought};
}

TEST(ChunkScannerTest, PiecesOfTextAndThoughtsAreRead) {
  const auto text = [](std::string content) { return Seen{std::move(content), false}; };
  EXPECT_EQ(Scan(R"({"id":"x","object":"chat.completion.chunk","created":1,"model":"m",
                     "system_fingerprint":null,"usage":null,"choices":[{"index":0,"delta":
                     {"role":"assistant","content":"Hi \"you\" \u00fc\ud83d\ude00\n"},
                     "logprobs":null,"finish_reason":null}]})"),
            text("Hi \"you\" \xC3\xBC\xF0\x9F\x98\x80\n"));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"content":""}}]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"content":null}}]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{}}]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[{}]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"content":"a","content":"b"}}]})"), text("b"));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"content":"a\tb","content":null}}]})"), text(""));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"content":"a"},"delta":{}}]})"), text(""));
  // Names that mean something elsewhere mean nothing here.
  EXPECT_EQ(Scan(R"({"x":{"choices":1,"error":{"usage":[{"content":"no"}]}},"y":[[1.5,true,"c"]],
                     "choices":[{"content":"no","x":{"delta":{"content":"no"}},
                     "delta":{"content":"yes","z":{"content":"no","tool_calls":[1]}}}]})"),
            text("yes"));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"reasoning_content":"hm","content":null}}]})"),
            (Seen{"", true}));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"reasoning":"hm","content":"a"}}]})"), (Seen{"a", true}));
  EXPECT_EQ(Scan(R"({"choices":[{"delta":{"reasoning_content":""}}]})"), text(""));
}

TEST(ChunkScannerTest, WhateverElseIsLeftToATree) {
  for (const char* other : {
           "",
           "[]",
           "7",
           "\"choices\"",
           "{}",
           R"({"choices":null})",
           R"({"choices":{}})",
           R"({"choices":"x"})",
           R"({"choices":[1]})",
           R"({"choices":[null]})",
           R"({"choices":[[]]})",
           R"({"choices":[{},{}]})",
           R"({"choices":[{"delta":null}]})",
           R"({"choices":[{"delta":"x"}]})",
           R"({"choices":[{"delta":[]}]})",
           R"({"choices":[{"delta":{"content":5}}]})",
           R"({"choices":[{"delta":{"content":["x"]}}]})",
           R"({"choices":[{"delta":{"content":{"x":1}}}]})",
           R"({"choices":[{"delta":{"tool_calls":[]}}]})",
           R"({"choices":[{"delta":{},"finish_reason":"stop"}]})",
           R"({"choices":[{"delta":{},"logprobs":{"content":[]}}]})",
           R"({"choices":[],"usage":{"prompt_tokens":1}})",
           R"({"choices":[],"error":{"message":"m"}})",
           R"({"choices":[],"error":"m"})",
           R"({"choices":[{"delta":{"c\u006fntent":"x"}}]})",
           R"({"choices":[{"delta":{"content":"x"}}])",
           R"({"choices":[{"delta":{"content":"x"}}]} x)",
           R"({"choices":[{"delta":{"content":"x"}}]}{})",
           "{\"choices\":[{\"delta\":{\"content\":\"\xFF\"}}]}",
       }) {
    EXPECT_EQ(Scan(other), std::nullopt) << other;
  }
  std::string deep = R"({"choices":[],"x":)";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  EXPECT_EQ(Scan(deep), std::nullopt);
}

TEST(ChunkScannerTest, OneScannerReadsManyAndForgetsEach) {
  ChunkScanner scanner;
  for (int i = 0; i < 3; ++i) {
    const std::string text = std::to_string(i);
    const auto* plain = scanner.Scan(R"({"choices":[{"delta":{"content":")" + text + R"("}}]})");
    ASSERT_NE(plain, nullptr);
    EXPECT_EQ(plain->content, text);
    EXPECT_EQ(scanner.Scan(R"({"choices":[{"delta":{"content":"cut)"), nullptr);
    plain = scanner.Scan(R"({"choices":[{"delta":{}}]})");
    ASSERT_NE(plain, nullptr);
    EXPECT_EQ(plain->content, "");
  }
}

// Every way to change one byte of a chunk: where the scanner reads a text, the tree has the same.
TEST(ChunkScannerTest, ReadsWhatATreeHoldsWhateverByteIsChanged) {
  const std::string good =
      R"({"a":[1,{"b":null}],"choices":[{"delta":{"content":"x\n","role":"r"},"finish_reason":null}]})";
  int n_read = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = good;
      changed[at] = static_cast<char>(byte);
      const auto seen = Scan(changed);
      if (!seen) continue;
      ++n_read;
      boost::system::error_code error;
      const auto tree = boost::json::parse(changed, error);
      ASSERT_FALSE(error) << changed;
      std::string content;
      const auto* choices = tree.as_object().if_contains("choices");
      ASSERT_NE(choices, nullptr) << changed;
      if (const auto* delta = choices->as_array()[0].as_object().if_contains("delta")) {
        if (const auto* text = delta->as_object().if_contains("content")) {
          if (text->is_string()) content = text->as_string();
        }
      }
      EXPECT_EQ(seen->content, content) << changed;
    }
  }
  EXPECT_GT(n_read, 1000);
}

// A scanner that has read a chunk reads the next one as one that has not, whatever was changed,
// left out or put in.
TEST(ChunkScannerTest, WhatWasReadBeforeChangesNothing) {
  for (const std::string good :
       {R"({"id":"1","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]})",
        R"({"choices":[{"delta":{"content":""}}]})",
        R"({"choices":[{"delta":{"content":"a","content":"b"}}]})",
        R"({"choices":[{"delta":{"reasoning":"","content":"\u00fc"}}],"x":"content"})"}) {
    ChunkScanner scanner;
    const auto compare = [&](const std::string& text) {
      scanner.Scan(good);
      const auto* plain = scanner.Scan(text);
      const auto fresh = Scan(text);
      ASSERT_EQ(plain != nullptr, fresh.has_value()) << text;
      if (fresh) EXPECT_EQ((Seen{std::string(plain->content), plain->thought}), *fresh) << text;
    };
    for (size_t at = 0; at <= good.size(); ++at) {
      for (const std::string news : {"x", "\"", "\\", "\n", "\\n", "\xC3\xBC", "\xFF", "\x01",
                                     "\",\"", "\",\"content\":\"", "}", "\"}}]}"}) {
        compare(good.substr(0, at) + news + good.substr(at));
        if (at < good.size()) compare(good.substr(0, at) + news + good.substr(at + 1));
      }
      compare(good.substr(0, at));
      compare(good.substr(at));
    }
  }
}

}  // namespace
}  // namespace tandem::gateway::upstream
