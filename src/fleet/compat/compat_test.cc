#include "fleet/compat/compat.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const CatalogueEntry& Model(std::string_view name) { return *Catalogue::BuiltIn().Find(name); }

DeviceFacts Phone(std::string_view soc, double ram_gb, std::string platform = "android") {
  const SocMatch match = DeviceDatabase::BuiltIn().Find(soc);
  return {.soc_name = std::string(soc),
          .soc = match.soc,
          .soc_problem = match.soc == nullptr ? match.Explain(soc) : "",
          .platform = std::move(platform),
          .free_ram_gb = ram_gb};
}

TEST(CompatTest, TheContractsMemoryFiguresDecide) {
  const std::vector<std::tuple<std::string, double, bool>> cases = {
      {"phi-4-mini", 4, true}, {"phi-4-mini", 3.9, false}, {"phi-4-mini", 8, true},
      {"mimo-7b", 6, true},    {"mimo-7b", 5.9, false},    {"demo", 1, true},
  };
  for (const auto& [model, ram_gb, compatible] : cases) {
    const Compatibility verdict =
        CheckCompatibility(Model(model), Phone("snapdragon_8_gen3", ram_gb));
    EXPECT_EQ(verdict.compatible(), compatible) << model << " " << ram_gb;
    ASSERT_NE(verdict.choice(), nullptr);
    EXPECT_EQ(verdict.choice()->variant->name, "int4");
  }
}

TEST(CompatTest, WhatIsMissingIsSaidInFigures) {
  const Compatibility verdict = CheckCompatibility(Model("phi-4-mini"), Phone("sm8650", 3.5));
  ASSERT_THAT(verdict.unmet, SizeIs(1));
  EXPECT_THAT(verdict.unmet[0], HasSubstr("4 GB of memory have to be free"));
  EXPECT_THAT(verdict.unmet[0], HasSubstr("KV cache of 4096 tokens 0.28"));
  EXPECT_THAT(verdict.unmet[0], HasSubstr("there are 3.5"));
  const Compatibility none = CheckCompatibility(Model("mimo-7b"), Phone("sm8650", 2));
  EXPECT_THAT(none.unmet[0], Not(HasSubstr("it would fit")));
  // With a long context the smaller one is named that fits.
  const Compatibility longer = CheckCompatibility(Model("phi-4-mini"), Phone("sm8650", 4), 32768);
  ASSERT_THAT(longer.unmet, SizeIs(1));
  EXPECT_THAT(longer.unmet[0], HasSubstr("with a context of 16384 tokens it would fit"));
}

TEST(CompatTest, PlatformLimitsAndDiskAreHeldToo) {
  const Compatibility ios =
      CheckCompatibility(Model("phi-4-mini"), Phone("a17 pro", 6, "ios_arm64"));
  EXPECT_THAT(ios.unmet, Contains(HasSubstr("runs on android_arm64, linux_arm64, linux_x86_64, "
                                            "not on 'ios_arm64'")));
  DeviceFacts limited = Phone("sm8650", 8);
  limited.memory_limit_bytes = uint64_t{2048} << 20;
  EXPECT_THAT(CheckCompatibility(Model("phi-4-mini"), limited).unmet,
              ElementsAre(HasSubstr("its limit is 2048 MB; with a context of 1024 tokens")));
  DeviceFacts full = Phone("sm8650", 8);
  full.free_disk_bytes = 1000000000;
  EXPECT_THAT(CheckCompatibility(Model("phi-4-mini"), full).unmet,
              ElementsAre(HasSubstr("1.00 are free")));
  EXPECT_THAT(CheckCompatibility(Model("demo"), Phone("sm8650", 8), 8192).unmet,
              ElementsAre(HasSubstr("was made for 4096")));
}

TEST(CompatTest, AnUnknownSocRunsOnItsCpuAtAnUnknownRate) {
  const Compatibility verdict =
      CheckCompatibility(Model("phi-4-mini"), Phone("snapdragon_9_gen7", 8));
  EXPECT_TRUE(verdict.compatible());
  EXPECT_FALSE(verdict.choice()->rate);
  EXPECT_THAT(verdict.choice()->notes, Contains(HasSubstr("is unknown")));
  EXPECT_THAT(verdict.choice()->notes, Contains(HasSubstr("the rate is unknown")));
  // The variant for an NPU is not offered for one that nobody knows.
  ASSERT_THAT(verdict.variants, SizeIs(2));
  EXPECT_FALSE(verdict.variants[1].fits);
}

