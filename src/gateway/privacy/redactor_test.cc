#include "gateway/privacy/redactor.h"

#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "gateway/privacy/streaming_restorer.h"

namespace tandem::gateway::privacy {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kNames = {"Alice Smith", "王小明"};

GenerateRequest RequestOf(std::vector<Message> messages) {
  GenerateRequest request;
  request.request_id = "req-1";
  request.messages = std::move(messages);
  return request;
}

// Everything of a request that an upstream could be sent.
std::string AllTextOf(const GenerateRequest& request) {
  std::string all = request.tools_json + "\n" + request.assistant_prefix + "\n";
  for (const std::string& stop : request.stop) all += stop + "\n";
  for (const Message& message : request.messages) {
    all += message.role + "\n" + message.content + "\n" + message.name + "\n" +
           message.tool_call_id + "\n";
    for (const ToolCall& call : message.tool_calls) {
      all += call.id + "\n" + call.name + "\n" + call.arguments + "\n";
    }
  }
  return all;
}

TEST(RedactorTest, TheSameSecretHasTheSamePlaceholderEverywhere) {
  const Redactor redactor(kNames);
  auto redaction = redactor.Redact(RequestOf({
      {.role = "system", .content = "You write for Alice Smith."},
      {.role = "user", .content = "I am bob@example.com, not eve@example.com."},
      {.role = "assistant", .content = "Hello bob@example.com!", .name = "Alice Smith"},
  }));
  ASSERT_TRUE(redaction);
  const GenerateRequest& request = redaction->request.request();
  EXPECT_EQ(request.messages[0].content, "You write for [NAME_1].");
  EXPECT_EQ(request.messages[1].content, "I am [EMAIL_1], not [EMAIL_2].");
  EXPECT_EQ(request.messages[2].content, "Hello [EMAIL_1]!");
  EXPECT_EQ(request.messages[2].name, "[NAME_1]");
  EXPECT_EQ(*redaction->map->SecretOf("[EMAIL_2]"), "eve@example.com");
}

TEST(RedactorTest, EveryPartOfTheRequestIsCovered) {
  const std::string secret = "bob@example.com";
  GenerateRequest request = RequestOf({
      {.role = "system", .content = "s " + secret},
      {.role = "user", .content = "u " + secret, .name = secret},
      {.role = "assistant",
       .tool_calls = {{"call_" + secret, "send", R"({"to":"bob@example.com","n":1.50})"}}},
      {.role = "tool",
       .content = R"({"found": ["bob\u0040example.com"]})",
       .tool_call_id = "call_" + secret},
  });
  request.tools_json =
      R"([{"type":"function","function":{"name":"send","description":"to bob@example.com",)"
      R"("parameters":{"enum":["bob@example.com"],"bob@example.com":{}}}}])";
  request.assistant_prefix = "Dear " + secret + ", ";
  request.stop = {"PS " + secret};
  request.top_logprobs = 3;
  const auto redaction = Redactor(kNames).Redact(std::move(request));
  ASSERT_TRUE(redaction);
  const GenerateRequest& redacted = redaction->request.request();
  const std::string all = AllTextOf(redacted);
  EXPECT_THAT(all, Not(HasSubstr("bob")));
  EXPECT_EQ(redaction->map->SecretOf("[EMAIL_1]")->substr(0, 3), "bob");
  EXPECT_EQ(redacted.messages[2].tool_calls[0].arguments, R"({"to":"[EMAIL_1]","n":1.50})");
  EXPECT_EQ(redacted.messages[3].content, R"({"found":["[EMAIL_1]"]})");
  EXPECT_EQ(redacted.messages[2].tool_calls[0].id, redacted.messages[3].tool_call_id);
  EXPECT_TRUE(boost::json::parse(redacted.tools_json).is_array());
  EXPECT_EQ(redacted.assistant_prefix, "Dear [EMAIL_1], ");
  EXPECT_EQ(redacted.stop[0], "PS [EMAIL_1]");
  EXPECT_EQ(redacted.top_logprobs, std::nullopt);
}

TEST(RedactorTest, TextWithoutSecretsLeavesAsItCame) {
  GenerateRequest request = RequestOf({{.role = "user", .content = "  { \"a\" : 1.50e3 }\n"}});
  request.tools_json = "[ { \"function\": {} } ]";
  const auto redaction = Redactor(kNames).Redact(request);
  ASSERT_TRUE(redaction);
  EXPECT_EQ(redaction->request.request().messages, request.messages);
  EXPECT_EQ(redaction->request.request().tools_json, request.tools_json);
  EXPECT_TRUE(redaction->map->empty());
}

TEST(RedactorTest, PlaceholdersOfTheUserAreTakenForSecrets) {
  const auto redaction =
      Redactor(kNames).Redact(RequestOf({{.role = "user", .content = "[EMAIL_1] is bob@x.org"}}));
  ASSERT_TRUE(redaction);
  EXPECT_EQ(redaction->request.request().messages[0].content, "[EMAIL_1] is [EMAIL_2]");
  EXPECT_EQ(StreamingRestorer(redaction->map).Push("[EMAIL_2] and [EMAIL_1]"),
            "bob@x.org and [EMAIL_1]");
}

TEST(RedactorTest, ASecretOfOneContextIsReplacedInEveryOther) {
  const std::string key = "9f86d081884c7d659a2feaa0c55ad015";
  const auto redaction = Redactor(kNames).Redact(RequestOf({
      {.role = "user", .content = "It said " + key + " on the screen; call 55512345 or not"},
      {.role = "tool", .content = R"({"api_key":")" + key + R"(","x":"55512345"})"},
      {.role = "user", .content = "my phone: 55512345"},
  }));
  ASSERT_TRUE(redaction);
  EXPECT_THAT(AllTextOf(redaction->request.request()), Not(HasSubstr(key)));
  EXPECT_THAT(AllTextOf(redaction->request.request()), Not(HasSubstr("55512345")));
}

TEST(RedactorTest, NumbersInJsonBecomePlaceholdersToo) {
  const auto redaction = Redactor(kNames).Redact(RequestOf(
      {{.role = "tool", .content = R"({"card":4111111111111111,"n":12345678901234567890123})"}}));
  ASSERT_TRUE(redaction);
  EXPECT_EQ(redaction->request.request().messages[0].content,
            R"({"card":"[CARD_1]","n":12345678901234567890123})");
}

TEST(RedactorTest, WhatCannotBeReplacedMustStay) {
  GenerateRequest function =
      RequestOf({{.role = "assistant", .tool_calls = {{"1", "f-AKIAIOSFODNN7EXAMPLE", "{}"}}}});
  GenerateRequest tools = RequestOf({{.role = "user", .content = "Hi"}});
  tools.tools_json = "[{";
  GenerateRequest tool_name = tools;
  tool_name.tools_json =
      R"([{"type":"function","function":{"name":"ghp_16C7e42F292c6912E7710c838347Ae178B4a"}}])";
  for (const GenerateRequest& request : {function, tools, tool_name}) {
    const auto redaction = Redactor(kNames).Redact(request);
    ASSERT_FALSE(redaction);
    EXPECT_EQ(redaction.error().code, FailureCode::kPrivacyRefused);
    EXPECT_THAT(redaction.error().message, HasSubstr("installed here"));
    EXPECT_THAT(redaction.error().message, Not(HasSubstr("AKIA")));
  }
}

TEST(RedactorTest, AnAnswerThatStopsWithinASecretIsSentWithoutItsBeginning) {
  GenerateRequest request = RequestOf({{.role = "user", .content = "bob.builder@example.com"}});
  request.assistant_prefix = "Write to bob.builder@example.co";
  const auto redaction = Redactor(kNames).Redact(std::move(request));
  ASSERT_TRUE(redaction);
  EXPECT_EQ(redaction->request.request().assistant_prefix, "Write to ");
  EXPECT_EQ(redaction->withheld_prefix, "bob.builder@example.co");
}

// ---- Planted secrets ----

const std::vector<std::string>& Fillers() {
  static const std::vector<std::string> kFillers = {
      "Please look at my account and tell me what happened.",
      "Por favor, revise mi cuenta; la factura es del 05/11/2023.",
      "Können Sie mir bitte sagen, wann die Lieferung ankommt?",
      "Tolong periksa pesanan saya, harganya Rp 1.250.000.",
      "Vui lòng kiểm tra đơn hàng của tôi, giá 15.000.000 đ.",
      "ช่วยตรวจสอบคำสั่งซื้อของฉันด้วยครับ",
      "请帮我看看我的账户，价格是一千二百元。",
      "int main() { return std::vector<int>{1, 2, 3}.size(); }",
      "{\"not\": closed [",
      "[1] see [EMAIL] and [EMAIL_1] 😀"};
  return kFillers;
}

std::string Digits(std::mt19937_64* random, size_t n) {
  std::string digits;
  for (size_t i = 0; i < n; ++i) digits += static_cast<char>('0' + (*random)() % 10);
  return digits;
}

std::string Letters(std::mt19937_64* random, size_t n, std::string_view alphabet) {
  std::string letters;
  for (size_t i = 0; i < n; ++i) letters += alphabet[(*random)() % alphabet.size()];
  return letters;
}

constexpr std::string_view kBase62 =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";

std::string RandomCard(std::mt19937_64* random) {
  std::string card = "4" + Digits(random, 14) + "0";
  int sum = 0;
  for (size_t i = 0; i < 15; ++i) {
    const int value = card[i] - '0';
    sum += i % 2 == 0 ? (value > 4 ? 2 * value - 9 : 2 * value) : value;
  }
  card[15] = static_cast<char>('0' + (10 - sum % 10) % 10);
  const uint64_t form = (*random)() % 3;
  if (form == 0) return card;
  const char separator = form == 1 ? ' ' : '-';
  for (const size_t at : {12, 8, 4}) card.insert(at, 1, separator);
  return card;
}

std::string RandomIban(std::mt19937_64* random) {
  const std::string account = Digits(random, 18);
  int remainder = 0;
  for (const char c : account + "131400") remainder = (remainder * 10 + (c - '0')) % 97;
  const int check = 98 - remainder;
  std::string iban = "DE" + std::string(check < 10 ? "0" : "") + std::to_string(check) + account;
  if ((*random)() % 2 == 0) {
    for (const size_t at : {20, 16, 12, 8, 4}) iban.insert(at, 1, ' ');
  }
  return iban;
}

std::string RandomSecret(std::mt19937_64* random) {
  switch ((*random)() % 12) {
    case 0:
      return Letters(random, 3 + (*random)() % 8, kLower) + "." + Letters(random, 4, kLower) + "@" +
             Letters(random, 6, kLower) + ".com";
    case 1:
      return RandomCard(random);
    case 2:
      return RandomIban(random);
    case 3:
      return "+4930" + Digits(random, 8);
    case 4:
      return "(415) 555-" + Digits(random, 4);
    case 5:
      return "10." + std::to_string((*random)() % 256) + "." + std::to_string((*random)() % 256) +
             "." + std::to_string(1 + (*random)() % 255);
    case 6:
      return "2001:db8:" + Letters(random, 4, "0123456789abcdef") + "::1" +
             Letters(random, 3, "0123456789abcdef");
    case 7:
      return "sk-" + Letters(random, 40, kBase62) + "7";
    case 8:
      return "tdm_live_" + Letters(random, 8, kBase62) + "_" + Letters(random, 49, kBase62) + "3";
    case 9:
      return "-----BEGIN PRIVATE KEY-----\n" + Letters(random, 64, kBase62) + "\n" +
             Letters(random, 20, kBase62) + "=\n-----END PRIVATE KEY-----";
    case 10:
      return "Alice Smith";
    default:
      return "王小明";
  }
}

// Whatever the text around it, no secret is in what leaves, and the echo of what left has them all
// back, however it was cut.
TEST(RedactorPropertyTest, PlantedSecretsNeverLeaveAndAlwaysComeBack) {
  const Redactor redactor(kNames);
  std::mt19937_64 random(20240115);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> secrets;
    std::vector<Message> messages;
    const size_t n_messages = 1 + random() % 4;
    for (size_t m = 0; m < n_messages; ++m) {
      std::string content;
      for (size_t part = 0; part < 3; ++part) {
        content += Fillers()[random() % Fillers().size()];
        secrets.push_back(RandomSecret(&random));
        // Once in a while an earlier one again.
        if (random() % 4 == 0) secrets.back() = secrets[random() % secrets.size()];
        static constexpr std::string_view kAround[][2] = {
            {" ", " "},   {"\n", "\n"}, {" (", ") "}, {" \"", "\" "},
            {"：", "，"}, {" <", "> "}, {" '", "', "}};
        const auto& around = kAround[random() % std::size(kAround)];
        content += std::string(around[0]) + secrets.back() + std::string(around[1]);
      }
      Message message{.role = m % 2 == 0 ? "user" : "tool", .content = content};
      if (random() % 3 == 0) {
        message.content =
            boost::json::serialize(boost::json::value{{"text", content}, {"n", {1, true}}});
      }
      if (random() % 3 == 0) {
        message.tool_calls = {
            {"c1", "f", boost::json::serialize(boost::json::value{{"q", content}})}};
      }
      messages.push_back(std::move(message));
    }
    const GenerateRequest original = RequestOf(messages);
    const auto redaction = redactor.Redact(original);
    ASSERT_TRUE(redaction);
    const std::string sent = AllTextOf(redaction->request.request());
    for (const std::string& secret : secrets) {
      ASSERT_THAT(sent, Not(HasSubstr(secret)));
      ASSERT_THAT(
          sent,
          Not(HasSubstr(
              boost::json::serialize(boost::json::string_view(secret)).substr(1, secret.size()))));
    }
    for (size_t m = 0; m < messages.size(); ++m) {
      const Message& redacted = redaction->request.request().messages[m];
      StreamingRestorer restorer(redaction->map);
      std::string echo;
      for (size_t at = 0; at < redacted.content.size();) {
        const size_t n = 1 + random() % 12;
        echo += restorer.Push(std::string_view(redacted.content).substr(at, n));
        at += n;
      }
      echo += restorer.Finish();
      boost::system::error_code no_json;
      const auto value = boost::json::parse(messages[m].content, no_json);
      if (no_json) {
        ASSERT_EQ(echo, messages[m].content);
      } else {
        ASSERT_EQ(boost::json::parse(echo), value);
      }
      for (const ToolCall& call : redacted.tool_calls) {
        ASSERT_EQ(boost::json::parse(StreamingRestorer(redaction->map).Push(call.arguments)),
                  boost::json::parse(messages[m].tool_calls[0].arguments));
      }
    }
  }
}

}  // namespace
}  // namespace tandem::gateway::privacy
