#include "fleet/advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

TEST(AdviceTest, WhatAClientSaysBecomesFacts) {
  const DeviceFacts phone = FactsOf("snapdragon_8_gen3", "android");
  ASSERT_NE(phone.soc, nullptr);
  EXPECT_EQ(phone.soc->part, "SM8650");
  EXPECT_EQ(phone.platform, "android");
  EXPECT_FALSE(phone.free_ram_gb);
  for (const char* none : {"", "none"}) {
    EXPECT_EQ(FactsOf(none, "linux").soc, nullptr);
    EXPECT_EQ(FactsOf(none, "linux").soc_problem, "");
  }
  EXPECT_THAT(FactsOf("sm0000", "android").soc_problem, HasSubstr("is unknown"));
}

TEST(AdviceTest, AProbeBecomesFacts) {
  DeviceProbe probe{.platform = "linux_arm64"};
  probe.soc = DeviceDatabase::BuiltIn().Find("sm8550").soc;
  probe.memory = os::MemoryStatus{.total_bytes = 12000000000, .available_bytes = 5500000000};
  const DeviceFacts facts = FactsOf(probe);
  EXPECT_EQ(facts.free_ram_gb, 5.5);
  EXPECT_EQ(facts.soc_name, "Snapdragon 8 Gen 2");
  probe.memory = Err(ErrorCode::kIo, "no /proc");
  EXPECT_FALSE(FactsOf(probe).free_ram_gb);
}

TEST(AdviceTest, AModelIsFoundByItsNames) {
  const Catalogue& catalogue = Catalogue::BuiltIn();
  EXPECT_EQ((*FindModel(catalogue, "phi-4-mini-int4"))->name, "phi-4-mini");
  EXPECT_TRUE((*FindModel(catalogue, "deepseek-v3.2"))->cloud);
  const auto none = FindModel(catalogue, "gpt-5");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(none.error().param, "model");
  EXPECT_THAT(none.error().message, HasSubstr("phi-4-mini, mimo-7b"));
}

}  // namespace
}  // namespace tandem::fleet
