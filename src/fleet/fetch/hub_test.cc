#include "fleet/fetch/hub.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "fleet/fetch/testing/fake_hub.h"
#include "net/testing/fake_surroundings.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class HubTest : public ::testing::Test {
 protected:
  HubTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
    fake_.AddFile("user/repo", "README.md", "hello");
    fake_.AddFile("user/repo", "m-Q4_0.gguf", "four bits");
    fake_.AddFile("user/repo", "m-Q8_0.gguf", "eight bits");
  }

  Hub Open(std::string token = "") {
    return {HubOptions{.endpoint = fake_.endpoint(), .token = std::move(token)},
            surroundings_.Get()};
  }
  Result<HubModel> Select(const std::string& repo, const std::string& quant,
                          std::string token = "") {
    return Open(std::move(token)).Select({.repo = repo, .quant = quant}, stop_.get_token());
  }
  void RefuseListing(int status, const std::string& code) {
    fake_.TweakListing([status, code](const auto&, FakeHub::Reply& reply) {
      reply = {.status = status};
      if (!code.empty()) reply.headers.Add("X-Error-Code", code);
    });
  }

  FakeHub fake_;
  net::FakeSurroundings surroundings_;
  std::stop_source stop_;
};

TEST_F(HubTest, SelectFindsTheFileItsSizeItsDigestAndTheCommit) {
  const auto model = Select("user/repo", "q8_0");
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->quant, "Q8_0");
  EXPECT_EQ(model->revision, FakeHub::kCommit);
  ASSERT_THAT(model->files, SizeIs(1));
  EXPECT_EQ(model->files[0].name, "m-Q8_0.gguf");
  EXPECT_EQ(model->files[0].size_bytes, 10U);
  EXPECT_EQ(model->files[0].sha256, crypto::Sha256Hex("eight bits"));
  // The commit, not the branch, so that all files are of one state.
  EXPECT_THAT(model->files[0].url,
              HasSubstr(std::string("/resolve/") + std::string(FakeHub::kCommit)));
  EXPECT_THAT(fake_.content_requests(), IsEmpty());
}

TEST_F(HubTest, TheTokenGoesToTheHubOnly) {
  const auto model = Select("user/repo", "", "hf_abc");
  ASSERT_TRUE(model) << model.error().message;
  const os::TempDir dir;
  const auto outcome = Open("hf_abc").Download(model->files[0], dir / "blob", dir / "blob.part", {},
                                               {}, stop_.get_token());
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(fake_.hub_requests(), SizeIs(3));
  for (const auto& request : fake_.hub_requests()) {
    EXPECT_EQ(request.headers.Find("authorization"), "Bearer hf_abc") << request.target;
  }
  EXPECT_THAT(fake_.content_requests(), SizeIs(1));
  for (const auto& request : fake_.content_requests()) {
    EXPECT_FALSE(request.headers.Find("authorization")) << request.target;
  }
  std::ostringstream text;
  text << std::ifstream(dir / "blob").rdbuf();
  EXPECT_EQ(text.str(), "four bits");
}

