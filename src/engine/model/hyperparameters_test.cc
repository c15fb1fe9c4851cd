// What a hostile or unusual file says about itself, one key at a time.
#include "engine/model/hyperparameters.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/model/testing/tiny_model.h"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

TEST(HyperparametersTest, AreThoseOfTheFile) {
  TinyModel tiny({.long_rope = true});
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ(h->architecture, Architecture::kPhi3);
  EXPECT_EQ(h->name, "tiny");
  EXPECT_EQ(h->n_layers, 2);
  EXPECT_EQ(h->n_heads, 6);
  EXPECT_EQ(h->n_kv_heads, 2);
  EXPECT_EQ(h->head_dim, 16);
  EXPECT_EQ(h->q_dim(), 96);
  EXPECT_EQ(h->kv_dim(), 32);
  EXPECT_EQ(h->d_model, 64);
  EXPECT_EQ(h->d_ff, 96);
  EXPECT_EQ(h->vocab_size, 50);
  EXPECT_EQ(h->rotary_dim, 12);
  EXPECT_EQ(h->context_length, 256);
  EXPECT_EQ(h->original_context_length, 128);
  EXPECT_FLOAT_EQ(static_cast<float>(h->rope_attention_factor), 1.19F);
  EXPECT_FLOAT_EQ(static_cast<float>(h->rms_norm_eps), 1e-5F);
  EXPECT_EQ(h->rope_theta, 10000.0);
}

TEST(HyperparametersTest, OptionalKeysHaveTheirDefaults) {
  TinyModel tiny({.n_heads = 4, .n_kv_heads = 4});
  for (const char* key : {"attention.head_count_kv", "attention.key_length",
                          "attention.value_length", "rope.dimension_count", "rope.freq_base"}) {
    tiny.Remove(key);
  }
  tiny.Remove("general.name");
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ(h->n_kv_heads, 4);
  EXPECT_EQ(h->head_dim, 16);
  EXPECT_EQ(h->rotary_dim, 16);
  EXPECT_EQ(h->rope_theta, 10000.0);
  EXPECT_EQ(h->name, "");
}

TEST(HyperparametersTest, MimoIsQwen2ByAnotherName) {
  TinyModel tiny({.architecture = Architecture::kQwen2});
  tiny.Set("general.architecture", "mimo");
  // Its keys are looked for under its own name.
  const auto missing = ReadHyperparameters(*tiny.File());
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("mimo.block_count"));
}

TEST(HyperparametersTest, WithoutTheAttentionFactorItIsWhatThePaperSays) {
  TinyModel tiny({.long_rope = true, .context_length = 131072, .original_context_length = 4096});
  tiny.Remove("rope.scaling.attn_factor");
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_NEAR(h->rope_attention_factor, 1.1902380714238083, 1e-15);  // Phi-4-mini's
}

TEST(HyperparametersTest, SlidingWindowLimitsTheContextAndIsOtherwiseIgnored) {
  TinyModel tiny(TinyOptions{});
  for (const auto& [window, context] :
       {std::pair{0U, 256}, {262144U, 256}, {256U, 256}, {100U, 100}}) {
    tiny.Set("attention.sliding_window", window);
    const auto h = ReadHyperparameters(*tiny.File());
    ASSERT_TRUE(h) << h.error().message;
    EXPECT_EQ(h->context_length, context);
  }
}

TEST(HyperparametersTest, PredictionLayersAreNotTheMainModels) {
  TinyModel tiny({.n_layers = 3});
  tiny.Set("nextn_predict_layers", 1U);
  EXPECT_EQ(ReadHyperparameters(*tiny.File())->n_layers, 3) << "its tensors were dropped";
  tiny.Add({"blk.2.nextn.eh_proj.weight", quant::Type::kF32, {2, 1}, {1.0F, 2.0F}});
  EXPECT_EQ(ReadHyperparameters(*tiny.File())->n_layers, 2);
}

struct Bad {
  const char* name;
  const char* key;
  std::optional<TinyModel::Value> value;  // none: removed
  ErrorCode code;
  const char* message;
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class BadHyperparametersTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadHyperparametersTest, AreRefusedByName) {
  TinyModel tiny({.long_rope = true});
  if (GetParam().value) {
    tiny.Set(GetParam().key, *GetParam().value);
  } else {
    tiny.Remove(GetParam().key);
  }
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_FALSE(h);
  EXPECT_EQ(h.error().code, GetParam().code) << h.error().message;
  EXPECT_THAT(h.error().message, HasSubstr(GetParam().message));
  EXPECT_THAT(h.error().message, HasSubstr("tiny.gguf"));
}

