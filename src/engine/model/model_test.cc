// Which files become a model and which do not.
#include "engine/model/model.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/model/testing/tiny_model.h"
#include "engine/model/weights.h"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

std::vector<TinyOptions> Shapes() {
  return {{.long_rope = true},
          {.split = true, .tied_head = false},
          {.architecture = Architecture::kQwen2, .tied_head = false}};
}

void ExpectRefused(TinyModel* tiny, ErrorCode code, const std::string& message) {
  const auto model = Model::Load(tiny->File());
  ASSERT_FALSE(model) << message;
  EXPECT_EQ(model.error().code, code) << model.error().message;
  EXPECT_THAT(model.error().message, HasSubstr(message));
}

TEST(ModelTest, LoadsEveryShape) {
  for (const TinyOptions& options : Shapes()) {
    TinyModel tiny(options);
    const auto model = Model::Load(tiny.File());
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ((*model)->tied_head(), options.tied_head);
  }
}

TEST(ModelTest, EveryTensorIsNeeded) {
  for (const TinyOptions& options : Shapes()) {
    const TinyModel whole(options);
    for (const TinyModel::Tensor& tensor : whole.tensors()) {
      // Heads may be tied.
      if (tensor.name == "output.weight") continue;
      TinyModel tiny(options);
      tiny.RemoveTensor(tensor.name);
      const auto model = Model::Load(tiny.File());
      ASSERT_FALSE(model) << "without " << tensor.name;
      EXPECT_EQ(model.error().code, ErrorCode::kCorrupt) << model.error().message;
      // A fused matrix's absence shows as that of its parts, and the other way round.
      const std::string shown = tensor.name.substr(0, tensor.name.rfind('.'));
      if (shown.ends_with("attn_qkv")) {
        EXPECT_THAT(model.error().message, HasSubstr("attn_q.weight"));
      } else if (!shown.ends_with("ffn_gate")) {
        EXPECT_THAT(model.error().message, HasSubstr(tensor.name));
      }
    }
  }
}

TEST(ModelTest, EveryShapeIsChecked) {
  for (const TinyOptions& options : Shapes()) {
    const TinyModel whole(options);
    for (const TinyModel::Tensor& tensor : whole.tensors()) {
      // A tied model with more embeddings is a model with a larger vocabulary.
      if (tensor.name == "token_embd.weight" && options.tied_head) continue;
      // One row or element more.
      TinyModel longer(options);
      TinyModel::Tensor& more = longer.At(tensor.name);
      more.dims.back() += 1;
      more.values.resize(more.values.size() + (more.dims.size() == 2 ? more.dims[0] : 1));
      const auto model = Model::Load(longer.File());
      ASSERT_FALSE(model) << tensor.name;
      // More embeddings mean a larger vocabulary, which the head then lacks.
      if (tensor.name != "token_embd.weight") {
        EXPECT_THAT(model.error().message, HasSubstr(tensor.name));
      }
      EXPECT_THAT(model.error().message, HasSubstr("expected {"));

      // As many values in another arrangement.
      TinyModel other(options);
      TinyModel::Tensor& turned = other.At(tensor.name);
      if (turned.dims.size() == 2) {
        std::swap(turned.dims[0], turned.dims[1]);
        if (turned.dims[0] == turned.dims[1]) continue;
      } else {
        turned.dims = {1, turned.dims[0]};
      }
      EXPECT_FALSE(Model::Load(other.File())) << tensor.name;
    }
  }
}

TEST(ModelTest, MessageNamesWhatWasFoundAndWhatWasExpected) {
  TinyModel tiny(TinyOptions{});
  TinyModel::Tensor& tensor = tiny.At("blk.1.ffn_down.weight");
  tensor.dims = {64, 96};
  ExpectRefused(&tiny, ErrorCode::kCorrupt,
                "tensor blk.1.ffn_down.weight has shape {64, 96}; expected {96, 64}");
}

TEST(ModelTest, ShapesThatTheHeadCountsContradictAreRefused) {
  TinyModel tiny(TinyOptions{});
  tiny.Set("attention.head_count", 2U);
  ExpectRefused(&tiny, ErrorCode::kCorrupt, "blk.0.attn_qkv.weight");
}

TEST(ModelTest, MoreLayersThanThereAreTensorsAreRefused) {
  TinyModel tiny(TinyOptions{});
  tiny.Set("block_count", 1024U);
  ExpectRefused(&tiny, ErrorCode::kCorrupt, "blk.2.attn_norm.weight is missing");
}

TEST(ModelTest, FewerLayersThanThereAreTensorsAreAnotherModel) {
  // Prediction layers would say what they are.
  TinyModel tiny(TinyOptions{});
  tiny.Set("block_count", 1U);
  ExpectRefused(&tiny, ErrorCode::kUnsupported, "blk.1.");
}

TEST(ModelTest, QuantisedNormIsRefused) {
  TinyModel tiny(TinyOptions{});
  tiny.At("blk.0.ffn_norm.weight").type = quant::Type::kQ8_0;
  ExpectRefused(&tiny, ErrorCode::kUnsupported,
                "blk.0.ffn_norm.weight is Q8_0; expected F32, F16 or BF16");
}

TEST(ModelTest, HalfPrecisionNormIsTaken) {
  TinyModel tiny(TinyOptions{});
  tiny.At("blk.0.ffn_norm.weight").type = quant::Type::kF16;
  const auto model = Model::Load(tiny.File());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->weights().layers[0].ffn_norm[5],
            static_cast<float>(tiny.Decoded("blk.0.ffn_norm.weight")[5]));
}

