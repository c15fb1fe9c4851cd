#include "gateway/privacy/streaming_restorer.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway::privacy {
namespace {

class StreamingRestorerTest : public testing::Test {
 protected:
  StreamingRestorerTest() {
    map_->PlaceholderOf(SecretKind::kEmail, "alice@example.com");  // [EMAIL_1]
    for (int i = 2; i <= 12; ++i) {                                // [EMAIL_2] .. [EMAIL_12]
      map_->PlaceholderOf(SecretKind::kEmail, "user" + std::to_string(i) + "@example.com");
    }
    map_->PlaceholderOf(SecretKind::kName, "王小明");              // [NAME_1]
    map_->PlaceholderOf(SecretKind::kKey, "line \"1\"\nline\\2");  // [KEY_1]
    map_->PlaceholderOf(SecretKind::kEmail, "[EMAIL_1]");          // [EMAIL_13]
  }

  std::string Restore(const std::vector<std::string_view>& pieces) const {
    StreamingRestorer restorer(map_);
    std::string text;
    for (const std::string_view piece : pieces) text += restorer.Push(piece);
    return text + restorer.Finish();
  }

  // The same text for every way to cut it in two, in three, and into bytes.
  std::string RestoreAtEverySplit(std::string_view text) const {
    const std::string whole = Restore({text});
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(Restore(bytes), whole);
    for (size_t a = 0; a <= text.size(); ++a) {
      for (size_t b = a; b <= text.size(); ++b) {
        EXPECT_EQ(Restore({text.substr(0, a), text.substr(a, b - a), text.substr(b)}), whole)
            << a << " " << b;
      }
    }
    return whole;
  }

  std::shared_ptr<RedactionMap> map_ = std::make_shared<RedactionMap>();
};

TEST_F(StreamingRestorerTest, PlaceholdersComeBackAtEverySplit) {
  EXPECT_EQ(RestoreAtEverySplit("Hi [NAME_1], I wrote to [EMAIL_1]."),
            "Hi 王小明, I wrote to alice@example.com.");
  EXPECT_EQ(RestoreAtEverySplit("[EMAIL_12][EMAIL_2]"), "user12@example.comuser2@example.com");
  EXPECT_EQ(RestoreAtEverySplit("[EMAIL\\_1] is Markdown"), "alice@example.com is Markdown");
  EXPECT_EQ(RestoreAtEverySplit("[EMAIL_13]"), "[EMAIL_1]");
}

TEST_F(StreamingRestorerTest, WhatIsNoPlaceholderStaysAtEverySplit) {
  for (const std::string_view text :
       {"[EMAIL_99] [EMAIL_1 [PHONE_1] [", "[[[EMAI", "a[0] = b[EMAIL]", "[EMAIL\\1] [EMAIL\\", "",
        "[EMAIL\\\\_1]", "[email_1]"}) {
    EXPECT_EQ(RestoreAtEverySplit(text), text);
  }
  EXPECT_EQ(RestoreAtEverySplit("[[EMAIL_1]]"), "[alice@example.com]");
  EXPECT_EQ(RestoreAtEverySplit("[EM[EMAIL_1]"), "[EMalice@example.com");
}

TEST_F(StreamingRestorerTest, HoldsBackOnlyWhatCouldBecomeAPlaceholder) {
  StreamingRestorer restorer(map_);
  EXPECT_EQ(restorer.Push("see ["), "see ");
  EXPECT_EQ(restorer.Push("1], and ["), "[1], and ");
  EXPECT_EQ(restorer.Push("EMAIL_"), "");
  EXPECT_EQ(restorer.Push("x"), "[EMAIL_x");
  EXPECT_EQ(restorer.Push("[EMAIL_1"), "");
  EXPECT_EQ(restorer.Push("]"), "alice@example.com");
  EXPECT_EQ(restorer.Push("[EMAIL_9999"), "[EMAIL_9999");
  EXPECT_EQ(restorer.Finish(), "");
  // Without secrets nothing is ever held.
  EXPECT_EQ(StreamingRestorer(std::make_shared<RedactionMap>()).Push("["), "[");
}

TEST_F(StreamingRestorerTest, SecretsAreEscapedInsideTheJsonOfAFunctionCall) {
  const std::string secret = "line \"1\"\nline\\2";
  EXPECT_EQ(RestoreAtEverySplit("the key: [KEY_1]"), "the key: " + secret);
  for (const std::string_view open :
       {"ok <tool_call>\n", "<|tool_call|>[", "```json\n", "functools[", ""}) {
    const std::string text =
        std::string(open) + R"({"name":"f","arguments":{"a":["[KEY_1]","\"[KEY_1]"]}})";
    const std::string restored = Restore({text});
    const auto value = boost::json::parse(restored.substr(restored.find('{')));
    EXPECT_EQ(value.at("arguments").at("a").at(0).as_string(), secret) << restored;
    EXPECT_EQ(value.at("arguments").at("a").at(1).as_string(), "\"" + secret) << restored;
  }
  RestoreAtEverySplit("<tool_call>{\"k\":\"[KEY_1]\"}</tool_call> [KEY_1]");
  EXPECT_TRUE(Restore({"<tool_call>{\"k\":\"[KEY_1]\"}</tool_call> [KEY_1]"}).ends_with(secret));
}

TEST_F(StreamingRestorerTest, SecretsAreEscapedTwiceInsideAJsonTextThatIsAString) {
  const std::string text =
      R"(<tool_call>{"name":"f","arguments":"{\"k\":\"[KEY_1]\",\"n\":[\"[NAME_1]\"]}"}</tool_call>)";
  const std::string restored = RestoreAtEverySplit(text);
  const size_t begin = restored.find('{');
  const auto value = boost::json::parse(restored.substr(begin, restored.rfind('}') + 1 - begin));
  const auto inner = boost::json::parse(value.at("arguments").as_string());
  EXPECT_EQ(inner.at("k").as_string(), "line \"1\"\nline\\2");
  EXPECT_EQ(inner.at("n").at(0).as_string(), "王小明");
}

}  // namespace
}  // namespace tandem::gateway::privacy
