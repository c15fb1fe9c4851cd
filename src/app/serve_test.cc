#include "app/serve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

TEST(ServeTest, APublicAddressWithoutAKeyIsRefusedBeforeAnythingListens) {
  const os::TempDir data;
  bool listened = false;
  Configuration configuration = ShippedConfiguration();
  configuration.server.listen = {"0.0.0.0", 0};
  const auto live = LiveConfiguration::Fixed(std::move(configuration));
  const Status status =
      Serve(live.get(), data.path(), [&](const ListenAddress&) { listened = true; });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(status.error().message, testing::HasSubstr("tandem keys create"));
  EXPECT_FALSE(listened);
}

}  // namespace
}  // namespace tandem::app
