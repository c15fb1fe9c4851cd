// Logits of every file in ../shared/golden against its float64 reference, which was computed by an
// independent program over the same (dequantised) weights; README.md there says how.
//
// What may differ is float32 rounding alone, whatever the weight type, because activations stay
// float and weights are dequantised exactly. How much, with u = 2^-24:
//
//   A dot product of K terms in 8 lanes makes K / 8 additions a lane. If the partial sums grow like
//   a random walk, the relative rms error is u sqrt(K / 8 / 6), below 3.3 u for K = 512. The other
//   operations (norm, rotation, exp, silu, residual) are a few roundings, below 3 u each.
//   A layer has about ten such stages in a row (norm, qkv, rotation, scores, softmax, values,
//   output; norm, gate/up, silu, down): sqrt(10) * 3.3 u = 10 u. An error of a score of magnitude s
//   is a relative error s times as large of its attention weight; scores here have an rms of 2.7
//   (the largest is 14): 2.7 * 3.3 u = 9 u. Together 13.5 u a layer, 20 u after two layers and the
//   head.
//
// That is an estimate of an rms, so a file passes below three times it: 60 u = 3.6e-6 of the rms
// logit, where llama.cpp has 1e-5 on F32 files and 2e-2 on quantised ones. No single one of the
// some 10^5 logits may be beyond 8 standard deviations of that (the logits' own spread gives
// heavier tails than a normal distribution's 4.5).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/gguf/file.h"
#include "engine/kernels/kernels.h"
#include "engine/model/model.h"
#include "engine/model/pack.h"
#include "os/cpu.h"
#include "os/file.h"

namespace tandem::model {
namespace {

constexpr double kRelativeRms = 60 * 0x1p-24;
constexpr double kWorstInDeviations = 8;

std::filesystem::path GoldenDir() {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "../shared/golden";
}

// "phi4mini-micro-q4_0.long"
std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenDir(), none)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Golden {
  std::filesystem::path file;
  int context_tokens = 0;
  int vocab_size = 0;
  std::vector<int32_t> prompt;
  std::vector<int32_t> greedy;    // llama.cpp's
  std::vector<int32_t> tokens;    // prompt, then greedy
  std::vector<double> reference;  // [tokens, vocab_size]

  const double* Row(size_t i) const { return reference.data() + i * vocab_size; }
};

Golden Read(const std::string& name) {
  Golden golden;
  const auto text = os::ReadFile(GoldenDir() / (name + ".json"), 1 << 20);
  EXPECT_TRUE(text);
  const boost::json::object json = boost::json::parse(*text).as_object();
  golden.file = GoldenDir() / std::string(json.at("gguf").as_string());
  golden.context_tokens = json.at("n_ctx").to_number<int>();
  golden.vocab_size = json.at("vocab").to_number<int>();
  for (const auto& id : json.at("prompt").as_array()) {
    golden.prompt.push_back(id.to_number<int>());
  }
  for (const auto& id : json.at("greedy").as_array()) {
    golden.greedy.push_back(id.to_number<int>());
  }
  golden.tokens = golden.prompt;
  golden.tokens.insert(golden.tokens.end(), golden.greedy.begin(), golden.greedy.end());
  const auto bytes = os::ReadFile(GoldenDir() / (name + ".ref.f64"), 1 << 26);
  EXPECT_TRUE(bytes);
  golden.reference.resize(bytes->size() / sizeof(double));
  std::memcpy(golden.reference.data(), bytes->data(), bytes->size());
  EXPECT_EQ(golden.reference.size(), golden.tokens.size() * golden.vocab_size);
  return golden;
}

int ArgMax(const auto* row, int n) {
  return static_cast<int>(std::max_element(row, row + n) - row);
}

// Difference between the largest and the second largest.
double Margin(const double* row, int n) {
  const int best = ArgMax(row, n);
  double second = -INFINITY;
  for (int i = 0; i < n; ++i) {
    if (i != best) second = std::max(second, row[i]);
  }
  return row[best] - second;
}

struct Variant {
  const kernels::KernelSet* kernels = nullptr;  // null: the best
  int n_threads = 1;
  KvType kv_type = KvType::kF32;
};

// A model ready to step, with a cache.
struct Runner {
  std::unique_ptr<ops::ThreadPool> pool;
  std::shared_ptr<const Model> model;
  std::unique_ptr<Forward> forward;
  std::unique_ptr<KvCache> cache;

