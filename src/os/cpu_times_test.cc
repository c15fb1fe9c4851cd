#include "os/cpu_times.h"

#include <unistd.h>

#include <string_view>

#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::os {
namespace {

class CpuTimesTest : public testing::Test {
 protected:
  void Put(std::string_view content) {
    ASSERT_TRUE(MakeDirectories(dir_ / "proc"));
    ASSERT_TRUE(WriteFileAtomic(dir_ / "proc/stat", content));
  }
  TempDir dir_;
  const double tick_ = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
};

TEST_F(CpuTimesTest, ColumnsAreSortedIntoBusyIdleAndStolen) {
  Put("cpu  1 20 300 4000 50000 600000 7000000 80000000 5 5\ncpu0 9 9 9 9 9 9 9 9 9 9\n");
  const auto times = ReadCpuTimes(dir_.path());
  ASSERT_TRUE(times) << times.error().message;
  EXPECT_DOUBLE_EQ(times->busy_s, (1 + 20 + 300 + 600000 + 7000000) * tick_);
  EXPECT_DOUBLE_EQ(times->idle_s, (4000 + 50000) * tick_);
  EXPECT_DOUBLE_EQ(times->stolen_s, 80000000 * tick_);
  EXPECT_GT(times->process_s, 0);
}

TEST_F(CpuTimesTest, AnythingElseIsAnError) {
  for (const char* content :
       {"", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3\n", "cpu  1 2 3 x 5 6 7 8\n"}) {
    Put(content);
    const auto times = ReadCpuTimes(dir_.path());
    ASSERT_FALSE(times) << content;
    EXPECT_EQ(times.error().code, ErrorCode::kUnsupported);
  }
}

TEST(CpuTimesOfThisMachineTest, OwnWorkIsPartOfWhatWasBusy) {
  const auto before = ReadCpuTimes();
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_GT(before->busy_s, 0);
  EXPECT_GE(before->busy_s, before->process_s);
}

}  // namespace
}  // namespace tandem::os
