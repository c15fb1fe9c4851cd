#include "engine/executor/cpu_executor.h"

#include <filesystem>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/gguf/file.h"
#include "os/cpu.h"

namespace tandem::executor {
namespace {

constexpr int32_t kContext = 64;

class CpuExecutorTest : public ::testing::Test {
 protected:
  static std::shared_ptr<const model::Model> LoadModel() {
    const auto file = gguf::File::Open(std::filesystem::path(TANDEM_SOURCE_DIR) / "models" /
                                       "demo" / "tandem-demo-q4_0.gguf");
    EXPECT_TRUE(file) << file.error().message;
    auto model = model::Model::Load(*file);
    EXPECT_TRUE(model) << model.error().message;
    return *model;
  }
  static std::unique_ptr<CpuExecutor> Make(int32_t context, StepLimits limits) {
    auto executor = CpuExecutor::Create(
        LoadModel(), {.n_threads = 2, .context_tokens = context, .limits = limits});
    EXPECT_TRUE(executor) << executor.error().message;
    return std::move(*executor);
  }

  // Logits after the last token.
  std::vector<float> Run(Slot& slot, const std::vector<int32_t>& token_ids) {
    std::vector<float> logits(static_cast<size_t>(executor_->vocab_size()));
    const SlotStep step{.slot = &slot, .token_ids = token_ids, .n_logit_rows = 1};
    const Status status = executor_->Step({&step, 1}, logits);
    EXPECT_TRUE(status) << status.error().message;
    return logits;
  }

  std::unique_ptr<CpuExecutor> executor_ = Make(kContext, {.max_tokens = 32, .max_logit_rows = 4});
};

TEST_F(CpuExecutorTest, NoMoreThreadsThanCoresCompute) {
  const auto executor =
      CpuExecutor::Create(LoadModel(), {.n_threads = 500,
                                        .context_tokens = kContext,
                                        .limits = {.max_tokens = 4, .max_logit_rows = 4}});
  ASSERT_TRUE(executor) << executor.error().message;
  EXPECT_EQ((*executor)->n_threads(), os::UsableCpuCount());
}

TEST_F(CpuExecutorTest, ModelsThatShareThreadsComputeAsAlone) {
  const std::vector<int32_t> tokens = {5, 9, 200, 31, 77};
  const std::vector<float> alone = Run(*executor_->NewSlot(KvPrecision::kF16).value(), tokens);
  const auto threads = CpuExecutor::StartThreads(2).value();
  std::vector<std::vector<float>> together(3);
  {
    std::vector<std::jthread> schedulers;
    for (std::vector<float>& logits : together) {
      schedulers.emplace_back([&] {
        const auto executor =
            CpuExecutor::Create(LoadModel(), {.threads = threads,
                                              .context_tokens = kContext,
                                              .limits = {.max_tokens = 8, .max_logit_rows = 4}})
                .value();
        for (int round = 0; round < 5; ++round) {
          const auto slot = executor->NewSlot(KvPrecision::kF16).value();
          logits.assign(static_cast<size_t>(executor->vocab_size()), 0.0F);
          const SlotStep step{.slot = slot.get(), .token_ids = tokens, .n_logit_rows = 1};
          ASSERT_TRUE(executor->Step({&step, 1}, logits));
        }
      });
    }
  }
  for (const std::vector<float>& logits : together) EXPECT_EQ(logits, alone);
}

TEST_F(CpuExecutorTest, CopiedPrefixGivesTheSameLogitsAndLeavesTheSourceAlone) {
  for (KvPrecision precision : {KvPrecision::kInt8, KvPrecision::kF16, KvPrecision::kF32}) {
    const auto source = executor_->NewSlot(precision).value();
    const auto copy = executor_->NewSlot(precision).value();
    const auto fresh = executor_->NewSlot(precision).value();
    Run(*source, {10, 11, 12, 13, 14, 15});
    Run(*copy, {99, 98});  // what it held does not matter
    executor_->CopyPrefix(*source, 4, *copy);
    EXPECT_EQ(copy->length(), 4);
    EXPECT_EQ(source->length(), 6);
    const std::vector<float> expected = Run(*fresh, {10, 11, 12, 13, 20, 21});
    EXPECT_EQ(Run(*copy, {20, 21}), expected);
    // Writing into the copy did not reach the source.
    const auto other = executor_->NewSlot(precision).value();
    EXPECT_EQ(Run(*source, {16}), Run(*other, {10, 11, 12, 13, 14, 15, 16}));
  }
}

TEST_F(CpuExecutorTest, TruncatedSlotGoesOnAsIfNothingHadFollowed) {
  const auto slot = executor_->NewSlot(KvPrecision::kF16).value();
  const auto fresh = executor_->NewSlot(KvPrecision::kF16).value();
  Run(*slot, {10, 11, 12, 13});
  slot->Truncate(2);
  EXPECT_EQ(slot->length(), 2);
  EXPECT_EQ(Run(*slot, {30}), Run(*fresh, {10, 11, 30}));
}

TEST_F(CpuExecutorTest, SlotBytesAreThoseOfTheSlots) {
  for (KvPrecision precision : {KvPrecision::kInt8, KvPrecision::kF16, KvPrecision::kF32}) {
    EXPECT_EQ(executor_->NewSlot(precision).value()->bytes(), executor_->SlotBytes(precision));
  }
  EXPECT_GT(executor_->SlotBytes(KvPrecision::kF32), executor_->SlotBytes(KvPrecision::kF16));
  EXPECT_GT(executor_->SlotBytes(KvPrecision::kF16), executor_->SlotBytes(KvPrecision::kInt8));
  EXPECT_EQ(executor_->NewSlot(KvPrecision::kF16).value()->context_tokens(), kContext);
}

TEST_F(CpuExecutorTest, ContextThatTheModelDoesNotHaveIsRefused) {
  const auto model = LoadModel();
  for (int32_t context : {0, -1, model->hyperparameters().context_length + 1}) {
    const auto executor =
        CpuExecutor::Create(model, {.n_threads = 1, .context_tokens = context, .limits = {32, 4}});
    ASSERT_FALSE(executor);
    EXPECT_EQ(executor.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST_F(CpuExecutorTest, BatchThatBreaksTheLimitsChangesNothing) {
  const auto slot = executor_->NewSlot(KvPrecision::kF16).value();
  const std::vector<int32_t> too_many(33, 1);
  const SlotStep step{.slot = slot.get(), .token_ids = too_many, .n_logit_rows = 0};
  EXPECT_FALSE(executor_->Step({&step, 1}, {}));
  EXPECT_EQ(slot->length(), 0);
}

}  // namespace
}  // namespace tandem::executor
