#include "fleet/compat/npu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

NpuVerdict Check(std::string_view model, std::string_view soc, std::string_view vendor,
                 std::string_view driver) {
  return CheckNpuCompatibility(*Catalogue::BuiltIn().Find(model),
                               DeviceDatabase::BuiltIn().Find(soc), soc, vendor,
                               *DriverVersion::Parse(driver));
}

struct Case {
  std::string_view model, soc, vendor, driver;
  bool compatible;
  std::string_view reason;
  std::string_view fallback;
};

TEST(NpuTest, EachReasonIsSaid) {
  const std::vector<Case> cases = {
      {"phi-4-mini", "sm8650", "qualcomm", "v2.23.0", true, "Hexagon V75", "cpu"},
      {"phi-4-mini", "sm8650", "Qualcomm", "2.37.0.250724", true, "plug-in driver", "cpu"},
      {"phi-4-mini", "SM8650-AB", "qcom", "v2.49", true, "Hexagon V75", "cpu"},
      // 2.7 is older than 2.23.
      {"phi-4-mini", "sm8650", "qualcomm", "v2.7.1", false,
       "driver 2.7.1 is older than QNN SDK 2.23", "cpu"},
      {"phi-4-mini", "sm8750", "qualcomm", "2.36", false, "QNN SDK 2.37", "cpu"},
      {"mimo-7b", "sm8650", "qualcomm", "2.23", true, "one session of the Hexagon V75 maps 3.5 GB",
       "cpu"},
      {"phi-4-mini", "sm8450", "qualcomm", "2.40", false, "one scale a row only", "cpu"},
      {"phi-4-mini", "sm7435", "qualcomm", "2.40", false, "takes no weights of 4 bits", "cpu"},
      {"phi-4-mini", "sm7475", "qualcomm", "2.40", false, "is unknown", "cpu"},
      {"phi-4-mini", "sm8650", "mediatek", "2.40", false, "is made by qualcomm, not by 'mediatek'",
       "cpu"},
      {"phi-4-mini", "mt6989", "mediatek", "8.2", true,
       "whether with a scale for each group is unknown", "cpu"},
      {"phi-4-mini", "tensor g4", "google", "1.0", false, "google lets nobody else", "cpu"},
      {"phi-4-mini", "exynos 2400", "samsung", "1.0", false, "no way for others than samsung",
       "cpu"},
      {"phi-4-mini", "sm9999", "qualcomm", "2.40", false, "the SoC 'sm9999' is unknown", "cpu"},
      {"phi-4-mini", "8 gen3", "qualcomm", "2.40", true, "Snapdragon 8 Gen 3", "cpu"},
      {"demo", "sm8650", "qualcomm", "2.40", false, "no variant of demo for a neural", "cpu"},
      {"deepseek-v3.2", "sm8650", "qualcomm", "2.40", false, "answered in the cloud", "cloud"},
  };
  for (const Case& c : cases) {
    const NpuVerdict verdict = Check(c.model, c.soc, c.vendor, c.driver);
    EXPECT_EQ(verdict.compatible, c.compatible) << c.soc << " " << c.driver << verdict.reason;
    EXPECT_THAT(verdict.reason, HasSubstr(c.reason));
    EXPECT_EQ(verdict.fallback, c.fallback);
  }
}

// A newer driver never makes an incompatible device out of a compatible one.
TEST(NpuTest, ANewerDriverIsNeverWorse) {
  for (const Soc& soc : DeviceDatabase::BuiltIn().socs()) {
    bool before = false;
    for (const char* driver : {"0.1", "2.7.1", "2.14", "2.23", "2.37", "2.42", "3", "99.1"}) {
      const bool now = Check("phi-4-mini", soc.part, soc.vendor, driver).compatible;
      EXPECT_TRUE(now || !before) << soc.name << " " << driver;
      before = now;
    }
  }
}

TEST(NpuTest, AnUnstatedLeastDriverIsSaidToBeUnknown) {
  EXPECT_THAT(Check("phi-4-mini", "sm7675", "qualcomm", "2.40").reason,
              HasSubstr("which version of its driver Snapdragon 7+ Gen 3 needs is unknown"));
}

}  // namespace
}  // namespace tandem::fleet
