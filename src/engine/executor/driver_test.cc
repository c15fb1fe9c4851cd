#include "engine/executor/driver.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/executor/cpu_executor.h"
#include "engine/executor/known_answer.h"
#include "engine/gguf/file.h"
#include "engine/model/pack.h"
#include "engine/package/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::executor {
namespace {

using ::testing::HasSubstr;

class DriverTest : public ::testing::Test {
 protected:
  // What the driver does wrong from now on.
  static void Fault(const char* fault) { setenv("TANDEM_FAULTY_DRIVER", fault, 1); }
  void SetUp() override {
    Fault("");
    setenv("TANDEM_FAULTY_DRIVER_STATE", (dir_.path() / "state").c_str(), 1);
  }
  void TearDown() override { Fault(""); }

  static std::filesystem::path Package() {
    static const os::TempDir dir;
    static const std::filesystem::path path = [] {
      const std::filesystem::path demo =
          std::filesystem::path(TANDEM_SOURCE_DIR) / "models" / "demo" / "tandem-demo-q4_0.gguf";
      auto package = dir.path() / "demo.tandem";
      const auto file = gguf::File::Open(demo).value();
      const auto loaded = model::Model::Load(file).value();
      const auto pool = ops::ThreadPool::Create(1).value();
      const auto packed = model::Pack(*file, *loaded, *pool, package, {});
      EXPECT_TRUE(packed) << packed.error().message;
      return package;
    }();
    return path;
  }
  static Result<std::unique_ptr<Executor>> Create() {
    auto driver = Driver::Load(TANDEM_FAULTY_DRIVER_PATH);
    if (!driver) return std::unexpected(driver.error());
    return CreateDriverExecutor(*std::move(driver), {.package = Package(),
                                                     .context_tokens = kKnownAnswerContextTokens,
                                                     .limits = kKnownAnswerLimits,
                                                     .max_slots = kKnownAnswerSlots});
  }
  static AnswerComparison Compare() {
    const auto executor = Create();
    EXPECT_TRUE(executor) << executor.error().message;
    const auto answers = AskKnownAnswers(**executor, RealClock());
    EXPECT_TRUE(answers) << answers.error().message;
    return CompareAnswers(Reference(), *answers, KnownAnswerBound(6));
  }
  static const KnownAnswers& Reference() {
    static const KnownAnswers reference = [] {
      auto model = model::Model::Load(package::File::Open(Package()).value()).value();
      const auto cpu = CpuExecutor::Create(model, {.n_threads = 1,
                                                   .context_tokens = kKnownAnswerContextTokens,
                                                   .limits = kKnownAnswerLimits})
                           .value();
      return AskKnownAnswers(*cpu, RealClock()).value();
    }();
    return reference;
  }

  const os::TempDir dir_;
};

TEST_F(DriverTest, ProbeSaysWhoItIs) {
  const auto driver = Driver::Load(TANDEM_FAULTY_DRIVER_PATH).value();
  const DeviceInfo info = driver->Probe().value();
  EXPECT_EQ(info.kind, DeviceKind::kNpu);
  EXPECT_EQ(info.driver_name, "faulty");
  EXPECT_EQ(info.driver_version, "1.0");
  EXPECT_EQ(info.device_name, "test NPU");
  EXPECT_EQ(info.memory_bytes, uint64_t{1} << 30);
  Fault("no_device");
  const auto absent = driver->Probe();
  EXPECT_EQ(absent.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(absent.error().message, HasSubstr("no such accelerator on the bus"));
}

TEST_F(DriverTest, WhatIsNoDriverIsRefused) {
  EXPECT_EQ(Driver::Load(dir_.path() / "absent.so").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Driver::Load(Package()).error().code, ErrorCode::kUnsupported);
  const auto other = Driver::Load("/lib/x86_64-linux-gnu/libm.so.6");
  if (other.has_value() || other.error().code != ErrorCode::kNotFound) {
    EXPECT_THAT(other.error().message, HasSubstr("does not export tandem_driver_entry"));
  }
}

TEST_F(DriverTest, AnHonestDriverGivesTheKnownAnswers) {
  const AnswerComparison comparison = Compare();
  EXPECT_TRUE(comparison.passed());
  EXPECT_EQ(comparison.worst_relative_error, 0) << "it computes as the reference does";
}

TEST_F(DriverTest, WrongAnswersAreSeen) {
  Fault("nan");
  EXPECT_FALSE(Compare().finite);
  Fault("wrong");
  const AnswerComparison wrong = Compare();
  EXPECT_TRUE(wrong.finite);
  EXPECT_GT(wrong.worst_relative_error, wrong.bound);
  EXPECT_FALSE(wrong.passed());
}

TEST_F(DriverTest, ContextsThatCannotBeCreatedSayWhy) {
  Fault("create_fails");
  const auto failed = Create();
  EXPECT_EQ(failed.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(failed.error().message, HasSubstr("QNN_CONTEXT_ERROR_CREATE_FROM_BINARY"));
  Fault("create_once");
  EXPECT_FALSE(Create());
  EXPECT_TRUE(Create());
  Fault("create_until_reset");
  EXPECT_FALSE(Create());
  EXPECT_FALSE(Create());
  EXPECT_TRUE(Driver::Load(TANDEM_FAULTY_DRIVER_PATH).value()->Reset());
  EXPECT_TRUE(Create());
}

TEST_F(DriverTest, SequencesOfAFailedStepAreLost) {
  Fault("step_fails");
  const auto executor = Create().value();
  const auto slot = executor->NewSlot(KvPrecision::kF16).value();
  std::vector<float> logits(static_cast<size_t>(executor->vocab_size()));
  const std::vector<int32_t> token = {5};
  const SlotStep step{.slot = slot.get(), .token_ids = token, .n_logit_rows = 1};
  EXPECT_TRUE(executor->Step({&step, 1}, logits));
  EXPECT_TRUE(executor->Step({&step, 1}, logits));
  const Status lost = executor->Step({&step, 1}, logits);
  EXPECT_EQ(lost.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(lost.error().message, HasSubstr("the DSP was restarted"));
  EXPECT_EQ(slot->length(), 2);
  EXPECT_THAT(executor->Step({&step, 1}, logits).error().message, HasSubstr("was lost"));
}

TEST_F(DriverTest, BatchesThatBreakTheRulesNeverReachTheDriver) {
  const auto executor = Create().value();
  const auto slot = executor->NewSlot(KvPrecision::kF16).value();
  std::vector<float> logits(static_cast<size_t>(executor->vocab_size()));
  const auto step = [&](std::vector<int32_t> ids, int32_t n_rows) {
    const SlotStep one{.slot = slot.get(), .token_ids = ids, .n_logit_rows = n_rows};
    return executor->Step({&one, 1}, logits);
  };
  EXPECT_EQ(step({}, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step({1}, 2).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step({-1}, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step({executor->vocab_size()}, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step(std::vector<int32_t>(81, 1), 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(step({1, 2}, 2).error().code, ErrorCode::kInvalidArgument) << "no room for two rows";
  EXPECT_TRUE(step(std::vector<int32_t>(80, 1), 1));
  EXPECT_EQ(step(std::vector<int32_t>(49, 1), 1).error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(step(std::vector<int32_t>(48, 1), 1)) << "an error changes nothing";
}

}  // namespace
}  // namespace tandem::executor
