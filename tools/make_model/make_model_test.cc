#include "make_model/make_model.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gguf/file.h"
#include "engine/model/model.h"
#include "engine/model/vocabulary.h"
#include "engine/ops/thread_pool.h"
#include "engine/quant/codec.h"
#include "engine/tokenizer/tokenizer.h"
#include "make_model/random_weights.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::make_model {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kShared = TANDEM_SOURCE_DIR "/../shared";

Options TinyOptions(std::string_view shape, std::string_view mix) {
  return {.shape = FindShape(shape).value(), .mix = FindMix(mix).value()};
}

struct Moments {
  double mean = 0;
  double deviation = 0;
};

Moments MomentsOf(std::span<const float> values) {
  Moments result;
  for (const float value : values) result.mean += value;
  result.mean /= static_cast<double>(values.size());
  for (const float value : values)
    result.deviation += (value - result.mean) * (value - result.mean);
  result.deviation = std::sqrt(result.deviation / static_cast<double>(values.size()));
  return result;
}

// 65536 draws: the mean strays by 1/256 of a deviation, the deviation by 1/362; five of those are
// allowed, and two per cent for levels that are clipped and rounded.
TEST(RandomWeightsTest, EveryTypeDecodesToNormalValuesOfTheDeviationAskedFor) {
  constexpr int64_t kN = 65536;
  for (const char* name :
       {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"}) {
    const quant::Type type = quant::ParseType(name).value();
    for (const float deviation : {0.001F, 0.02F, 1.0F}) {
      std::vector<std::byte> blocks(static_cast<size_t>(quant::RowBytes(type, kN)));
      BlockMaker(type, deviation, 7).Fill(blocks);
      std::vector<float> values(kN);
      quant::DequantizeRow(type, blocks.data(), values.data(), kN);
      const Moments moments = MomentsOf(values);
      EXPECT_NEAR(moments.mean / deviation, 0, 5.0 / 256) << name;
      EXPECT_NEAR(moments.deviation / deviation, 1, 5.0 / 362 + 0.02) << name << " " << deviation;
      // Neighbours are independent, also across halves of bytes and sub-blocks.
      for (const int64_t lag : {1, 16, 32, 64, 128}) {
        double product = 0;
        for (int64_t i = lag; i < kN; ++i) {
          product += values[static_cast<size_t>(i)] *
                     static_cast<double>(values[static_cast<size_t>(i - lag)]);
        }
        EXPECT_NEAR(product / kN / deviation / deviation, 0, 5.0 / 256) << name << " lag " << lag;
      }
    }
  }
}

TEST(RandomWeightsTest, TheNormalTableHasTheQuantilesOfTheNormalDistribution) {
  const std::vector<float>& table = NormalTable();
  ASSERT_EQ(table.size(), 65536U);
  EXPECT_TRUE(std::is_sorted(table.begin(), table.end()));
  EXPECT_NEAR(table[static_cast<size_t>(65536 * 0.8413447)], 1, 1e-4);
  EXPECT_NEAR(table[static_cast<size_t>(65536 * 0.0227501)], -2, 1e-3);
  EXPECT_EQ(table.front(), -table.back());
}

// The tiny shapes are those of the golden files, which llama.cpp made: the same tensors, of the
// same types and shapes.
TEST(MakeModelTest, TinyModelsHaveTheTensorsOfLlamaCppsFiles) {
  const std::map<std::string, std::string> families = {{"phi4mini", "tiny-phi3"},
                                                       {"mimo7b", "tiny-qwen2"}};
  const os::TempDir dir;
  for (const auto& [family, shape] : families) {
    for (const char* mix : {"f32", "f16", "q8_0", "q4_0", "q6_k"}) {
      const auto golden =
          gguf::File::Open(kShared / "golden" / (family + "-micro-" + mix + ".gguf"));
      if (!golden) GTEST_SKIP() << "no golden files beside the source";
      const Status status = MakeModel(TinyOptions(shape, mix), dir / "tiny.gguf");
      ASSERT_TRUE(status.has_value()) << status.error().message;
      const auto made = gguf::File::Open(dir / "tiny.gguf");
      ASSERT_TRUE(made.has_value()) << made.error().message;
      ASSERT_EQ((*made)->tensors().size(), (*golden)->tensors().size());
      for (const gguf::Tensor& expected : (*golden)->tensors()) {
        const gguf::Tensor* actual = (*made)->Find(expected.name);
        ASSERT_NE(actual, nullptr) << mix << " " << expected.name;
        EXPECT_EQ(actual->type, expected.type) << mix << " " << expected.name;
        EXPECT_EQ(actual->dims, expected.dims) << mix << " " << expected.name;
      }
      // Every key of ours has the type that llama.cpp gives it.
      for (const gguf::KeyValue& entry : (*made)->metadata()) {
        const gguf::KeyValue* expected = (*golden)->FindKey(entry.key);
        if (expected == nullptr) continue;
        EXPECT_EQ(entry.type, expected->type) << entry.key;
        EXPECT_EQ(entry.element_type, expected->element_type) << entry.key;
      }
      EXPECT_EQ((*made)->GetUint("general.file_type").value(),
                (*golden)->GetUint("general.file_type").value());
    }
  }
}

// Counts from a real file of Phi-4-mini (196 tensors, 67 of them F32) and MiMo-7B's 435.
TEST(MakeModelTest, PlansOfTheRealModelsHaveTheirTensorsAndParameters) {
  const auto summary = [](std::string_view shape_name, std::string_view mix) {
    const Shape shape = FindShape(shape_name).value();
    std::map<std::string, int64_t> result;
    for (const TensorPlan& plan : PlanTensors(shape, FindMix(mix).value(), shape.vocab_size)) {
      const int64_t n = plan.dims[0] * (plan.dims.size() > 1 ? plan.dims[1] : 1);
      ++result["tensors"];
      ++result[std::string(quant::GetType(plan.type).name)];
      result["bytes"] +=
          n / quant::GetType(plan.type).block_elements * quant::GetType(plan.type).block_bytes;
      if (!plan.name.starts_with("rope_factors")) result["parameters"] += n;
    }
    return result;
  };
  auto phi = summary("phi-4-mini", "q4_k_m");
  EXPECT_EQ(phi["tensors"], 196);
  EXPECT_EQ(phi["F32"], 67);
  EXPECT_EQ(phi["Q4_K"], 80);
  EXPECT_EQ(phi["Q5_K"], 32);
  EXPECT_EQ(phi["Q6_K"], 16 + 1);  // half of ffn_down, and the embedding
  EXPECT_EQ(phi["parameters"], 3836021760);
  // unsloth's Q4_K_M file has 2,491,874,272 bytes, metadata included (about 0.5 % of it).
  EXPECT_NEAR(static_cast<double>(phi["bytes"]), 2491874272.0, 0.006 * 2491874272.0);

  auto mimo = summary("mimo-7b", "q4_0");
  EXPECT_EQ(mimo["tensors"], 435);
  EXPECT_EQ(mimo["parameters"], 7622619136);
  EXPECT_EQ(mimo["Q6_K"], 1);
  EXPECT_EQ(mimo["Q4_0"], 36 * 7 + 1);
}

TEST(MakeModelTest, TheSameSeedGivesTheSameFileAndAnotherAnother) {
  const os::TempDir dir;
  const auto bytes = [&](uint64_t seed) {
    Options options = TinyOptions("tiny-phi3", "q4_k_m");
    options.seed = seed;
    EXPECT_TRUE(MakeModel(options, dir / "model.gguf").has_value());
    return os::ReadFile(dir / "model.gguf", 1 << 24).value();
  };
  const std::string first = bytes(1);
  EXPECT_EQ(bytes(1), first);
  EXPECT_NE(bytes(2), first);
}

TEST(MakeModelTest, WithoutATokenizerTheVocabularyIsTheBytesAndTheMarkers) {
  const os::TempDir dir;
  uint64_t last_done = 0;
  uint64_t last_total = 0;
  Options options = TinyOptions("tiny-qwen2", "q8_0");
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GT(done, last_done);
    last_done = done;
    last_total = total;
  };
  ASSERT_TRUE(MakeModel(options, dir / "model.gguf").has_value());
  EXPECT_EQ(last_done, last_total);
  const auto file = gguf::File::Open(dir / "model.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto tokens = (*file)->GetStringArray("tokenizer.ggml.tokens").value();
  ASSERT_EQ(tokens.size(), 512U);
  EXPECT_EQ(tokens['a'], "a");
  EXPECT_EQ(tokens[' '], "\xC4\xA0");
  EXPECT_EQ(tokens[511], "[PAD511]");
  EXPECT_EQ((*file)->GetIntArray("tokenizer.ggml.token_type").value()[511], 5);
  const uint64_t eos = (*file)->GetUint("tokenizer.ggml.eos_token_id").value();
  EXPECT_EQ(tokens[eos], "<|im_end|>");
  EXPECT_THAT((*file)->GetString("general.name").value(), HasSubstr("random weights"));
}

// A tokenizer.json with merges in either spelling; the tiny shape has room to spare.
TEST(MakeModelTest, TokensTypesAndMergesComeFromTheTokenizerJson) {
  const os::TempDir dir;
  for (const char* merges : {R"(["a b"])", R"([["a", "b"]])"}) {
    std::ofstream(dir / "tokenizer.json") << R"({"added_tokens": [
                {"id": 3, "content": "<|endoftext|>", "special": true},
                {"id": 4, "content": "<|im_end|>", "special": true},
                {"id": 6, "content": "<tool_call>", "special": false},
                {"id": 7, "content": "<|fim_pad|>", "special": false}],
              "normalizer": {"type": "NFC"},
              "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex":
                 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
                 "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
              "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": )"
                                          << merges << "}}";
    Options options = TinyOptions("tiny-qwen2", "q4_0");
    options.tokenizer_json = dir / "tokenizer.json";
    const Status status = MakeModel(options, dir / "model.gguf");
    ASSERT_TRUE(status.has_value()) << status.error().message;
    const auto file = gguf::File::Open(dir / "model.gguf");
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto tokens = (*file)->GetStringArray("tokenizer.ggml.tokens").value();
    ASSERT_EQ(tokens.size(), 512U);
    EXPECT_EQ(tokens[2], "ab");
    EXPECT_EQ(tokens[5], "[PAD5]");  // an id that the file does not name
    const gguf::IntArray types = (*file)->GetIntArray("tokenizer.ggml.token_type").value();
    const std::vector<int64_t> expected = {1, 1, 1, 3, 3, 5, 4, 3, 5};
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(types[i], expected[i]) << i;
    EXPECT_THAT((*file)->GetStringArray("tokenizer.ggml.merges").value(),
                ::testing::ElementsAre("a b"));
    EXPECT_EQ((*file)->GetUint("tokenizer.ggml.eos_token_id").value(), 4U);
  }
}

