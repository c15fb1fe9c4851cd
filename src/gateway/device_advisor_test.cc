#include "gateway/device_advisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway {
namespace {

using ::testing::HasSubstr;

class FakeAdvisor final : public DeviceAdvisor {
 public:
  Result<Compatibility> CheckCompatibility(const CompatibilityQuestion& asked) override {
    question = asked;
    return compatibility;
  }
  Result<NpuCompatibility> CheckNpu(const NpuQuestion& asked) override {
    npu_question = asked;
    return npu;
  }

  CompatibilityQuestion question;
  NpuQuestion npu_question;
  Result<Compatibility> compatibility = Compatibility{.compatible = true,
                                                      .model = "phi-4-mini",
                                                      .variant = "int4",
                                                      .quantization = "int4",
                                                      .accelerator = "cpu",
                                                      .min_ram_gb = 4,
                                                      .platforms = {"android_arm64"},
                                                      .context_tokens = 4096,
                                                      .package_bytes = 2030000000,
                                                      .memory_bytes = 3400000000,
                                                      .rate = Rate{20.25, 15, 30, "so"}};
  Result<NpuCompatibility> npu =
      NpuCompatibility{.compatible = false, .model = "m", .reason = "a \"b\"", .fallback = "cpu"};
};

constexpr std::string_view kCheck =
    R"("device_platform":"android","npu_model":"snapdragon_8_gen3","ram_gb":8)";
constexpr std::string_view kNpu =
    R"("npu_vendor":"qualcomm","npu_driver_version":"v2.7.1","soc_model":"sm8650")";

TEST(DeviceAdvisorTest, TheQuestionAndTheAnswersFieldsAreTheContracts) {
  FakeAdvisor advisor;
  for (const char* name : {"model", "model_id"}) {
    const auto answer =
        AnswerCompatibilityCheck(advisor, fmt::format(R"({{"{}":"x",{}}})", name, kCheck));
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(advisor.question.model, "x");
    const boost::json::value value = boost::json::parse(*answer);
    EXPECT_TRUE(value.at("compatible").as_bool());
    EXPECT_EQ(value.at("model"), "phi-4-mini");
    EXPECT_EQ(value.at("variant"), "int4");
    const auto& requirements = value.at("requirements").as_object();
    EXPECT_EQ(requirements.at("min_ram_gb"), 4);
    EXPECT_EQ(requirements.at("platforms").as_array().size(), 1U);
    EXPECT_EQ(requirements.at("accelerator"), "cpu");
    EXPECT_TRUE(requirements.at("unmet").as_array().empty());
    EXPECT_DOUBLE_EQ(value.at("expected_tokens_per_second").at("low").as_double(), 15);
    EXPECT_TRUE(value.at("deployable").as_bool());
  }
  EXPECT_EQ(advisor.question.device_platform, "android");
  EXPECT_EQ(advisor.question.npu_model, "snapdragon_8_gen3");
  EXPECT_EQ(advisor.question.ram_gb, 8);
  EXPECT_FALSE(advisor.question.context_tokens);
  ASSERT_TRUE(AnswerCompatibilityCheck(
      advisor, fmt::format(R"({{"model":"x","context_tokens":8192,{}}})", kCheck)));
  EXPECT_EQ(advisor.question.context_tokens, 8192);
}

TEST(DeviceAdvisorTest, WhatIsUnknownIsNull) {
  FakeAdvisor advisor;
  advisor.compatibility = DeviceAdvisor::Compatibility{
      .model = "deepseek-v3.2", .variant = "", .unmet = {"it is in the cloud"}};
  const auto answer =
      AnswerCompatibilityCheck(advisor, fmt::format(R"({{"model":"x",{}}})", kCheck));
  ASSERT_TRUE(answer);
  const boost::json::value value = boost::json::parse(*answer);
  EXPECT_FALSE(value.at("compatible").as_bool());
  EXPECT_TRUE(value.at("variant").is_null());
  EXPECT_TRUE(value.at("requirements").at("min_ram_gb").is_null());
  EXPECT_TRUE(value.at("requirements").at("accelerator").is_null());
  EXPECT_TRUE(value.at("expected_tokens_per_second").is_null());
  EXPECT_FALSE(value.at("deployable").as_bool());
  EXPECT_EQ(value.at("requirements").at("unmet").at(0), "it is in the cloud");
}

TEST(DeviceAdvisorTest, NpuAnswers) {
  FakeAdvisor advisor;
  const auto answer =
      AnswerNpuCompatibility(advisor, fmt::format(R"({{"model_id":"x",{}}})", kNpu));
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, R"({"compatible":false,"model":"m","reason":"a \"b\"","fallback":"cpu"})");
  EXPECT_EQ(advisor.npu_question.model, "x");
  EXPECT_EQ(advisor.npu_question.npu_vendor, "qualcomm");
  EXPECT_EQ(advisor.npu_question.npu_driver_version, "v2.7.1");
  EXPECT_EQ(advisor.npu_question.soc_model, "sm8650");
}

