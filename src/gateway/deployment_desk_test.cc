#include "gateway/deployment_desk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway {
namespace {

TEST(DeployOrderTest, EveryFieldOfTheContract) {
  const auto order = ParseDeployOrder(
      R"({"model_id":"mimo-7b-int4","device_config":{"npu_vendor":"qualcomm",
          "driver_version":"v2.7.1","soc":"sm8650","device_id":"phone-1"},
          "npu_enabled":true,"memory_limit_mb":3800,"allow_software_fallback":false})");
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(order->model, "mimo-7b-int4");
  EXPECT_EQ(order->device_id, "phone-1");
  EXPECT_TRUE(order->accelerator);
  EXPECT_FALSE(order->software_fallback);
  EXPECT_EQ(order->memory_limit_bytes, uint64_t{3800} << 20);
}

TEST(DeployOrderTest, OnlyTheModelIsNeededInEitherSpelling) {
  const auto order = ParseDeployOrder(R"({"model":"demo"})");
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(order->model, "demo");
  EXPECT_FALSE(order->accelerator);
  EXPECT_TRUE(order->software_fallback);
  EXPECT_EQ(order->memory_limit_bytes, 0u);
}

TEST(DeployOrderTest, WhatIsWrongIsNamed) {
  for (const auto& [body, param] : std::initializer_list<std::pair<const char*, const char*>>{
           {"{}", "model_id"},
           {R"({"model_id":1})", "model_id"},
           {R"({"model_id":""})", "model_id"},
           {R"({"model_id":"m","npu_enabled":"yes"})", "npu_enabled"},
           {R"({"model_id":"m","memory_limit_mb":0})", "memory_limit_mb"},
           {R"({"model_id":"m","memory_limit_mb":1e30})", "memory_limit_mb"},
           {R"({"model_id":"m","allow_software_fallback":1})", "allow_software_fallback"},
           {R"({"model_id":"m","device_config":[]})", "device_config"},
           {R"({"model_id":"m","device_config":{"soc":7}})", "device_config.soc"}}) {
    const auto order = ParseDeployOrder(body);
    ASSERT_FALSE(order) << body;
    EXPECT_EQ(order.error().code, FailureCode::kInvalidRequest);
    EXPECT_EQ(order.error().param, param) << body;
  }
  EXPECT_EQ(ParseDeployOrder("[").error().code, FailureCode::kInvalidRequest);
  EXPECT_EQ(ParseDeployOrder(std::string(70'000, ' ')).error().code, FailureCode::kPayloadTooLarge);
}

TEST(DeployOrderTest, TheAnswerIsJsonWithTheFieldsOfTheContract) {
  const std::string text = RenderDeployed({.id = "dep-1",
                                           .model = "de\"mo",
                                           .executor = "npu",
                                           .software_fallback = false,
                                           .batch_size = 8,
                                           .attempts = 2,
                                           .memory_bytes = 3 << 20,
                                           .reason = "faster",
                                           .package_digest = "ab"});
  const boost::json::value value = boost::json::parse(text);
  EXPECT_EQ(value.at("status"), "deployed");
  EXPECT_EQ(value.at("deployment_id"), "dep-1");
  EXPECT_EQ(value.at("model_id"), "de\"mo");
  EXPECT_EQ(value.at("executor"), "npu");
  EXPECT_EQ(value.at("software_fallback"), false);
  EXPECT_EQ(value.at("batch_size"), 8);
  EXPECT_EQ(value.at("attempts"), 2);
  EXPECT_EQ(value.at("memory_mb"), 3.0);
}

TEST(ResetOrderTest, NeedsADevice) {
  EXPECT_EQ(ParseResetOrder(R"({"device_id":"phone"})"), "phone");
  EXPECT_EQ(ParseResetOrder("{}").error().param, "device_id");
  const boost::json::value value = boost::json::parse(RenderReset("phone", 2));
  EXPECT_EQ(value.at("status"), "reset");
  EXPECT_EQ(value.at("device_id"), "phone");
  EXPECT_EQ(value.at("accelerators"), 2);
}

}  // namespace
}  // namespace tandem::gateway
