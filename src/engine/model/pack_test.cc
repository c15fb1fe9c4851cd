// Packages made of small random models: what is in them, and what they compute.
#include "engine/model/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/kernels/fine_plane.h"
#include "engine/kernels/kernels.h"
#include "engine/model/testing/tiny_model.h"
#include "engine/model/weights.h"
#include "engine/package/testing/small_package.h"
#include "engine/quant/codec.h"
#include "engine/quant/half.h"
#include "os/cpu.h"
#include "os/testing/temp_dir.h"

namespace tandem::model {
namespace {

using kernels::Scheme;
using quant::Type;
using ::testing::HasSubstr;

std::unique_ptr<ops::ThreadPool> Pool(int n_threads) {
  return ops::ThreadPool::Create(n_threads, 2).value();
}

// A tiny model and its package, both open.
struct Packed {
  TinyModel tiny;
  std::shared_ptr<const gguf::File> source;
  std::shared_ptr<const Model> float_model;
  package::AlignedBytes bytes;
  std::shared_ptr<const package::File> file;
  std::shared_ptr<const Model> model;

  explicit Packed(const TinyOptions& options, PackScheme scheme = PackScheme::kAuto,
                  int n_threads = 1)
      : tiny(options),
        source(tiny.File()),
        float_model(Model::Load(source).value()),
        bytes(PackInMemory(*source, *float_model, *Pool(n_threads), scheme).value()),
        file(package::File::Parse(bytes.bytes(), "tiny.tandem").value()) {
    auto loaded = Model::Load(file);
    EXPECT_TRUE(loaded) << loaded.error().message;
    model = *loaded;
  }
};

std::vector<TinyOptions> Shapes() {
  return {{.long_rope = true},
          {.split = true, .tied_head = false},
          // Heads, widths and vocabulary that are no multiples of 16 or 128.
          {.n_heads = 3, .n_kv_heads = 1, .head_dim = 24, .d_model = 72, .d_ff = 100},
          {.architecture = Architecture::kQwen2, .tied_head = false, .rotary_dim = 16}};
}

std::vector<int32_t> Tokens(int n, int vocab_size) {
  std::vector<int32_t> ids(n);
  for (int i = 0; i < n; ++i) ids[i] = (i * i * 31 + i * 7 + 7) % vocab_size;
  return ids;
}

// Logits of all tokens in steps of `chunk`.
std::vector<float> LogitsOf(const std::shared_ptr<const Model>& model, ops::ThreadPool* pool,
                            std::span<const int32_t> tokens, size_t chunk) {
  auto forward = Forward::Create(model, pool, {.max_tokens = 64, .max_logit_rows = 64}).value();
  auto cache =
      KvCache::Create(model->hyperparameters(), {.context_tokens = 128, .type = KvType::kF32})
          .value();
  const size_t vocab_size = model->hyperparameters().vocab_size;
  std::vector<float> logits(tokens.size() * vocab_size);
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t n = std::min(chunk, tokens.size() - begin);
    const BatchEntry entry{cache.get(), tokens.subspan(begin, n), static_cast<int>(n)};
    const Status status = forward->Step({&entry, 1}, std::span(logits).subspan(begin * vocab_size));
    EXPECT_TRUE(status) << status.error().message;
  }
  return logits;
}

double RelativeRms(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  double reference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    reference += double{b[i]} * b[i];
  }
  return std::sqrt(squares / reference);
}

