#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/configuration.h"

namespace tandem::app {
namespace {

using testing::HasSubstr;

Configuration Base(std::string_view text) {
  auto parsed = ParseConfiguration(text, "t.toml");
  EXPECT_TRUE(parsed) << parsed.error().message;
  return *std::move(parsed);
}

std::string OriginOf(const Configuration& configuration, std::string_view path) {
  const auto found = configuration.origins.find(path);
  return found == configuration.origins.end() ? "default" : FormatOrigin(found->second);
}

std::string ErrorOf(const ConfigurationFlags& flags) {
  const auto applied = ApplyFlags(ShippedConfiguration(), flags);
  return applied ? "valid" : applied.error().message;
}

TEST(ConfigurationFlagsTest, EveryFlagWinsOverTheFileAndSaysSo) {
  const Configuration base = Base(
      "[server]\nlisten = \"127.0.0.1:1\"\nio_threads = 2\nmax_in_flight = 3\n"
      "cors_allow_origin = \"https://a\"\ndrain_timeout_s = 4\nmemory_limit = 5\ncontext = 6\n"
      "threads = 7\n");
  const auto applied = ApplyFlags(base, {.listen = "8080",
                                         .io_threads = 12,
                                         .max_in_flight = 13,
                                         .cors_allow_origin = "*",
                                         .drain_timeout_s = 1.5,
                                         .memory_limit = "2GB",
                                         .context = 16,
                                         .threads = 17,
                                         .aliases = {},
                                         .upstreams = {},
                                         .upstream_models = {}});
  ASSERT_TRUE(applied) << applied.error().message;
  const ServerSettings& server = applied->server;
  EXPECT_EQ(FormatAddress(server.listen), "127.0.0.1:8080");
  EXPECT_EQ(server.io_threads, 12);
  EXPECT_EQ(server.max_in_flight, 13);
  EXPECT_EQ(server.cors_allow_origin, "*");
  EXPECT_EQ(server.drain_timeout, std::chrono::milliseconds(1500));
  EXPECT_EQ(server.memory_limit_bytes, 2'000'000'000u);
  EXPECT_EQ(server.context_tokens, 16);
  EXPECT_EQ(server.threads, 17);
  EXPECT_EQ(OriginOf(*applied, "server.listen"), "flag --listen");
  EXPECT_EQ(OriginOf(*applied, "server.io_threads"), "flag --io-threads");
  EXPECT_EQ(OriginOf(*applied, "server.max_in_flight"), "flag --max-in-flight");
  EXPECT_EQ(OriginOf(*applied, "server.cors_allow_origin"), "flag --cors-origin");
  EXPECT_EQ(OriginOf(*applied, "server.drain_timeout_s"), "flag --drain-timeout");
  EXPECT_EQ(OriginOf(*applied, "server.memory_limit"), "flag --memory-limit");
  EXPECT_EQ(OriginOf(*applied, "server.context"), "flag --context");
  EXPECT_EQ(OriginOf(*applied, "server.threads"), "flag --threads");
  // And what no flag says stays as it was, with its line.
  const auto none = ApplyFlags(base, {});
  ASSERT_TRUE(none);
  EXPECT_EQ(FormatConfiguration(*none), FormatConfiguration(base));
  EXPECT_EQ(OriginOf(*none, "server.threads"), "t.toml:9");
}

TEST(ConfigurationFlagsTest, AnUpstreamReplacesTheOneOfItsName) {
  const auto applied = ApplyFlags(
      ShippedConfiguration(),
      {.aliases = {"gpt=own", "gpt=deepseek-v3.2"},
       .upstreams = {"own=https://own.example/v1", "deepseek-v3.2=http://127.0.0.1:9/v1"},
       .upstream_models = {"own=own-1"}});
  ASSERT_TRUE(applied) << applied.error().message;
  ASSERT_EQ(applied->upstreams.size(), 2u);
  EXPECT_EQ(applied->upstreams[0].base_url, "http://127.0.0.1:9/v1");
  // The shipped one's key is for another host.
  EXPECT_EQ(applied->upstreams[0].api_key_env, "");
  EXPECT_EQ(applied->upstreams[0].upstream_model, "");
  EXPECT_EQ(OriginOf(*applied, "upstream[0].base_url"), "flag --upstream");
  EXPECT_EQ(OriginOf(*applied, "upstream[0].api_key_env"), "default");
  EXPECT_EQ(applied->upstreams[1].upstream_model, "own-1");
  EXPECT_EQ(OriginOf(*applied, "upstream[1].upstream_model"), "flag --upstream-model");
  ASSERT_EQ(applied->aliases.size(), 1u);
  EXPECT_EQ(applied->aliases[0].model, "deepseek-v3.2");
  EXPECT_EQ(OriginOf(*applied, "alias[0].name"), "flag --alias");
}

TEST(ConfigurationFlagsTest, WrongFlagsSayWhatToWrite) {
  EXPECT_EQ(ErrorOf({.listen = "nowhere"}),
            "--listen: 'nowhere' is no address to listen on; write HOST:PORT, for example "
            "127.0.0.1:7070");
  EXPECT_EQ(ErrorOf({.io_threads = 65, .memory_limit = "much"}),
            "--io-threads: must be a whole number from 1 to 64, not 65\n"
            "--memory-limit: is no size; write for example \"2.1GB\" or \"4GiB\"");
  EXPECT_EQ(ErrorOf({.aliases = {"a"}}), "--alias 'a': write NAME=MODEL");
  EXPECT_EQ(ErrorOf({.aliases = {"a=a"}}), "--alias 'a=a': write NAME=MODEL, two different names");
  EXPECT_EQ(ErrorOf({.upstreams = {"m"}}), "--upstream 'm': write MODEL=BASE_URL");
  EXPECT_EQ(ErrorOf({.upstreams = {"m=https://a/v1", "m=https://b/v1"}}),
            "--upstream 'm': there are two of that name");
  EXPECT_THAT(ErrorOf({.upstreams = {"m=http://a.example/v1"}}), HasSubstr("use https://"));
  EXPECT_THAT(ErrorOf({.upstreams = {"m=https://user:topsecret@a/v1"}}),
              testing::AllOf(HasSubstr("--upstream 'm': "), testing::Not(HasSubstr("topsecret"))));
  EXPECT_THAT(ErrorOf({.upstream_models = {"m=x"}}), HasSubstr("MODEL being that of an"));
  // What only does not fit together is complained about where it came from.
  EXPECT_EQ(ErrorOf({.aliases = {"m=demo"}, .upstreams = {"m=https://a/v1"}}),
            "flag --alias: alias[0].name: hides the upstream 'm'; use another name");
}

}  // namespace
}  // namespace tandem::app
