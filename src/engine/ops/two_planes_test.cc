#include "engine/ops/two_planes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/activations.h"
#include "engine/kernels/fine_plane.h"
#include "engine/quant/half.h"
#include "os/cpu.h"

namespace tandem::ops {
namespace {

using kernels::Scheme;

struct FreeAligned {
  void operator()(std::byte* data) const { ::operator delete[](data, std::align_val_t(64)); }
};
using Buffer = std::unique_ptr<std::byte[], FreeAligned>;
Buffer MakeBuffer(int64_t n) {
  return Buffer(static_cast<std::byte*>(::operator new[](n, std::align_val_t(64))));
}

// A matrix in two planes, made of codes.
struct Planes {
  PackedMatrix coarse;
  FinePlane fine;
  std::vector<double> weights;  // [n_rows, n_cols]
  Buffer strips;
  std::vector<std::byte> rows;
  std::vector<float> norms;

  //   codes, fine_codes [n_rows, n_cols];  scales [n_rows, groups]
  Planes(Scheme scheme, int bits, int64_t n_rows, int64_t n_cols, const std::vector<int8_t>& codes,
         const std::vector<int8_t>& fine_codes, const std::vector<uint16_t>& scales)
      : weights(n_rows * n_cols),
        strips(MakeBuffer(kernels::PackedBytes(scheme, n_rows, n_cols).value())),
        rows(kernels::FinePlaneBytes(bits, n_rows, n_cols).value()) {
    const int group = kernels::GetScheme(scheme).group;
    const int64_t n_groups = (n_cols + group - 1) / group;
    for (int64_t r = 0; r < n_rows; ++r) {
      if (r % 16 == 0) {
        kernels::PackStrip(scheme, codes.data() + r * n_cols, scales.data() + r * n_groups,
                           static_cast<int>(std::min<int64_t>(16, n_rows - r)), n_cols,
                           strips.get() + r / 16 * kernels::StripBytes(scheme, n_cols));
      }
      kernels::PackFineRow(bits, std::span(fine_codes).subspan(r * n_cols, n_cols),
                           rows.data() + r * kernels::FineRowBytes(bits, n_cols));
      double squares = 0;
      for (int64_t c = 0; c < n_cols; ++c) {
        const double scale = quant::HalfToFloat(scales[r * n_groups + c / group]);
        const double left = scale * std::ldexp(fine_codes[r * n_cols + c], -bits);
        squares += left * left;
        weights[r * n_cols + c] = scale * codes[r * n_cols + c] + left;
      }
      norms.push_back(static_cast<float>(std::sqrt(squares) * (1 + 1e-6)));
    }
    coarse = {.scheme = scheme, .data = strips.get(), .n_rows = n_rows, .n_cols = n_cols};
    fine = {.bits = bits, .rows = rows.data(), .norms = norms.data()};
  }
};

Planes RandomPlanes(Scheme scheme, int bits, int64_t n_rows, int64_t n_cols, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> code(-8, 7);
  std::uniform_int_distribution<int> fine(-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
  std::vector<int8_t> codes(n_rows * n_cols);
  std::vector<int8_t> fine_codes(codes.size());
  for (int8_t& c : codes) c = static_cast<int8_t>(code(random));
  for (int8_t& c : fine_codes) c = static_cast<int8_t>(fine(random));
  const int group = kernels::GetScheme(scheme).group;
  std::vector<uint16_t> scales(n_rows * ((n_cols + group - 1) / group));
  for (uint16_t& s : scales) s = static_cast<uint16_t>(0x2000 + random() % 0x400);
  return {scheme, bits, n_rows, n_cols, codes, fine_codes, scales};
}

std::vector<float> RandomTokens(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// Products of a batch, coarse, and what completes them.
struct Products {
  const kernels::KernelSet& kernels;
  const Planes& planes;
  int64_t n_tokens;
  std::unique_ptr<ThreadPool> pool;
  Buffer bytes;
  std::span<std::byte> activations;
  PlaneScratch scratch;
  std::vector<float> coarse;  // [n_tokens, n_rows]

  Products(const kernels::KernelSet& set, const Planes& p, const std::vector<float>& x,
           int n_threads = 2)
      : kernels(set),
        planes(p),
        n_tokens(std::ssize(x) / p.coarse.n_cols),
        pool(ThreadPool::Create(n_threads, 8).value()),
        bytes(MakeBuffer(ActivationBytes(set, n_tokens, p.coarse.n_cols))),
        activations(bytes.get(),
                    static_cast<size_t>(ActivationBytes(set, n_tokens, p.coarse.n_cols))),
        scratch(set, p.coarse.n_rows, p.coarse.n_cols, n_tokens),
        coarse(n_tokens * p.coarse.n_rows) {
    QuantizeTokens(set, *pool, x.data(), nullptr, 0, n_tokens, p.coarse.n_cols, p.coarse.group(),
                   activations);
    MatMul(set, *pool, {&p.coarse, 1}, activations, n_tokens, coarse.data());
  }

  std::vector<float> All() {
    std::vector<float> y = coarse;
    CompleteAll(kernels, *pool, planes.coarse, planes.fine, activations, 0, n_tokens, n_tokens,
                &scratch, y.data());
    return y;
  }
  std::vector<float> Top(int64_t t, int top, ScanReport* report,
                         std::span<const int32_t> excluded = {}, const FinePlane* fine = nullptr) {
    const int64_t n = planes.coarse.n_rows;
    std::vector<float> y(coarse.begin() + t * n, coarse.begin() + (t + 1) * n);
    *report = CompleteTop(kernels, *pool, planes.coarse, fine != nullptr ? *fine : planes.fine,
                          activations, t, n_tokens, top, excluded, &scratch, y.data());
    return y;
  }
};

std::vector<int32_t> Largest(std::span<const float> y, int n) {
  std::vector<int32_t> ids(y.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::sort(ids, [y](int32_t a, int32_t b) { return y[a] != y[b] ? y[a] > y[b] : a < b; });
  ids.resize(n);
  return ids;
}

// The `top` largest are those of `all` with their bits, and nothing else comes near.
void ExpectTop(std::span<const float> got, std::span<const float> all, int top) {
  const std::vector<int32_t> want = Largest(all, top);
  ASSERT_EQ(Largest(got, top), want);
  for (const int32_t id : want) ASSERT_EQ(got[id], all[id]) << id;
}

class TwoPlanesTest : public ::testing::TestWithParam<const kernels::KernelSet*> {};
INSTANTIATE_TEST_SUITE_P(Sets, TwoPlanesTest,
                         ::testing::ValuesIn(kernels::UsableSets(os::HostCpu())),
                         [](const auto& instance) {
                           return std::string(kernels::IsaName(instance.param->isa));
                         });

TEST_P(TwoPlanesTest, BothPlanesTogetherAreTheMatrix) {
  for (const Scheme scheme : {Scheme::kInt4G128, Scheme::kInt4G32}) {
    for (const int bits : {3, 4}) {
      const Planes planes = RandomPlanes(scheme, bits, 75, 300, 1);
      const std::vector<float> x = RandomTokens(5 * 300, 2);
      Products products(*GetParam(), planes, x);
      const std::vector<float> y = products.All();
      for (int64_t t = 0; t < 5; ++t) {
        for (int64_t r = 0; r < 75; ++r) {
          double exact = 0, magnitude = 0, largest = 0;
          for (int64_t c = 0; c < 300; ++c) {
            exact += planes.weights[r * 300 + c] * x[t * 300 + c];
            magnitude += std::fabs(planes.weights[r * 300 + c]);
            largest = std::max<double>(largest, std::fabs(x[t * 300 + c]));
          }
          // Half a step of the activations, and roundings.
          ASSERT_NEAR(y[t * 75 + r], exact, magnitude * largest * (0.5 / 127 + 1e-5));
        }
      }
    }
  }
}

TEST_P(TwoPlanesTest, TopOfAScanIsTheTopOfBothPlanes) {
  for (const Scheme scheme : {Scheme::kInt4G128, Scheme::kInt4G32}) {
    for (const int64_t n_rows : {3, 40, 1500, 5000}) {
      const Planes planes = RandomPlanes(scheme, 4, n_rows, 256, 3);
      Products products(*GetParam(), planes, RandomTokens(3 * 256, 4));
      const std::vector<float> all = products.All();
      for (int64_t t = 0; t < 3; ++t) {
        for (const int top : {1, 2, 40, 64}) {
          if (top > n_rows) continue;
          ScanReport report;
          const std::vector<float> got = products.Top(t, top, &report);
          ExpectTop(got, std::span(all).subspan(t * n_rows, n_rows), top);
          EXPECT_GE(report.n_completed, std::min<int64_t>(n_rows, 64));
        }
      }
    }
  }
}

// 100 rows are better than the best one in the coarse plane, and only there.
Planes Deceiving() {
  constexpr int64_t kRows = 2000;
  constexpr int64_t kCols = 256;
  std::vector<int8_t> codes(kRows * kCols, 0);
  std::vector<int8_t> fine(kRows * kCols, 0);
  std::fill_n(codes.begin(), 100 * kCols, int8_t{2});
  std::fill_n(codes.begin() + 1500 * kCols, kCols, int8_t{2});
  std::fill_n(codes.begin() + 1500 * kCols, 20, int8_t{1});
  std::fill_n(fine.begin() + 1500 * kCols, kCols, int8_t{7});
  return {Scheme::kInt4G128,
          4,
          kRows,
          kCols,
          codes,
          fine,
          std::vector<uint16_t>(kRows * 2, quant::FloatToHalf(0.01F))};
}

TEST_P(TwoPlanesTest, ScanIsWidenedToTheBestRowThatItMissed) {
  const Planes planes = Deceiving();
  Products products(*GetParam(), planes, std::vector<float>(256, 1.0F));
  const std::vector<float> all = products.All();
  ASSERT_EQ(Largest(all, 1)[0], 1500);
  ScanReport report;
  ExpectTop(products.Top(0, 1, &report), all, 1);
  EXPECT_TRUE(report.widened);
  EXPECT_TRUE(report.outside);
  EXPECT_EQ(report.n_completed, 101);
  // It is the norms that tell: without them the scan is satisfied with what it has.
  const std::vector<float> zeros(2000, 0.0F);
  const FinePlane without = {.bits = 4, .rows = planes.fine.rows, .norms = zeros.data()};
  EXPECT_NE(Largest(products.Top(0, 1, &report, {}, &without), 1)[0], 1500);
}

TEST_P(TwoPlanesTest, ClearWinnerCostsTheFirstRowsOnly) {
  constexpr int64_t kRows = 3000;
  constexpr int64_t kCols = 256;
  std::mt19937 random(9);
  std::uniform_int_distribution<int> code(-2, 2);
  std::vector<int8_t> codes(kRows * kCols);
  std::vector<int8_t> fine(kRows * kCols);
  for (int8_t& c : codes) c = static_cast<int8_t>(code(random));
  for (int8_t& c : fine) c = static_cast<int8_t>(code(random));
  std::fill_n(codes.begin() + 777 * kCols, kCols, int8_t{7});
  const Planes planes(Scheme::kInt4G32, 3, kRows, kCols, codes, fine,
                      std::vector<uint16_t>(kRows * 8, quant::FloatToHalf(0.01F)));
  Products products(*GetParam(), planes, std::vector<float>(kCols, 1.0F));
  ScanReport report;
  ExpectTop(products.Top(0, 1, &report), products.All(), 1);
  EXPECT_FALSE(report.widened);
  EXPECT_EQ(report.n_completed, 64);
}

TEST_P(TwoPlanesTest, ExcludedRowsDoNotCount) {
  const Planes planes = Deceiving();
  Products products(*GetParam(), planes, std::vector<float>(256, 1.0F));
  std::vector<float> all = products.All();
  const std::vector<int32_t> excluded = {-1, 3, 1500, 5'000'000};
  for (const int32_t id : {3, 1500}) all[id] = -INFINITY;
  ScanReport report;
  const std::vector<float> got = products.Top(0, 2, &report, excluded);
  ExpectTop(got, all, 2);
  EXPECT_EQ(got[1500], -INFINITY);
}

TEST_P(TwoPlanesTest, EqualProductsGoToTheLowerIds) {
  constexpr int64_t kRows = 1000;
  const Planes planes(Scheme::kInt4G128, 4, kRows, 128, std::vector<int8_t>(kRows * 128, 3),
                      std::vector<int8_t>(kRows * 128, 1),
                      std::vector<uint16_t>(kRows, quant::FloatToHalf(0.01F)));
  Products products(*GetParam(), planes, std::vector<float>(128, 1.0F));
  ScanReport report;
  ExpectTop(products.Top(0, 5, &report), products.All(), 5);
}

TEST_P(TwoPlanesTest, NumberOfThreadsChangesNothing) {
  const Planes planes = RandomPlanes(Scheme::kInt4G32, 3, 4000, 256, 5);
  const std::vector<float> x = RandomTokens(2 * 256, 6);
  Products one(*GetParam(), planes, x, 1);
  for (const int n_threads : {2, 4}) {
    Products more(*GetParam(), planes, x, n_threads);
    EXPECT_EQ(more.All(), one.All());
    ScanReport got, want;
    EXPECT_EQ(more.Top(1, 3, &got), one.Top(1, 3, &want));
    EXPECT_EQ(got.n_completed, want.n_completed);
  }
}

TEST_P(TwoPlanesTest, TokenThatIsNotFiniteStaysNaN) {
  const Planes planes = RandomPlanes(Scheme::kInt4G128, 4, 100, 128, 7);
  std::vector<float> x(128, 1.0F);
  x[3] = NAN;
  Products products(*GetParam(), planes, x);
  ScanReport report;
  for (const float value : products.Top(0, 1, &report)) ASSERT_TRUE(std::isnan(value));
  EXPECT_EQ(report.n_completed, 0);
}

// A damaged package: a scale that is infinite, norms that are nonsense. Nothing may crash.
TEST_P(TwoPlanesTest, NonsenseInThePlanesIsHarmless) {
  Planes planes = RandomPlanes(Scheme::kInt4G128, 4, 400, 128, 8);
  const uint16_t infinite = 0x7C00;
  std::memcpy(planes.strips.get() + 6, &infinite, 2);
  for (const float norm : {0.0F, -1.0F, NAN, INFINITY, 3e38F}) {
    std::ranges::fill(planes.norms, norm);
    Products products(*GetParam(), planes, RandomTokens(128, 1));
    ScanReport report;
    EXPECT_EQ(products.Top(0, 1, &report).size(), 400U);
  }
}

}  // namespace
}  // namespace tandem::ops