TEST(PackTest, EveryShapeLoadsAndNamesItsTensors) {
  for (const TinyOptions& options : Shapes()) {
    const Packed packed(options);
    EXPECT_TRUE(packed.model->packed());
    EXPECT_FALSE(packed.float_model->packed());
    EXPECT_EQ(packed.model->tied_head(), options.tied_head);
    EXPECT_EQ(packed.model->hyperparameters().vocab_size, options.vocab_size);
    EXPECT_EQ(packed.model->hyperparameters().n_layers, options.n_layers);
    EXPECT_EQ(packed.model->hyperparameters().name, "tiny");
    EXPECT_EQ(packed.model->weights_bytes(),
              PackedWeightsBytes(*packed.float_model, PackScheme::kAuto));
    EXPECT_TRUE(packed.file->Verify({}, {}));
    EXPECT_NE(packed.file->Find("blk.1.ffn_gate_up.weight"), nullptr);
    EXPECT_EQ(packed.file->Find("output.weight") == nullptr, options.tied_head);
    EXPECT_TRUE(packed.file->tokenizer().empty());  // tiny models have none
  }
}

// Eight bits for weights and activations: half steps of 1 / 127 of a group's largest value, which
// is some 2.6 standard deviations; 0.29 steps in the rms, so 0.6 % from activations and as much
// from weights. Errors of the stages of a layer (seven products, of which five lie in a row) add up
// like a random walk, and scores of an rms below 3 multiply theirs.
constexpr double kInt8StageError = 0.0085;
double Int8Tolerance(int n_layers) {
  return 3 * kInt8StageError * std::sqrt(5.0 * n_layers + 1) * 1.5;
}

TEST(PackTest, Int8PackageOfFloatsComputesTheModelToItsRounding) {
  const auto pool = Pool(2);
  for (const TinyOptions& options : Shapes()) {
    for (const Type type : {Type::kF32, Type::kF16}) {
      TinyOptions typed = options;
      typed.type = type;
      const Packed packed(typed);
      const std::vector<int32_t> tokens = Tokens(40, options.vocab_size);
      const double error = RelativeRms(LogitsOf(packed.model, pool.get(), tokens, 64),
                                       LogitsOf(packed.float_model, pool.get(), tokens, 64));
      EXPECT_LT(error, Int8Tolerance(options.n_layers));
      EXPECT_GT(error, kInt8StageError / 4);  // it is another computation
    }
  }
}

TEST(PackTest, FewerBitsLoseMore) {
  const auto pool = Pool(1);
  const TinyOptions options{.type = Type::kF32};
  const std::vector<int32_t> tokens = Tokens(40, options.vocab_size);
  std::map<PackScheme, double> error;
  for (const PackScheme scheme :
       {PackScheme::kInt8G32, PackScheme::kInt8G128, PackScheme::kInt4G32, PackScheme::kInt4G128}) {
    const Packed packed(options, scheme);
    error[scheme] = RelativeRms(LogitsOf(packed.model, pool.get(), tokens, 64),
                                LogitsOf(packed.float_model, pool.get(), tokens, 64));
  }
  EXPECT_LT(error[PackScheme::kInt8G32], error[PackScheme::kInt8G128]);
  EXPECT_LT(error[PackScheme::kInt8G128], error[PackScheme::kInt4G32] / 4);
  EXPECT_LT(error[PackScheme::kInt8G128], error[PackScheme::kInt4G128] / 4);
  EXPECT_LT(error[PackScheme::kInt4G32], 0.5);
  EXPECT_LT(error[PackScheme::kInt4G128], 0.5);
}

