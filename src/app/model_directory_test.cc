#include "app/model_directory.h"

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
class LocalDirectoryTest : public testing::Test {
 protected:
  LocalDirectoryTest() {
    fleet_ = fleet::Fleet::Open(
                 {.models_dir = data_ / "models",
                  .bundled_dirs = {std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo"}})
                 .value();
  }
  Result<std::unique_ptr<LocalDirectory>> Create(std::vector<Alias> aliases) {
    return LocalDirectory::Create(fleet_.get(), &pool_, std::move(aliases));
  }

  os::TempDir data_;
  std::unique_ptr<fleet::Fleet> fleet_;
  EnginePool pool_{{.engine = {.n_threads = 1, .context_tokens = 64}}};
};

TEST_F(LocalDirectoryTest, AnInstalledModelAndItsAliasShareOneProvider) {
  const auto directory = Create({{"phi-4-mini", "demo"}});
  ASSERT_TRUE(directory) << directory.error().message;
  const auto demo = (*directory)->Resolve("demo");
  const auto alias = (*directory)->Resolve("phi-4-mini");
  ASSERT_TRUE(demo && alias);
  EXPECT_EQ(demo->provider, alias->provider);
  EXPECT_EQ(alias->provider->model(), "demo");
  EXPECT_EQ(demo->reason, "requested_model");
  EXPECT_EQ(alias->reason, "alias");
}

TEST_F(LocalDirectoryTest, KnownButNotInstalledSaysHowToInstall) {
  const auto directory = Create({});
  ASSERT_TRUE(directory);
  const auto missing = (*directory)->Resolve("mimo-7b");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, gateway::FailureCode::kModelNotInstalled);
  EXPECT_THAT(missing.error().message, HasSubstr("tandem pull mimo-7b"));
}

TEST_F(LocalDirectoryTest, UnknownNamesAndPathsAreNotFound) {
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

TEST_F(LocalDirectoryTest, TheListHasModelsAndAliases) {
  const auto directory = Create({{"phi-4-mini", "demo"}});
  ASSERT_TRUE(directory);
  std::vector<std::string> ids;
  for (const auto& model : (*directory)->List()) ids.push_back(model.id);
  EXPECT_THAT(ids, Contains("demo"));
  EXPECT_THAT(ids, Contains("phi-4-mini"));
}

TEST_F(LocalDirectoryTest, WrongAliasesAreRefusedWithTheOptionInTheMessage) {
  EXPECT_THAT(Create({{"x", "x"}}).error().message, HasSubstr("--alias x=x"));
  EXPECT_THAT(Create({{"x", "no-such-model"}}).error().message, HasSubstr("--alias x=no-such"));
  EXPECT_THAT(Create({{"demo", "demo2"}}).error().message, HasSubstr("would be hidden"));
}

TEST_F(LocalDirectoryTest, MemoryShowsLoadedWeights) {
  const auto directory = Create({});
  ASSERT_TRUE(directory);
  EXPECT_EQ((*directory)->ReadMemory()->weights_bytes, 0u);
  const auto path = fleet_->Resolve("demo")->path;
  ASSERT_TRUE(pool_.AcquireNow(path));
  EXPECT_GT((*directory)->ReadMemory()->weights_bytes, 0u);
}

}  // namespace
}  // namespace tandem::app
