#include "app/served_models.h"

#include <filesystem>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/models.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::Contains;
using testing::HasSubstr;

// The demo model as a bundled one, and nothing else.
class ServedModelsTest : public testing::Test {
 protected:
  ServedModelsTest() {
    fleet_ = fleet::Fleet::Open(
                 {.models_dir = data_ / "models",
                  .bundled_dirs = {std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo"}})
                 .value();
  }
  Result<std::unique_ptr<ServedModels>> Create(
      std::vector<Alias> aliases, std::vector<gateway::upstream::UpstreamOptions> upstreams = {}) {
    return ServedModels::Create(fleet_.get(), &pool_, client_.get(), &clock_,
                                {std::move(aliases), std::move(upstreams)});
  }
  static gateway::upstream::UpstreamOptions Upstream(std::string model, std::string url) {
    gateway::upstream::UpstreamOptions options;
    options.model = std::move(model);
    options.base_url = std::move(url);
    return options;
  }

  os::TempDir data_;
  std::unique_ptr<fleet::Fleet> fleet_;
  RealClock clock_;
  std::unique_ptr<net::HttpClient> client_ = net::HttpClient::Create({}).value();
  EnginePool pool_{{.engine = {.n_threads = 1, .context_tokens = 64}}};
};

TEST_F(ServedModelsTest, AnInstalledModelAndItsAliasShareOneProvider) {
  const auto directory = Create({{"phi-4-mini", "demo"}});
  ASSERT_TRUE(directory) << directory.error().message;
  const auto demo = (*directory)->Resolve("demo");
  const auto alias = (*directory)->Resolve("phi-4-mini");
  ASSERT_TRUE(demo && alias);
  const auto found = (*directory)->Find(*demo);
  ASSERT_NE(found.provider, nullptr);
  EXPECT_EQ(found.provider, (*directory)->Find(*alias).provider);
  EXPECT_EQ(found.provider->model(), "demo");
  EXPECT_TRUE(found.continues);
  EXPECT_GT(found.state.memory_wanted_bytes.value(), 0u);
  EXPECT_GT(found.state.memory_free_bytes.value(), *found.state.memory_wanted_bytes);
}

TEST_F(ServedModelsTest, TargetsOfAStrategyAreFoundOrSayWhatWouldHelp) {
  const auto models = ServedModels::Create(
      fleet_.get(), &pool_, client_.get(), &clock_,
      {.disabled = {{"deepseek-v3.2", "set DEEPSEEK_API_KEY"}}, .bound = {{"phi-4-mini", "demo"}}});
  ASSERT_TRUE(models) << models.error().message;
  const auto bound =
      (*models)->Find({.id = "s", .model = "phi-4-mini", .tier = gateway::Tier::kDeviceSmall});
  ASSERT_NE(bound.provider, nullptr);
  EXPECT_EQ(bound.provider->model(), "demo");
  const auto absent =
      (*models)->Find({.id = "l", .model = "mimo-7b-int4", .tier = gateway::Tier::kDeviceLarge});
  EXPECT_EQ(absent.provider, nullptr);
  EXPECT_FALSE(absent.state.installed);
  EXPECT_THAT(absent.state.remedy, HasSubstr("tandem pull"));
  const auto keyless =
      (*models)->Find({.id = "c", .model = "deepseek-v3.2", .tier = gateway::Tier::kCloud});
  EXPECT_FALSE(keyless.state.enabled);
  EXPECT_EQ(keyless.state.remedy, "set DEEPSEEK_API_KEY");
}

TEST_F(ServedModelsTest, AnotherConfigurationIsPreparedThenAdopted) {
  const auto models = Create({});
  ASSERT_TRUE(models);
  EXPECT_FALSE((*models)->Prepare({.aliases = {{"x", "x"}}}));
  const auto prepared = (*models)->Prepare({.aliases = {{"phi-4-mini", "demo"}}});
  ASSERT_TRUE(prepared);
  EXPECT_FALSE((*models)->Resolve("phi-4-mini"));
  (*models)->Adopt(*prepared);
  EXPECT_TRUE((*models)->Resolve("phi-4-mini"));
}

TEST_F(ServedModelsTest, ModelThatIsLoadedWantsNoMoreMemory) {
  const auto models = Create({});
  ASSERT_TRUE(pool_.AcquireNow(fleet_->Resolve("demo")->path));
  const auto found = (*models)->Find((*models)->Resolve("demo").value());
  EXPECT_FALSE(found.state.memory_wanted_bytes);
}

TEST_F(ServedModelsTest, KnownButNotInstalledSaysHowToInstall) {
  const auto directory = Create({});
  ASSERT_TRUE(directory);
  const auto missing = (*directory)->Resolve("mimo-7b");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, gateway::FailureCode::kModelNotInstalled);
  EXPECT_THAT(missing.error().message, HasSubstr("tandem pull mimo-7b"));
}

TEST_F(ServedModelsTest, UnknownNamesAndPathsAreNotFound) {
  const auto directory = Create({});
  ASSERT_TRUE(directory);
  const std::string path = std::string(TANDEM_SOURCE_DIR) + "/models/demo/tandem-demo-q4_0.gguf";
  for (const std::string& name : {std::string("gpt-99"), path, std::string("../x.gguf"),
                                  std::string(""), std::string("a b")}) {
    const auto missing = (*directory)->Resolve(name);
    ASSERT_FALSE(missing) << name;
    EXPECT_EQ(missing.error().code, gateway::FailureCode::kModelNotFound) << name;
  }
}

TEST_F(ServedModelsTest, TheListHasModelsAndAliases) {
  const auto directory = Create({{"phi-4-mini", "demo"}});
  ASSERT_TRUE(directory);
  std::vector<std::string> ids;
  for (const auto& model : (*directory)->List()) ids.push_back(model.id);
  EXPECT_THAT(ids, Contains("demo"));
  EXPECT_THAT(ids, Contains("phi-4-mini"));
}

TEST_F(ServedModelsTest, WrongAliasesAreRefusedWithTheOptionInTheMessage) {
  EXPECT_THAT(Create({{"x", "x"}}).error().message, HasSubstr("--alias x=x"));
  EXPECT_THAT(Create({{"x", "no-such-model"}}).error().message, HasSubstr("--alias x=no-such"));
  EXPECT_THAT(Create({{"demo", "demo2"}}).error().message, HasSubstr("would be hidden"));
}

TEST_F(ServedModelsTest, AnUpstreamAnswersToItsNameAndToAliases) {
  const auto models = Create({{"smart", "deepseek-v3.2"}},
                             {Upstream("deepseek-v3.2", "https://api.example.com/v1")});
  ASSERT_TRUE(models) << models.error().message;
  for (const char* name : {"deepseek-v3.2", "smart"}) {
    const auto resolved = (*models)->Resolve(name);
    ASSERT_TRUE(resolved) << name;
    EXPECT_EQ(resolved->tier, gateway::Tier::kCloud);
    EXPECT_EQ((*models)->Find(*resolved).provider->model(), "deepseek-v3.2");
  }
}

TEST_F(ServedModelsTest, WrongUpstreamsAreRefused) {
  EXPECT_THAT(Create({}, {Upstream("m", "http://api.example.com")}).error().message,
              HasSubstr("in the clear"));
  EXPECT_THAT(Create({}, {Upstream("demo", "https://a/v1")}).error().message,
              HasSubstr("is installed here"));
  EXPECT_THAT(
      Create({}, {Upstream("m", "https://a/v1"), Upstream("m", "https://b/v1")}).error().message,
      HasSubstr("two of that name"));
}

TEST_F(ServedModelsTest, MemoryShowsLoadedWeights) {
  const auto directory = Create({});
  ASSERT_TRUE(directory);
  EXPECT_EQ((*directory)->ReadMemory()->weights_bytes, 0u);
  const auto path = fleet_->Resolve("demo")->path;
  ASSERT_TRUE(pool_.AcquireNow(path));
  EXPECT_GT((*directory)->ReadMemory()->weights_bytes, 0u);
}

}  // namespace
}  // namespace tandem::app