TEST(PackTest, ChunksThreadsAndKernelsOfProductsDoNotChangeABit) {
  for (const PackScheme scheme :
       {PackScheme::kInt4, PackScheme::kAuto, PackScheme::kInt4Planes, PackScheme::kInt8G32}) {
    for (const TinyOptions& options : Shapes()) {
      const Packed packed(options, scheme);
      const std::vector<int32_t> tokens = Tokens(40, options.vocab_size);
      const auto one = Pool(1);
      const std::vector<float> whole = LogitsOf(packed.model, one.get(), tokens, 64);
      const auto expect_same = [&](const std::vector<float>& logits, const std::string& what) {
        EXPECT_EQ(std::memcmp(logits.data(), whole.data(), whole.size() * sizeof(float)), 0)
            << what;
      };
      for (const size_t chunk : {1, 2, 3, 5, 7, 8, 9, 13}) {
        expect_same(LogitsOf(packed.model, one.get(), tokens, chunk),
                    fmt::format("steps of {}", chunk));
      }
      for (const int n_threads : {2, 3}) {
        const auto more = Pool(n_threads);
        expect_same(LogitsOf(packed.model, more.get(), tokens, 64),
                    fmt::format("{} threads", n_threads));
        expect_same(LogitsOf(packed.model, more.get(), tokens, 1),
                    fmt::format("{} threads", n_threads));
      }
      // The scalar reference of the integer products below the same attention.
      kernels::KernelSet mixed = packed.model->kernels();
      mixed.tiles = kernels::ScalarKernels().tiles;
      const auto reference = Model::Load(packed.file, {.kernels = &mixed}).value();
      expect_same(LogitsOf(reference, one.get(), tokens, 7), "scalar products");
    }
  }
}

TEST(PackTest, SequencesOfABatchDoNotDisturbEachOther) {
  const Packed packed({}, PackScheme::kInt4);
  const auto pool = Pool(2);
  const int vocab_size = packed.tiny.options().vocab_size;
  const Hyperparameters& h = packed.model->hyperparameters();
  auto forward =
      Forward::Create(packed.model, pool.get(), {.max_tokens = 64, .max_logit_rows = 8}).value();
  // Sequences of other lengths, decoding and prefilling in the same step.
  const std::vector<int32_t> tokens = Tokens(30, vocab_size);
  for (size_t n_sequences = 1; n_sequences <= 8; ++n_sequences) {
    std::vector<std::unique_ptr<KvCache>> caches;
    std::vector<BatchEntry> batch;
    for (size_t s = 0; s < n_sequences; ++s) {
      caches.push_back(KvCache::Create(h, {.context_tokens = 128, .type = KvType::kInt8}).value());
      batch.push_back({caches.back().get(), std::span(tokens).subspan(s, 1 + s % 3 * 5), 1});
    }
    std::vector<float> together(n_sequences * vocab_size);
    ASSERT_TRUE(forward->Step(batch, together));
    for (size_t s = 0; s < n_sequences; ++s) {
      auto cache = KvCache::Create(h, {.context_tokens = 128, .type = KvType::kInt8}).value();
      const BatchEntry alone{cache.get(), batch[s].token_ids, 1};
      std::vector<float> logits(vocab_size);
      ASSERT_TRUE(forward->Step({&alone, 1}, logits));
      EXPECT_EQ(
          std::memcmp(logits.data(), together.data() + s * vocab_size, vocab_size * sizeof(float)),
          0)
          << s << " of " << n_sequences;
    }
  }
}

// A row of a matrix of the model as floats, decoded from the source.
std::vector<float> SourceRow(const Packed& packed, const std::string& name, int64_t row,
                             int64_t n_cols) {
  const std::vector<double> values = packed.tiny.Decoded(name);
  return {values.begin() + row * n_cols, values.begin() + (row + 1) * n_cols};
}

