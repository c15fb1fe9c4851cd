#include "engine/model/kv_cache.h"

#include <cstring>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

Hyperparameters Shape() {
  Hyperparameters h;
  h.n_layers = 3;
  h.n_heads = 4;
  h.n_kv_heads = 2;
  h.head_dim = 16;
  h.context_length = 1000;
  h.original_context_length = 100;
  return h;
}

TEST(KvCacheTest, BytesAreKeysAndValuesOfEveryLayer) {
  EXPECT_EQ(KvCacheBytes(Shape(), KvType::kF32, 10), 2U * 3 * 2 * 16 * 4 * 10);
  EXPECT_EQ(KvCacheBytes(Shape(), KvType::kF16, 10), 2U * 3 * 2 * 16 * 2 * 10);
  const auto cache = KvCache::Create(Shape(), {.context_tokens = 10, .type = KvType::kF16});
  ASSERT_TRUE(cache);
  EXPECT_EQ((*cache)->bytes(), 2U * 3 * 2 * 16 * 2 * 10);
}

// Phi-4-mini's published figure: 128 KiB per token in f16.
TEST(KvCacheTest, PhiTakes128KibibytesPerToken) {
  Hyperparameters h;
  h.n_layers = 32;
  h.n_kv_heads = 8;
  h.head_dim = 128;
  EXPECT_EQ(KvCacheBytes(h, KvType::kF16, 1), 128U * 1024);
}

TEST(KvCacheTest, PlanesDoNotOverlapAndStayInside) {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    const auto cache = KvCache::Create(Shape(), {.context_tokens = 5, .type = type}).value();
    std::set<std::byte*> planes;
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        planes.insert(cache->keys(layer, head));
        planes.insert(cache->values(layer, head));
      }
    }
    ASSERT_EQ(planes.size(), 12U);
    const size_t plane_bytes = 5 * cache->row_bytes();
    for (auto plane = planes.begin(); plane != planes.end(); ++plane) {
      std::memset(*plane, 1, plane_bytes);  // asan sees a plane that ends outside
      if (std::next(plane) != planes.end()) {
        EXPECT_GE(*std::next(plane) - *plane, static_cast<ptrdiff_t>(plane_bytes));
      }
    }
  }
}

TEST(KvCacheTest, FactorSetIsChosenByTheContext) {
  EXPECT_FALSE((*KvCache::Create(Shape(), {.context_tokens = 100}))->uses_long_rope());
  EXPECT_TRUE((*KvCache::Create(Shape(), {.context_tokens = 101}))->uses_long_rope());
  Hyperparameters one_set = Shape();
  one_set.original_context_length = 0;
  EXPECT_FALSE((*KvCache::Create(one_set, {.context_tokens = 101}))->uses_long_rope());
}

TEST(KvCacheTest, ContextsThatTheModelDoesNotHaveAreRefused) {
  for (const int context_tokens : {0, -1, 1001, INT32_MAX}) {
    const auto cache = KvCache::Create(Shape(), {.context_tokens = context_tokens});
    ASSERT_FALSE(cache);
    EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(cache.error().message, HasSubstr("1 to 1000"));
  }
}

TEST(KvCacheTest, MemoryThatCannotBeHadIsAnError) {
  Hyperparameters h = Shape();
  h.n_layers = 1024;
  h.n_kv_heads = 1024;
  h.head_dim = 1024;
  h.context_length = 1 << 26;
  const auto cache = KvCache::Create(h, {.context_tokens = 1 << 26});
  ASSERT_FALSE(cache);
  EXPECT_EQ(cache.error().code, ErrorCode::kResourceExhausted);
}

TEST(KvCacheTest, TruncateOnlyShortens) {
  const auto cache = KvCache::Create(Shape(), {.context_tokens = 10}).value();
  cache->Extend(7);
  EXPECT_FALSE(cache->Truncate(8));
  EXPECT_FALSE(cache->Truncate(-1));
  EXPECT_EQ(cache->length(), 7);
  EXPECT_TRUE(cache->Truncate(7));
  EXPECT_TRUE(cache->Truncate(0));
  EXPECT_EQ(cache->length(), 0);
  EXPECT_EQ(cache->free_tokens(), 10);
}

}  // namespace
}  // namespace tandem::model
