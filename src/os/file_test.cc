#include "os/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class FileTest : public testing::Test {
 protected:
  TempDir dir_;
};

TEST_F(FileTest, MappingShowsTheContentAndSurvivesAMove) {
  ASSERT_TRUE(WriteFileAtomic(dir_ / "f", "hello"));
  auto mapped = MappedFile::Open(dir_ / "f");
  ASSERT_TRUE(mapped);
  const MappedFile moved = std::move(*mapped);
  EXPECT_EQ(Text(moved.bytes()), "hello");
  moved.WillNeed(0, 100);
  moved.WillNeed(100, 1);
}

TEST_F(FileTest, MappingAnEmptyFileIsAnEmptySpan) {
  ASSERT_TRUE(WriteFileAtomic(dir_ / "f", ""));
  EXPECT_TRUE(MappedFile::Open(dir_ / "f")->bytes().empty());
}

TEST_F(FileTest, MissingDirectoryAndFifoAreErrorsNotHangs) {
  EXPECT_EQ(MappedFile::Open(dir_ / "none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(MappedFile::Open(dir_.path()).error().code, ErrorCode::kInvalidArgument);
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::Open(dir_ / "fifo").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FileTest, ReadFileRefusesWhatIsTooLarge) {
  ASSERT_TRUE(WriteFileAtomic(dir_ / "f", "12345"));
  EXPECT_EQ(ReadFile(dir_ / "f", 5).value(), "12345");
  EXPECT_EQ(ReadFile(dir_ / "f", 4).error().code, ErrorCode::kResourceExhausted);
}

TEST_F(FileTest, AtomicWriteReplacesSetsPermissionsAndLeavesNoTemporary) {
  ASSERT_TRUE(WriteFileAtomic(dir_ / "f", "old", 0600));
  ASSERT_TRUE(WriteFileAtomic(dir_ / "f", "new", 0600));
  EXPECT_EQ(ReadFile(dir_ / "f", 100).value(), "new");
  struct stat info{};
  ASSERT_EQ(::stat((dir_ / "f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    ++entries;
  }
  EXPECT_EQ(entries, 1);
}

TEST_F(FileTest, AtomicWriteIntoAMissingDirectoryFailsAndNamesIt) {
  const Status status = WriteFileAtomic(dir_ / "no/such/f", "x");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("no/such/f"), std::string::npos);
}

TEST_F(FileTest, OutputFileAppendsAfterWhatWasThere) {
  {
    auto file = OutputFile::Open(dir_ / "f", OutputFile::Mode::kTruncate);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->Append("abcdef"));
    ASSERT_TRUE(file->Truncate(3));
    ASSERT_TRUE(file->Sync());
    ASSERT_TRUE(file->Close());
  }
  auto file = OutputFile::Open(dir_ / "f", OutputFile::Mode::kKeep);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->position(), 3u);
  ASSERT_TRUE(file->Append("XYZ"));
  ASSERT_TRUE(file->WriteAt(0, std::as_bytes(std::span("_", 1))));
  EXPECT_EQ(ReadFile(dir_ / "f", 100).value(), "_bcXYZ");
  EXPECT_EQ(OutputFile::Open(dir_ / "f", OutputFile::Mode::kExclusive).error().code,
            ErrorCode::kAlreadyExists);
}

TEST_F(FileTest, WritingToAFullDeviceIsReported) {
  auto file = OutputFile::Open("/dev/full", OutputFile::Mode::kKeep);
  if (!file) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ(file->Append("x").error().code, ErrorCode::kResourceExhausted);
}

TEST_F(FileTest, ALockIsExclusiveUntilReleased) {
  {
    const auto held = FileLock::Acquire(dir_ / "lock");
    ASSERT_TRUE(held);
    EXPECT_EQ(FileLock::TryAcquire(dir_ / "lock").error().code, ErrorCode::kUnavailable);
  }
  EXPECT_TRUE(FileLock::TryAcquire(dir_ / "lock"));
}

TEST_F(FileTest, MakeDirectoriesIsIdempotentAndRefusesAFileInTheWay) {
  EXPECT_TRUE(MakeDirectories(dir_ / "a/b/c"));
  EXPECT_TRUE(MakeDirectories(dir_ / "a/b/c"));
  ASSERT_TRUE(WriteFileAtomic(dir_ / "file", ""));
  EXPECT_FALSE(MakeDirectories(dir_ / "file"));
  EXPECT_FALSE(MakeDirectories(dir_ / "file/below"));
}

TEST_F(FileTest, FreeDiskBytesWorksForAPathThatDoesNotExistYet) {
  EXPECT_GT(FreeDiskBytes(dir_ / "not/yet").value(), 0u);
}

}  // namespace
}  // namespace tandem::os