TEST(PackTest, Q4_0AndQ8_0AreKeptExactly) {
  for (const auto& [type, scheme] :
       {std::pair(Type::kQ4_0, Scheme::kInt4G32), std::pair(Type::kQ8_0, Scheme::kInt8G32)}) {
    for (const bool split : {false, true}) {
      const Packed packed({.type = type, .split = split});
      for (const package::Tensor& tensor : packed.file->tensors()) {
        EXPECT_EQ(tensor.scheme, scheme) << tensor.name;
        EXPECT_EQ(tensor.relative_error, 0) << tensor.name;
        EXPECT_EQ(tensor.source, quant::GetType(type).name);
      }
      std::vector<float> row(64);
      const package::Tensor* embedding = packed.file->Find("token_embd.weight");
      for (int64_t r = 0; r < 50; ++r) {
        kernels::UnpackRow(scheme, embedding->data, r, 64, row.data());
        EXPECT_EQ(row, SourceRow(packed, "token_embd.weight", r, 64)) << r;
      }
      // Strips of gate and up in turn.
      const package::Tensor* gate_up = packed.file->Find("blk.0.ffn_gate_up.weight");
      for (int64_t r = 0; r < 96; ++r) {
        kernels::UnpackRow(scheme, gate_up->data, r / 16 * 32 + r % 16, 64, row.data());
        EXPECT_EQ(row, split ? SourceRow(packed, "blk.0.ffn_gate.weight", r, 64)
                             : SourceRow(packed, "blk.0.ffn_up.weight", r, 64));
        kernels::UnpackRow(scheme, gate_up->data, r / 16 * 32 + 16 + r % 16, 64, row.data());
        EXPECT_EQ(row, split ? SourceRow(packed, "blk.0.ffn_up.weight", r, 64)
                             : SourceRow(packed, "blk.0.ffn_up.weight", 96 + r, 64));
      }
      // q, then k, then v.
      const package::Tensor* qkv = packed.file->Find("blk.1.attn_qkv.weight");
      for (const int64_t r : {0, 95, 96, 127, 128, 159}) {
        kernels::UnpackRow(scheme, qkv->data, r, 64, row.data());
        const std::string part = r < 96 ? "q" : r < 128 ? "k" : "v";
        const int64_t first = r < 96 ? 0 : r < 128 ? 96 : 128;
        EXPECT_EQ(row, split ? SourceRow(packed, "blk.1.attn_" + part + ".weight", r - first, 64)
                             : SourceRow(packed, "blk.1.attn_qkv.weight", r, 64));
      }
    }
  }
}

TEST(PackTest, AutoKeepsAboutTheBitsOfTheSource) {
  const std::map<Type, Scheme> expected = {
      {Type::kF32, Scheme::kInt8G128},  {Type::kF16, Scheme::kInt8G128},
      {Type::kBF16, Scheme::kInt8G128}, {Type::kQ8_0, Scheme::kInt8G32},
      {Type::kQ4_0, Scheme::kInt4G32},  {Type::kQ4_1, Scheme::kInt4G32},
      {Type::kQ5_0, Scheme::kInt8G128}, {Type::kQ4_K, Scheme::kInt4G32},
      {Type::kQ5_K, Scheme::kInt8G128}, {Type::kQ6_K, Scheme::kInt8G128},
      {Type::kIQ4_NL, Scheme::kInt4G32}};
  for (const auto& [type, scheme] : expected) {
    const Packed packed(
        {.type = type, .n_layers = 1, .n_heads = 16, .n_kv_heads = 4, .d_model = 256, .d_ff = 256});
    for (const package::Tensor& tensor : packed.file->tensors()) {
      // The head stands in two planes where one of 4 bits would lose something, and 8 are too many.
      const bool is_head = tensor.name.starts_with("token_embd");
      const bool in_planes = is_head && type != Type::kQ4_0 && type != Type::kQ8_0;
      if (is_head) {
        EXPECT_EQ(packed.file->Find("token_embd.weight.fine") != nullptr, in_planes);
      }
      if (in_planes) continue;
      EXPECT_EQ(tensor.scheme, scheme) << tensor.name << " of " << tensor.source;
      EXPECT_LT(tensor.relative_error, 0.1) << tensor.name << " of " << tensor.source;
    }
    const package::Tensor* fine = packed.file->Find("token_embd.weight.fine");
    if (fine == nullptr) continue;
    const package::Tensor* coarse = packed.file->Find("token_embd.weight");
    EXPECT_EQ(coarse->scheme, Scheme::kInt4G128);
    const bool is_float = type == Type::kF32 || type == Type::kF16 || type == Type::kBF16;
    EXPECT_EQ(fine->fine_bits, is_float ? 4 : 3);
    EXPECT_LT(fine->relative_error, is_float ? 0.008 : 0.016);
    EXPECT_LT(coarse->relative_error, 0.13);
    EXPECT_EQ(fine->source, coarse->source);
  }
}

