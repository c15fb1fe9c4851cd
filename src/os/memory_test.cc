#include "os/memory.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

// A machine made of files: 8 GiB in all, 6 GiB available.
class MemoryTest : public testing::Test {
 protected:
  MemoryTest() {
    Put("proc/meminfo", "MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable:  6291456 kB\n");
    Put("proc/self/status", "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n");
  }
  void Put(const std::string& name, std::string_view content) {
    const auto path = dir_ / name;
    ASSERT_TRUE(MakeDirectories(path.parent_path()));
    ASSERT_TRUE(WriteFileAtomic(path, content));
  }
  MemoryStatus Read() { return ReadMemoryStatus(dir_.path()).value(); }

  TempDir dir_;
  static constexpr uint64_t kGiB = uint64_t{1} << 30;
};

TEST_F(MemoryTest, WithoutCgroupTheMachineIsTheLimit) {
  const MemoryStatus status = Read();
  EXPECT_EQ(status.total_bytes, 8 * kGiB);
  EXPECT_EQ(status.limit_bytes, 8 * kGiB);
  EXPECT_EQ(status.available_bytes, 6 * kGiB);
  EXPECT_EQ(status.process_resident_bytes, 1024u * 1024);
  EXPECT_EQ(status.process_peak_bytes, 2048u * 1024);
}

TEST_F(MemoryTest, Version2LimitOfAParentCountsAndDroppableCacheIsFree) {
  Put("proc/self/cgroup", "0::/outer/inner\n");
  Put("sys/fs/cgroup/outer/memory.max", "4294967296\n");
  Put("sys/fs/cgroup/outer/memory.current", "3221225472\n");
  Put("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 1073741824\n");
  Put("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  const MemoryStatus status = Read();
  EXPECT_EQ(status.limit_bytes, 4 * kGiB);
  EXPECT_EQ(status.available_bytes, 2 * kGiB);
}

TEST_F(MemoryTest, Version1LimitIsRead) {
  Put("proc/self/cgroup", "5:cpu:/x\n7:memory:/box\n");
  Put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1073741824\n");
  Put("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "2147483648\n");
  const MemoryStatus status = Read();
  EXPECT_EQ(status.limit_bytes, kGiB);
  EXPECT_EQ(status.available_bytes, 0u);
}

TEST_F(MemoryTest, AMachineWithoutTheFieldsIsAnError) {
  Put("proc/meminfo", "MemTotal: 1 kB\n");
  EXPECT_EQ(ReadMemoryStatus(dir_.path()).error().code, ErrorCode::kUnsupported);
}

TEST(MemoryStatusTest, ThisMachineMakesSense) {
  const auto status = ReadMemoryStatus();
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_LE(status->limit_bytes, status->total_bytes);
  EXPECT_LE(status->available_bytes, status->limit_bytes);
  EXPECT_GT(status->process_resident_bytes, 0u);
  EXPECT_GE(status->process_peak_bytes, status->process_resident_bytes);
}

TEST(MemoryStatusTest, PeakBeginsAnewAfterAReset) {
  constexpr size_t kBytes = size_t{64} << 20;
  const size_t before = ReadMemoryStatus()->process_resident_bytes;
  {
    // Mapped, not from the heap: that returns what is freed to the system at its own time.
    auto touched = AnonymousMemory::Create(kBytes);
    ASSERT_TRUE(touched);
    std::memset(touched->data(), 1, kBytes);
    ASSERT_GE(ReadMemoryStatus()->process_peak_bytes, before + kBytes);
  }
  if (!ResetPeakMemory()) GTEST_SKIP() << "this system does not reset peaks";
  EXPECT_LT(ReadMemoryStatus()->process_peak_bytes, before + kBytes);
}

TEST(AnonymousMemoryTest, IsZeroedAndMoves) {
  auto memory = AnonymousMemory::Create(10'000);
  ASSERT_TRUE(memory);
  ASSERT_EQ(memory->n_bytes(), 10'000U);
  for (size_t i = 0; i < 10'000; i += 999) EXPECT_EQ(memory->data()[i], std::byte{0});
  memory->data()[9'999] = std::byte{1};
  std::byte* const data = memory->data();
  const AnonymousMemory moved = *std::move(memory);
  EXPECT_EQ(moved.data(), data);
  EXPECT_EQ(moved.data()[9'999], std::byte{1});
}

TEST(AnonymousMemoryTest, MoreThanThereCanBeIsAnError) {
  const auto memory = AnonymousMemory::Create(size_t{1} << 60);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace tandem::os
