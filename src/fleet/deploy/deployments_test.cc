#include "fleet/deploy/deployments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

Deployment Make(std::string package, std::string driver = "") {
  return {.id = "dep-" + package,
          .model = "demo",
          .package = std::move(package),
          .package_digest = "sha256:x",
          .executor = driver.empty() ? "cpu" : "npu",
          .driver = std::move(driver),
          .device_id = "phone",
          .software_fallback = true,
          .batch_size = 4,
          .attempts = 3,
          .memory_bytes = 5,
          .memory_limit_bytes = 6,
          .reason = "because",
          .deployed_at_s = 7};
}

class DeploymentsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Deployments> Open() {
    auto opened = Deployments::Open(file_);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? *std::move(opened) : nullptr;
  }
  const os::TempDir dir_;
  const std::filesystem::path file_ = dir_.path() / "deployments.json";
};

TEST_F(DeploymentsTest, ADeploymentIsThereAfterARestart) {
  EXPECT_FALSE(Open()->Current("demo"));
  ASSERT_TRUE(Open()->Activate(Make("/a.tandem", "/npu.so")));
  const auto deployments = Open();
  EXPECT_EQ(deployments->Current("demo"), Make("/a.tandem", "/npu.so"));
  EXPECT_FALSE(deployments->Previous("demo"));
  EXPECT_EQ(deployments->OfPackage("/a.tandem")->model, "demo");
  EXPECT_FALSE(deployments->OfPackage("/b.tandem"));
}

TEST_F(DeploymentsTest, RollBackGoesToThePreviousOneAndBackAgain) {
  const auto deployments = Open();
  ASSERT_TRUE(deployments->Activate(Make("/a.tandem")));
  EXPECT_EQ(deployments->RollBack("demo", 9).error().code, ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(deployments->Activate(Make("/b.tandem")));
  EXPECT_EQ(deployments->RollBack("demo", 9).value().package, "/a.tandem");
  EXPECT_EQ(Open()->Current("demo")->package, "/a.tandem");
  EXPECT_EQ(Open()->Current("demo")->deployed_at_s, 9);
  EXPECT_EQ(Open()->Previous("demo")->package, "/b.tandem");
  EXPECT_EQ(deployments->RollBack("demo", 10).value().package, "/b.tandem");
  EXPECT_EQ(deployments->RollBack("other", 9).error().code, ErrorCode::kNotFound);
}

TEST_F(DeploymentsTest, TheSameAgainKeepsThePreviousOne) {
  const auto deployments = Open();
  ASSERT_TRUE(deployments->Activate(Make("/a.tandem")));
  ASSERT_TRUE(deployments->Activate(Make("/b.tandem")));
  Deployment again = Make("/b.tandem");
  again.id = "dep-again";
  ASSERT_TRUE(deployments->Activate(again));
  EXPECT_EQ(deployments->Current("demo")->id, "dep-again");
  EXPECT_EQ(deployments->Previous("demo")->package, "/a.tandem");
}

TEST_F(DeploymentsTest, AnotherProcessSeesItAfterARefresh) {
  const auto one = Open();
  const auto two = Open();
  ASSERT_TRUE(one->Activate(Make("/a.tandem")));
  EXPECT_FALSE(two->Current("demo"));
  ASSERT_TRUE(two->Refresh());
  EXPECT_TRUE(two->Current("demo"));
  Deployment other = Make("/b.tandem");
  other.model = "other";
  ASSERT_TRUE(two->Activate(other));
  ASSERT_TRUE(one->Activate(Make("/c.tandem")));
  EXPECT_EQ(Open()->List().size(), 2u) << "neither wrote over the other's";
}

TEST_F(DeploymentsTest, RemovedIsAsIfItNeverWas) {
  const auto deployments = Open();
  ASSERT_TRUE(deployments->Activate(Make("/a.tandem")));
  ASSERT_TRUE(deployments->Remove("demo"));
  EXPECT_THAT(Open()->List(), IsEmpty());
  EXPECT_EQ(deployments->Remove("demo").error().code, ErrorCode::kNotFound);
}

TEST_F(DeploymentsTest, ADamagedFileIsAnErrorThatNamesThePlace) {
  for (const auto& [text, place] : std::initializer_list<std::pair<const char*, const char*>>{
           {"{", "not JSON"},
           {R"({"format":9,"models":[]})", "format"},
           {R"({"format":1,"models":[{"current":{"id":"x"}}]})", "models[0].current"},
           {R"({"format":1,"models":[{"current":{"id":"x","model":"m","package":"p",)"
            R"("executor":"npu"}}]})",
            "driver"}}) {
    ASSERT_TRUE(os::WriteFileAtomic(file_, text));
    const auto opened = Deployments::Open(file_);
    EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt) << text;
    EXPECT_THAT(opened.error().message, HasSubstr(place));
  }
}

TEST_F(DeploymentsTest, WhatCannotBeWrittenChangesNothing) {
  const auto deployments = Open();
  ASSERT_TRUE(deployments->Activate(Make("/a.tandem")));
  std::filesystem::remove(file_);
  std::filesystem::create_directory(file_);
  EXPECT_FALSE(deployments->Activate(Make("/b.tandem")));
  EXPECT_EQ(deployments->Current("demo")->package, "/a.tandem");
}

}  // namespace
}  // namespace tandem::fleet