TEST(PackTest, PartsOfDifferentTypesStayApartOrTakeTheFinest) {
  TinyModel tiny({.type = Type::kQ4_0, .split = true, .n_layers = 1});
  tiny.At("blk.0.attn_v.weight").type = Type::kF16;
  tiny.At("blk.0.ffn_up.weight").type = Type::kQ8_0;
  const auto source = tiny.File();
  const auto model = Model::Load(source).value();
  const package::AlignedBytes bytes(
      PackInMemory(*source, *model, *Pool(1), PackScheme::kAuto).value());
  const auto file = package::File::Parse(bytes.bytes(), "mixed").value();
  EXPECT_EQ(file->Find("blk.0.attn_qkv.weight"), nullptr);
  EXPECT_EQ(file->Find("blk.0.attn_q.weight")->scheme, Scheme::kInt4G32);
  EXPECT_EQ(file->Find("blk.0.attn_v.weight")->scheme, Scheme::kInt8G32);  // groups as long as q's
  EXPECT_EQ(file->Find("blk.0.ffn_gate_up.weight")->scheme, Scheme::kInt8G32);
  EXPECT_EQ(file->Find("blk.0.ffn_gate_up.weight")->source, "Q4_0, Q8_0");
  const auto packed = Model::Load(file);
  ASSERT_TRUE(packed) << packed.error().message;
  const std::vector<int32_t> tokens = Tokens(20, 50);
  const auto pool = Pool(1);
  EXPECT_LT(RelativeRms(LogitsOf(*packed, pool.get(), tokens, 64),
                        LogitsOf(model, pool.get(), tokens, 64)),
            Int8Tolerance(1));
}

TEST(PackTest, EmbeddingThatIsNoHeadStandsInRows) {
  const TinyOptions options{.type = Type::kF16, .tied_head = false};
  const Packed packed(options);
  const package::Tensor* embedding = packed.file->Find("token_embd.weight");
  EXPECT_EQ(embedding->layout, package::Layout::kRows);
  EXPECT_EQ(embedding->type, Type::kQ8_0);
  EXPECT_GT(embedding->relative_error, 0);
  EXPECT_LT(embedding->relative_error, 0.01);
  const package::Tensor* fine = packed.file->Find("output.weight.fine");
  EXPECT_EQ(packed.model->bytes_per_token(),
            packed.model->weights_bytes() - embedding->n_bytes - fine->n_bytes - 4 * fine->n_rows);
}

TEST(PackTest, EmbeddingInTwoPlanesIsItsRowsOfTheSource) {
  const Packed packed({.type = Type::kF16, .d_model = 72});
  const package::Tensor* coarse = packed.file->Find("token_embd.weight");
  const package::Tensor* fine = packed.file->Find("token_embd.weight.fine");
  ASSERT_NE(fine, nullptr);
  const auto* norms =
      reinterpret_cast<const float*>(packed.file->Find("token_embd.weight.fine_norm")->data);
  std::vector<float> row(72);
  std::vector<float> coarse_row(72);
  for (int64_t r = 0; r < coarse->n_rows; ++r) {
    kernels::UnpackRowInPlanes(coarse->scheme, coarse->data, fine->fine_bits, fine->data, r, 72,
                               row.data());
    kernels::UnpackRow(coarse->scheme, coarse->data, r, 72, coarse_row.data());
    const std::vector<float> source = SourceRow(packed, "token_embd.weight", r, 72);
    double left = 0;
    for (int c = 0; c < 72; ++c) {
      ASSERT_NEAR(row[c], source[c], 0.006)
          << r;  // half of 1 / 119 of the largest, 0.5, and a half
      left += std::pow(double{row[c]} - coarse_row[c], 2);
    }
    EXPECT_GE(norms[r], std::sqrt(left));
    EXPECT_LT(norms[r], std::sqrt(left) * 1.0001 + 1e-6);
  }
  EXPECT_EQ(packed.model->bytes_per_token() + fine->n_bytes + 4 * coarse->n_rows,
            packed.model->weights_bytes());
}

