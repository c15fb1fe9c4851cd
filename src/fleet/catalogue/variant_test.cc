#include "fleet/catalogue/variant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "fleet/catalogue/catalogue.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

const CatalogueEntry& Shipped(std::string_view name) { return *Catalogue::BuiltIn().Find(name); }

MemoryNeeds NeedsOfShipped(std::string_view name, int32_t context = kDefaultContextTokens) {
  const CatalogueEntry& entry = Shipped(name);
  return *NeedsOf(entry, entry.variants.front(), context);
}

TEST(VariantTest, ParametersAreThoseOfThePublishedModels) {
  // From the models' configurations: 3.8 B, and 7.6 B without the extra prediction layer.
  EXPECT_EQ(Shipped("phi-4-mini").shape->n_parameters(), 3836021760U);
  EXPECT_NEAR(static_cast<double>(Shipped("mimo-7b").shape->n_parameters()), 7622619136.0, 3e5);
}

// The contract's figures: package at most 2.4 and 4.2 GB, free RAM 4 and 6 GB.
TEST(VariantTest, ShippedModelsStayWithinTheirFigures) {
  const MemoryNeeds phi = NeedsOfShipped("phi-4-mini");
  EXPECT_LE(phi.package_bytes, 2400000000U);
  EXPECT_EQ(phi.min_ram_gb(), 4U);
  EXPECT_EQ(phi.kv_cache_bytes, 276824064U);  // 2 * 32 * 8 * (128 + 4) * 4096
  const MemoryNeeds mimo = NeedsOfShipped("mimo-7b");
  EXPECT_LE(mimo.package_bytes, 4200000000U);
  EXPECT_EQ(mimo.min_ram_gb(), 6U);
  EXPECT_EQ(mimo.kv_cache_bytes, 311427072U);
  // Packages of the full shapes, as packed: docs/performance.md.
  EXPECT_NEAR(static_cast<double>(phi.package_bytes), 2.03e9, 0.04e9);
  EXPECT_NEAR(static_cast<double>(mimo.package_bytes), 4.03e9, 0.04e9);
  // A separate embedding is looked up, not read.
  EXPECT_LT(mimo.weights_bytes, mimo.package_bytes - 300000000);
}

TEST(VariantTest, NeedsGrowWithTheContextUpToTheModels) {
  const uint64_t at_4096 = NeedsOfShipped("phi-4-mini").total_bytes();
  EXPECT_EQ(NeedsOfShipped("phi-4-mini", 8192).total_bytes() - at_4096, 276824064U);
  EXPECT_EQ(NeedsOfShipped("demo", 1 << 20).context_tokens, 4096);
}

TEST(VariantTest, TheLargestShapeThatIsReadDoesNotOverflow) {
  const auto value = ParseJson(
      R"({"n_layers":1024,"n_heads":1024,"n_kv_heads":1024,"head_dim":1024,"d_model":1048576,
          "d_ff":1048576,"vocab_size":16777216,"context_length":16777216,"tied_embeddings":false})",
      "s");
  const auto shape = ParseShape(*value, "s");
  ASSERT_TRUE(shape) << shape.error().message;
  Variant variant = Shipped("demo").variants.front();
  variant.size_bytes.reset();
  variant.scheme = "F16";
  const auto needs = ComputeNeeds(*shape, variant, 16777216);
  ASSERT_TRUE(needs);
  EXPECT_NEAR(static_cast<double>(needs->weights_bytes),
              2.0 * 1024 * 7 * 1048576 * 1048576 + 2.0 * 16777216 * 1048576, 1e12);
  EXPECT_EQ(needs->kv_cache_bytes, uint64_t{1028} << 45);
  EXPECT_GT(needs->package_bytes, needs->weights_bytes);
}

TEST(VariantTest, SchemesThatNobodyKnowsHaveNoNeeds) {
  EXPECT_EQ(FindSchemeBits("int4")->linear_milli, 4125U);
  EXPECT_EQ(FindSchemeBits("int4")->head_milli, 4500U);
  EXPECT_EQ(FindSchemeBits("int8g128")->head_milli, 8125U);
  EXPECT_EQ(FindSchemeBits("int4g32+int8g32")->head_milli, 8500U);
  for (const char* scheme : {"", "int3", "+", "int4g32+", "+int4g32"}) {
    EXPECT_FALSE(FindSchemeBits(scheme)) << scheme;
  }
  Variant variant = Shipped("demo").variants.front();
  variant.scheme = "int3";
  const auto needs = ComputeNeeds(*Shipped("demo").shape, variant, 4096);
  ASSERT_FALSE(needs);
  EXPECT_THAT(needs.error().message, HasSubstr("'int3'"));
}

