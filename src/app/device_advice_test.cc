#include "app/device_advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A model that only a manifest knows, measured on one phone.
fleet::PackageManifest Measured() {
  const fleet::CatalogueEntry* demo = fleet::Catalogue::BuiltIn().Find("demo");
  fleet::PackageManifest manifest{
      .model = "phi-test",
      .shape = demo->shape,
      .variant = demo->variants.front(),
      .files = {{.name = "w", .size_bytes = 7, .sha256 = std::string(64, 'a')}},
      .created_at_s = 1};
  manifest.variant.certificate->package_sha256 = manifest.files.front().sha256;
  manifest.variant.certificate->speeds = {
      {.device = "SM8650", .executor = "cpu", .context_tokens = 1024, .decode_milli = 21500}};
  return manifest;
}

class DeviceAdviceTest : public ::testing::Test {
 protected:
  const os::TempDir dir_;
  FakeClock clock_;
  DeviceAdvice advice_{dir_.path(), &clock_};
};

TEST_F(DeviceAdviceTest, AnswersWithTheVariantAndItsNeeds) {
  const auto answer = advice_.CheckCompatibility({.model = "phi-4-mini-int4",
                                                  .device_platform = "android",
                                                  .npu_model = "snapdragon_8_gen3",
                                                  .ram_gb = 8});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_TRUE(answer->compatible);
  EXPECT_EQ(answer->model, "phi-4-mini");
  EXPECT_EQ(answer->variant, "int4");
  EXPECT_EQ(answer->accelerator, "cpu");
  EXPECT_EQ(answer->min_ram_gb, 4U);
  EXPECT_THAT(answer->unmet, IsEmpty());
  EXPECT_THAT(answer->platforms, Contains("android_arm64"));
  ASSERT_TRUE(answer->rate);
  EXPECT_GT(answer->rate->expected, answer->rate->low);
  EXPECT_THAT(answer->not_deployable, HasSubstr("no certificate"));

  const auto small = advice_.CheckCompatibility({.model = "mimo-7b-int4",
                                                 .device_platform = "android",
                                                 .npu_model = "snapdragon_8_gen3",
                                                 .ram_gb = 4});
  ASSERT_TRUE(small);
  EXPECT_FALSE(small->compatible);
  EXPECT_EQ(small->min_ram_gb, 6U);
  EXPECT_THAT(small->unmet, Contains(HasSubstr("6 GB of memory")));
  EXPECT_EQ(advice_.CheckCompatibility({.model = "gpt-5"}).error().code, ErrorCode::kNotFound);
}

TEST_F(DeviceAdviceTest, NpuQuestions) {
  const auto old_driver = advice_.CheckNpu({.model = "phi-4-mini",
                                            .npu_vendor = "qualcomm",
                                            .npu_driver_version = "v2.7.1",
                                            .soc_model = "sm8650"});
  ASSERT_TRUE(old_driver);
  EXPECT_FALSE(old_driver->compatible);
  EXPECT_THAT(old_driver->reason, HasSubstr("2.7.1 is older"));
  EXPECT_EQ(old_driver->fallback, "cpu");
  const auto bad = advice_.CheckNpu(
      {.model = "phi-4-mini", .npu_vendor = "q", .npu_driver_version = "new", .soc_model = "s"});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().param, "npu_driver_version");
  EXPECT_EQ(advice_.CheckNpu({.model = "x"}).error().code, ErrorCode::kNotFound);
}

TEST_F(DeviceAdviceTest, ManifestsThatWereAddedCountSoonAfter) {
  const DeviceAdvice::CompatibilityQuestion question{
      .model = "phi-test", .device_platform = "android", .npu_model = "sm8650", .ram_gb = 8};
  EXPECT_FALSE(advice_.CheckCompatibility(question));
  const auto manifest = fleet::SignedManifest::Unsigned(Measured());
  ASSERT_TRUE(fleet::OpenCatalogueStore(dir_.path())
                  .Add(manifest->Format(), fleet::Catalogue::BuiltIn(), true, 1800000000));
  EXPECT_FALSE(advice_.CheckCompatibility(question));
  clock_.Advance(DeviceAdvice::kRecheck);
  const auto answer = advice_.CheckCompatibility(question);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_TRUE(answer->compatible);
  EXPECT_EQ(answer->not_deployable, "");
  EXPECT_DOUBLE_EQ(answer->rate->expected, 21.5);  // its certificate's
}

TEST_F(DeviceAdviceTest, PlansForOtherDevicesAndForThisOne) {
  const auto plan = MakePlan(
      dir_.path(), {.model = "phi-4-mini", .device = "Snapdragon 8 Gen 3", .free_ram_gb = 8});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->verdict.compatible());
  EXPECT_EQ(plan->device.platform, "android");
  EXPECT_EQ(plan->verdict.variants.size(), 2U);
  EXPECT_EQ(MakePlan(dir_.path(), {.model = "phi-4-mini", .device = "A17 Pro"})->device.platform,
            "ios");
  const auto here = MakePlan(dir_.path(), {.model = "demo", .bandwidth_gb_s = 10});
  ASSERT_TRUE(here) << here.error().message;
  EXPECT_EQ(here->device.platform, fleet::HostPlatform());
  EXPECT_THAT(here->verdict.choice()->rate->how, HasSubstr("measured here"));

  EXPECT_THAT(MakePlan(dir_.path(), {.model = "demo", .device = "gen 3"}).error().message,
              HasSubstr("can be any of"));
  EXPECT_THAT(MakePlan(dir_.path(), {.model = "demo", .device = "sm8659"}).error().message,
              HasSubstr("did you mean Snapdragon 8 Gen 3"));
  EXPECT_THAT(MakePlan(dir_.path(), {.model = "demo", .device = "sm8650", .npu_driver = "x"})
                  .error()
                  .message,
              HasSubstr("--npu-driver"));
  EXPECT_FALSE(MakePlan(dir_.path(), {.model = "gpt-5"}));
}

// What the catalogue computes from a shape is what the engine asks for.
TEST_F(DeviceAdviceTest, NeedsAreThoseOfTheEngine) {
  const fleet::CatalogueEntry* demo = fleet::Catalogue::BuiltIn().Find("demo");
  const auto needs = fleet::NeedsOf(*demo, demo->variants.front(), 4096);
  ASSERT_TRUE(needs);
  const std::string file = TANDEM_SOURCE_DIR "/models/demo/tandem-demo-q4_0.gguf";
  const auto plan = engine::PlanMemory(file, {.n_threads = 1, .context_tokens = 4096});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(needs->kv_cache_bytes, plan->kv_cache_bytes);
  const auto near = [](uint64_t a, uint64_t b, double share) {
    EXPECT_NEAR(static_cast<double>(a), static_cast<double>(b), share * static_cast<double>(b));
  };
  near(needs->weights_bytes, plan->weights_bytes, 0.05);
  near(needs->scratch_bytes, plan->scratch_bytes, 0.15);
  EXPECT_GT(needs->reserve_bytes, plan->reserve_bytes);
  EXPECT_EQ(needs->package_bytes, std::filesystem::file_size(file));
}

}  // namespace
}  // namespace tandem::app
