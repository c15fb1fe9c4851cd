#include "gateway/openai/error_table.h"

#include <set>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "gateway/openai/json_text.h"

namespace tandem::gateway::openai {
namespace {

struct Row {
  FailureCode failure;
  int status;
  std::string_view type;
  std::string_view code;
};

// Written out again on purpose: clients match on these, so a change must be made twice.
constexpr Row kRows[] = {
    {FailureCode::kInvalidRequest, 400, "invalid_request_error", "invalid_request"},
    {FailureCode::kUnsupported, 400, "invalid_request_error", "unsupported_value"},
    {FailureCode::kContextLengthExceeded, 400, "invalid_request_error", "context_length_exceeded"},
    {FailureCode::kUnauthenticated, 401, "authentication_error", "invalid_api_key"},
    {FailureCode::kPermissionDenied, 403, "permission_error", "permission_denied"},
    {FailureCode::kPrivacyRefused, 403, "permission_error", "privacy_refused"},
    {FailureCode::kModelNotFound, 404, "invalid_request_error", "model_not_found"},
    {FailureCode::kModelNotInstalled, 409, "invalid_request_error", "model_not_installed"},
    {FailureCode::kNotFound, 404, "invalid_request_error", "not_found"},
    {FailureCode::kMethodNotAllowed, 405, "invalid_request_error", "method_not_allowed"},
    {FailureCode::kPayloadTooLarge, 413, "invalid_request_error", "payload_too_large"},
    {FailureCode::kRateLimited, 429, "rate_limit_error", "rate_limit_exceeded"},
    {FailureCode::kOutOfMemory, 503, "server_error", "OUT_OF_MEMORY"},
    {FailureCode::kNpuContextCreateFailed, 503, "server_error", "NPU_CONTEXT_CREATE_FAILED"},
    {FailureCode::kOutputValidationFailed, 502, "server_error", "OUTPUT_VALIDATION_FAILED"},
    {FailureCode::kCancelled, 499, "invalid_request_error", "request_cancelled"},
    {FailureCode::kDeadlineExceeded, 504, "server_error", "deadline_exceeded"},
    {FailureCode::kShuttingDown, 503, "server_error", "server_shutting_down"},
    {FailureCode::kUnavailable, 503, "server_error", "unavailable"},
    {FailureCode::kCredentialRejected, 502, "server_error", "upstream_credential_rejected"},
    {FailureCode::kQuotaExhausted, 503, "server_error", "upstream_quota_exhausted"},
    {FailureCode::kBudgetExceeded, 429, "insufficient_quota", "insufficient_quota"},
    {FailureCode::kInternal, 500, "server_error", "internal_error"},
};

TEST(ErrorTableTest, EveryRowHasItsStatusTypeAndCode) {
  ASSERT_EQ(std::size(kRows), kFailureCodeCount);
  std::set<FailureCode> seen;
  for (const Row& row : kRows) {
    const WireError& wire = WireErrorOf(row.failure);
    EXPECT_EQ(wire.http_status, row.status) << row.code;
    EXPECT_EQ(wire.type, row.type) << row.code;
    EXPECT_EQ(wire.code, row.code);
    EXPECT_TRUE(seen.insert(row.failure).second) << row.code;
  }
}

TEST(ErrorTableTest, BodyIsTheOpenAiErrorObject) {
  EXPECT_EQ(ErrorBody({FailureCode::kInvalidRequest, "say \"hi\"", "messages[0].role"}),
            R"({"error":{"message":"say \"hi\"","type":"invalid_request_error",)"
            R"("code":"invalid_request","param":"messages[0].role"}})");
  EXPECT_EQ(ErrorBody({FailureCode::kShuttingDown, "bye"}),
            R"({"error":{"message":"bye","type":"server_error","code":"server_shutting_down",)"
            R"("param":null}})");
}

TEST(ErrorTableTest, MessageThatIsNotUtf8IsSanitised) {
  const auto parsed = boost::json::parse(ErrorBody({FailureCode::kInternal, "a\xFFz"}));
  EXPECT_EQ(parsed.at("error").at("message").as_string(), "a\xEF\xBF\xBDz");
}

TEST(JsonTextTest, EscapesWhateverCouldBreakAStringOrALine) {
  const std::pair<std::string_view, std::string_view> rows[] = {
      {"plain", R"("plain")"},
      {"", R"("")"},
      {"\"\\/", R"("\"\\/")"},
      {"\n\r\t", R"("\n\r\t")"},
      {std::string_view("\0\x01\x1f\x7f", 4), "\"\\u0000\\u0001\\u001f\x7f\""},
      {"\xC2\x85|\xE2\x80\xA8|\xE2\x80\xA9", R"("\u0085|\u2028|\u2029")"},
      {"\xC2\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xC2\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""},
  };
  for (const auto& [text, expected] : rows) {
    std::string out;
    AppendJsonString(text, &out);
    EXPECT_EQ(out, expected);
    EXPECT_EQ(boost::json::parse(out).as_string(), text);
  }
}

TEST(JsonTextTest, NumbersReadBackAndAreAlwaysFinite) {
  const std::pair<float, std::string_view> rows[] = {
      {0.0F, "0"}, {-0.5F, "-0.5"}, {-1.25e-7F, "-1.25e-07"}, {-HUGE_VALF, "-9999"}, {NAN, "-9999"},
  };
  for (const auto& [value, expected] : rows) {
    std::string out;
    AppendJsonNumber(value, &out);
    EXPECT_EQ(out, expected);
    EXPECT_NO_THROW(boost::json::parse(out));
  }
}

}  // namespace
}  // namespace tandem::gateway::openai