  Runner(const Golden& golden, const Variant& variant)
      : Runner(golden, variant, LoadFile(golden, variant)) {}

  Runner(const Golden& golden, const Variant& variant, std::shared_ptr<const Model> loaded) {
    pool = ops::ThreadPool::Create(variant.n_threads, os::UsableCpuCount()).value();
    model = std::move(loaded);
    forward =
        Forward::Create(model, pool.get(), {.max_tokens = 512, .max_logit_rows = 512}).value();
    cache = KvCache::Create(model->hyperparameters(),
                            {.context_tokens = golden.context_tokens, .type = variant.kv_type})
                .value();
  }

  static std::shared_ptr<const Model> LoadFile(const Golden& golden, const Variant& variant) {
    auto file = gguf::File::Open(golden.file);
    EXPECT_TRUE(file) << file.error().message;
    auto loaded = Model::Load(*file, {.kernels = variant.kernels});
    EXPECT_TRUE(loaded) << loaded.error().message;
    return *loaded;
  }

  // Logits [tokens, vocab_size] of tokens in steps of at most `chunk`.
  std::vector<float> Run(std::span<const int32_t> tokens, size_t chunk) {
    const size_t vocab_size = model->hyperparameters().vocab_size;
    std::vector<float> logits(tokens.size() * vocab_size);
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const size_t n = std::min(chunk, tokens.size() - begin);
      const BatchEntry entry{cache.get(), tokens.subspan(begin, n), static_cast<int>(n)};
      const Status status =
          forward->Step({&entry, 1}, std::span(logits).subspan(begin * vocab_size));
      EXPECT_TRUE(status) << status.error().message;
    }
    return logits;
  }
};

struct Deviation {
  double relative_rms = 0;
  double worst = 0;  // absolute
  double rms_logit = 0;
};

Deviation Compare(const std::vector<float>& logits, const std::vector<double>& reference) {
  double squares = 0;
  double reference_squares = 0;
  Deviation deviation;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = logits[i] - reference[i];
    squares += difference * difference;
    reference_squares += reference[i] * reference[i];
    // Written so that a NaN is kept.
    if (!(std::fabs(difference) <= deviation.worst)) deviation.worst = std::fabs(difference);
  }
  deviation.relative_rms = std::sqrt(squares / reference_squares);
  deviation.rms_logit = std::sqrt(reference_squares / static_cast<double>(reference.size()));
  return deviation;
}

TEST(GoldenFilesTest, ArePresent) {
  if (CaseNames().empty()) GTEST_SKIP() << "no ../shared/golden beside the repository";
  EXPECT_GE(CaseNames().size(), 20U);
}

class GoldenTest : public ::testing::TestWithParam<std::string> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenTest);
INSTANTIATE_TEST_SUITE_P(
    Files, GoldenTest, ::testing::ValuesIn(CaseNames()), [](const auto& instance) {
      std::string name = instance.param;
      std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
      return name;
    });

TEST_P(GoldenTest, LogitsAreTheReferenceToFloatRounding) {
  const Golden golden = Read(GetParam());
  for (const char* isa : {"", "scalar"}) {
    Runner runner(golden, {.kernels = kernels::Select(isa, os::HostCpu()).value()});
    const std::vector<float> logits = runner.Run(golden.tokens, 512);
    const Deviation deviation = Compare(logits, golden.reference);
    SCOPED_TRACE(kernels::IsaName(runner.model->kernels().isa));
    RecordProperty("relative_rms", fmt::format("{:.3g}", deviation.relative_rms));
    EXPECT_LT(deviation.relative_rms, kRelativeRms);
    EXPECT_LT(deviation.worst, kWorstInDeviations * kRelativeRms * deviation.rms_logit);
  }
}

