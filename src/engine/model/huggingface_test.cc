#include "engine/model/huggingface.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "engine/model/model.h"
#include "engine/model/testing/tiny_model.h"
#include "engine/model/vocabulary.h"
#include "engine/model/weights.h"
#include "engine/quant/codec.h"
#include "os/testing/temp_dir.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::HasSubstr;

// A TinyModel's tensors under Hugging Face's names, written as a folder of two shards.
class HuggingFaceTest : public ::testing::Test {
 protected:
  struct Stored {
    std::vector<int64_t> shape;
    std::string dtype = "F32";
    std::vector<float> values;
  };

  void Take(const TinyModel& tiny, bool phi) {
    const TinyOptions& o = tiny.options();
    config_ = {{"architectures", {phi ? "Phi3ForCausalLM" : "MiMoForCausalLM"}},
               {"hidden_act", "silu"},
               {"num_hidden_layers", o.n_layers},
               {"hidden_size", o.d_model},
               {"intermediate_size", o.d_ff},
               {"num_attention_heads", o.n_heads},
               {"num_key_value_heads", o.n_kv_heads},
               {"head_dim", o.head_dim},
               {"partial_rotary_factor", static_cast<double>(o.rotary_dim) / o.head_dim},
               {"max_position_embeddings", o.context_length},
               {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000},
               {"rope_scaling", nullptr},
               {"use_sliding_window", false},
               {"sliding_window", nullptr},
               {"tie_word_embeddings", o.tied_head}};
    for (const TinyModel::Tensor& tensor : tiny.tensors()) {
      if (tensor.name.starts_with("rope_factors")) continue;
      Stored stored{{tensor.dims.rbegin(), tensor.dims.rend()}, "F32", tensor.values};
      std::string name = Renamed(tensor.name, o.n_layers, phi);
      if (name.ends_with("input_proj.weight")) {
        const auto half = static_cast<size_t>(o.d_model);
        for (size_t at = 0; at < stored.values.size(); at += 2 * half) {
          std::rotate(stored.values.begin() + at, stored.values.begin() + at + half,
                      stored.values.begin() + at + 2 * half);
        }
      }
      tensors_[name] = std::move(stored);
    }
  }

  static std::string Renamed(std::string name, int n_layers, bool phi) {
    if (name == "token_embd.weight") return "model.embed_tokens.weight";
    if (name == "output_norm.weight") return "model.norm.weight";
    if (name == "output.weight") return "lm_head.weight";
    const std::pair<std::string, std::string> names[] = {
        {fmt::format("blk.{}.", n_layers), "model.mtp_layers.0."},
        {"blk.", "model.layers."},
        {"attn_norm", "input_layernorm"},
        {"attn_qkv", "self_attn.qkv_proj"},
        {"attn_q.", "self_attn.q_proj."},
        {"attn_k.", "self_attn.k_proj."},
        {"attn_v.", "self_attn.v_proj."},
        {"attn_output", "self_attn.o_proj"},
        {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},
        {"ffn_up", phi ? "mlp.gate_up_proj" : "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"},
        {"nextn.eh_proj", "input_proj"},
        {"nextn.enorm", "token_layernorm"},
        {"nextn.hnorm", "hidden_layernorm"},
        {"nextn.shared_head_norm", "final_layernorm"}};
    for (const auto& [from, to] : names) {
      if (const size_t at = name.find(from); at != std::string::npos) {
        name.replace(at, from.size(), to);
      }
    }
    return name;
  }

