#include "app/packages.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf";

class PackagesTest : public testing::Test {
 protected:
  // A copy of the demo model that a test may change.
  fs::path CopyOfDemo(const std::string& name) const {
    const fs::path path = dir_.path() / name;
    fs::copy_file(kDemo, path);
    return path;
  }
  std::vector<std::string> PackageNames() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path() / "packages")) {
      if (entry.path().extension() == ".tandem") names.push_back(entry.path().filename());
    }
    return names;
  }
  // Gets a package; `packed` says whether that made it.
  fs::path Get(const fs::path& model, bool* packed) {
    *packed = false;
    const auto path = packages_.Get(model, [&](uint64_t, uint64_t) { *packed = true; });
    EXPECT_TRUE(path) << path.error().message;
    return path.value_or(fs::path());
  }

  const os::TempDir dir_;
  const Packages packages_{dir_.path()};
};

TEST_F(PackagesTest, PacksOnceAndNeverAgain) {
  const fs::path model = CopyOfDemo("model.gguf");
  EXPECT_TRUE(packages_.Find(model)->empty());
  bool packed = false;
  const fs::path first = Get(model, &packed);
  EXPECT_TRUE(packed);
  EXPECT_TRUE(engine::IsPackage(first).value());
  EXPECT_EQ(Get(model, &packed), first);
  EXPECT_FALSE(packed);
  EXPECT_EQ(packages_.Find(model).value(), first);
  EXPECT_EQ(Packages(dir_.path()).Get(model, {}).value(), first);
}

TEST_F(PackagesTest, APackageIsItsOwn) {
  bool packed = false;
  const fs::path package = Get(CopyOfDemo("model.gguf"), &packed);
  const fs::path copy = dir_.path() / "copy.tandem";
  fs::copy_file(package, copy);
  EXPECT_EQ(Get(copy, &packed), copy);
  EXPECT_FALSE(packed);
  EXPECT_EQ(PackageNames().size(), 1U);
}

TEST_F(PackagesTest, AReplacedModelIsPackedAgainAndItsOldPackageGoes) {
  const fs::path model = CopyOfDemo("model.gguf");
  const fs::path other = CopyOfDemo("other.gguf");
  bool packed = false;
  Get(other, &packed);
  const fs::path old = Get(model, &packed);
  fs::last_write_time(model, fs::last_write_time(model) + std::chrono::seconds(1));
  const fs::path now = Get(model, &packed);
  EXPECT_TRUE(packed);
  EXPECT_NE(now, old);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_EQ(PackageNames().size(), 2U);
  Get(other, &packed);
  EXPECT_FALSE(packed);
}

TEST_F(PackagesTest, RemovalTakesOneModelsPackageEvenWhenTheModelIsGone) {
  const fs::path model = CopyOfDemo("model.gguf");
  const fs::path other = CopyOfDemo("other.gguf");
  bool packed = false;
  const fs::path package = Get(model, &packed);
  Get(other, &packed);
  const uint64_t n_bytes = fs::file_size(package);
  fs::remove(model);
  EXPECT_EQ(packages_.Remove(model).value(), n_bytes);
  EXPECT_FALSE(fs::exists(package));
  EXPECT_EQ(PackageNames().size(), 1U);
  EXPECT_EQ(packages_.Remove(model).value(), 0U);
  EXPECT_EQ(Packages(dir_.path() / "empty").Remove(model).value(), 0U);
}

TEST_F(PackagesTest, WhatCannotBePackedLeavesNothingBehind) {
  const fs::path broken = dir_.path() / "broken.gguf";
  ASSERT_TRUE(os::WriteFileAtomic(broken, os::ReadFile(kDemo, 1 << 26)->substr(0, 5000)));
  EXPECT_EQ(packages_.Get(broken, {}).error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(PackageNames().empty());
  EXPECT_EQ(packages_.Get(dir_.path() / "none.gguf", {}).error().code, ErrorCode::kNotFound);
  std::stop_source stop;
  stop.request_stop();
  const fs::path model = CopyOfDemo("model.gguf");
  EXPECT_EQ(packages_.Get(model, {}, stop.get_token()).error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(PackageNames().empty());
}

TEST_F(PackagesTest, WhoComesMeanwhileWaitsAndPacksNothing) {
  const fs::path model = CopyOfDemo("model.gguf");
  std::atomic<int> n_packed{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      bool packed = false;
      const auto path = packages_.Get(model, [&](uint64_t, uint64_t) { packed = true; });
      EXPECT_TRUE(path);
      if (packed) ++n_packed;
    });
  }
  threads.clear();
  EXPECT_EQ(n_packed, 1);
  EXPECT_EQ(PackageNames().size(), 1U);
}

}  // namespace
}  // namespace tandem::app