// Two logits can change places if their margin is below what both may be off together.
double MarginThatDecides(const Golden& golden) {
  double squares = 0;
  for (const double logit : golden.reference) squares += logit * logit;
  const double rms = std::sqrt(squares / static_cast<double>(golden.reference.size()));
  return 2 * kWorstInDeviations * kRelativeRms * rms;
}

TEST_P(GoldenTest, EveryTokenThatTheReferencePrefersClearlyIsOurs) {
  const Golden golden = Read(GetParam());
  Runner runner(golden, {});
  const std::vector<float> logits = runner.Run(golden.tokens, 512);
  const double decides = MarginThatDecides(golden);
  size_t decided = 0;
  for (size_t i = 0; i < golden.tokens.size(); ++i) {
    if (Margin(golden.Row(i), golden.vocab_size) <= decides) continue;
    ++decided;
    EXPECT_EQ(ArgMax(logits.data() + i * golden.vocab_size, golden.vocab_size),
              ArgMax(golden.Row(i), golden.vocab_size))
        << "after token " << i;
  }
  EXPECT_GT(decided, golden.tokens.size() * 9 / 10) << "the test decides too little";
}

// Our own continuation, one token a step, for as long as llama.cpp's tokens are the reference's:
// its 8-bit activations take other turns on quantised files.
TEST_P(GoldenTest, GreedyContinuationIsTheReferences) {
  const Golden golden = Read(GetParam());
  Runner runner(golden, {});
  std::vector<float> logits = runner.Run(golden.prompt, 512);
  int32_t token =
      ArgMax(logits.data() + (golden.prompt.size() - 1) * golden.vocab_size, golden.vocab_size);
  const double decides = MarginThatDecides(golden);
  size_t compared = 0;
  for (size_t i = 0; i < golden.greedy.size(); ++i) {
    const double* row = golden.Row(golden.prompt.size() - 1 + i);
    if (Margin(row, golden.vocab_size) <= decides) break;
    EXPECT_EQ(token, ArgMax(row, golden.vocab_size)) << "token " << i;
    if (golden.greedy[i] != token) break;
    ++compared;
    logits = runner.Run({&token, 1}, 1);
    token = ArgMax(logits.data(), golden.vocab_size);
  }
  // Unquantised files have no excuse.
  if (GetParam().find("-f32") != std::string::npos ||
      GetParam().find("-f16") != std::string::npos) {
    EXPECT_EQ(compared, golden.greedy.size());
  } else {
    EXPECT_GE(compared, 1U);
  }
}

TEST_P(GoldenTest, ChunksAndThreadsDoNotChangeABit) {
  const Golden golden = Read(GetParam());
  const auto expect_same = [&](const kernels::KernelSet* kernels,
                               std::initializer_list<std::pair<int, size_t>> threads_and_chunks) {
    const std::vector<float> whole = Runner(golden, {.kernels = kernels}).Run(golden.tokens, 512);
    for (const auto& [n_threads, chunk] : threads_and_chunks) {
      const Variant variant{.kernels = kernels, .n_threads = n_threads};
      const std::vector<float> other = Runner(golden, variant).Run(golden.tokens, chunk);
      EXPECT_EQ(std::memcmp(other.data(), whole.data(), whole.size() * sizeof(float)), 0)
          << "chunks of " << chunk << " on " << n_threads << " threads";
    }
  };
  expect_same(kernels::Select("", os::HostCpu()).value(),
              {{1, 1}, {1, 2}, {1, 7}, {1, 67}, {2, 512}, {3, 5}, {4, 512}});
  expect_same(kernels::Select("scalar", os::HostCpu()).value(), {{1, 1}, {2, 7}});
}