TEST(MakeModelTest, TheRealTokenizersFitTheirModels) {
  const auto phi = kShared / "data/phi-4-mini.tokenizer.json";
  if (!std::filesystem::exists(phi)) GTEST_SKIP() << "no tokenizers beside the source";
  const os::TempDir dir;
  Options options = TinyOptions("tiny-phi3", "q4_0");
  options.tokenizer_json = phi;
  const Status status = MakeModel(options, dir / "model.gguf");
  ASSERT_TRUE(status.has_value()) << status.error().message;
  const auto file = gguf::File::Open(dir / "model.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->FindKey("tokenizer.ggml.tokens")->count, 200029U);
  EXPECT_EQ((*file)->FindKey("tokenizer.ggml.merges")->count, 199742U);
  EXPECT_EQ((*file)->GetUint("tokenizer.ggml.eos_token_id").value(), 200020U);
  EXPECT_EQ((*file)->GetUint("tokenizer.ggml.bos_token_id").value(), 199999U);
  // The tiny shape's embedding has grown with the tokenizer.
  EXPECT_EQ((*file)->Find("token_embd.weight")->dims[1], 200029);

  options.shape = FindShape("tiny-qwen2").value();
  EXPECT_THAT(MakeModel(options, dir / "model.gguf").error().message, HasSubstr("family"));
}

// The model and tokenizer rooms take the files as they are, and activations neither die nor
// explode: with weights of 1 / sqrt(inputs), logits are of the order of one.
TEST(MakeModelTest, TinyModelsLoadAndGiveSaneLogits) {
  const os::TempDir dir;
  for (const char* shape : {"tiny-phi3", "tiny-qwen2"}) {
    for (const char* mix : {"f16", "q4_0", "q4_k_m"}) {
      ASSERT_TRUE(MakeModel(TinyOptions(shape, mix), dir / "model.gguf").has_value());
      const auto file = gguf::File::Open(dir / "model.gguf");
      ASSERT_TRUE(file.has_value()) << file.error().message;
      auto vocabulary = model::VocabularyFromGguf(**file);
      ASSERT_TRUE(vocabulary.has_value()) << vocabulary.error().message;
      const auto tokenizer = tokenizer::Tokenizer::Create(*std::move(vocabulary));
      ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
      const auto loaded = model::Model::Load(*file);
      ASSERT_TRUE(loaded.has_value()) << loaded.error().message;

      auto pool = ops::ThreadPool::Create(1);
      ASSERT_TRUE(pool.has_value()) << pool.error().message;
      auto forward = model::Forward::Create(*loaded, pool->get(), {});
      ASSERT_TRUE(forward.has_value()) << forward.error().message;
      auto cache = model::KvCache::Create((*loaded)->hyperparameters(), {.context_tokens = 64});
      ASSERT_TRUE(cache.has_value()) << cache.error().message;
      const std::vector<int32_t> ids = {1, 100, 42, 7};
      const model::BatchEntry entry{.cache = cache->get(), .token_ids = ids, .n_logit_rows = 1};
      std::vector<float> logits(512);
      const Status status = (*forward)->Step({&entry, 1}, logits);
      ASSERT_TRUE(status.has_value()) << status.error().message;
      const Moments moments = MomentsOf(logits);
      EXPECT_GT(moments.deviation, 0.3) << shape << " " << mix;
      EXPECT_LT(moments.deviation, 3.0) << shape << " " << mix;
    }
  }
}

TEST(MakeModelTest, UnknownNamesAreErrorsThatListTheChoices) {
  EXPECT_THAT(FindShape("phi").error().message, HasSubstr("phi-4-mini mimo-7b mid-phi3 tiny-phi3"));
  EXPECT_THAT(FindMix("q2_k").error().message, HasSubstr("q4_k_m"));
}

}  // namespace
}  // namespace tandem::make_model
