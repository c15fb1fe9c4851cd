#include "engine/accelerator.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/packing.h"
#include "engine/session/testing/recorder.h"
#include "os/testing/temp_dir.h"

namespace tandem::engine {
namespace {

using session::testing::Recorder;
using ::testing::HasSubstr;

class AcceleratorTest : public ::testing::Test {
 protected:
  static void Fault(const char* fault) { setenv("TANDEM_FAULTY_DRIVER", fault, 1); }
  void SetUp() override { Fault(""); }
  void TearDown() override { Fault(""); }

  static std::filesystem::path Demo() {
    return std::filesystem::path(TANDEM_SOURCE_DIR) / "models" / "demo" / "tandem-demo-q4_0.gguf";
  }
  static std::filesystem::path Package() {
    static const os::TempDir dir;
    static const std::filesystem::path path = [] {
      auto package = dir.path() / "demo.tandem";
      const auto packed = Pack(Demo(), package, {.n_threads = 2});
      EXPECT_TRUE(packed) << packed.error().message;
      return package;
    }();
    return path;
  }
  static Result<AcceleratorCheck> Check() {
    return CheckAccelerator(TANDEM_FAULTY_DRIVER_PATH, Package(), RealClock());
  }
  static Result<std::unique_ptr<Engine>> Load(const std::filesystem::path& model = Package()) {
    return Engine::Load(model, {.n_threads = 2,
                                .context_tokens = 256,
                                .max_sessions = 2,
                                .driver = TANDEM_FAULTY_DRIVER_PATH});
  }
  static Request Question() {
    return {.prompt = ChatPrompt{.messages = {{.role = "user", .content = "Do you ship to Rome?"}},
                                 .tools_json = ""},
            .sampling = {.temperature = 0},
            .max_tokens = 24};
  }
};

TEST_F(AcceleratorTest, HonestOneIsRight) {
  const auto check = Check();
  ASSERT_TRUE(check) << check.error().message;
  EXPECT_TRUE(check->right());
  EXPECT_EQ(check->device.device_name, "test NPU");
  EXPECT_GT(check->decode_tokens_per_second, 0);
  EXPECT_GT(check->cpu_decode_tokens_per_second, 0);
}

TEST_F(AcceleratorTest, GarbageAndSmallErrorsAreNotRight) {
  Fault("nan");
  EXPECT_FALSE(Check().value().finite);
  Fault("wrong");
  const AcceleratorCheck wrong = Check().value();
  EXPECT_TRUE(wrong.finite);
  EXPECT_FALSE(wrong.right());
}

TEST_F(AcceleratorTest, SlowerThanTheCoresIsSeen) {
  Fault("slow");
  const AcceleratorCheck slow = Check().value();
  EXPECT_TRUE(slow.right());
  EXPECT_FALSE(slow.fast());
}

TEST_F(AcceleratorTest, WhatDoesNotRunSaysWhy) {
  Fault("create_fails");
  EXPECT_EQ(Check().error().code, ErrorCode::kUnavailable);
  Fault("step_fails");
  EXPECT_THAT(Check().error().message, HasSubstr("the DSP was restarted"));
  Fault("no_device");
  EXPECT_EQ(Check().error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(ProbeAccelerator(TANDEM_FAULTY_DRIVER_PATH).error().code, ErrorCode::kUnsupported);
}

TEST_F(AcceleratorTest, AnEngineOnADriverAnswersAsOnTheCores) {
  auto on_driver = Load();
  ASSERT_TRUE(on_driver) << on_driver.error().message;
  auto on_cores =
      Engine::Load(Package(), {.n_threads = 2,
                               .context_tokens = 256,
                               .max_sessions = 2,
                               .kv_precision = KvPrecision::kF16})  // as that driver has it
          .value();
  Recorder one;
  Recorder two;
  ASSERT_TRUE((*on_driver)->Submit(Question(), one.Sink()));
  ASSERT_TRUE(on_cores->Submit(Question(), two.Sink()));
  one.Wait();
  two.Wait();
  EXPECT_FALSE(one.text().empty());
  EXPECT_EQ(one.text(), two.text());
}

TEST_F(AcceleratorTest, ADeviceThatIsLostFailsTheAnswerNotTheProcess) {
  Fault("step_fails");
  auto engine = Load().value();
  Recorder answer;
  ASSERT_TRUE(engine->Submit(Question(), answer.Sink()));
  answer.Wait();
  ASSERT_TRUE(answer.failed());
  EXPECT_THAT(answer.failed()->message, HasSubstr("the DSP was restarted"));
}

TEST_F(AcceleratorTest, OnlyPackagesRunOnADriver) {
  EXPECT_EQ(Load(Demo()).error().code, ErrorCode::kUnsupported);
  Fault("create_fails");
  EXPECT_EQ(Load().error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace tandem::engine
