#include "engine/ops/packed_matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/activations.h"
#include "os/cpu.h"

namespace tandem::ops {
namespace {

using kernels::Scheme;

struct FreeAligned {
  void operator()(std::byte* data) const { ::operator delete[](data, std::align_val_t(64)); }
};

// A packed random matrix and its values.
struct Packed {
  PackedMatrix view;
  std::vector<float> values;  // [n_rows, n_cols]
  std::unique_ptr<std::byte[], FreeAligned> bytes;
};

Packed MakePacked(Scheme scheme, int64_t n_rows, int64_t n_cols, unsigned seed) {
  const auto& info = kernels::GetScheme(scheme);
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(info.min_code, info.max_code);
  const int64_t n_groups = (n_cols + info.group - 1) / info.group;
  const int64_t strip_bytes = kernels::StripBytes(scheme, n_cols);
  const int64_t n_strips = kernels::StripCount(n_rows);
  Packed packed;
  packed.bytes.reset(static_cast<std::byte*>(
      ::operator new[](static_cast<size_t>(n_strips * strip_bytes), std::align_val_t(64))));
  for (int64_t strip = 0; strip < n_strips; ++strip) {
    const int n = static_cast<int>(std::min<int64_t>(16, n_rows - strip * 16));
    std::vector<int8_t> codes(n * n_cols);
    for (int8_t& c : codes) c = static_cast<int8_t>(code(random));
    std::vector<uint16_t> scales(n * n_groups);
    for (uint16_t& s : scales) s = static_cast<uint16_t>(0x2000 + random() % 0x400);  // about 0.01
    kernels::PackStrip(scheme, codes.data(), scales.data(), n, n_cols,
                       packed.bytes.get() + strip * strip_bytes);
  }
  packed.view = {.scheme = scheme, .data = packed.bytes.get(), .n_rows = n_rows, .n_cols = n_cols};
  packed.values.resize(n_rows * n_cols);
  for (int64_t r = 0; r < n_rows; ++r) {
    kernels::UnpackRow(scheme, packed.bytes.get(), r, n_cols, packed.values.data() + r * n_cols);
  }
  return packed;
}

std::vector<float> Random(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// A pool, kernels and room for activations.
struct Machine {
  const kernels::KernelSet& kernels;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<std::byte[], FreeAligned> bytes;
  std::span<std::byte> activations;

  Machine(const kernels::KernelSet& set, int n_threads, int64_t n_tokens, int64_t n_cols)
      : kernels(set), pool(ThreadPool::Create(n_threads, 2).value()) {
    const auto n = static_cast<size_t>(ActivationBytes(set, n_tokens, n_cols));
    bytes.reset(static_cast<std::byte*>(::operator new[](n, std::align_val_t(64))));
    activations = {bytes.get(), n};
  }
};

// What the machine makes of x [n_tokens, n_cols].
std::vector<float> Multiply(Machine* machine, std::span<const PackedMatrix> parts,
                            const std::vector<float>& x, const float* weight, int64_t n_tokens) {
  const int64_t n_cols = parts[0].n_cols;
  int64_t n_rows = 0;
  for (const PackedMatrix& part : parts) n_rows += part.n_rows;
  QuantizeTokens(machine->kernels, *machine->pool, x.data(), weight, 1e-5, n_tokens, n_cols,
                 parts[0].group(), machine->activations);
  std::vector<float> y(n_tokens * n_rows, NAN);
  MatMul(machine->kernels, *machine->pool, parts, machine->activations, n_tokens, y.data());
  return y;
}

class PackedMatMulTest : public ::testing::TestWithParam<Scheme> {};
INSTANTIATE_TEST_SUITE_P(Schemes, PackedMatMulTest,
                         ::testing::Values(Scheme::kInt4G128, Scheme::kInt4G32, Scheme::kInt8G128,
                                           Scheme::kInt8G32),
                         [](const auto& instance) {
                           return std::string(kernels::GetScheme(instance.param).name);
                         });

TEST_P(PackedMatMulTest, IsTheProductToTheRoundingOfActivations) {
  const Packed a = MakePacked(GetParam(), 50, 200, 1);
  const Packed b = MakePacked(GetParam(), 16, 200, 2);
  const std::vector<float> x = Random(5 * 200, 3);
  Machine machine(*kernels::Active().value(), 2, 5, 200);
  const std::vector<float> y = Multiply(&machine, std::vector{a.view, b.view}, x, nullptr, 5);
  // An activation is off by at most half a step, of max|x| / 127 < 4.5 / 127, evenly spread: 0.29
  // steps in the rms.
  const double step = 4.5 / 127 / std::sqrt(12.0);
  for (int t = 0; t < 5; ++t) {
    for (int r = 0; r < 66; ++r) {
      const float* row = r < 50 ? a.values.data() + r * 200 : b.values.data() + (r - 50) * 200;
      double expected = 0;
      double squares = 0;
      for (int c = 0; c < 200; ++c) {
        expected += double{row[c]} * x[t * 200 + c];
        squares += double{row[c]} * row[c];
      }
      EXPECT_NEAR(y[t * 66 + r], expected, 6 * step * std::sqrt(squares)) << t << " " << r;
    }
  }
}

TEST_P(PackedMatMulTest, NeitherThreadsNorBatchesNorInstructionSetsChangeABit) {
  constexpr int64_t kTokens = 21;
  constexpr int64_t kCols = 300;
  const Packed a = MakePacked(GetParam(), 70, kCols, 4);
  const Packed b = MakePacked(GetParam(), 33, kCols, 5);
  const std::vector parts = {a.view, b.view};
  const std::vector<float> x = Random(kTokens * kCols, 6);
  const std::vector<float> weight = Random(kCols, 7);
  Machine reference(kernels::ScalarKernels(), 1, kTokens, kCols);
  const std::vector<float> whole = Multiply(&reference, parts, x, weight.data(), kTokens);
  for (const kernels::KernelSet* set : kernels::UsableSets(os::HostCpu())) {
    for (const int n_threads : {1, 3}) {
      Machine machine(*set, n_threads, kTokens, kCols);
      for (int64_t step = 1; step <= kTokens; ++step) {
        std::vector<float> y;
        for (int64_t t = 0; t < kTokens; t += step) {
          const int64_t n = std::min(step, kTokens - t);
          const std::vector<float> some(x.begin() + t * kCols, x.begin() + (t + n) * kCols);
          const std::vector<float> rows = Multiply(&machine, parts, some, weight.data(), n);
          y.insert(y.end(), rows.begin(), rows.end());
        }
        ASSERT_EQ(std::memcmp(y.data(), whole.data(), whole.size() * sizeof(float)), 0)
            << kernels::IsaName(set->isa) << ", " << n_threads << " threads, steps of " << step;
      }
    }
  }
}

TEST_P(PackedMatMulTest, GatedProductIsThatOfItsHalves) {
  constexpr int64_t kWidth = 70;  // the last strip is not whole
  constexpr int64_t kCols = 160;
  // 16 rows of gate and 16 of up in turn; taking them apart again makes the halves.
  const Packed both = MakePacked(GetParam(), 2 * 80, kCols, 8);
  for (const int64_t n_tokens : {1, 3, 8, 21}) {
    const std::vector<float> x = Random(n_tokens * kCols, 9);
    for (const int n_threads : {1, 3}) {
      Machine machine(*kernels::Active().value(), n_threads, n_tokens, kCols);
      const std::vector<float> y = Multiply(&machine, {&both.view, 1}, x, nullptr, n_tokens);
      std::vector<float> out(n_tokens * kWidth, NAN);
      std::vector<float> scratch(n_threads * GateFloats(n_tokens));
      GatedMatMul(machine.kernels, *machine.pool, both.view, machine.activations, n_tokens, kWidth,
                  out.data(), scratch);
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t c = 0; c < kWidth; ++c) {
          const float gate = y[t * 160 + c / 16 * 32 + c % 16];
          const float up = y[t * 160 + c / 16 * 32 + 16 + c % 16];
          const double expected = gate / (1 + std::exp(-double{gate})) * up;
          EXPECT_NEAR(out[t * kWidth + c], expected, 1e-5 * (1 + std::fabs(expected)));
        }
      }
    }
  }
}

TEST(PackedMatMulShapesTest, ActivationsOfEverySmallerBatchFit) {
  for (const kernels::KernelSet* set : kernels::UsableSets(os::HostCpu())) {
    for (int64_t max = 1; max < 40; ++max) {
      for (int64_t n = 1; n <= max; ++n) {
        for (const int group : {32, 128}) {
          EXPECT_LE(kernels::ActivationBytes(*set->tiles, n, 100, group),
                    ActivationBytes(*set, max, 100))
              << n << " of " << max;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::ops
