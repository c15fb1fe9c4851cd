#include "os/huge_pages.h"

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class HugePagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HugePagesAvailable()) GTEST_SKIP() << "this system has no huge pages";
    content_.resize(11 * kMiB + 123);
    for (size_t i = 0; i < content_.size(); ++i) {
      content_[i] = static_cast<char>(i * 31 + i / 4096 * 7);
    }
    path_ = dir_.path() / "weights";
    ASSERT_TRUE(WriteFileAtomic(path_, content_));
  }

  const TempDir dir_;
  std::string content_;
  std::filesystem::path path_;
};

bool Same(std::span<const std::byte> bytes, std::string_view content) {
  return bytes.size() == content.size() &&
         std::memcmp(bytes.data(), content.data(), bytes.size()) == 0;
}

// Whether a change of the file shows in the mapping: it is the file's own pages.
bool IsOfTheFile(const std::filesystem::path& path, std::span<const std::byte> bytes, size_t at) {
  auto file = OutputFile::Open(path, OutputFile::Mode::kKeep);
  EXPECT_TRUE(file);
  const std::byte before = bytes[at];
  const std::byte other = before ^ std::byte{0xFF};
  EXPECT_TRUE(file->WriteAt(at, {&other, 1}));
  const bool shows = *static_cast<const volatile std::byte*>(bytes.data() + at) == other;
  EXPECT_TRUE(file->WriteAt(at, {&before, 1}));
  return shows;
}

TEST_F(HugePagesTest, BytesStayWhereTheyAreAndNoLongerOfTheFile) {
  const auto mapped = MappedFile::Open(path_).value();
  const std::byte* data = mapped.bytes().data();
  EXPECT_TRUE(IsOfTheFile(path_, mapped.bytes(), 5 * kMiB));
  const auto moved = MoveToHugePages(mapped.bytes(), [](uint64_t, uint64_t) { return true; });
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_EQ(*moved % kHugePageBytes, 0U);
  EXPECT_GE(*moved, 8 * kMiB);  // all but what stands before and behind whole huge pages
  EXPECT_EQ(mapped.bytes().data(), data);
  EXPECT_TRUE(Same(mapped.bytes(), content_));
  EXPECT_FALSE(IsOfTheFile(path_, mapped.bytes(), 5 * kMiB));
}

TEST_F(HugePagesTest, RangeWithoutAWholeHugePageStays) {
  const auto mapped = MappedFile::Open(path_).value();
  const auto moved =
      MoveToHugePages(mapped.bytes().first(kMiB), [](uint64_t, uint64_t) { return true; });
  ASSERT_TRUE(moved);
  EXPECT_EQ(*moved, 0U);
}

TEST_F(HugePagesTest, CallerCanEndTheMove) {
  const auto mapped = MappedFile::Open(path_).value();
  int calls = 0;
  const auto moved = MoveToHugePages(mapped.bytes(), [&](uint64_t done, uint64_t step) {
    EXPECT_EQ(done, 0U);
    EXPECT_GT(step, 0U);
    ++calls;
    return false;
  });
  ASSERT_TRUE(moved);
  EXPECT_EQ(*moved, 0U);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(IsOfTheFile(path_, mapped.bytes(), 5 * kMiB));
}

// As compute threads do while the model moves beneath them.
TEST_F(HugePagesTest, ReadersSeeTheSameBytesAllTheTime) {
  for (int round = 0; round < 5; ++round) {
    const auto mapped = MappedFile::Open(path_).value();
    std::atomic<bool> stop = false;
    std::atomic<int> wrong = 0;
    std::atomic<int> passes = 0;
    std::vector<std::jthread> readers;
    for (int i = 0; i < 2; ++i) {
      readers.emplace_back([&] {
        while (!stop) {
          if (!Same(mapped.bytes(), content_)) ++wrong;
          ++passes;
          passes.notify_all();
        }
      });
    }
    passes.wait(0);
    const auto moved = MoveToHugePages(mapped.bytes(), [](uint64_t, uint64_t) { return true; });
    EXPECT_TRUE(moved);
    // And once more over what was moved already.
    EXPECT_TRUE(MoveToHugePages(mapped.bytes(), [](uint64_t, uint64_t) { return true; }));
    stop = true;
    readers.clear();
    EXPECT_EQ(wrong, 0);
  }
}

}  // namespace
}  // namespace tandem::os
