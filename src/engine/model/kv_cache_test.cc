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

std::unique_ptr<KvCache> Cache(KvType type = KvType::kF32, int context_tokens = 1000) {
  return KvCache::Create(Shape(), {.context_tokens = context_tokens, .type = type}).value();
}

// Appends n tokens whose tiles are filled with a byte each, the token's number.
void Append(KvCache* cache, int n) {
  ASSERT_TRUE(cache->Reserve(n));
  for (int i = 0; i < n; ++i) {
    const int position = cache->length() + i;
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        cache->tile(layer, head, position)[position % kPageTokens] = std::byte(position + 1);
      }
    }
  }
  cache->Extend(n);
}

// What Append() left at a position.
int At(const KvCache& cache, int position, int layer = 2, int head = 1) {
  return static_cast<int>(
      cache.page_data()[position / kPageTokens]
                       [cache.layout().tile_offset(layer, head) + position % kPageTokens]);
}

TEST(KvCacheTest, BytesAreThoseOfWholePages) {
  const uint64_t page = uint64_t{2} * 3 * 2 * 16 * kPageTokens;
  EXPECT_EQ(KvCacheBytes(Shape(), KvType::kF32, 65), 2 * page * 4);
  EXPECT_EQ(KvCacheBytes(Shape(), KvType::kF16, 64), page * 2);
  // A scale of 4 bytes for each token's key and value of a head.
  EXPECT_EQ(KvCacheBytes(Shape(), KvType::kInt8, 1), page + 3 * 2 * 2 * 4 * kPageTokens);
  const auto cache = Cache(KvType::kF16, 100);
  EXPECT_EQ(cache->full_bytes(), 2 * page * 2);
  EXPECT_EQ(cache->bytes(), 0U);
  Append(cache.get(), 64);
  EXPECT_EQ(cache->bytes(), page * 2);
  Append(cache.get(), 1);
  EXPECT_EQ(cache->bytes(), 2 * page * 2);
}

// Phi-4-mini's published figure: 128 KiB per token in f16.
TEST(KvCacheTest, PhiTakes128KibibytesPerTokenAndInt8AboutHalf) {
  Hyperparameters h;
  h.n_layers = 32;
  h.n_kv_heads = 8;
  h.head_dim = 128;
  EXPECT_EQ(KvCacheBytes(h, KvType::kF16, kPageTokens), kPageTokens * 128U * 1024);
  EXPECT_EQ(KvCacheBytes(h, KvType::kInt8, kPageTokens), kPageTokens * 66U * 1024);
}

TEST(KvCacheTest, TilesDoNotOverlapAndStayInside) {
  for (const KvType type : {KvType::kInt8, KvType::kF16, KvType::kF32}) {
    const auto cache = Cache(type);
    ASSERT_TRUE(cache->Reserve(70));
    std::set<std::byte*> tiles;
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        for (const int position : {0, 69}) tiles.insert(cache->tile(layer, head, position));
      }
    }
    ASSERT_EQ(tiles.size(), 12U);
    const size_t tile_bytes = cache->layout().tile_bytes();
    for (auto tile = tiles.begin(); tile != tiles.end(); ++tile) {
      std::memset(*tile, 1, tile_bytes);  // a tile that ends outside is a fault
      if (std::next(tile) != tiles.end()) {
        EXPECT_GE(*std::next(tile) - *tile, static_cast<ptrdiff_t>(tile_bytes));
      }
    }
  }
}

TEST(KvCacheTest, SharedPagesAreCopiedBeforeTheyAreWritten) {
  const auto source = Cache();
  Append(source.get(), 100);
  const KvCache::Pages pages = source->Share(80);
  ASSERT_EQ(pages.size(), 2U);
  const auto other = Cache();
  ASSERT_TRUE(other->Adopt(pages, 80));
  EXPECT_EQ(other->length(), 80);
  EXPECT_EQ(other->page_data()[0], source->page_data()[0]);
  EXPECT_EQ(other->page_data()[1], source->page_data()[1]);

  ASSERT_TRUE(other->Reserve(1));
  EXPECT_EQ(other->page_data()[0], source->page_data()[0]);
  ASSERT_NE(other->page_data()[1], source->page_data()[1]);
  other->tile(2, 1, 80)[80 % kPageTokens] = std::byte{250};
  other->Extend(1);
  EXPECT_EQ(At(*other, 79), 80);
  EXPECT_EQ(At(*other, 80), 250);
  EXPECT_EQ(At(*source, 80), 81);

  // The source goes on in a copy, too, for its page is shared as far as it is filled.
  Append(source.get(), 1);
  EXPECT_NE(source->page_data()[1], pages[1]->data());
  EXPECT_EQ(At(*source, 99), 100);
  EXPECT_EQ(At(*source, 100), 101);
}

TEST(KvCacheTest, SharedPagesOutliveWhoFilledThem) {
  KvCache::Pages pages;
  {
    const auto source = Cache();
    Append(source.get(), 64);
    pages = source->Share(64);
  }
  EXPECT_EQ(pages[0].use_count(), 1);
  const auto other = Cache();
  ASSERT_TRUE(other->Adopt(pages, 64));
  EXPECT_EQ(At(*other, 63), 64);
  // A whole page is never copied.
  Append(other.get(), 1);
  EXPECT_EQ(other->page_data()[0], pages[0]->data());
  ASSERT_TRUE(other->Truncate(64));
  EXPECT_EQ(other->page_data().size(), 1U);
}

TEST(KvCacheTest, CutInASharedPageContinuesInACopy) {
  const auto source = Cache();
  Append(source.get(), 130);
  const KvCache::Pages pages = source->Share(130);
  ASSERT_TRUE(source->Truncate(64));
  Append(source.get(), 1);
  EXPECT_NE(source->page_data()[1], pages[1]->data());
  ASSERT_TRUE(source->Truncate(10));
  EXPECT_EQ(source->bytes(), source->layout().page_bytes());
  Append(source.get(), 2);
  EXPECT_NE(source->page_data()[0], pages[0]->data());
  EXPECT_EQ(At(*source, 9), 10);
}

TEST(KvCacheTest, PagesThatDoNotFitAreRefused) {
  const auto source = Cache();
  Append(source.get(), 70);
  const KvCache::Pages pages = source->Share(70);
  const auto adopt = [&](KvCache* cache, int n_tokens) {
    const Status status = cache->Adopt(pages, n_tokens);
    return status ? ErrorCode::kInternal : status.error().code;
  };
  const auto other_type = Cache(KvType::kF16);
  EXPECT_EQ(adopt(other_type.get(), 70), ErrorCode::kInvalidArgument);
  const auto small = Cache(KvType::kF32, 69);
  EXPECT_EQ(adopt(small.get(), 70), ErrorCode::kInvalidArgument);
  const auto other = Cache();
  EXPECT_EQ(adopt(other.get(), 129), ErrorCode::kInvalidArgument);
  EXPECT_EQ(adopt(other.get(), -1), ErrorCode::kInvalidArgument);
  Append(other.get(), 1);
  EXPECT_EQ(adopt(other.get(), 70), ErrorCode::kInvalidArgument);
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

TEST(KvCacheTest, MemoryThatCannotBeHadIsAnErrorAndNothingChanges) {
  Hyperparameters h = Shape();
  h.n_layers = 1 << 20;
  h.n_kv_heads = 1 << 20;
  h.head_dim = 1024;
  const auto cache = KvCache::Create(h, {.context_tokens = 10}).value();
  const Status status = cache->Reserve(1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(cache->length(), 0);
  EXPECT_EQ(cache->bytes(), 0U);
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
