#include "app/engine_pool.h"

#include <filesystem>
#include <future>
#include <map>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace tandem::app {
namespace {

// The demo model is in the repository, so that loading is the real thing; the loader below only
// decides which of several names may be loaded at the same time.
const std::filesystem::path kDemo =
    std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf";

class EnginePoolTest : public testing::Test {
 protected:
  // As many models at once as `capacity`; what is loaded counts through the memory that it holds.
  EnginePool::Loader LoaderWithRoomFor(int capacity) {
    return [this, capacity](
               const std::filesystem::path& path,
               const engine::EngineOptions& options) -> Result<std::unique_ptr<engine::Engine>> {
      ++loads_[path.string()];
      const auto plan = engine::PlanMemory(kDemo, {.n_threads = 1, .context_tokens = 64});
      if (!plan) return std::unexpected(plan.error());
      const uint64_t taken = kLimit - options.memory_limit_bytes;
      const uint64_t one = plan->weights_bytes + plan->scratch_bytes;
      if ((taken + one / 2) / one >= static_cast<uint64_t>(capacity)) {
        return Err(ErrorCode::kResourceExhausted, "no room");
      }
      return engine::Engine::Load(kDemo, options);
    };
  }
  EnginePoolOptions Options() const {
    return {.engine = {.n_threads = 1, .context_tokens = 64, .memory_limit_bytes = kLimit}};
  }