TEST_F(HubTest, SplitFilesInAFolderComeWhole) {
  fake_.AddFile("user/split", "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "one");
  fake_.AddFile("user/split", "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", "two");
  const auto model = Select("user/split", "");
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_THAT(model->files, SizeIs(2));
  EXPECT_EQ(model->files[0].name, "m-Q4_K_M-00001-of-00002.gguf");
  EXPECT_EQ(model->files[1].sha256, crypto::Sha256Hex("two"));
  EXPECT_THAT(model->files[0].url, HasSubstr("/Q4_K_M/m-Q4_K_M-00001-of-00002.gguf"));
}

TEST_F(HubTest, AMissingQuantisationIsAnsweredWithWhatThereIs) {
  const auto model = Select("user/repo", "Q2_K");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(model.error().param, "model");
  EXPECT_THAT(model.error().message, AllOf(HasSubstr("user/repo"), HasSubstr("Q4_0, Q8_0")));
}

TEST_F(HubTest, AMissingRepositoryIsNotFoundAlthoughTheHubSays401) {
  const auto model = Select("user/none", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(model.error().message, HasSubstr("user/none"));
  EXPECT_THAT(surroundings_.pauses, IsEmpty());
}

TEST_F(HubTest, RefusalsSayWhatToDo) {
  struct Case {
    int status;
    const char* error_code;
    const char* token;
    ErrorCode code;
    const char* words;
  };
  const Case cases[] = {
      {401, "GatedRepo", "", ErrorCode::kPermissionDenied, "accept its licence"},
      {403, "GatedRepo", "hf_abc", ErrorCode::kPermissionDenied, "/user/repo"},
      {401, "", "", ErrorCode::kUnauthenticated, "set HF_TOKEN"},
      {401, "", "hf_abc", ErrorCode::kUnauthenticated, "does not accept the token"},
      {403, "", "", ErrorCode::kPermissionDenied, "HF_TOKEN"},
      {404, "RevisionNotFound", "", ErrorCode::kNotFound, "revision 'main'"},
      {404, "RepoNotFound", "", ErrorCode::kNotFound, "no repository user/repo"},
      {401, "RepoNotFound", "hf_abc", ErrorCode::kNotFound, "may not read it"},
      {400, "", "", ErrorCode::kUnsupported, "HTTP 400"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} {}", c.status, c.error_code));
    RefuseListing(c.status, c.error_code);
    const auto model = Select("user/repo", "", c.token);
    ASSERT_FALSE(model);
    EXPECT_EQ(model.error().code, c.code);
    EXPECT_THAT(model.error().message, HasSubstr(c.words));
    EXPECT_THAT(model.error().message, Not(HasSubstr("hf_abc")));
  }
}

TEST_F(HubTest, AFileThatVanishesBetweenListingAndRequestIsNotFound) {
  fake_.TweakResolve([](const auto&, FakeHub::Reply& reply) {
    reply = {.status = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}};
  });
  const auto model = Select("user/repo", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kNotFound);
}

TEST_F(HubTest, PassingErrorsAreRetriedAndRetryAfterIsHonoured) {
  int calls = 0;
  fake_.TweakListing([&](const auto&, FakeHub::Reply& reply) {
    if (++calls == 1) reply = {.status = 429, .headers = {{"Retry-After", "9"}}};
    if (calls == 2) reply.cut_at = 5;
  });
  const auto model = Select("user/repo", "");
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_THAT(surroundings_.pauses, SizeIs(2));
  EXPECT_EQ(surroundings_.pauses[0], std::chrono::seconds(9));
}

TEST_F(HubTest, AHubThatStaysDownIsGivenUpAfterTheLastAttempt) {
  RefuseListing(503, "");
  const auto model = Select("user/repo", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(model.error().message, HasSubstr("HF_ENDPOINT"));
  EXPECT_THAT(surroundings_.pauses, SizeIs(5));
}

TEST_F(HubTest, OfflineAsksNothing) {
  const Hub hub(HubOptions{.endpoint = fake_.endpoint(), .offline = true}, surroundings_.Get());
  const auto model = hub.Select({.repo = "user/repo"}, stop_.get_token());
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(model.error().message, HasSubstr("HF_HUB_OFFLINE"));
  EXPECT_THAT(fake_.hub_requests(), IsEmpty());
}

TEST_F(HubTest, AnAnswerThatIsNoListingIsCorrupt) {
  for (const char* body : {"<html>portal</html>", "[]", "{}", R"({"siblings": 7})", ""}) {
    fake_.TweakListing([body](const auto&, FakeHub::Reply& reply) { reply = {.body = body}; });
    const auto model = Select("user/repo", "");
    ASSERT_FALSE(model) << body;
    EXPECT_EQ(model.error().code, ErrorCode::kCorrupt) << body;
  }
}

TEST_F(HubTest, OddEntriesOfAListingAreSkipped) {
  fake_.TweakListing([](const auto&, FakeHub::Reply& reply) {
    reply.body = R"({"siblings": [7, {}, {"rfilename": 7}, {"rfilename": ""},
        {"rfilename": "m-Q4_0.gguf", "size": "big", "lfs": "no"}]})";
  });
  // Without a commit in the listing the branch itself is asked for, which this hub does not know.
  const auto model = Select("user/repo", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kNotFound);
}

