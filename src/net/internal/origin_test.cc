#include "net/internal/origin.h"

#include <map>

#include <gtest/gtest.h>

namespace tandem::net::internal {
namespace {

TEST(ParseUrlTest, TakesUrlsApart) {
  const auto text = [](std::string_view url) {
    const auto parsed = ParseUrl(url);
    return parsed ? fmt::format("{} {} {} {}", parsed->tls ? "tls" : "plain", parsed->host,
                                parsed->port, parsed->target)
                  : parsed.error().message;
  };
  EXPECT_EQ(text("http://a.example"), "plain a.example 80 /");
  EXPECT_EQ(text("https://A.Example/v1/x?q=%20#part"), "tls a.example 443 /v1/x?q=%20");
  EXPECT_EQ(text("http://127.0.0.1:8080?x"), "plain 127.0.0.1 8080 /?x");
  EXPECT_EQ(text("https://[::1]:8443/"), "tls ::1 8443 /");
}

TEST(ParseUrlTest, RefusesWhatIsNoHttpUrl) {
  for (const char* url : {"", "a.example", "/path", "ftp://a.example/", "http:///path", "http://",
                          "http://a.example:99999/", "http://a.example:0/", "http://a b/",
                          "http://a.example/\r\nX: y"}) {
    EXPECT_EQ(ParseUrl(url).error().code, ErrorCode::kInvalidArgument) << url;
  }
}

TEST(ParseUrlTest, NeverRepeatsAPassword) {
  const auto parsed = ParseUrl("https://user:secret@a.example/");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message.find("secret"), std::string::npos);
}

TEST(UrlTest, AuthorityBracketsAddressesAndLeavesOutDefaultPorts) {
  EXPECT_EQ(ParseUrl("http://a.example:80/")->Authority(), "a.example");
  EXPECT_EQ(ParseUrl("https://a.example:80/")->Authority(), "a.example:80");
  EXPECT_EQ(ParseUrl("https://a.example/")->Authority(true), "a.example:443");
  EXPECT_EQ(ParseUrl("http://[::1]/")->Authority(true), "[::1]:80");
}

std::string Choose(const std::string& url, const std::map<std::string, std::string>& variables) {
  const auto proxy = ChooseProxy(*ParseUrl(url), [&](const std::string& name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
  if (!proxy) return std::string(ErrorCodeName(proxy.error().code));
  if (!*proxy) return "direct";
  return fmt::format("{}:{} {}", (*proxy)->host, (*proxy)->port, (*proxy)->authorization);
}

TEST(ChooseProxyTest, FollowsTheUsualVariables) {
  EXPECT_EQ(Choose("https://a.example/", {}), "direct");
  EXPECT_EQ(Choose("https://a.example/", {{"https_proxy", "http://p:3128"}}), "p:3128 ");
  EXPECT_EQ(Choose("https://a.example/", {{"HTTPS_PROXY", "p:3128"}}), "p:3128 ");
  EXPECT_EQ(Choose("https://a.example/", {{"http_proxy", "http://p:3128"}}), "direct");
  EXPECT_EQ(Choose("http://a.example/", {{"http_proxy", "http://p"}}), "p:1080 ");
  EXPECT_EQ(Choose("http://a.example/", {{"HTTP_PROXY", "http://p:1"}}), "direct");
  EXPECT_EQ(Choose("http://a.example/", {{"ALL_PROXY", "http://p:1"}}), "p:1 ");
  EXPECT_EQ(Choose("https://a.example/", {{"https_proxy", ""}, {"all_proxy", "q:2"}}), "q:2 ");
  EXPECT_EQ(Choose("https://a.example/", {{"https_proxy", "http://us%20er:pa%3Ass@p:1"}}),
            "p:1 Basic dXMgZXI6cGE6c3M=");
  EXPECT_EQ(Choose("https://a.example/", {{"https_proxy", "socks5://p:1"}}), "unsupported");
  EXPECT_EQ(Choose("https://a.example/", {{"https_proxy", "http://"}}), "invalid_argument");
}

TEST(ChooseProxyTest, NoProxyExemptsHostsAndWhatIsBelowThem) {
  const auto exempt = [](const std::string& url, const std::string& list) {
    return Choose(url, {{"all_proxy", "p:1"}, {"no_proxy", list}}) == "direct";
  };
  EXPECT_TRUE(exempt("http://a.example/", "*"));
  EXPECT_TRUE(exempt("http://a.example/", "b.example, A.Example"));
  EXPECT_TRUE(exempt("http://x.a.example/", "a.example"));
  EXPECT_TRUE(exempt("http://x.a.example/", ".a.example"));
  EXPECT_FALSE(exempt("http://xa.example/", "a.example"));
  EXPECT_FALSE(exempt("http://example/", "a.example"));
  EXPECT_TRUE(exempt("http://127.0.0.1/", "127.0.0.1"));
  EXPECT_TRUE(exempt("http://[::1]/", "::1"));
  EXPECT_TRUE(exempt("http://[::1]:8080/", "[::1]:8080"));
  EXPECT_TRUE(exempt("http://a.example:8080/", "a.example:8080"));
  EXPECT_FALSE(exempt("http://a.example/", "a.example:8080"));
  EXPECT_FALSE(exempt("http://a.example/", " , ,"));
}

}  // namespace
}  // namespace tandem::net::internal
