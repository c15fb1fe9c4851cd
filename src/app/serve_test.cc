#include "app/serve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

TEST(ServeTest, APublicAddressWithoutAKeyIsRefusedBeforeAnythingListens) {
  const os::TempDir data;
  bool listened = false;
  const auto live = LiveConfiguration::Open(std::nullopt, {.listen = "0.0.0.0:0"});
  ASSERT_TRUE(live) << live.error().message;
  const Status status =
      Serve(live->get(), data.path(), [&](const ListenAddress&) { listened = true; });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(status.error().message, testing::HasSubstr("tandem keys create"));
  EXPECT_FALSE(listened);
}

}  // namespace
}  // namespace tandem::app
