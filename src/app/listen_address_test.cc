#include "app/listen_address.h"

#include <gtest/gtest.h>

namespace tandem::app {
namespace {

TEST(ListenAddressTest, ListenAddressesInEveryForm) {
  const auto parse = [](std::string_view text) {
    const auto address = ParseListenAddress(text);
    return address ? FormatAddress(*address) : "invalid";
  };
  EXPECT_EQ(parse("127.0.0.1:7070"), "127.0.0.1:7070");
  EXPECT_EQ(parse("localhost:0"), "localhost:0");
  EXPECT_EQ(parse("[::1]:80"), "[::1]:80");
  EXPECT_EQ(parse(":8080"), "[::]:8080");
  EXPECT_EQ(parse("8080"), "127.0.0.1:8080");
  for (const char* wrong : {"", "host:", "host:x", "host:70000", "host:-1", "::1:80", "host:80x",
                            "[[a]]:80", "a b:80", "h\xc3\xb6st:80"}) {
    EXPECT_EQ(parse(wrong), "invalid") << wrong;
  }
}

TEST(ListenAddressTest, OnlyLoopbackAddressesAreLoopback) {
  for (const char* host : {"127.0.0.1", "127.8.9.1", "::1", "localhost"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.168.1.2", "example.org", "", "127.0.0.1.evil"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

}  // namespace
}  // namespace tandem::app