// The largest logits of a scan are those of both planes, whatever the batch, bit for bit.
TEST(PackTest, WantingTheLargestGivesTheLargestOfAll) {
  for (const TinyOptions& options :
       {TinyOptions{.type = Type::kF16, .vocab_size = 3000},
        TinyOptions{.type = Type::kF16, .tied_head = false, .vocab_size = 3000}}) {
    const Packed packed(options, PackScheme::kInt4Planes);
    ASSERT_FALSE(packed.model->weights().head.fine.empty());
    const auto pool = Pool(2);
    const int vocab_size = options.vocab_size;
    const std::vector<int32_t> tokens = Tokens(40, vocab_size);
    const std::vector<float> all = LogitsOf(packed.model, pool.get(), tokens, 64);
    auto forward =
        Forward::Create(packed.model, pool.get(), {.max_tokens = 64, .max_logit_rows = 8}).value();
    const std::vector<int32_t> excluded = {0, 17, 2999};
    for (const int top : {1, 5, 64}) {
      for (const size_t chunk : {1, 3, 8}) {
        auto cache = KvCache::Create(packed.model->hyperparameters(),
                                     {.context_tokens = 128, .type = KvType::kF32})
                         .value();
        for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
          const size_t n = std::min(chunk, tokens.size() - begin);
          std::vector<float> logits(n * vocab_size);
          const BatchEntry entry{
              .cache = cache.get(),
              .token_ids = std::span(tokens).subspan(begin, n),
              .n_logit_rows = static_cast<int>(n),
              .wanted = {.top = top, .excluded = excluded, .n_ids = vocab_size - 2}};
          ASSERT_TRUE(forward->Step({&entry, 1}, logits));
          for (size_t t = 0; t < n; ++t) {
            std::vector<float> want(all.begin() + (begin + t) * vocab_size,
                                    all.begin() + (begin + t + 1) * vocab_size);
            for (const int32_t id : {0, 17, vocab_size - 2, vocab_size - 1}) {
              want[id] = -std::numeric_limits<float>::infinity();
            }
            const float* got = logits.data() + t * vocab_size;
            std::vector<int32_t> by_want(vocab_size);
            std::iota(by_want.begin(), by_want.end(), 0);
            std::vector<int32_t> by_got = by_want;
            const auto order = [top](std::vector<int32_t>* ids, const float* values) {
              std::ranges::partial_sort(*ids, ids->begin() + top, [values](int32_t a, int32_t b) {
                return values[a] != values[b] ? values[a] > values[b] : a < b;
              });
              ids->resize(top);
            };
            order(&by_want, want.data());
            order(&by_got, got);
            ASSERT_EQ(by_got, by_want) << "position " << begin + t;
            for (const int32_t id : by_want) ASSERT_EQ(got[id], want[id]);
          }
        }
      }
    }
    EXPECT_EQ(forward->scan_counts().n_scans, 3 * 3 * 40);
    EXPECT_LE(forward->scan_counts().n_outside, forward->scan_counts().n_widened);
  }
}