// A cache in half precision rounds every key and value by 2^-12.3 of itself in the rms. With scores
// of 2.7 in the rms, attention weights are off by 2.7 * 2^-12.3, values by 2^-12.3: 2^-10.8 a
// layer, 2^-10.3 after two. Again three times that.
TEST_P(GoldenTest, HalfPrecisionCacheStaysWithinItsRounding) {
  const Golden golden = Read(GetParam());
  Runner runner(golden, {.kv_type = KvType::kF16});
  const Deviation deviation = Compare(runner.Run(golden.tokens, 512), golden.reference);
  EXPECT_LT(deviation.relative_rms, 3 * std::exp2(-10.3));
  // It does round: were it as good as f32, it would not be what it says.
  EXPECT_GT(deviation.relative_rms, kRelativeRms);
}

// Rounding to 8 bits, of Hadamard-rotated heads of 128: kEightBits below. Keys turn it into 2.7
// times as much of the attention weights, values add it: 1.7 % a layer, 2.4 % after two.
constexpr double kInt8Cache = 0.024;

// KL divergence of softmax(logits) from softmax(reference), in nats.
double Divergence(const float* logits, const float* reference, int n) {
  const auto log_sum = [n](const float* row) {
    const double max = *std::max_element(row, row + n);
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += std::exp(row[i] - max);
    return max + std::log(sum);
  };
  const double reference_sum = log_sum(reference);
  const double sum = log_sum(logits);
  double divergence = 0;
  for (int i = 0; i < n; ++i) {
    const double log_p = reference[i] - reference_sum;
    divergence += std::exp(log_p) * (log_p - (logits[i] - sum));
  }
  return divergence;
}

TEST_P(GoldenTest, Int8CacheStaysWithinItsRounding) {
  const Golden golden = Read(GetParam());
  const std::vector<float> exact = Runner(golden, {}).Run(golden.tokens, 512);
  const std::vector<float> logits =
      Runner(golden, {.kv_type = KvType::kInt8}).Run(golden.tokens, 512);
  const Deviation deviation = Compare(logits, golden.reference);
  RecordProperty("relative_rms", fmt::format("{:.3g}", deviation.relative_rms));
  EXPECT_LT(deviation.relative_rms, 2 * kInt8Cache);
  EXPECT_GT(deviation.relative_rms, kInt8Cache / 10);  // it is another computation
  // Logits that are off by e at random make a divergence of half the square of e; e is at most what
  // the bound above allows.
  double divergence = 0;
  int n_agree = 0;
  const int n = golden.vocab_size;
  for (size_t i = 0; i < golden.tokens.size(); ++i) {
    divergence += Divergence(logits.data() + i * n, exact.data() + i * n, n);
    n_agree += ArgMax(logits.data() + i * n, n) == ArgMax(exact.data() + i * n, n) ? 1 : 0;
  }
  const auto n_tokens = static_cast<double>(golden.tokens.size());
  const double off = 2 * kInt8Cache * deviation.rms_logit;
  RecordProperty("divergence", fmt::format("{:.3g}", divergence / n_tokens));
  RecordProperty("agreement", fmt::format("{:.3g}", n_agree / n_tokens));
  EXPECT_LT(divergence / n_tokens, off * off / 2);
  // As often as llama.cpp's 8-bit activations: 51 to 56 of 56.
  EXPECT_GE(n_agree, n_tokens * 51 / 56);
}

// ---- packages: integer products ----
//
// Rounding to 8 bits in groups of 128 steps by max|x| / 127, and the largest of 128 normal values
// is 2.65 deviations: an error of 2.65 / 127 / sqrt(12) = 0.6 % in the rms, of a product's
// activations and, where weights were floats, of its weights too: 0.85 % together. In a layer
// values, output, gate/up and down carry that; scores, with an rms of 2.7, turn the errors of q and
// k into 2.7 sqrt(2) times as much of their attention weights. Added like a random walk, two layers
// and the head: sqrt(2 (4 + 14.6) + 1) = 6.2 products' errors. That is an estimate of an rms; a
// file passes below twice it.
constexpr double kProductsInARow = 6.2;
constexpr double kEightBits = 0.006;

