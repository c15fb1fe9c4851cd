#include "fleet/device/driver_version.h"

#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

DriverVersion V(std::string_view text) {
  auto version = DriverVersion::Parse(text);
  EXPECT_TRUE(version) << text;
  return *std::move(version);
}

TEST(DriverVersionTest, NumbersAreComparedAsNumbers) {
  EXPECT_LT(V("v2.7.1"), V("2.23"));
  EXPECT_LT(V("2.9"), V("2.10"));
  EXPECT_LT(V("2.23"), V("2.23.1"));
  EXPECT_EQ(V("2.23"), V("v2.23.0"));
  EXPECT_GT(V("3"), V("2.99.99"));
  EXPECT_GT(V("2.37.0.250724"), V("2.37.0.250700"));
  EXPECT_EQ(V("2.37.0-rc1"), V("V2.37"));
  EXPECT_EQ(V("v2.7.1").ToString(), "2.7.1");
}

TEST(DriverVersionTest, WhatIsNoVersionIsRefused) {
  for (const char* text : {"", "v", "2.", ".2", "2..3", "2.x", "x2", "2 3", "-1", "v-2", "2.3 beta",
                           "99999999999", "1.2.3.4.5.6.7.8.9"}) {
    const auto version = DriverVersion::Parse(text);
    ASSERT_FALSE(version) << text;
    EXPECT_EQ(version.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tandem::fleet