  void Write() {
    const std::vector<std::string> files = {"model-00001-of-00002.safetensors",
                                            "model-00002-of-00002.safetensors"};
    std::vector<json::object> headers(2);
    std::vector<std::string> data(2);
    json::object map;
    size_t i = 0;
    for (const auto& [name, stored] : tensors_) {
      const size_t shard = i++ * 2 / tensors_.size();
      map[name] = files[shard];
      const size_t begin = data[shard].size();
      if (stored.dtype == "F32") {
        data[shard].append(reinterpret_cast<const char*>(stored.values.data()),
                           4 * stored.values.size());
      } else {
        std::vector<std::byte> bytes(2 * stored.values.size());
        ASSERT_TRUE(quant::QuantizeRow(
            stored.dtype == "BF16" ? quant::Type::kBF16 : quant::Type::kF16, stored.values.data(),
            bytes.data(), static_cast<int64_t>(stored.values.size())));
        data[shard].append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      }
      json::array shape;
      for (const int64_t dim : stored.shape) shape.push_back(dim);
      headers[shard][name] = {
          {"dtype", stored.dtype}, {"shape", shape}, {"data_offsets", {begin, data[shard].size()}}};
    }
    for (size_t shard = 0; shard < 2; ++shard) {
      std::string header = json::serialize(headers[shard]);
      header.resize((header.size() + 7) / 8 * 8, ' ');
      std::string bytes(8, '\0');
      const uint64_t length = header.size();
      std::memcpy(bytes.data(), &length, 8);
      ASSERT_TRUE(os::WriteFileAtomic(dir_ / files[shard], bytes + header + data[shard]));
    }
    WriteFile("model.safetensors.index.json",
              json::serialize(json::object{{"weight_map", std::move(map)}}));
    WriteFile("config.json", json::serialize(config_));
  }
  void WriteFile(const char* name, const std::string& text) {
    ASSERT_TRUE(os::WriteFileAtomic(dir_ / name, text));
  }

  void ExpectError(ErrorCode code, const char* message) {
    Write();
    auto file = OpenHuggingFace(dir_.path());
    if (file) {
      const auto model = Model::Load(*file);
      ASSERT_FALSE(model) << "expected: " << message;
      EXPECT_EQ(model.error().code, code);
      EXPECT_THAT(model.error().message, HasSubstr(message));
      return;
    }
    EXPECT_EQ(file.error().code, code);
    EXPECT_THAT(file.error().message, HasSubstr(message));
  }

  // Every tensor of the two files, decoded, is the same.
  static void ExpectSameTensors(const gguf::File& expected, const gguf::File& actual) {
    EXPECT_EQ(actual.tensors().size(), expected.tensors().size());
    for (const gguf::Tensor& tensor : expected.tensors()) {
      const gguf::Tensor* found = actual.Find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->dims, tensor.dims) << tensor.name;
      std::vector<float> a(tensor.n_elements());
      std::vector<float> b(a.size());
      quant::DequantizeRow(tensor.type, tensor.data, a.data(), tensor.n_elements());
      quant::DequantizeRow(found->type, found->data, b.data(), tensor.n_elements());
      EXPECT_EQ(a, b) << tensor.name;
    }
  }

  os::TempDir dir_;
  json::object config_;
  std::map<std::string, Stored> tensors_;
};

constexpr TinyOptions kMimo = {
    .architecture = Architecture::kQwen2, .tied_head = false, .mtp = true, .rotary_dim = 16};

TEST_F(HuggingFaceTest, MimoIsTheSameModelAsItsGgufFile) {
  TinyModel tiny(kMimo);
  Take(tiny, /*phi=*/false);
  Write();
  ASSERT_TRUE(IsHuggingFaceFolder(dir_.path()));
  const auto file = OpenHuggingFace(dir_.path());
  ASSERT_TRUE(file) << file.error().message;
  ExpectSameTensors(*tiny.File(), **file);
  const auto model = Model::Load(*file);
  ASSERT_TRUE(model) << model.error().message;
  const Hyperparameters& h = (*model)->hyperparameters();
  const Hyperparameters expected = (*Model::Load(tiny.File()))->hyperparameters();
  EXPECT_EQ(h.architecture, Architecture::kQwen2);
  EXPECT_EQ(h.n_layers, expected.n_layers);
  EXPECT_EQ(h.n_mtp_layers, 1);
  EXPECT_EQ(h.head_dim, expected.head_dim);
  EXPECT_EQ(h.rotary_dim, expected.rotary_dim);
  EXPECT_EQ(h.rope_theta, expected.rope_theta);
  EXPECT_EQ(h.rms_norm_eps, 1e-5);
  EXPECT_EQ(h.context_length, expected.context_length);
  EXPECT_EQ(h.vocab_size, expected.vocab_size);
  EXPECT_FALSE((*model)->tied_head());
}

