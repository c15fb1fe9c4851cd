#include "app/deployer.h"

#include <cstdlib>
#include <fstream>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/models.h"
#include "engine/packing.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using ::testing::HasSubstr;

std::filesystem::path Demo(std::string_view kind) {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "models" / "demo" /
         fmt::format("tandem-demo-{}.gguf", kind);
}

class DeployerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Before this process would choose its instructions by what follows.
    ASSERT_TRUE(packages_.Get(fleet_->Resolve("demo")->path, nullptr));
    // For the children: the cores are slow, the driver takes the best there is.
    setenv("TANDEM_ISA", "scalar", 1);
    setenv("TANDEM_FAULTY_DRIVER", "", 1);
    setenv("TANDEM_FAULTY_DRIVER_STATE", (dir_.path() / "state").c_str(), 1);
  }
  void TearDown() override {
    setenv("TANDEM_FAULTY_DRIVER", "", 1);
    unsetenv("TANDEM_ISA");
  }
  static void Fault(const char* fault) { setenv("TANDEM_FAULTY_DRIVER", fault, 1); }

  Result<fleet::Deployment> Deploy(DeployRequest request) {
    return deployer_.Deploy(request, nullptr, {});
  }
  DeployRequest Accelerated() const { return {.model = "demo", .accelerator = true}; }
  EnginePool MakePool() {
    return EnginePool({.engine = engine_},
                      DeploymentLoader(&packages_, deployments_.get(), accelerators_.get()));
  }
  static std::string Answer(EnginePool& pool, const std::filesystem::path& package) {
    auto lease = pool.AcquireNow(package);
    EXPECT_TRUE(lease) << lease.error().message;
    if (!lease) return {};
    auto ids = (*lease)->text().value()->EncodePrompt("Do you ship to Singapore?").value();
    auto next = (*lease)->GreedyContinuation(ids, 4);
    EXPECT_TRUE(next) << next.error().message;
    return next ? fmt::format("{}", fmt::join(*next, " ")) : "";
  }

  const os::TempDir dir_;
  const RealClock clock_;
  const engine::EngineOptions engine_{.n_threads = 2, .context_tokens = 256};
  const std::unique_ptr<fleet::Fleet> fleet_ = OpenFleet(dir_.path()).value();
  const Packages packages_{dir_.path()};
  const std::unique_ptr<Accelerators> accelerators_ =
      Accelerators::Open({.data_dir = dir_.path(),
                          .drivers = {TANDEM_FAULTY_DRIVER_PATH},
                          .program = TANDEM_PROGRAM_PATH,
                          .probe_timeout = std::chrono::minutes(1),
                          .check_data_limit_bytes = uint64_t{1} << 50},
                         &clock_)
          .value();
  const std::unique_ptr<fleet::Deployments> deployments_ =
      fleet::Deployments::Open(dir_.path() / "deployments.json").value();
  int n_waits_ = 0;
  Deployer deployer_{{.fleet = fleet_.get(),
                      .packages = &packages_,
                      .accelerators = accelerators_.get(),
                      .deployments = deployments_.get(),
                      .clock = &clock_,
                      .random = [] { return 0.5; },
                      .wait =
                          [this](std::chrono::milliseconds) {
                            ++n_waits_;
                            return true;
                          }},
                     dir_.path(),
                     engine_};
};

TEST_F(DeployerTest, OnTheCoresWhereNoAcceleratorIsAskedFor) {
  const auto deployed = Deploy({.model = "demo", .device_id = "phone"});
  ASSERT_TRUE(deployed) << deployed.error().message;
  EXPECT_EQ(deployed->executor, "cpu");
  EXPECT_FALSE(deployed->software_fallback);
  EXPECT_EQ(deployed->attempts, 0);
  EXPECT_EQ(deployed->batch_size, 8);
  EXPECT_GT(deployed->memory_bytes, 0u);
  EXPECT_EQ(deployments_->Current(deployed->model)->id, deployed->id);
}

