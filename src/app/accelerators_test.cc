#include "app/accelerators.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/packing.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using fleet::Finding;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A sanitizer's own tables do not fit into a limit.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kLimited = false;
#else
constexpr bool kLimited = true;
#endif
constexpr uint64_t kDataLimit = uint64_t{1} << (kLimited ? 30 : 50);

// Every test asks the real program about a real, faulty driver, in child processes.
class AcceleratorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Package();  // before this process would choose its instructions by what follows
    // For the children: the cores are slow, the driver takes the best there is.
    setenv("TANDEM_ISA", "scalar", 1);
    Fault("");
    setenv("TANDEM_FAULTY_DRIVER_STATE", (dir_.path() / "state").c_str(), 1);
    unsetenv("TANDEM_FAULTY_DRIVER_VERSION");
  }
  void TearDown() override {
    Fault("");
    unsetenv("TANDEM_ISA");
  }

  static void Fault(const char* fault) { setenv("TANDEM_FAULTY_DRIVER", fault, 1); }
  static std::filesystem::path Package() {
    static const os::TempDir dir;
    static const std::filesystem::path path = [] {
      auto package = dir.path() / "demo.tandem";
      const auto packed = engine::Pack(
          std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf", package,
          {.n_threads = 2});
      EXPECT_TRUE(packed) << packed.error().message;
      return package;
    }();
    return path;
  }
  std::unique_ptr<Accelerators> Open(
      std::chrono::milliseconds check_timeout = std::chrono::minutes(2)) {
    auto opened = Accelerators::Open({.data_dir = dir_.path(),
                                      .drivers = {TANDEM_FAULTY_DRIVER_PATH},
                                      .program = TANDEM_PROGRAM_PATH,
                                      .probe_timeout = std::chrono::minutes(1),
                                      .check_timeout = check_timeout,
                                      .check_data_limit_bytes = kDataLimit},
                                     &clock_);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? *std::move(opened) : nullptr;
  }
  fleet::Verdict Check(Accelerators& accelerators) {
    const auto found = accelerators.Probe();
    EXPECT_THAT(found, SizeIs(1));
    EXPECT_TRUE(found[0].device) << found[0].problem;
    auto verdict = accelerators.Check(found[0], Package());
    EXPECT_TRUE(verdict) << verdict.error().message;
    return verdict ? *std::move(verdict) : fleet::Verdict{};
  }

  const os::TempDir dir_;
  const RealClock clock_;
};

TEST_F(AcceleratorsTest, AnHonestDriverPassesAndItsVerdictIsKept) {
  const auto accelerators = Open();
  const fleet::Verdict verdict = Check(*accelerators);
  EXPECT_EQ(verdict.finding, Finding::kPassed) << verdict.reason;
  EXPECT_GT(verdict.cpu_decode_tokens_per_second, 0);
  EXPECT_EQ(verdict.key.device, "test NPU");
  EXPECT_THAT(Open()->Remembered(), SizeIs(1));
}

TEST_F(AcceleratorsTest, EachFaultEndsInItsVerdict) {
  struct Row {
    const char* fault;
    Finding finding;
    const char* reason;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"create_fails", Finding::kContextFailed, "QNN_CONTEXT_ERROR_CREATE_FROM_BINARY"},
           {"create_crashes", Finding::kCrashed, "SEGV"},
           {"step_crashes", Finding::kCrashed, "SEGV"},
           {"step_fails", Finding::kContextFailed, "the DSP was restarted"},
           {"nan", Finding::kNotFinite, "not numbers"},
           {"wrong", Finding::kWrong, "differ from the known answers"},
           {"slow", Finding::kSlow, "tokens a second"},
           {"leak", Finding::kOutOfMemory, ""}}) {
    if (!kLimited && row.finding == Finding::kOutOfMemory) continue;
    const auto accelerators = Open();
    Fault(row.fault);
    const fleet::Verdict verdict = Check(*accelerators);
    EXPECT_EQ(fleet::FindingName(verdict.finding), fleet::FindingName(row.finding)) << row.fault;
    EXPECT_THAT(verdict.reason, HasSubstr(row.reason)) << row.fault;
    // A context that failed may work the next time; the others are not tried again.
    Fault("");
    const fleet::Verdict again = Check(*accelerators);
    const bool quarantined = row.finding != Finding::kContextFailed;
    EXPECT_EQ(again.finding, quarantined ? row.finding : Finding::kPassed) << row.fault;
    // Until somebody resets it.
    ASSERT_TRUE(accelerators->Reset(TANDEM_FAULTY_DRIVER_PATH));
    EXPECT_THAT(accelerators->Remembered(), IsEmpty());
  }
}

TEST_F(AcceleratorsTest, WhatHangsIsKilledAndRemembered) {
  for (const char* fault : {"create_hangs", "step_hangs"}) {
    const auto accelerators = Open(std::chrono::seconds(2));
    Fault(fault);
    EXPECT_EQ(Check(*accelerators).finding, Finding::kHung);
    Fault("");
    EXPECT_EQ(Check(*accelerators).finding, Finding::kHung);
    ASSERT_TRUE(accelerators->Reset(TANDEM_FAULTY_DRIVER_PATH));
  }
}

TEST_F(AcceleratorsTest, AnotherDriverVersionIsTestedAgain) {
  const auto accelerators = Open();
  Fault("wrong");
  EXPECT_EQ(Check(*accelerators).finding, Finding::kWrong);
  Fault("");
  setenv("TANDEM_FAULTY_DRIVER_VERSION", "2.0", 1);
  EXPECT_EQ(Check(*accelerators).finding, Finding::kPassed);
  EXPECT_THAT(accelerators->Remembered(), SizeIs(2));
  unsetenv("TANDEM_FAULTY_DRIVER_VERSION");
  EXPECT_EQ(Check(*accelerators).finding, Finding::kWrong) << "the old one is still as it was";
}

TEST_F(AcceleratorsTest, DevicesThatAreNotThereAndFilesThatAreNoDriversAreSaidSo) {
  Fault("no_device");
  std::filesystem::create_directory(dir_.path() / "drivers");
  ASSERT_TRUE(os::WriteFileAtomic(dir_.path() / "drivers" / "text.so", "no library"));
  ASSERT_TRUE(os::WriteFileAtomic(dir_.path() / "drivers" / "readme.txt", "not looked at"));
  const auto found = Open()->Probe();
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_FALSE(found[0].device);
  EXPECT_THAT(found[0].problem, HasSubstr("no such accelerator on the bus"));
  EXPECT_FALSE(found[1].device);
  EXPECT_THAT(found[1].problem, HasSubstr("text.so"));
}

}  // namespace
}  // namespace tandem::app
