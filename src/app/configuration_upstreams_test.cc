#include "app/configuration_upstreams.h"

#include <cstdlib>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::HasSubstr;

// Sets variables for one test.
class Environment {
 public:
  explicit Environment(std::map<std::string, std::string> variables)
      : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : variables_) ::unsetenv(name.c_str());
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const std::map<std::string, std::string> variables_;
};

UpstreamSettings Upstream(std::string env = {}, std::string file = {}) {
  return {.model = "big-v3.2",
          .base_url = "https://a/v1",
          .api_key_env = std::move(env),
          .api_key_file = std::move(file)};
}

TEST(UpstreamKeyTest, IsLookedForFromTheNearestPlaceOn) {
  const os::TempDir dir;
  ASSERT_TRUE(os::WriteFileAtomic(dir / "own.key", "sk-file\nsecond line\n"));
  ASSERT_TRUE(os::WriteFileAtomic(dir / "env.key", "sk-env-file\r\n"));
  const auto find = [&](const UpstreamSettings& upstream) {
    const auto key = FindUpstreamKey(upstream, dir.path());
    return key ? key->text + " from " + key->source : key.error().message;
  };
  EXPECT_EQ(find(Upstream()), " from ");
  const Environment common({{"TANDEM_UPSTREAM_KEY", "sk-common"}});
  EXPECT_EQ(find(Upstream()), "sk-common from TANDEM_UPSTREAM_KEY");
  {
    const Environment own({{"TANDEM_UPSTREAM_KEY_BIG_V3_2_FILE", dir / "env.key"}});
    EXPECT_EQ(find(Upstream()), "sk-env-file from file " + (dir / "env.key").string());
  }
  const Environment own({{"TANDEM_UPSTREAM_KEY_BIG_V3_2", "sk-own"}, {"BIG_KEY", "sk-named"}});
  EXPECT_EQ(find(Upstream()), "sk-own from TANDEM_UPSTREAM_KEY_BIG_V3_2");
  EXPECT_EQ(find(Upstream("BIG_KEY")), "sk-named from BIG_KEY");
  EXPECT_EQ(find(Upstream("OTHER_KEY")), "sk-own from TANDEM_UPSTREAM_KEY_BIG_V3_2");
  EXPECT_EQ(find(Upstream("", "own.key")), "sk-file from file " + (dir / "own.key").string());
  EXPECT_EQ(find(Upstream("", dir / "own.key")), "sk-file from file " + (dir / "own.key").string());
}

TEST(UpstreamKeyTest, AnotherProvidersKeyIsNotSentToOneThatSaysWhereItsOwnIs) {
  const Environment common({{"TANDEM_UPSTREAM_KEY", "sk-common"}});
  const auto key = FindUpstreamKey(Upstream("BIG_KEY"), "");
  ASSERT_TRUE(key);
  EXPECT_EQ(key->text, "");
  EXPECT_EQ(key->missing, "set BIG_KEY or TANDEM_UPSTREAM_KEY_BIG_V3_2 to its key");
  EXPECT_EQ(DescribeUpstreamKey(Upstream("BIG_KEY"), ""), "not enabled: " + key->missing);
}

TEST(UpstreamKeyTest, WhatNoHeaderCanCarryIsRefusedAndNotRepeated) {
  const os::TempDir dir;
  ASSERT_TRUE(os::WriteFileAtomic(dir / "empty", "\nsk\n"));
  for (const char* wrong : {"sk-a b", "sk\ninjected: header", "schl\xc3\xbcssel"}) {
    const Environment own({{"BIG_KEY", wrong}});
    const auto key = FindUpstreamKey(Upstream("BIG_KEY"), "");
    ASSERT_FALSE(key) << wrong;
    EXPECT_EQ(key.error().message,
              "BIG_KEY holds no key: a key is one word of visible ASCII characters");
  }
  const Environment file({{"TANDEM_UPSTREAM_KEY_FILE", dir / "empty"}});
  EXPECT_THAT(
      FindUpstreamKey(Upstream(), "").error().message,
      testing::AllOf(HasSubstr("TANDEM_UPSTREAM_KEY_FILE"), HasSubstr("first line is empty")));
  const Environment none({{"TANDEM_UPSTREAM_KEY_FILE", dir / "none"}});
  EXPECT_THAT(FindUpstreamKey(Upstream(), "").error().message,
              HasSubstr("TANDEM_UPSTREAM_KEY_FILE"));
  // A file that the configuration names only leaves the upstream out.
  EXPECT_THAT(FindUpstreamKey(Upstream("", "none"), dir.path())->missing, HasSubstr("none"));
}

TEST(UpstreamKeyTest, TheShippedStrategyNeedsNoCloudKey) {
  ::unsetenv("DEEPSEEK_API_KEY");
  auto resolved = ResolveUpstreams(ShippedConfiguration());
  ASSERT_TRUE(resolved) << resolved.error().message;
  ASSERT_EQ(resolved->size(), 1u);
  EXPECT_THAT((*resolved)[0].disabled_reason, HasSubstr("set DEEPSEEK_API_KEY"));
  const Environment key({{"DEEPSEEK_API_KEY", "sk-1"}});
  resolved = ResolveUpstreams(ShippedConfiguration());
  ASSERT_TRUE(resolved) << resolved.error().message;
  const gateway::upstream::UpstreamOptions& options = (*resolved)[0].options;
  EXPECT_EQ((*resolved)[0].disabled_reason, "");
  EXPECT_EQ(options.model, "deepseek-v3.2");
  EXPECT_EQ(options.upstream_model, "deepseek-flash");
  EXPECT_EQ(options.base_url, "https://api.deepseek.com/v1");
  EXPECT_EQ(options.kind, gateway::upstream::UpstreamKind::kDeepSeek);
  EXPECT_EQ(options.api_key, "sk-1");
  EXPECT_EQ(options.total_timeout, std::chrono::milliseconds(600'000));
}

TEST(UpstreamKeyTest, NoKeyIsShown) {
  const Environment key({{"DEEPSEEK_API_KEY", "sk-topsecret"}});
  const std::string shown = FormatConfigurationWithOrigins(ShippedConfiguration());
  EXPECT_THAT(shown, HasSubstr("[[upstream]]  # key set from DEEPSEEK_API_KEY\n"));
  EXPECT_THAT(shown, testing::Not(HasSubstr("topsecret")));
  EXPECT_THAT(FormatConfiguration(ShippedConfiguration()), testing::Not(HasSubstr("topsecret")));
}

}  // namespace
}  // namespace tandem::app