TEST(ModelTest, TensorWithoutAPlaceMeansAnotherModel) {
  TinyModel tiny({.architecture = Architecture::kQwen2});
  tiny.Add({"blk.0.attn_q_norm.weight", quant::Type::kF32, {16}, std::vector<float>(16, 1.0F)});
  ExpectRefused(&tiny, ErrorCode::kUnsupported, "blk.0.attn_q_norm.weight has no place");
  TinyModel bias({.architecture = Architecture::kPhi3});
  bias.Add({"blk.1.attn_output.bias", quant::Type::kF32, {64}, std::vector<float>(64)});
  ExpectRefused(&bias, ErrorCode::kUnsupported, "blk.1.attn_output.bias has no place");
}

TEST(ModelTest, MtpLayerIsBoundAndReadOnlyByDrafts) {
  TinyModel plain({.architecture = Architecture::kQwen2});
  TinyModel tiny({.architecture = Architecture::kQwen2, .mtp = true});
  const auto without = *Model::Load(plain.File());
  const auto model = Model::Load(tiny.File());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->hyperparameters().n_layers, 2);
  EXPECT_EQ((*model)->hyperparameters().n_mtp_layers, 1);
  ASSERT_TRUE((*model)->weights().mtp.has_value());
  EXPECT_EQ((*model)->weights().mtp->input.blocks[0].n_cols, 128);
  EXPECT_GT((*model)->weights_bytes(), without->weights_bytes());
  // Norms and biases are small enough to be read all the same.
  EXPECT_LT((*model)->bytes_per_token(), without->bytes_per_token() + 4096);
}

TEST(ModelTest, BrokenMtpLayerIsRefused) {
  TinyModel missing({.architecture = Architecture::kQwen2, .mtp = true});
  missing.RemoveTensor("blk.2.nextn.enorm.weight");
  ExpectRefused(&missing, ErrorCode::kCorrupt, "blk.2.nextn.enorm.weight is missing");
  TinyModel square({.architecture = Architecture::kQwen2, .mtp = true});
  TinyModel::Tensor& input = square.At("blk.2.nextn.eh_proj.weight");
  input.dims = {64, 64};
  input.values.resize(64 * 64);
  ExpectRefused(&square, ErrorCode::kCorrupt, "expected {128, 64}");
}

TEST(ModelTest, MtpLayersThatAreNotMimosAreLeftOut) {
  TinyModel tiny({.architecture = Architecture::kQwen2, .mtp = true});
  tiny.Add({"blk.2.nextn.embed_tokens.weight", quant::Type::kF32, {2, 1}, {1.0F, 2.0F}});
  const auto model = Model::Load(tiny.File());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->hyperparameters().n_layers, 2);
  EXPECT_EQ((*model)->hyperparameters().n_mtp_layers, 0);
}

TEST(ModelTest, PredictionTensorsOfOtherArchitecturesAreLeftOut) {
  TinyModel tiny({.architecture = Architecture::kPhi3});
  const uint64_t bytes = (*Model::Load(tiny.File()))->weights_bytes();
  tiny.Set("block_count", 3U);
  tiny.Set("nextn_predict_layers", 1U);
  tiny.Add({"blk.2.nextn.eh_proj.weight", quant::Type::kF32, {2, 1}, {1.0F, 2.0F}});
  tiny.Add({"blk.2.attn_norm.weight", quant::Type::kF32, {64}, std::vector<float>(64)});
  const auto model = Model::Load(tiny.File());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->hyperparameters().n_layers, 2);
  EXPECT_EQ((*model)->weights_bytes(), bytes);
}

TEST(ModelTest, OutputTensorIsPreferredToTheTiedEmbedding) {
  TinyModel tiny({.tied_head = false});
  const auto model = Model::Load(tiny.File());
  ASSERT_TRUE(model);
  EXPECT_NE((*model)->weights().head.blocks[0].data, (*model)->weights().embedding.blocks[0].data);
}

TEST(ModelTest, BytesCountATiedHeadOnceAndAnEmbeddingRowForNothing) {
  constexpr uint64_t kHead = 50 * 64 * 4;
  TinyModel tied(TinyOptions{});
  TinyModel untied({.tied_head = false});
  const auto a = *Model::Load(tied.File());
  const auto b = *Model::Load(untied.File());
  uint64_t all = 0;
  for (const auto& tensor : tied.tensors()) all += tensor.values.size() * 4;
  EXPECT_EQ(a->weights_bytes(), all);
  EXPECT_EQ(b->weights_bytes(), all + kHead);
  EXPECT_EQ(a->bytes_per_token(), all);
  EXPECT_EQ(b->bytes_per_token(), all);
}

TEST(ModelTest, RotaryFactorsWithoutSenseAreRefused) {
  for (const float factor : {0.0F, -1.0F, static_cast<float>(NAN), INFINITY}) {
    for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
      TinyModel tiny({.long_rope = true});
      tiny.At(name).values[2] = factor;
      ExpectRefused(&tiny, ErrorCode::kCorrupt, name);
    }
  }
}

TEST(ModelTest, ForcedKernelsAreUsed) {
  TinyModel tiny(TinyOptions{});
  const auto model = Model::Load(tiny.File(), {.kernels = &kernels::ScalarKernels()});
  ASSERT_TRUE(model);
  EXPECT_EQ((*model)->kernels().isa, kernels::Isa::kScalar);
}

}  // namespace
}  // namespace tandem::model
