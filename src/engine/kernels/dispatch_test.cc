#include <cmath>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/kernels/kernels.h"

namespace tandem::kernels {
namespace {

using ::testing::HasSubstr;

constexpr os::CpuFeatures kPlain = {};
constexpr os::CpuFeatures kHaswell = {.avx2 = true, .fma = true, .f16c = true};

TEST(SelectTest, PlainCpuGetsScalar) {
  const auto set = Select("", kPlain);
  ASSERT_TRUE(set);
  EXPECT_EQ((*set)->isa, Isa::kScalar);
}

TEST(SelectTest, UnknownNameIsAnErrorThatListsTheKnown) {
  const auto set = Select("sse9", kHaswell);
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(set.error().message, HasSubstr("TANDEM_ISA=sse9"));
  EXPECT_THAT(set.error().message, HasSubstr("scalar, avx2, avx512vnni"));
}

TEST(SelectTest, ForcedScalarWinsOverWhatTheCpuHas) {
  const auto set = Select("scalar", kHaswell);
  ASSERT_TRUE(set);
  EXPECT_EQ((*set)->isa, Isa::kScalar);
}

TEST(SelectTest, ForcedSetThatTheCpuLacksIsAnError) {
  // Each of the three features is needed.
  for (const os::CpuFeatures cpu :
       {os::CpuFeatures{.fma = true, .f16c = true}, os::CpuFeatures{.avx2 = true, .f16c = true},
        os::CpuFeatures{.avx2 = true, .fma = true}}) {
    const auto set = Select("avx2", cpu);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, ErrorCode::kUnsupported);
    const auto chosen = Select("", cpu);
    ASSERT_TRUE(chosen);
    EXPECT_EQ((*chosen)->isa, Isa::kScalar);
  }
}

constexpr os::CpuFeatures kIceLake = {.avx2 = true,
                                      .fma = true,
                                      .f16c = true,
                                      .avx512f = true,
                                      .avx512bw = true,
                                      .avx512vl = true,
                                      .avx512vnni = true};
constexpr os::CpuFeatures kNeoverse = {.neon_dotprod = true, .neon_i8mm = true};

#if defined(TANDEM_KERNELS_X86)
TEST(SelectTest, FastestSetThatTheCpuHasIsChosen) {
  const auto set = Select("", kHaswell);
  ASSERT_TRUE(set);
  EXPECT_EQ((*set)->isa, Isa::kAvx2);
  EXPECT_EQ(IsaName((*set)->isa), "avx2");
}

TEST(SelectTest, Avx512NeedsAllFourExtensionsAndThoseOfAvx2) {
  ASSERT_TRUE(Select("", kIceLake));
  EXPECT_EQ((*Select("", kIceLake))->isa, Isa::kAvx512Vnni);
  EXPECT_EQ(UsableSets(kIceLake).size(), 3U);
  constexpr bool os::CpuFeatures::* kNeeded[] = {
      &os::CpuFeatures::avx2,      &os::CpuFeatures::fma,      &os::CpuFeatures::f16c,
      &os::CpuFeatures::avx512f,   &os::CpuFeatures::avx512bw, &os::CpuFeatures::avx512vl,
      &os::CpuFeatures::avx512vnni};
  for (const auto feature : kNeeded) {
    os::CpuFeatures cpu = kIceLake;
    cpu.*feature = false;
    const auto set = Select("avx512vnni", cpu);
    ASSERT_FALSE(set);
    EXPECT_EQ(set.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(set.error().message, HasSubstr("avx512vnni are needed"));
  }
}

TEST(SelectTest, SetOfAnotherArchitectureIsNotInThisBuild) {
  const auto set = Select("neon_dotprod", kNeoverse);
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(set.error().message, HasSubstr("this build does not contain"));
}
#elif defined(TANDEM_KERNELS_NEON)
TEST(SelectTest, NeonSetsAreChosenByDotprodAndI8mm) {
  ASSERT_TRUE(Select("", kNeoverse));
  EXPECT_EQ((*Select("", kNeoverse))->isa, Isa::kNeonI8mm);
  EXPECT_EQ((*Select("neon_dotprod", kNeoverse))->isa, Isa::kNeonDotprod);
  EXPECT_EQ((*Select("", {.neon_dotprod = true}))->isa, Isa::kNeonDotprod);
  EXPECT_EQ((*Select("", {.neon_i8mm = true}))->isa, Isa::kScalar);
  EXPECT_FALSE(Select("avx512vnni", kIceLake));
}
#endif

// Kernels that are broken in one place each; the self-test must see it.
float WrongDot(const float* a, const float* b, int64_t n) {
  return ScalarKernels().dot(a, b, n - 1);
}
void WrongGemv(const std::byte* weights, size_t row_bytes, int64_t n_rows, int64_t k,
               const float* x, float* y) {
  ScalarKernels().ForType(quant::Type::kQ6_K).gemv(weights, row_bytes, n_rows, k, x, y);
  y[n_rows - 1] *= 1.01F;
}
void WrongUnpack(const std::byte* weights, int64_t k, float* dst) {
  ScalarKernels().ForType(quant::Type::kQ4_0).unpack(weights, k, dst);
  dst[k - 1] = -dst[k - 1] + 1.0F;
}
// Right values in another order of summation: the batch would change the result.
void OtherOrderGemm(const float* panel, int64_t panel_stride, int64_t n_rows, int64_t k,
                    const float* x, int64_t x_stride, int64_t n_tokens, float* y,
                    int64_t y_stride) {
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t r = 0; r < n_rows; ++r) {
      float sum = 0;
      for (int64_t i = k - 1; i >= 0; --i) sum += panel[r * panel_stride + i] * x[t * x_stride + i];
      y[t * y_stride + r] = sum;
    }
  }
}
float NanExpSum(float* x, int64_t n, float max) {
  ScalarKernels().exp_sum(x, n, max);
  return std::nanf("");
}
void WrongAv(const float* weights, int n_queries, const std::byte* values, int n_positions,
             int head_dim, float* out) {
  ScalarKernels().attention_f16.av(weights, n_queries, values, n_positions - 1, head_dim, out);
}
void WrongQk(const float* queries, int n_queries, const std::byte* keys, int n_positions,
             int head_dim, float scale, float* scores) {
  ScalarKernels().attention_f32.qk(queries, n_queries, keys, n_positions, head_dim, 1.01F * scale,
                                   scores);
}
void WrongSilu(const float* gate, const float* up, int64_t n, float* out) {
  ScalarKernels().silu_mul(up, gate, n, out);
}
void WrongHalf(const float* src, int64_t n, uint16_t* dst) {
  ScalarKernels().half_from_float(src, n, dst);
  dst[0] ^= 1;
}