TEST_F(HubTest, APathThatClimbsOutOfTheRepositoryIsRefused) {
  for (const char* path : {"../../evil-Q4_0.gguf", "a//b-Q4_0.gguf", "a/.hidden-Q4_0.gguf",
                           "./m-Q4_0.gguf", "a b-Q4_0.gguf"}) {
    fake_.TweakListing([path](const auto&, FakeHub::Reply& reply) {
      reply.body = fmt::format(R"({{"sha": "abc", "siblings": [{{"rfilename": "{}"}}]}})", path);
    });
    const auto model = Select("user/repo", "");
    ASSERT_FALSE(model) << path;
    EXPECT_EQ(model.error().code, ErrorCode::kUnsupported) << path;
  }
}

TEST_F(HubTest, WithoutAPublishedDigestNothingIsInstalled) {
  fake_.TweakListing([](const auto&, FakeHub::Reply& reply) {
    reply.body = fmt::format(R"({{"sha": "{}", "siblings": [{{"rfilename": "m-Q4_0.gguf"}}]}})",
                             FakeHub::kCommit);
  });
  fake_.TweakResolve([](const auto&, FakeHub::Reply& reply) {
    reply.headers.Set("X-Linked-Etag",
                      "\"0123456789abcdef0123456789abcdef01234567\"");  // git's SHA-1
  });
  const auto model = Select("user/repo", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(model.error().message, HasSubstr("SHA-256"));
}

TEST_F(HubTest, AMirrorWithoutLinkedHeadersIsTrustedForItsListing) {
  fake_.TweakResolve([](const auto&, FakeHub::Reply& reply) {
    reply.headers.Remove("X-Linked-Etag");
    reply.headers.Remove("X-Linked-Size");
  });
  const auto model = Select("user/repo", "");
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->files[0].sha256, crypto::Sha256Hex("four bits"));
  EXPECT_EQ(model->files[0].size_bytes, 9U);
}

TEST_F(HubTest, AListingAndHeadersThatDisagreeAreCorrupt) {
  fake_.TweakResolve([](const auto&, FakeHub::Reply& reply) {
    reply.headers.Set("X-Linked-Etag", "\"" + std::string(64, 'a') + "\"");
  });
  const auto model = Select("user/repo", "");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kCorrupt);
}

TEST_F(HubTest, APinOfTheCatalogueMustMatch) {
  const HubSource pinned = {.repo = "user/repo",
                            .quant = "Q4_0",
                            .size_bytes = 9,
                            .sha256 = crypto::Sha256Hex("four bits")};
  EXPECT_TRUE(Open().Select(pinned, stop_.get_token()));
  HubSource other_digest = pinned;
  other_digest.sha256 = crypto::Sha256Hex("what it used to be");
  HubSource other_size = pinned;
  other_size.size_bytes = 10;
  for (const HubSource& source : {other_digest, other_size}) {
    const auto model = Open().Select(source, stop_.get_token());
    ASSERT_FALSE(model);
    EXPECT_EQ(model.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_THAT(model.error().message, HasSubstr("tandem pull hf.co/user/repo:Q4_0"));
  }
}

TEST_F(HubTest, TheEnvironmentNamesEndpointTokenAndOfflineMode) {
  ::setenv("HF_ENDPOINT", "https://mirror.example/", 1);
  ::setenv("HF_TOKEN", "hf_abc", 1);
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  const HubOptions options = HubOptionsFromEnvironment();
  EXPECT_EQ(options.endpoint, "https://mirror.example");
  EXPECT_EQ(options.token, "hf_abc");
  EXPECT_TRUE(options.offline);
  for (const char* name : {"HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"}) ::unsetenv(name);
  const HubOptions defaults = HubOptionsFromEnvironment();
  EXPECT_EQ(defaults.endpoint, "https://huggingface.co");
  EXPECT_EQ(defaults.token, "");
  EXPECT_FALSE(defaults.offline);
}

}  // namespace
}  // namespace tandem::fleet