TEST(DeviceAdvisorTest, AMissingOrMistypedFieldIsNamed) {
  FakeAdvisor advisor;
  const auto check = [&](const std::string& body) {
    return AnswerCompatibilityCheck(advisor, body);
  };
  const auto npu = [&](const std::string& body) { return AnswerNpuCompatibility(advisor, body); };
  using Call = std::function<std::expected<std::string, Failure>(const std::string&)>;
  const std::vector<std::tuple<Call, std::string, std::string>> cases = {
      {check, fmt::format("{{{}}}", kCheck), "model"},
      {check, fmt::format(R"({{"model":7,{}}})", kCheck), "model"},
      {check, fmt::format(R"({{"model_id":7,{}}})", kCheck), "model_id"},
      {check, fmt::format(R"({{"model_id":"",{}}})", kCheck), "model_id"},
      {check, R"({"model":"x","npu_model":"n","ram_gb":8})", "device_platform"},
      {check, R"({"model":"x","device_platform":"a","ram_gb":8})", "npu_model"},
      {check, R"({"model":"x","device_platform":"a","npu_model":null,"ram_gb":8})", "npu_model"},
      {check, R"({"model":"x","device_platform":"a","npu_model":"n"})", "ram_gb"},
      {check, R"({"model":"x","device_platform":"a","npu_model":"n","ram_gb":"8"})", "ram_gb"},
      {check, R"({"model":"x","device_platform":"a","npu_model":"n","ram_gb":-1})", "ram_gb"},
      {check, fmt::format(R"({{"model":"x","context_tokens":0,{}}})", kCheck), "context_tokens"},
      {npu, fmt::format("{{{}}}", kNpu), "model"},
      {npu, R"({"model":"x","npu_driver_version":"1","soc_model":"s"})", "npu_vendor"},
      {npu, R"({"model":"x","npu_vendor":"q","soc_model":"s"})", "npu_driver_version"},
      {npu, R"({"model":"x","npu_vendor":"q","npu_driver_version":2.7,"soc_model":"s"})",
       "npu_driver_version"},
      {npu, R"({"model":"x","npu_vendor":"q","npu_driver_version":"1"})", "soc_model"},
      {check, "", ""},
      {check, "[]", ""},
      {npu, "{", ""},
  };
  for (const auto& [call, body, param] : cases) {
    const auto answer = call(body);
    ASSERT_FALSE(answer) << body;
    EXPECT_EQ(answer.error().code, FailureCode::kInvalidRequest) << body;
    EXPECT_EQ(answer.error().param, param) << body;
  }
  EXPECT_EQ(check(std::string(70000, ' ')).error().code, FailureCode::kPayloadTooLarge);
}

TEST(DeviceAdvisorTest, AModelThatNobodyKnowsIsModelNotFound) {
  FakeAdvisor advisor;
  advisor.compatibility = Err(ErrorCode::kNotFound, "no model 'x'");
  advisor.npu =
      std::unexpected(Error{ErrorCode::kInvalidArgument, "no version", "npu_driver_version"});
  const auto unknown =
      AnswerCompatibilityCheck(advisor, fmt::format(R"({{"model":"x",{}}})", kCheck));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, FailureCode::kModelNotFound);
  EXPECT_EQ(unknown.error().param, "model");
  const auto bad = AnswerNpuCompatibility(advisor, fmt::format(R"({{"model":"x",{}}})", kNpu));
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, FailureCode::kInvalidRequest);
  EXPECT_EQ(bad.error().param, "npu_driver_version");
  EXPECT_THAT(bad.error().message, HasSubstr("no version"));
}

}  // namespace
}  // namespace tandem::gateway