// One product off by one in the last row: what a wrong sum of a single lane would do.
void WrongTileGemv(const std::byte* strips, int64_t n_rows, int64_t n_tiles, const std::byte* block,
                   int block_tokens, int n_tokens, float* y, int64_t y_stride) {
  kTilesScalar.ForScheme(Scheme::kInt4G32)
      .gemv(strips, n_rows, n_tiles, block, block_tokens, n_tokens, y, y_stride);
  if (block_tokens == 6) y[n_rows - 1] = std::nextafter(y[n_rows - 1], 1e9F);
}
// The last token's first row off by one rounding.
void WrongTileGemm(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                   const std::byte* blocks, int64_t n_tokens, float* y, int64_t y_stride) {
  kTilesScalar.ForScheme(Scheme::kInt8G128)
      .gemm(strips, n_rows, n_tiles, blocks, n_tokens, y, y_stride);
  float& last = y[(n_tokens - 1) * y_stride];
  last = std::nextafter(last, 1e9F);
}
// One code off by one.
void WrongQuantize(const float* x, int64_t n_cols, int group, int block_tokens, int slot,
                   std::byte* block) {
  kTilesScalar.quantize(x, n_cols, group, block_tokens, slot, block);
  if (group == 32) block[4 * slot] = static_cast<std::byte>(static_cast<int>(block[4 * slot]) ^ 1);
}
void WrongNormQuantize(const float* x, const float* weight, double eps, int64_t n_cols, int group,
                       int block_tokens, int slot, std::byte* block) {
  kTilesScalar.norm_quantize(x, weight, eps * 1.1, n_cols, group, block_tokens, slot, block);
}
// Off by one rounding.
float WrongFineDot(const std::byte* codes, const std::byte* scales, int bits, int group,
                   int64_t n_tiles, const std::byte* block) {
  if (bits == 3) return kTilesScalar.fine_dot(codes, scales, bits, group, n_tiles, block);
  return std::nextafter(kTilesScalar.fine_dot(codes, scales, bits, group, n_tiles, block), 1e9F);
}
// A set whose tile kernels are the reference's but for one.
template <void (*change)(TileSet*)>
void ChangeTiles(KernelSet* set) {
  static const TileSet changed = [] {
    TileSet tiles = kTilesScalar;
    change(&tiles);
    return tiles;
  }();
  set->tiles = &changed;
}
TileKernels& Tiles(TileSet* set, Scheme scheme) { return set->schemes[static_cast<int>(scheme)]; }
void BreakTileGemv(TileSet* set) { Tiles(set, Scheme::kInt4G32).gemv = WrongTileGemv; }
void BreakTileGemm(TileSet* set) { Tiles(set, Scheme::kInt8G128).gemm = WrongTileGemm; }
void BreakQuantize(TileSet* set) { set->quantize = WrongQuantize; }
void BreakFineDot(TileSet* set) { set->fine_dot = WrongFineDot; }
void BreakNormQuantize(TileSet* set) { set->norm_quantize = WrongNormQuantize; }