TEST(VariantTest, APlatformIsExactOrASystem) {
  const Variant& variant = Shipped("phi-4-mini").variants.front();
  EXPECT_TRUE(variant.RunsOn("android_arm64"));
  EXPECT_TRUE(variant.RunsOn("android"));
  EXPECT_TRUE(variant.RunsOn("linux"));
  for (const char* platform : {"andro", "android_arm", "arm64", "ios_arm64", "android_arm64_v9"}) {
    EXPECT_FALSE(variant.RunsOn(platform)) << platform;
  }
  EXPECT_TRUE(variant.IsQuantization("int4_gqa"));
  EXPECT_FALSE(variant.IsQuantization("INT4"));
}

TEST(VariantTest, WhatIsWrittenReadsBack) {
  for (const CatalogueEntry& entry : Catalogue::BuiltIn().entries()) {
    for (const Variant& variant : entry.variants) {
      const auto read = ParseVariant(VariantJson(variant), "v");
      ASSERT_TRUE(read) << read.error().message;
      EXPECT_EQ(boost::json::serialize(VariantJson(*read)),
                boost::json::serialize(VariantJson(variant)));
    }
    if (!entry.shape) continue;
    const auto shape = ParseShape(ShapeJson(*entry.shape), "s");
    ASSERT_TRUE(shape) << shape.error().message;
    EXPECT_EQ(shape->n_parameters(), entry.shape->n_parameters());
  }
}

TEST(VariantTest, MalformedVariantsNameTheField) {
  const std::string good =
      R"("name":"a","quantization":"int4","scheme":"int4","accelerator":"cpu")";
  const std::string platforms = R"(,"platforms":["linux_x86_64"])";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {good, "platforms is missing"},
      {good + R"(,"platforms":[])", "platforms must not be empty"},
      {good + R"(,"platforms":["linux"])", "SYSTEM_ARCHITECTURE"},
      {good + R"(,"platforms":[7])", "platforms must be strings"},
      {R"("name":"../a","quantization":"q","scheme":"s","accelerator":"cpu")" + platforms,
       "name cannot be"},
      {R"("name":"a","quantization":"q","scheme":"s","accelerator":"tpu")" + platforms,
       "cpu, gpu or npu"},
      {good + platforms + R"(,"size_bytes":-1)", "size_bytes must be"},
      {good + platforms + R"(,"certificate":{})", "certificate: package_sha256 is missing"},
      {good + platforms +
           R"(,"certificate":{"package_sha256":"x","issued_by":"i","issued_at_s":1})",
       "64 lower-case"},
  };
  for (const auto& [text, message] : cases) {
    const auto value = ParseJson("{" + text + "}", "v");
    ASSERT_TRUE(value) << text;
    const auto variant = ParseVariant(*value, "v");
    ASSERT_FALSE(variant) << text;
    EXPECT_EQ(variant.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(variant.error().message, HasSubstr(message));
  }
}

TEST(CertificateTest, KeptAccuracyCountsAnswersAndNotExams) {
  Certificate certificate;
  EXPECT_EQ(certificate.kept_accuracy_ppm(), std::nullopt);
  certificate.exams = {{"long", 900, 800000, 1000000}, {"short", 100, 500000, 500000}};
  // 720 + 50 of 900 + 50.
  EXPECT_EQ(certificate.kept_accuracy_ppm(), 810526U);
  certificate.speeds = {{.device = "SM8650", .executor = "cpu", .decode_milli = 12500}};
  ASSERT_NE(certificate.FindSpeed("sm8650", "cpu"), nullptr);
  EXPECT_EQ(certificate.FindSpeed("sm8650", "npu"), nullptr);
  EXPECT_EQ(certificate.FindSpeed("sm8550", "cpu"), nullptr);
}

TEST(CertificateTest, WithoutOneOrBelowWhatIsAskedNothingIsDeployedByItself) {
  CatalogueEntry entry = Shipped("demo");
  Variant& variant = entry.variants.front();
  EXPECT_EQ(WhyNotDeployable(entry, variant), "");
  variant.certificate->exams.front().score_ppm = 900000;
  EXPECT_THAT(WhyNotDeployable(entry, variant), HasSubstr("kept 93.8 %"));
  variant.certificate->exams.clear();
  EXPECT_THAT(WhyNotDeployable(entry, variant), HasSubstr("no exam"));
  variant.certificate.reset();
  EXPECT_THAT(WhyNotDeployable(entry, variant), HasSubstr("no certificate"));
}

}  // namespace
}  // namespace tandem::fleet
