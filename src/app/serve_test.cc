#include "app/serve.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

TEST(ServeTest, ListenAddressesInEveryForm) {
  const auto parse = [](std::string_view text) {
    const auto address = ParseListenAddress(text);
    return address ? FormatAddress(*address) : "invalid";
  };
  EXPECT_EQ(parse("127.0.0.1:7070"), "127.0.0.1:7070");
  EXPECT_EQ(parse("localhost:0"), "localhost:0");
  EXPECT_EQ(parse("[::1]:80"), "[::1]:80");
  EXPECT_EQ(parse(":8080"), "[::]:8080");
  EXPECT_EQ(parse("8080"), "127.0.0.1:8080");
  for (const char* wrong : {"", "host:", "host:x", "host:70000", "host:-1", "::1:80", "host:80x"}) {
    EXPECT_EQ(parse(wrong), "invalid") << wrong;
  }
}

TEST(ServeTest, OnlyLoopbackAddressesAreLoopback) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "::1", "localhost"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.evil"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(ServeTest, UpstreamKeysComeFromTheEnvironmentOrAFile) {
  const os::TempDir dir;
  ASSERT_TRUE(os::WriteFileAtomic(dir / "key", "sk-file\n"));
  ::setenv("TANDEM_UPSTREAM_KEY_DEEPSEEK_V3_2", "sk-own", 1);
  ::setenv("TANDEM_UPSTREAM_KEY_FILE", (dir / "key").c_str(), 1);
  EXPECT_EQ(ParseUpstream("deepseek-v3.2=https://a/v1")->api_key, "sk-own");
  EXPECT_EQ(ParseUpstream("other=https://a/v1")->api_key, "sk-file");
  ::setenv("TANDEM_UPSTREAM_KEY_FILE", (dir / "none").c_str(), 1);
  EXPECT_THAT(ParseUpstream("other=https://a/v1").error().message,
              testing::HasSubstr("TANDEM_UPSTREAM_KEY_FILE"));
  ::unsetenv("TANDEM_UPSTREAM_KEY_FILE");
  EXPECT_EQ(ParseUpstream("other=https://a/v1")->api_key, "");
  EXPECT_EQ(ParseUpstream("no-url").error().code, ErrorCode::kInvalidArgument);
}

TEST(ServeTest, APublicAddressWithoutAKeyIsRefusedBeforeAnythingListens) {
  const os::TempDir data;
  bool listened = false;
  const Status status = Serve({.listen = {"0.0.0.0", 0}, .data_dir = data.path()},
                              [&](const ListenAddress&) { listened = true; });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(status.error().message, testing::HasSubstr("tandem keys create"));
  EXPECT_FALSE(listened);
}

}  // namespace
}  // namespace tandem::app