struct Broken {
  const char* name;
  void (*breaks)(KernelSet* set);
  const char* blamed;
};

class SelfTestOfBrokenKernels : public ::testing::TestWithParam<Broken> {};

TEST_P(SelfTestOfBrokenKernels, NamesTheKernel) {
  KernelSet set = ScalarKernels();
  ASSERT_TRUE(SelfTest(set));
  GetParam().breaks(&set);
  const Status status = SelfTest(set);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_THAT(status.error().message, HasSubstr(GetParam().blamed));
}

INSTANTIATE_TEST_SUITE_P(
    EachKernel, SelfTestOfBrokenKernels,
    ::testing::Values(Broken{"Dot", [](KernelSet* s) { s->dot = WrongDot; }, "dot"},
                      Broken{"Gemv",
                             [](KernelSet* s) {
                               s->types[static_cast<int>(quant::Type::kQ6_K)].gemv = WrongGemv;
                             },
                             "gemv of Q6_K"},
                      Broken{"Unpack",
                             [](KernelSet* s) {
                               s->types[static_cast<int>(quant::Type::kQ4_0)].unpack = WrongUnpack;
                             },
                             "unpack of Q4_0"},
                      Broken{"Gemm", [](KernelSet* s) { s->gemm = OtherOrderGemm; }, "gemm"},
                      Broken{"ExpSum", [](KernelSet* s) { s->exp_sum = NanExpSum; }, "exp_sum"},
                      Broken{"Av", [](KernelSet* s) { s->attention_f16.av = WrongAv; }, "f16"},
                      Broken{"Qk", [](KernelSet* s) { s->attention_f32.qk = WrongQk; }, "f32"},
                      Broken{"Silu", [](KernelSet* s) { s->silu_mul = WrongSilu; }, "silu_mul"},
                      Broken{"TileGemv", ChangeTiles<BreakTileGemv>, "gemv of int4g32 times 5"},
                      Broken{"TileGemm", ChangeTiles<BreakTileGemm>, "gemm of int8g128"},
                      Broken{"Quantize", ChangeTiles<BreakQuantize>,
                             "self-test of the scalar kernels failed: quantize by 32"},
                      Broken{"FineDot", ChangeTiles<BreakFineDot>, "fine_dot of 4 bits by 32"},
                      Broken{"NormQuantize", ChangeTiles<BreakNormQuantize>, "norm_quantize"},
                      Broken{"Half", [](KernelSet* s) { s->half_from_float = WrongHalf; },
                             "half_from_float"}),
    [](const auto& instance) { return instance.param.name; });

TEST(ActiveTest, IsDecidedOnce) {
  const auto first = Active();
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(*first, *Active());
}

}  // namespace
}  // namespace tandem::kernels