TEST(PackTest, MoreThanTheLargestThatAHeadCanGiveIsAnError) {
  const Packed packed({.type = Type::kF16});
  const auto pool = Pool(1);
  auto forward = Forward::Create(packed.model, pool.get(), {.max_tokens = 4, .max_logit_rows = 4});
  auto cache = KvCache::Create(packed.model->hyperparameters(), {.context_tokens = 8}).value();
  const std::vector<int32_t> tokens = {1, 2};
  std::vector<float> logits(packed.tiny.options().vocab_size);
  for (const int top : {-1, 65}) {
    const BatchEntry entry{
        .cache = cache.get(), .token_ids = tokens, .n_logit_rows = 1, .wanted = {.top = top}};
    const Status status = (*forward)->Step({&entry, 1}, logits);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(PackTest, BytesDoNotDependOnThreads) {
  const TinyOptions options{.type = Type::kF32};
  const Packed one(options, PackScheme::kInt4, 1);
  const Packed three(options, PackScheme::kInt4, 3);
  EXPECT_TRUE(std::ranges::equal(one.bytes.bytes(), three.bytes.bytes()));
}

TEST(PackTest, NormsSayWhichColumnsMatter) {
  TinyModel tiny({.type = Type::kF32, .n_layers = 1});
  std::vector<float>& norm = tiny.At("blk.0.ffn_norm.weight").values;
  for (size_t i = 0; i < norm.size(); ++i) norm[i] = i < 4 ? 100.0F : 0.01F;
  const auto source = tiny.File();
  const auto model = Model::Load(source).value();
  const package::AlignedBytes bytes(
      PackInMemory(*source, *model, *Pool(1), PackScheme::kInt4G128).value());
  const auto file = package::File::Parse(bytes.bytes(), "weighted").value();
  const package::Tensor* gate_up = file->Find("blk.0.ffn_gate_up.weight");
  const std::vector<double> values = tiny.Decoded("blk.0.ffn_up.weight");
  double heavy = 0;
  double light = 0;
  std::vector<float> row(64);
  for (int64_t r = 0; r < 96; ++r) {
    kernels::UnpackRow(gate_up->scheme, gate_up->data, r / 16 * 32 + r % 16, 64, row.data());
    for (int c = 0; c < 64; ++c) {
      const double difference = row[c] - values[r * 64 + c];
      (c < 4 ? heavy : light) += difference * difference / (c < 4 ? 4 : 60);
    }
  }
  EXPECT_LT(heavy, light / 4);
}

TEST(PackTest, WeightsThatAreNotFiniteAreNamed) {
  TinyModel tiny({.type = Type::kF32});
  tiny.At("blk.1.ffn_down.weight").values[5 * 96 + 3] = std::numeric_limits<float>::quiet_NaN();
  const auto source = tiny.File();
  const auto model = Model::Load(source).value();
  const auto packed = PackInMemory(*source, *model, *Pool(2), PackScheme::kInt4);
  ASSERT_FALSE(packed);
  EXPECT_EQ(packed.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(packed.error().message, HasSubstr("blk.1.ffn_down.weight: row 5"));
}

TEST(PackTest, APackageIsNotPackedAgain) {
  const Packed packed({});
  const auto again = PackInMemory(*packed.source, *packed.model, *Pool(1), PackScheme::kAuto);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kInvalidArgument);
}

TEST(PackTest, ReportSaysWhatTheFileHolds) {
  TinyModel tiny({.type = Type::kF32, .tied_head = false});
  const auto source = tiny.File();
  const auto model = Model::Load(source).value();
  const os::TempDir dir;
  uint64_t done = 0;
  const auto report = Pack(*source, *model, *Pool(1), dir.path() / "p",
                           {.scheme = PackScheme::kInt4,
                            .progress = [&](uint64_t d, uint64_t) { done = d; },
                            .stop = {}});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->n_bytes, std::filesystem::file_size(dir.path() / "p"));
  EXPECT_GT(done, 0U);
  const auto file = package::File::Open(dir.path() / "p").value();
  ASSERT_EQ(report->tensors.size(), file->tensors().size());
  for (size_t i = 0; i < report->tensors.size(); ++i) {
    EXPECT_EQ(report->tensors[i].relative_error, file->tensors()[i].relative_error);
  }
  // Columns are 64, 96 and 96, in tiles of 128: up to twice int4g128's 4.125 bits. The table is
  // Q8_0.
  EXPECT_GT(report->bits_per_read_weight, 5);
  EXPECT_LT(report->bits_per_read_weight, 2 * 4.5);
  EXPECT_NE(report->bits_per_weight, report->bits_per_read_weight);
}

TEST(PackTest, SchemesHaveNames) {
  EXPECT_EQ(ParsePackScheme("auto").value(), PackScheme::kAuto);
  EXPECT_EQ(ParsePackScheme("int4").value(), PackScheme::kInt4);
  EXPECT_EQ(ParsePackScheme("int8g32").value(), PackScheme::kInt8G32);
  const auto unknown = ParsePackScheme("int3");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("int4g32"));
}