  static constexpr uint64_t kLimit = uint64_t{1} << 40;
  std::map<std::string, int> loads_;
};

TEST_F(EnginePoolTest, LoadsOnceAndKeepsIt) {
  EnginePool pool(Options(), LoaderWithRoomFor(2));
  for (int i = 0; i < 3; ++i) {
    const auto lease = pool.AcquireNow("a");
    ASSERT_TRUE(lease) << lease.error().message;
    EXPECT_EQ((*lease)->info().architecture, "phi3");
  }
  EXPECT_EQ(loads_["a"], 1);
  EXPECT_TRUE(pool.loaded("a"));
  EXPECT_GT(pool.memory().weights_bytes, 0u);
  EXPECT_EQ(pool.memory().limit_bytes, kLimit);
}

TEST_F(EnginePoolTest, TheLeastRecentlyUsedIdleModelMakesRoom) {
  EnginePool pool(Options(), LoaderWithRoomFor(2));
  ASSERT_TRUE(pool.AcquireNow("a"));
  ASSERT_TRUE(pool.AcquireNow("b"));
  ASSERT_TRUE(pool.AcquireNow("a"));
  ASSERT_TRUE(pool.AcquireNow("c"));
  EXPECT_TRUE(pool.loaded("a"));
  EXPECT_FALSE(pool.loaded("b"));
  EXPECT_TRUE(pool.loaded("c"));
}

TEST_F(EnginePoolTest, AModelInUseIsNotUnloaded) {
  EnginePool pool(Options(), LoaderWithRoomFor(1));
  {
    const auto lease = pool.AcquireNow("a");
    ASSERT_TRUE(lease);
    const auto refused = pool.AcquireNow("b");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
    EXPECT_EQ(refused.error().param, "memory");
    EXPECT_TRUE(pool.loaded("a"));
  }
  EXPECT_TRUE(pool.AcquireNow("b"));
  EXPECT_FALSE(pool.loaded("a"));
}

TEST_F(EnginePoolTest, AContextIsShortenedOnlyWhereNoIdleModelCanMakeRoom) {
  std::vector<std::pair<std::string, bool>> loads;  // which model, whether it may be shortened
  bool room = true;
  EnginePool pool(
      Options(),
      [&](const std::filesystem::path& path,
          const engine::EngineOptions& options) -> Result<std::unique_ptr<engine::Engine>> {
        loads.emplace_back(path, options.shrink_context);
        if (!room && !options.shrink_context) {
          return Err(ErrorCode::kResourceExhausted, "no room");
        }
        return engine::Engine::Load(kDemo, options);
      });
  const auto used = pool.AcquireNow("used");
  ASSERT_TRUE(used);
  ASSERT_TRUE(pool.AcquireNow("idle"));
  room = false;
  ASSERT_TRUE(pool.AcquireNow("next"));
  EXPECT_FALSE(pool.loaded("idle"));
  EXPECT_TRUE(pool.loaded("used"));
  const std::vector<std::pair<std::string, bool>> expected = {
      {"used", false}, {"idle", false}, {"next", false}, {"next", false}, {"next", true}};
  EXPECT_EQ(loads, expected);
}

TEST_F(EnginePoolTest, AFailedLoadIsReportedAndTriedAgainNextTime) {
  int calls = 0;
  EnginePool pool(
      Options(),
      [&](const std::filesystem::path& path,
          const engine::EngineOptions& options) -> Result<std::unique_ptr<engine::Engine>> {
        if (++calls == 1) return Err(ErrorCode::kCorrupt, "{} is broken", path.string());
        return engine::Engine::Load(kDemo, options);
      });
  EXPECT_EQ(pool.AcquireNow("a").error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(pool.AcquireNow("a"));
}

TEST_F(EnginePoolTest, WhoeverWaitsIsAnsweredBeforeThePoolGoes) {
  std::promise<void> begin;
  std::promise<bool> first;
  std::promise<bool> second;
  {
    EnginePool pool(Options(),
                    [&](const std::filesystem::path&,
                        const engine::EngineOptions&) -> Result<std::unique_ptr<engine::Engine>> {
                      begin.get_future().wait();
                      begin = {};
                      begin.set_value();
                      return Err(ErrorCode::kNotFound, "none");
                    });
    pool.Acquire("a", [&](auto lease) { first.set_value(lease.has_value()); });
    pool.Acquire("b", [&](auto lease) { second.set_value(lease.has_value()); });
    begin.set_value();
  }
  EXPECT_FALSE(first.get_future().get());
  EXPECT_FALSE(second.get_future().get());
}

TEST_F(EnginePoolTest, AnIdleModelIsUnloadedAfterItsKeepAlive) {
  FakeClock clock;
  EnginePoolOptions options = Options();
  options.keep_alive = std::chrono::minutes(10);
  options.clock = &clock;
  EnginePool pool(options, LoaderWithRoomFor(2));
  {
    const auto lease = pool.AcquireNow("a");
    ASSERT_TRUE(lease);
    clock.Advance(std::chrono::minutes(20));
    EXPECT_EQ(pool.UnloadIdle(), 0) << "in use";
  }
  clock.Advance(std::chrono::minutes(9));
  EXPECT_EQ(pool.UnloadIdle(), 0);
  clock.Advance(std::chrono::minutes(1));
  EXPECT_EQ(pool.UnloadIdle(), 1);
  EXPECT_FALSE(pool.loaded("a"));
  ASSERT_TRUE(pool.AcquireNow("a"));
  EXPECT_EQ(loads_["a"], 2);
}

TEST_F(EnginePoolTest, WhoUsesARetiredModelFinishesOnIt) {
  EnginePool pool(Options(), LoaderWithRoomFor(2));
  auto old = pool.AcquireNow("a");
  ASSERT_TRUE(old);
  const engine::Engine* const first = &**old;
  pool.Retire("a");
  EXPECT_FALSE(pool.loaded("a"));
  const auto next = pool.AcquireNow("a");
  ASSERT_TRUE(next);
  EXPECT_NE(&**next, first);
  EXPECT_EQ((*old)->info().architecture, "phi3") << "still there";
  const uint64_t both = pool.memory().weights_bytes;
  *old = {};
  pool.UnloadIdle();
  EXPECT_EQ(pool.memory().weights_bytes, both / 2);
  pool.Retire("never loaded");
}

}  // namespace
}  // namespace tandem::app