TEST_F(DeployerTest, TheLadderEndsWhereItShould) {
  struct Row {
    const char* fault;
    const char* executor;
    int attempts;
    int waits;
  };
  for (const Row& row : std::initializer_list<Row>{{"", "npu", 1, 0},
                                                   {"create_once", "npu", 2, 1},
                                                   {"create_until_reset", "npu", 2, 1},
                                                   {"create_fails", "cpu", 3, 2},
                                                   {"create_crashes", "cpu", 1, 0},
                                                   {"nan", "cpu", 1, 0},
                                                   {"wrong", "cpu", 1, 0},
                                                   {"slow", "cpu", 1, 0},
                                                   {"no_device", "cpu", 0, 0}}) {
    Fault(row.fault);
    n_waits_ = 0;
    const auto deployed = Deploy(Accelerated());
    ASSERT_TRUE(deployed) << deployed.error().message;
    EXPECT_EQ(deployed->executor, row.executor) << row.fault << ": " << deployed->reason;
    EXPECT_EQ(deployed->attempts, row.attempts) << row.fault;
    EXPECT_EQ(n_waits_, row.waits) << row.fault;
    const bool fallback = deployed->executor == "cpu";
    EXPECT_EQ(deployed->software_fallback, fallback);
    EXPECT_EQ(deployed->batch_size, fallback ? 4 : 8);
    EXPECT_FALSE(deployed->reason.empty());
    // Whatever it was: there is an answer, and it is the model's.
    EnginePool pool = MakePool();
    EXPECT_EQ(Answer(pool, deployed->package), Answer(pool, Demo("q4_0"))) << row.fault;
    Fault("");
    ASSERT_TRUE(deployer_.ResetAccelerators());
  }
}

TEST_F(DeployerTest, WithoutASoftwareFallbackItIsAnErrorAndNothingChanges) {
  const auto before = Deploy({.model = "demo"});
  ASSERT_TRUE(before);
  Fault("create_fails");
  DeployRequest request = Accelerated();
  request.software_fallback = false;
  const auto refused = Deploy(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(refused.error().param, "accelerator");
  EXPECT_THAT(refused.error().message, HasSubstr("QNN_CONTEXT_ERROR_CREATE_FROM_BINARY"));
  EXPECT_EQ(deployments_->Current(before->model)->id, before->id);
}

TEST_F(DeployerTest, AMemoryLimitThatIsTooSmallNamesTheBytes) {
  const auto refused = Deploy({.model = "demo", .memory_limit_bytes = 1 << 20});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().param, "memory");
  EXPECT_THAT(refused.error().message, HasSubstr("1048576 are available"));
  EXPECT_FALSE(deployments_->Current("demo"));
}

TEST_F(DeployerTest, ADamagedPackageIsNotDeployed) {
  const auto package = packages_.Get(fleet_->Resolve("demo")->path, nullptr).value();
  {
    std::fstream file(package, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-100, std::ios::end);
    file.put('x').put('y');
  }
  const auto refused = Deploy({.model = "demo"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
}

TEST_F(DeployerTest, RollBackAnswersWithThePackageBeforeAlthoughItIsInstalledNoMore) {
  const auto first = Deploy({.model = "demo"});
  ASSERT_TRUE(first);
  // Another executor is another deployment of the same package.
  const auto second = Deploy(Accelerated());
  ASSERT_TRUE(second);
  EXPECT_EQ(second->executor, "npu") << second->reason;
  ASSERT_TRUE(packages_.Remove(fleet_->Resolve("demo")->path));
  const auto back = deployer_.RollBack("demo");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->id, first->id);
  EnginePool pool = MakePool();
  EXPECT_FALSE(Answer(pool, back->package).empty());
}

TEST_F(DeployerTest, AnAcceleratorThatFailsLaterLeavesTheAnswerToTheCores) {
  const auto deployed = Deploy(Accelerated());
  ASSERT_TRUE(deployed);
  ASSERT_EQ(deployed->executor, "npu") << deployed->reason;
  Fault("create_fails");
  EnginePool pool = MakePool();
  EXPECT_EQ(Answer(pool, deployed->package), Answer(pool, Demo("q4_0")));
}

}  // namespace
}  // namespace tandem::app