using enum ErrorCode;
INSTANTIATE_TEST_SUITE_P(
    Keys, BadHyperparametersTest,
    ::testing::Values(
        Bad{"NoArchitecture", "general.architecture", {}, kCorrupt, "general.architecture"},
        Bad{"OtherArchitecture", "general.architecture", "llama", kUnsupported, "'llama'"},
        Bad{"NumberAsArchitecture", "general.architecture", 3U, kCorrupt, "general.architecture"},
        Bad{"NoLayers", "block_count", {}, kCorrupt, "phi3.block_count"},
        Bad{"ZeroLayers", "block_count", 0U, kCorrupt, "phi3.block_count is 0"},
        Bad{"HugeLayers", "block_count", 4000000000U, kCorrupt, "expected 1 to 1024"},
        Bad{"TextAsLayers", "block_count", "two", kCorrupt, "phi3.block_count"},
        Bad{"FractionOfALayer", "block_count", 1.5F, kCorrupt, "phi3.block_count"},
        Bad{"NoWidth", "embedding_length", {}, kCorrupt, "phi3.embedding_length"},
        Bad{"ZeroWidth", "embedding_length", 0U, kCorrupt, "phi3.embedding_length is 0"},
        Bad{"HugeWidth", "embedding_length", 4294967295U, kCorrupt, "phi3.embedding_length"},
        Bad{"ZeroFeedForward", "feed_forward_length", 0U, kCorrupt, "phi3.feed_forward_length"},
        Bad{"HugeFeedForward", "feed_forward_length", 1U << 31, kCorrupt, "feed_forward_length"},
        Bad{"NoHeads", "attention.head_count", {}, kCorrupt, "phi3.attention.head_count"},
        Bad{"ZeroHeads", "attention.head_count", 0U, kCorrupt, "phi3.attention.head_count is 0"},
        Bad{"HugeHeads", "attention.head_count", 1U << 30, kCorrupt, "head_count"},
        Bad{"ZeroKvHeads", "attention.head_count_kv", 0U, kCorrupt, "head_count_kv is 0"},
        Bad{"UnevenKvHeads", "attention.head_count_kv", 4U, kCorrupt, "6 query heads"},
        Bad{"MoreKvHeadsThanHeads", "attention.head_count_kv", 12U, kCorrupt, "6 query heads"},
        Bad{"ZeroHeadDim", "attention.key_length", 0U, kCorrupt, "key_length is 0"},
        Bad{"OddHeadDim", "attention.key_length", 15U, kUnsupported, "equal"},
        Bad{"HugeHeadDim", "attention.key_length", 1U << 20, kCorrupt, "key_length"},
        Bad{"OtherValueLength", "attention.value_length", 8U, kUnsupported, "values of 8"},
        Bad{"OddRotary", "rope.dimension_count", 7U, kCorrupt, "even number"},
        Bad{"WideRotary", "rope.dimension_count", 18U, kCorrupt, "at most the 16"},
        Bad{"ZeroRotary", "rope.dimension_count", 0U, kCorrupt, "rope.dimension_count is 0"},
        Bad{"NanTheta", "rope.freq_base", kNan, kCorrupt, "rope.freq_base"},
        Bad{"NegativeTheta", "rope.freq_base", -1.0F, kCorrupt, "rope.freq_base is -1"},
        Bad{"NoEps", "attention.layer_norm_rms_epsilon", {}, kCorrupt, "rms_epsilon is missing"},
        Bad{"NanEps", "attention.layer_norm_rms_epsilon", kNan, kCorrupt, "rms_epsilon"},
        Bad{"InfiniteEps", "attention.layer_norm_rms_epsilon", kInfinity, kCorrupt, "rms_epsilon"},
        Bad{"ZeroEps", "attention.layer_norm_rms_epsilon", 0.0F, kCorrupt, "above 0"},
        Bad{"NegativeEps", "attention.layer_norm_rms_epsilon", -1e-5F, kCorrupt, "above 0"},
        Bad{"NoContext", "context_length", {}, kCorrupt, "phi3.context_length"},
        Bad{"ZeroContext", "context_length", 0U, kCorrupt, "phi3.context_length is 0"},
        Bad{"HugeContext", "context_length", 4294967295U, kCorrupt, "phi3.context_length"},
        Bad{"NoOriginalContext",
            "rope.scaling.original_context_length",
            {},
            kCorrupt,
            "original_context_length"},
        Bad{"ZeroOriginalContext", "rope.scaling.original_context_length", 0U, kCorrupt,
            "original_context_length is 0"},
        Bad{"NanAttentionFactor", "rope.scaling.attn_factor", kNan, kCorrupt, "attn_factor"},
        Bad{"ZeroAttentionFactor", "rope.scaling.attn_factor", 0.0F, kCorrupt, "attn_factor"},
        Bad{"Yarn", "rope.scaling.type", "yarn", kUnsupported, "'yarn'"},
        Bad{"LinearByFactor", "rope.scaling.factor", 4.0F, kUnsupported, "'linear'"}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(BadHyperparametersTest, HeadsThatAreNoMultipleOfEightAreRefused) {
  TinyModel tiny(TinyOptions{});
  tiny.Set("attention.key_length", 12U);
  tiny.Set("attention.value_length", 12U);
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_FALSE(h);
  EXPECT_THAT(h.error().message, HasSubstr("multiple of 8"));
}

TEST(BadHyperparametersTest, WidthThatHeadsDoNotDivideNeedsAKeyLength) {
  TinyModel tiny(TinyOptions{});  // 64 wide, 6 heads
  tiny.Remove("attention.key_length");
  const auto h = ReadHyperparameters(*tiny.File());
  ASSERT_FALSE(h);
  EXPECT_THAT(h.error().message, HasSubstr("not a multiple of phi3.attention.head_count"));
}

TEST(BadHyperparametersTest, OneFactorSetWithoutTheOtherIsRefused) {
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    TinyModel tiny({.long_rope = true});
    tiny.RemoveTensor(name);
    const auto h = ReadHyperparameters(*tiny.File());
    ASSERT_FALSE(h);
    EXPECT_THAT(h.error().message, HasSubstr(name));
  }
}

TEST(BadHyperparametersTest, EmbeddingThatIsMissingOrNoMatrixIsRefused) {
  TinyModel tiny(TinyOptions{});
  tiny.RemoveTensor("token_embd.weight");
  EXPECT_THAT(ReadHyperparameters(*tiny.File()).error().message, HasSubstr("token_embd.weight"));
  tiny.Add({"token_embd.weight", quant::Type::kF32, {64}, std::vector<float>(64)});
  EXPECT_THAT(ReadHyperparameters(*tiny.File()).error().message, HasSubstr("1 dimensions"));
}

}  // namespace
}  // namespace tandem::model