// The package with other tensors or keys: what a forged file could hold.
Status LoadForged(const Packed& packed,
                  const std::function<void(std::vector<package::Tensor>*)>& change) {
  std::vector<package::Tensor> tensors = packed.file->tensors();
  change(&tensors);
  gguf::Writer model;
  for (const gguf::KeyValue& entry : packed.file->model()->metadata()) model.Copy(entry);
  for (const gguf::Tensor& vector : packed.file->model()->tensors()) {
    model.AddTensor(vector.name, vector.type, std::span(vector.dims).first(1), vector.bytes());
  }
  package::Writer writer(model.FinishInMemory().value());
  for (const package::Tensor& tensor : tensors) {
    writer.Add(tensor, package::FillWith(0), package::Place::kBehind);
  }
  const package::AlignedBytes bytes(writer.FinishInMemory().value());
  const auto file = package::File::Parse(bytes.bytes(), "forged").value();
  const auto model_or = Model::Load(file);
  if (!model_or) return std::unexpected(model_or.error());
  return {};
}

TEST(PackTest, PackagesThatFitNoArchitectureAreRefusedByName) {
  const Packed packed({.tied_head = false});
  const auto find = [](std::vector<package::Tensor>* tensors, std::string_view name) {
    return std::ranges::find(*tensors, name, &package::Tensor::name);
  };
  ASSERT_TRUE(LoadForged(packed, [](auto*) {}));
  for (const package::Tensor& tensor : packed.file->tensors()) {
    if (tensor.name == "output.weight") continue;  // below
    const Status missing =
        LoadForged(packed, [&](auto* tensors) { tensors->erase(find(tensors, tensor.name)); });
    ASSERT_FALSE(missing) << tensor.name;
    EXPECT_EQ(missing.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(missing.error().message, HasSubstr("forged: "));
    const Status taller =
        LoadForged(packed, [&](auto* tensors) { find(tensors, tensor.name)->n_rows += 16; });
    ASSERT_FALSE(taller) << tensor.name;
    EXPECT_THAT(taller.error().message, HasSubstr(tensor.name));
  }
  // Without a head the embedding must be one, and a head cannot be looked up row by row.
  const Status headless =
      LoadForged(packed, [&](auto* tensors) { tensors->erase(find(tensors, "output.weight")); });
  ASSERT_FALSE(headless);
  EXPECT_THAT(headless.error().message, HasSubstr("token_embd.weight"));
  const Status rows = LoadForged(packed, [&](auto* tensors) {
    find(tensors, "output.weight")->layout = package::Layout::kRows;
  });
  ASSERT_FALSE(rows);
  EXPECT_THAT(rows.error().message, HasSubstr("strips"));
  const Status extra = LoadForged(packed, [&](auto* tensors) {
    tensors->push_back(package::StripsTensor("blk.9.extra", Scheme::kInt4G128, 16, 128));
  });
  ASSERT_FALSE(extra);
  EXPECT_THAT(extra.error().message, HasSubstr("blk.9.extra"));
}

}  // namespace
}  // namespace tandem::model