TEST_F(HuggingFaceTest, Phi3WithLongRopeIsTheSameModelAsItsGgufFile) {
  TinyModel tiny({.long_rope = true});
  Take(tiny, /*phi=*/true);
  const auto factors = [&](const char* name) {
    json::array list;
    for (const float value : tiny.At(name).values) list.push_back(value);
    return list;
  };
  config_["original_max_position_embeddings"] = 128;
  config_["rope_scaling"] = {{"type", "longrope"},
                             {"attention_factor", 1.19F},
                             {"short_factor", factors("rope_factors_short.weight")},
                             {"long_factor", factors("rope_factors_long.weight")}};
  Write();
  const auto file = OpenHuggingFace(dir_.path());
  ASSERT_TRUE(file) << file.error().message;
  ExpectSameTensors(*tiny.File(), **file);
  const auto model = Model::Load(*file);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->hyperparameters().original_context_length, 128);
  EXPECT_EQ((*model)->hyperparameters().rope_attention_factor, double{1.19F});
  EXPECT_TRUE((*model)->tied_head());
}

TEST_F(HuggingFaceTest, HalfPrecisionsKeepTheirTypeAndOtherMtpLayersAreSkipped) {
  Take(TinyModel(kMimo), /*phi=*/false);
  tensors_["lm_head.weight"].dtype = "BF16";
  tensors_["model.layers.0.mlp.down_proj.weight"].dtype = "F16";
  tensors_["model.mtp_layers.1.input_proj.weight"] = {{2, 2}, "F32", {1, 2, 3, 4}};
  tensors_["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, "F32", {1, 2}};
  Write();
  const auto file = OpenHuggingFace(dir_.path());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->Find("output.weight")->type, quant::Type::kBF16);
  EXPECT_EQ((*file)->Find("blk.0.ffn_down.weight")->type, quant::Type::kF16);
  EXPECT_TRUE(Model::Load(*file)) << Model::Load(*file).error().message;
}

TEST_F(HuggingFaceTest, WithoutItsMtpTensorsMimoIsQwen2) {
  Take(TinyModel(kMimo), /*phi=*/false);
  std::erase_if(tensors_, [](const auto& entry) { return entry.first.contains("mtp_layers"); });
  Write();
  const auto model = Model::Load(*OpenHuggingFace(dir_.path()));
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ((*model)->hyperparameters().n_mtp_layers, 0);
  EXPECT_EQ((*model)->hyperparameters().n_layers, 2);
}

TEST_F(HuggingFaceTest, TiedHeadWinsOverACopyOfIt) {
  TinyModel tiny({.architecture = Architecture::kQwen2});
  Take(tiny, /*phi=*/false);
  tensors_["lm_head.weight"] = tensors_["model.embed_tokens.weight"];
  Write();
  const auto model = Model::Load(*OpenHuggingFace(dir_.path()));
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE((*model)->tied_head());
}

