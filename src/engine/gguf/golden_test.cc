// The quantisers against llama.cpp's, on files that it has written.
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/gguf/file.h"
#include "engine/quant/codec.h"

namespace tandem::gguf {
namespace {

std::vector<float> Decode(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.n_elements()));
  quant::DequantizeRow(tensor.type, tensor.data, values.data(), tensor.n_elements());
  return values;
}

double SquaredError(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
  return sum;
}

// llama.cpp's mixes without an importance matrix: for every type in them, our squared error over
// all tensors of that type must not exceed that of llama.cpp's file.
TEST(GoldenQuantizeTest, ErrorsAreNoLargerThanLlamaCpps) {
  const std::filesystem::path golden = TANDEM_SOURCE_DIR "/../shared/golden";
  if (!std::filesystem::is_directory(golden)) GTEST_SKIP() << "no golden files beside the source";
  struct Errors {
    double ours = 0;
    double theirs = 0;
  };
  std::map<std::string, Errors> by_type;
  for (const char* model : {"phi4mini-micro-", "mimo7b-micro-"}) {
    const auto original = File::Open(golden / (std::string(model) + "f32.gguf"));
    ASSERT_TRUE(original.has_value()) << original.error().message;
    for (const char* mix : {"q8_0", "q4_0", "q4_k_m", "q6_k"}) {
      const auto quantized = File::Open(golden / (std::string(model) + mix + ".gguf"));
      ASSERT_TRUE(quantized.has_value()) << quantized.error().message;
      for (const Tensor& theirs : (*quantized)->tensors()) {
        if (quant::GetType(theirs.type).block_elements == 1) continue;
        const Tensor* source = (*original)->Find(theirs.name);
        ASSERT_NE(source, nullptr) << theirs.name;
        const std::vector<float> values = Decode(*source);
        std::vector<std::byte> blocks(theirs.n_bytes);
        const Status status =
            quant::QuantizeRow(theirs.type, values.data(), blocks.data(), source->n_elements());
        ASSERT_TRUE(status.has_value()) << status.error().message;
        std::vector<float> ours(values.size());
        quant::DequantizeRow(theirs.type, blocks.data(), ours.data(), source->n_elements());
        Errors& errors = by_type[std::string(quant::GetType(theirs.type).name)];
        errors.ours += SquaredError(values, ours);
        errors.theirs += SquaredError(values, Decode(theirs));
      }
    }
  }
  EXPECT_EQ(by_type.size(), 4U);  // Q8_0, Q4_0, Q4_K, Q6_K
  for (const auto& [type, errors] : by_type) {
    RecordProperty(type, std::to_string(errors.ours / errors.theirs));
    EXPECT_LE(errors.ours, 1.001 * errors.theirs) << type;
  }
}

}  // namespace
}  // namespace tandem::gguf