// The package of a golden file, its errors stated, and a model over it.
struct PackedRunner {
  std::unique_ptr<ops::ThreadPool> pool = ops::ThreadPool::Create(2, 2).value();
  std::vector<std::byte> bytes;  // with room to align
  std::shared_ptr<const package::File> file;

  explicit PackedRunner(const Golden& golden) {
    const auto source = gguf::File::Open(golden.file).value();
    const auto packed =
        PackInMemory(*source, *Model::Load(source).value(), *pool, PackScheme::kAuto).value();
    constexpr size_t kAlignment = kernels::kStripAlignment;
    bytes.resize(packed.size() + kAlignment);
    void* data = bytes.data();
    size_t space = bytes.size();
    std::memcpy(std::align(kAlignment, packed.size(), data, space), packed.data(), packed.size());
    file = package::File::Parse({static_cast<const std::byte*>(data), packed.size()}, "golden")
               .value();
  }

  double worst_weights() const {
    double worst = 0;
    for (const auto& tensor : file->tensors()) {
      // What strips leave over, their fine plane adds; it states the error of both.
      if (file->Find(tensor.name + ".fine") != nullptr) continue;
      worst = std::max(worst, tensor.relative_error);
    }
    return worst;
  }

  std::vector<float> Run(const Golden& golden, int n_threads, size_t chunk,
                         KvType kv_type = KvType::kF32) const {
    Runner runner(golden, {.n_threads = n_threads, .kv_type = kv_type}, Model::Load(file).value());
    return runner.Run(golden.tokens, chunk);
  }
};

TEST_P(GoldenTest, PackageStaysWithinTheRoundingOfEightBits) {
  const Golden golden = Read(GetParam());
  const PackedRunner packed(golden);
  const double weights = packed.worst_weights();
  const Deviation deviation = Compare(packed.Run(golden, 2, 512), golden.reference);
  RecordProperty("relative_rms", fmt::format("{:.3g}", deviation.relative_rms));
  EXPECT_LT(deviation.relative_rms, 2 * kProductsInARow * std::hypot(kEightBits, weights));
  EXPECT_GT(deviation.relative_rms, kEightBits / 2);  // it is another computation
  if (GetParam().find("-f16") != std::string::npos ||
      GetParam().find("-f32") != std::string::npos) {
    EXPECT_LT(weights, 1.1 * kEightBits);
  }
  // llama.cpp's int8 activations are off by an rms of 0.036 to 0.08 on files of its 4-bit types.
  if (weights == 0) EXPECT_LT(deviation.relative_rms * deviation.rms_logit, 0.08);
}

TEST_P(GoldenTest, ChunksAndThreadsDoNotChangeABitOfAPackage) {
  const Golden golden = Read(GetParam());
  const PackedRunner packed(golden);
  const std::vector<float> whole = packed.Run(golden, 1, 512);
  for (const auto& [n_threads, chunk] :
       {std::pair(1, 1), {1, 2}, {1, 7}, {2, 67}, {2, 512}, {3, 5}, {4, 512}}) {
    const std::vector<float> other = packed.Run(golden, n_threads, chunk);
    EXPECT_EQ(std::memcmp(other.data(), whole.data(), whole.size() * sizeof(float)), 0)
        << "chunks of " << chunk << " on " << n_threads << " threads";
  }
}

// As users run it.
TEST_P(GoldenTest, ChunksAndThreadsDoNotChangeABitOfAPackageWithAnInt8Cache) {
  const Golden golden = Read(GetParam());
  const PackedRunner packed(golden);
  const std::vector<float> whole = packed.Run(golden, 1, 512, KvType::kInt8);
  for (const auto& [n_threads, chunk] :
       {std::pair(1, 1), {1, 7}, {2, 64}, {2, 512}, {3, 5}, {4, 512}}) {
    const std::vector<float> other = packed.Run(golden, n_threads, chunk, KvType::kInt8);
    EXPECT_EQ(std::memcmp(other.data(), whole.data(), whole.size() * sizeof(float)), 0)
        << "chunks of " << chunk << " on " << n_threads << " threads";
  }
}

}  // namespace
}  // namespace tandem::model
