#include "os/file_system.h"

#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/power_loss_file_system.h"
#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

namespace fs = std::filesystem;
using After = PowerLossFileSystem::After;

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST(FileSystemTest, ReplaceFileLeavesTheOldOrTheNewContentWhereverThePowerGoes) {
  for (const After after : {After::kEverything, After::kOnlyFlushed, After::kNamesAndZeros}) {
    for (uint64_t at = 0;; ++at) {
      SCOPED_TRACE(fmt::format("power cut at operation {}, {}", at, static_cast<int>(after)));
      const TempDir dir;
      std::ofstream(dir / "x") << "the old content";
      PowerLossFileSystem files(dir.path());
      files.CutPowerAt(at);
      const Status replaced = files.ReplaceFile(dir / "x", "the new one");
      const bool cut = files.power_is_off();
      files.Restart(after);
      const std::string content = Read(dir / "x");
      if (!replaced) {
        EXPECT_THAT(content, ::testing::AnyOf("the old content", "the new one"));
      } else {
        EXPECT_EQ(content, "the new one");
      }
      if (!cut) break;
      ASSERT_LT(at, 20U);
    }
  }
}

TEST(FileSystemTest, AWriteWithoutFlushDoesNotSurviveThePowerLoss) {
  const TempDir dir;
  PowerLossFileSystem files(dir.path());
  {
    const auto file = files.OpenWriter(dir / "x", OutputFile::Mode::kTruncate).value();
    ASSERT_TRUE(file->WriteAt(0, "abc"));
    ASSERT_TRUE(files.SyncDirectory(dir.path()));
  }
  EXPECT_EQ(Read(dir / "x"), "abc");
  files.Restart(After::kNamesAndZeros);
  EXPECT_EQ(Read(dir / "x"), std::string(3, '\0'));
}

TEST(FileSystemTest, AFullDiskIsAnErrorAndLeavesTheOldContent) {
  const TempDir dir;
  std::ofstream(dir / "x") << "old";
  PowerLossFileSystem files(dir.path());
  files.SetDiskBytes(5);
  EXPECT_EQ(files.FreeBytes(dir.path()).value(), 5U);
  const Status replaced = files.ReplaceFile(dir / "x", "much longer than five bytes");
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(Read(dir / "x"), "old");
  EXPECT_FALSE(fs::exists(dir / "x.new"));
}

TEST(FileSystemTest, RemovingWhatIsNotThereIsNoError) {
  const TempDir dir;
  EXPECT_TRUE(FileSystem::Real().Remove(dir / "none"));
  EXPECT_EQ(FileSystem::Real().Rename(dir / "none", dir / "x").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace tandem::os