TEST_F(HuggingFaceTest, WhatIsNotComputedIsUnsupportedAndNamed) {
  const auto with = [&](const char* field, const json::value& value, ErrorCode code,
                        const char* message) {
    Take(TinyModel(kMimo), /*phi=*/false);
    config_[field] = value;
    ExpectError(code, message);
  };
  with("architectures", {"LlamaForCausalLM"}, ErrorCode::kUnsupported, "'LlamaForCausalLM'");
  with("architectures", {}, ErrorCode::kCorrupt, "'architectures'");
  with("hidden_act", "gelu", ErrorCode::kUnsupported, "'gelu'");
  with("rope_scaling", {{"rope_type", "yarn"}}, ErrorCode::kUnsupported, "'yarn'");
  with("rope_scaling", 3, ErrorCode::kCorrupt, "'rope_scaling'");
  with("rope_theta", "much", ErrorCode::kCorrupt, "'rope_theta'");
  with("hidden_size", -1, ErrorCode::kCorrupt, "'hidden_size'");
  with("hidden_size", nullptr, ErrorCode::kCorrupt, "'hidden_size' is missing");
  with("num_hidden_layers", 5'000'000'000, ErrorCode::kCorrupt, "'num_hidden_layers'");
  with("num_hidden_layers", 7, ErrorCode::kCorrupt, "blk.2.attn_norm.weight is missing");
  with("num_hidden_layers", 1, ErrorCode::kCorrupt, "two tensors of the name");
  with("partial_rotary_factor", 1.5, ErrorCode::kCorrupt, "'partial_rotary_factor'");
  with("rms_norm_eps", nullptr, ErrorCode::kCorrupt, "'rms_norm_eps'");
}

TEST_F(HuggingFaceTest, TensorsThatDoNotBelongOrHaveTheWrongFormAreNamed) {
  Take(TinyModel(kMimo), /*phi=*/false);
  tensors_["model.layers.0.self_attn.q_norm.weight"] = {{2}, "F32", {1, 2}};
  ExpectError(ErrorCode::kUnsupported, "model.layers.0.self_attn.q_norm.weight has no place");
  tensors_.erase("model.layers.0.self_attn.q_norm.weight");
  tensors_["model.layers.01.mlp.down_proj.weight"] = {{2}, "F32", {1, 2}};
  ExpectError(ErrorCode::kUnsupported, "model.layers.01.mlp.down_proj.weight has no place");
  tensors_.erase("model.layers.01.mlp.down_proj.weight");
  tensors_["model.norm.weight"].shape = {4, 4, 4};
  ExpectError(ErrorCode::kUnsupported, "model.norm.weight is F32 of shape [4, 4, 4]");
  tensors_["model.norm.weight"].shape = {64};
  tensors_.erase("lm_head.weight");
  ExpectError(ErrorCode::kCorrupt, "lm_head.weight is missing");
}

TEST_F(HuggingFaceTest, AFolderWithoutAConfigIsNoModel) {
  EXPECT_FALSE(IsHuggingFaceFolder(dir_.path()));
  EXPECT_EQ(OpenHuggingFace(dir_.path()).error().code, ErrorCode::kNotFound);
  WriteFile("config.json", "[]");
  EXPECT_EQ(OpenHuggingFace(dir_.path()).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(HuggingFaceFiles(dir_.path()).error().code, ErrorCode::kNotFound);
}

// The second demo model is there as a folder in BF16 and as a GGUF file in Q4_0.
TEST(HuggingFaceDemoTest, FolderAndGgufFileAreTheSameModelAndTokenizer) {
  const fs::path models = fs::path(TANDEM_SOURCE_DIR) / "models/demo";
  const auto folder = OpenHuggingFace(models / "tandem-demo-mtp");
  ASSERT_TRUE(folder) << folder.error().message;
  const auto file = gguf::File::Open(models / "tandem-demo-mtp-q4_0.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const auto a = Model::Load(*folder);
  const auto b = Model::Load(*file);
  ASSERT_TRUE(a && b);
  EXPECT_EQ((*a)->hyperparameters().n_mtp_layers, 1);
  EXPECT_EQ((*a)->hyperparameters().n_layers, (*b)->hyperparameters().n_layers);
  EXPECT_NEAR((*a)->hyperparameters().rope_theta, (*b)->hyperparameters().rope_theta, 0.01);
  // Norms are F32 in one and BF16 in the other.
  EXPECT_NEAR((*a)->weights().mtp->token_norm[5], (*b)->weights().mtp->token_norm[5], 0.01);
  EXPECT_NEAR((*a)->weights().mtp->hidden_norm[5], (*b)->weights().mtp->hidden_norm[5], 0.01);
  const auto words = VocabularyFromGguf(**folder);
  const auto expected = VocabularyFromGguf(**file);
  ASSERT_TRUE(words && expected) << (words ? "" : words.error().message);
  EXPECT_EQ(words->chat_template, expected->chat_template);
  EXPECT_EQ(words->eos, expected->eos);
  EXPECT_EQ(words->bos, expected->bos);
  EXPECT_EQ(words->types, expected->types);
  ASSERT_EQ(words->tokens.size(), expected->tokens.size());
  for (size_t i = 0; i < words->tokens.size(); ++i) {
    ASSERT_EQ(words->tokens[i], expected->tokens[i]);
  }
  ASSERT_EQ(words->merges.size(), expected->merges.size());
}

}  // namespace
}  // namespace tandem::model