TEST(CompatTest, AnUnknownBandwidthMakesTheRateUnknown) {
  const Compatibility verdict = CheckCompatibility(Model("phi-4-mini"), Phone("sm7475", 8));
  EXPECT_TRUE(verdict.compatible());
  EXPECT_FALSE(verdict.choice()->rate);
  EXPECT_THAT(verdict.choice()->notes,
              Contains(HasSubstr("the memory bandwidth of Snapdragon 7+ Gen 2")));
  DeviceFacts measured = Phone("sm7475", 8);
  measured.bandwidth = Bandwidth{30, Basis::kMeasured};
  EXPECT_THAT(CheckCompatibility(Model("phi-4-mini"), measured).choice()->rate->how,
              HasSubstr("measured here"));
}

TEST(CompatTest, WithoutFactsNothingIsRefusedAndAllIsSaidToBeUnknown) {
  const Compatibility verdict = CheckCompatibility(Model("phi-4-mini"), {});
  EXPECT_TRUE(verdict.compatible());
  EXPECT_THAT(verdict.choice()->notes, Contains(HasSubstr("platform is unknown")));
  EXPECT_THAT(verdict.choice()->notes, Contains(HasSubstr("free memory is unknown; 4 GB")));
  EXPECT_THAT(verdict.variants[1].unmet, Contains(HasSubstr("names none")));
}

TEST(CompatTest, ModelsOfTheCloudRunOnNoDevice) {
  const Compatibility verdict = CheckCompatibility(Model("deepseek-v3.2"), Phone("sm8650", 16));
  EXPECT_FALSE(verdict.compatible());
  EXPECT_EQ(verdict.choice(), nullptr);
  EXPECT_THAT(verdict.unmet, ElementsAre(HasSubstr("answered in the cloud")));
  const CatalogueEntry bare{.name = "bare"};
  EXPECT_THAT(CheckCompatibility(bare, {}).unmet, ElementsAre(HasSubstr("catalogue add")));
}

TEST(CompatTest, ACertifiedVariantIsPreferredAndItsFigureIsTheRate) {
  CatalogueEntry model = Model("phi-4-mini");
  EXPECT_THAT(CheckCompatibility(model, Phone("sm8650", 8)).choice()->not_deployable,
              HasSubstr("no certificate"));
  Variant certified = model.variants.front();
  certified.name = "int4-b";
  certified.certificate = Certificate{
      .package_sha256 = std::string(64, 'a'),
      .issued_by = "the laboratory",
      .exams = {{.exam = "e", .n_questions = 10, .score_ppm = 990000, .reference_ppm = 1000000}},
      .speeds = {
          {.device = "SM8650", .executor = "cpu", .context_tokens = 1024, .decode_milli = 21500}}};
  model.variants.push_back(certified);
  const Compatibility verdict = CheckCompatibility(model, Phone("sm8650", 8));
  EXPECT_EQ(verdict.choice()->variant->name, "int4-b");
  EXPECT_EQ(verdict.choice()->not_deployable, "");
  EXPECT_DOUBLE_EQ(verdict.choice()->rate->expected, 21.5);
  // On a device that nobody measured it is an estimate again.
  EXPECT_THAT(CheckCompatibility(model, Phone("sm8550", 8)).choice()->rate->how,
              HasSubstr("nobody measured it"));
  // Where the certified one does not fit, one that does is better than none.
  model.variants.back().platforms = {"linux_arm64"};
  EXPECT_EQ(CheckCompatibility(model, Phone("sm8650", 8)).choice()->variant->name, "int4");
}

TEST(CompatTest, MoreMemoryNeverMakesADeviceIncompatible) {
  std::mt19937 random(7);
  const auto& socs = DeviceDatabase::BuiltIn().socs();
  const auto& models = Catalogue::BuiltIn().entries();
  int changes = 0;
  for (int i = 0; i < 2000; ++i) {
    const CatalogueEntry& model = models[random() % models.size()];
    DeviceFacts device =
        Phone(socs[random() % socs.size()].part, 0, random() % 2 == 0 ? "android" : "linux_x86_64");
    const int32_t context = 512 << (random() % 8);
    bool before = false;
    for (double ram_gb = 0; ram_gb < 32; ram_gb += 0.25 + (random() % 8) / 4.0) {
      device.free_ram_gb = ram_gb;
      device.memory_limit_bytes = static_cast<uint64_t>(ram_gb * 1e9);
      const bool now = CheckCompatibility(model, device, context).compatible();
      ASSERT_TRUE(now || !before) << model.name << " " << ram_gb;
      changes += now && !before ? 1 : 0;
      before = now;
    }
  }
  EXPECT_GT(changes, 500);  // the property is about something
}

}  // namespace
}  // namespace tandem::fleet
