#include "os/paths.h"

#include <cstdlib>

#include <gtest/gtest.h>

namespace tandem::os {
namespace {

TEST(PathsTest, DataDirFollowsXdgThenHome) {
  ::setenv("HOME", "/home/ada", 1);
  ::setenv("XDG_DATA_HOME", "/data", 1);
  EXPECT_EQ(DefaultDataDir().value(), "/data/tandem");
  ::setenv("XDG_DATA_HOME", "relative", 1);
  EXPECT_EQ(DefaultDataDir().value(), "/home/ada/.local/share/tandem");
  ::unsetenv("XDG_DATA_HOME");
  EXPECT_EQ(DefaultDataDir().value(), "/home/ada/.local/share/tandem");
  ::unsetenv("HOME");
  EXPECT_EQ(DefaultDataDir().error().code, ErrorCode::kFailedPrecondition);
}

TEST(PathsTest, ExecutablePathIsThisTest) { EXPECT_EQ(ExecutablePath()->filename(), "os_test"); }

}  // namespace
}  // namespace tandem::os
