#include "fleet/deploy/verdicts.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

VerdictKey Key(std::string package = "sha256:p") {
  return {.device = "test NPU",
          .driver_digest = "sha256:d",
          .driver_version = "1.0",
          .system = "Linux 6.1",
          .package_digest = std::move(package)};
}

class VerdictsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Verdicts> Open(int64_t now_s = 1000) {
    auto opened = Verdicts::Open(dir_.path() / "executors", now_s);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? *std::move(opened) : nullptr;
  }
  const os::TempDir dir_;
};

TEST_F(VerdictsTest, EveryFieldComesBackFromDisk) {
  const Verdict verdict{.key = Key(),
                        .driver = "/drivers/npu.so",
                        .finding = Finding::kWrong,
                        .reason = "rows differ",
                        .relative_error = 0.25,
                        .error_bound = 0.085,
                        .decode_tokens_per_second = 31.5,
                        .cpu_decode_tokens_per_second = 12.25,
                        .at_s = 1700000000};
  ASSERT_TRUE(Open()->Put(verdict));
  const auto verdicts = Open();
  const auto found = verdicts->Find(Key());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->key, verdict.key);
  EXPECT_EQ(found->driver, verdict.driver);
  EXPECT_EQ(found->finding, verdict.finding);
  EXPECT_EQ(found->reason, verdict.reason);
  EXPECT_EQ(found->relative_error, verdict.relative_error);
  EXPECT_EQ(found->error_bound, verdict.error_bound);
  EXPECT_EQ(found->decode_tokens_per_second, verdict.decode_tokens_per_second);
  EXPECT_EQ(found->cpu_decode_tokens_per_second, verdict.cpu_decode_tokens_per_second);
  EXPECT_EQ(found->at_s, verdict.at_s);
}

TEST_F(VerdictsTest, AnyChangeOfDriverDeviceSystemOrPackageAsksAgain) {
  const auto verdicts = Open();
  ASSERT_TRUE(verdicts->Put({.key = Key()}));
  for (std::string VerdictKey::* part :
       {&VerdictKey::device, &VerdictKey::driver_digest, &VerdictKey::driver_version,
        &VerdictKey::system, &VerdictKey::package_digest}) {
    VerdictKey other = Key();
    other.*part += "x";
    EXPECT_FALSE(verdicts->Find(other));
  }
  EXPECT_TRUE(verdicts->Find(Key()));
}

TEST_F(VerdictsTest, ALaterVerdictTakesTheEarlierOnesPlace) {
  const auto verdicts = Open();
  ASSERT_TRUE(verdicts->Put({.key = Key(), .finding = Finding::kHung}));
  ASSERT_TRUE(verdicts->Put({.key = Key(), .finding = Finding::kPassed}));
  EXPECT_THAT(verdicts->List(), SizeIs(1));
  EXPECT_EQ(Open()->Find(Key())->finding, Finding::kPassed);
}

TEST_F(VerdictsTest, WhatAnotherProcessFoundIsKept) {
  const auto one = Open();
  const auto two = Open();
  ASSERT_TRUE(one->Put({.key = Key("a")}));
  ASSERT_TRUE(two->Put({.key = Key("b")}));
  EXPECT_THAT(Open()->List(), SizeIs(2));
}

TEST_F(VerdictsTest, ForgettingIsByDriver) {
  const auto verdicts = Open();
  ASSERT_TRUE(verdicts->Put({.key = Key("a"), .driver = "/one.so"}));
  ASSERT_TRUE(verdicts->Put({.key = Key("b"), .driver = "/two.so"}));
  EXPECT_EQ(verdicts->Forget("/one.so"), 1);
  EXPECT_FALSE(Open()->Find(Key("a")));
  EXPECT_TRUE(Open()->Find(Key("b")));
}

TEST_F(VerdictsTest, ADamagedFileIsKeptAsideAndEverythingIsTestedAgain) {
  ASSERT_TRUE(Open()->Put({.key = Key()}));
  const std::filesystem::path file = dir_.path() / "executors" / "verdicts.json";
  for (
      const std::string_view damaged :
      {"{", "[]", R"({"format":2,"verdicts":[]})", R"({"format":1})",
       R"({"format":1,"verdicts":[{"driver_digest":"x","package_digest":"y","finding":"odd"}]})"}) {
    ASSERT_TRUE(os::WriteFileAtomic(file, damaged));
    EXPECT_THAT(Open()->List(), IsEmpty()) << damaged;
    EXPECT_EQ(os::ReadFile(file.string() + ".damaged", 1000).value(), damaged);
  }
}

TEST_F(VerdictsTest, AProcessThatDiesWhileAnExecutorServesLeavesAVerdict) {
  const auto die_in_use = [&] {
    const pid_t child = fork();
    if (child == 0) {
      const auto verdicts = Open();
      const auto use = verdicts->BeginUse(Key(), "/drivers/npu.so");
      _exit(use ? 0 : 1);  // without a destructor
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  };
  die_in_use();
  const auto found = Open(2000)->Find(Key());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->finding, Finding::kKilledProcess);
  EXPECT_EQ(found->driver, "/drivers/npu.so");
  EXPECT_EQ(found->at_s, 2000);
}

TEST_F(VerdictsTest, AUseThatEndsOrStillRunsLeavesNone) {
  const auto verdicts = Open();
  {
    const auto use = verdicts->BeginUse(Key(), "/drivers/npu.so");
    ASSERT_TRUE(use);
    EXPECT_THAT(Open()->List(), IsEmpty()) << "it serves in a process that lives";
    EXPECT_EQ(verdicts->BeginUse(Key(), "/drivers/npu.so").error().code, ErrorCode::kAlreadyExists);
  }
  EXPECT_THAT(Open()->List(), IsEmpty());
  EXPECT_TRUE(verdicts->BeginUse(Key(), "/drivers/npu.so")) << "free again";
}

TEST_F(VerdictsTest, EveryFindingHasAName) {
  for (int i = 0; i <= static_cast<int>(Finding::kKilledProcess); ++i) {
    const auto finding = static_cast<Finding>(i);
    EXPECT_EQ(ParseFinding(FindingName(finding)), finding);
  }
  EXPECT_FALSE(ParseFinding("no such"));
}

}  // namespace
}  // namespace tandem::fleet
