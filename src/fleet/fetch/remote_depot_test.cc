#include "fleet/fetch/remote_depot.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "net/testing/fake_origin.h"
#include "net/testing/fake_surroundings.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using net::FakeOrigin;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::string kWeights = "the weights";

std::string ManifestText(const std::string& type = "application/x-model") {
  return oci::FormatManifest(
      {.artifact_type = type,
       .config = {.media_type = "c", .sha256 = crypto::Sha256Hex("{}"), .size_bytes = 2},
       .layers = {{.media_type = "w",
                   .sha256 = crypto::Sha256Hex(kWeights),
                   .size_bytes = kWeights.size()}},
       .annotations = {}});
}

// A server of fixed files by path; what is not there is 404.
using Files = std::map<std::string, std::string>;
FakeOrigin::Handler Serve(Files files, std::string key = "") {
  return [files = std::move(files), key = std::move(key)](const FakeOrigin::Request& request) {
    if (!key.empty() && request.headers.Find("authorization") != "Bearer " + key) {
      return FakeOrigin::Reply{.status = 401};
    }
    const auto found = files.find(request.target);
    if (found == files.end()) return FakeOrigin::Reply{.status = 404, .body = "no"};
    return FakeOrigin::ServeContent(request, found->second);
  };
}

Files Api(const std::string& manifest = ManifestText()) {
  return {{"/v2/demo/manifests/int4", manifest},
          {"/v2/demo/manifests/sha256:" + crypto::Sha256Hex(manifest), manifest},
          {"/v2/demo/blobs/sha256:" + crypto::Sha256Hex(kWeights), kWeights}};
}

Files Layout(const std::string& folder, const std::string& manifest = ManifestText()) {
  const std::string sha256 = crypto::Sha256Hex(manifest);
  const oci::Index index{
      .manifests = {{.media_type = std::string(oci::kManifestType),
                     .sha256 = sha256,
                     .size_bytes = manifest.size(),
                     .annotations = {{std::string(oci::kRefName), "demo:int4"}}}}};
  return {{folder + "/index.json", oci::FormatIndex(index)},
          {folder + "/blobs/sha256/" + sha256, manifest},
          {folder + "/blobs/sha256/" + crypto::Sha256Hex(kWeights), kWeights}};
}

class RemoteDepotsTest : public ::testing::Test {
 protected:
  RemoteDepotsTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
  }
  RemoteDepots Open(std::map<std::string, std::string, std::less<>> keys = {}) {
    return {{.keys = std::move(keys)}, surroundings_.Get()};
  }
  Result<RemotePackage> Select(const std::vector<std::string>& urls) {
    return Open().Select(urls, {});
  }
  Result<std::string> Fetch(const RemotePackage& package) {
    const os::TempDir dir;
    const auto outcome = Open().Download(package,
                                         {.sha256 = crypto::Sha256Hex(kWeights),
                                          .size_bytes = kWeights.size(),
                                          .destination = dir / "blob",
                                          .part = dir / "blob.part"},
                                         {}, {});
    if (!outcome) return std::unexpected(outcome.error());
    std::ostringstream text;
    text << std::ifstream(dir / "blob").rdbuf();
    return text.str();
  }

  net::FakeSurroundings surroundings_;
};

TEST_F(RemoteDepotsTest, ADepotIsAskedByTheDistributionApi) {
  FakeOrigin depot(Serve(Api()));
  const auto package = Select({depot.url("/demo:int4")});
  ASSERT_TRUE(package) << package.error().message;
  EXPECT_EQ(package->name, "demo:int4");
  EXPECT_EQ(package->origin, depot.url("/demo:int4"));
  EXPECT_EQ(package->sha256, crypto::Sha256Hex(ManifestText()));
  EXPECT_EQ(Fetch(*package).value_or("nothing"), kWeights);
  ASSERT_THAT(depot.requests(), SizeIs(2));
  EXPECT_EQ(depot.requests()[0].headers.Find("accept"), oci::kManifestType);
}

TEST_F(RemoteDepotsTest, FilesOfALayoutDoAsWell) {
  for (const std::string folder : {"", "/models", "/a/b"}) {
    SCOPED_TRACE(folder);
    FakeOrigin web(Serve(Layout(folder)));
    for (const std::string& name :
         {std::string("/demo:int4"), "/demo@sha256:" + crypto::Sha256Hex(ManifestText())}) {
      const auto package = Select({web.url(folder + name)});
      ASSERT_TRUE(package) << package.error().message;
      EXPECT_EQ(package->text, ManifestText());
      EXPECT_EQ(Fetch(*package).value_or("nothing"), kWeights);
    }
  }
}

TEST_F(RemoteDepotsTest, OthersCountWhereTheyHaveTheSame) {
  FakeOrigin first(Serve(Api()));
  FakeOrigin other(Serve(Api(ManifestText("application/x-other"))));
  FakeOrigin none(Serve({}));
  FakeOrigin same(Serve(Layout("")));
  const auto package = Select({none.url("/demo:int4"), first.url("/demo:int4"),
                               other.url("/demo:int4"), same.url("/demo:int4")});
  ASSERT_TRUE(package) << package.error().message;
  EXPECT_EQ(package->origin, first.url("/demo:int4"));
  std::vector<std::string> places;
  for (const auto& place : package->places) places.push_back(place.blobs);
  EXPECT_THAT(places, ElementsAre(first.url("/v2/demo/blobs/sha256:"), same.url("/blobs/sha256/")));
}

TEST_F(RemoteDepotsTest, AKeyGoesToItsOriginOnly) {
  FakeOrigin guarded(Serve(Api(), "the-key"));
  FakeOrigin open(Serve(Api()));
  const RemoteDepots depots = Open({{guarded.url(), "the-key"}});
  const auto package = depots.Select({guarded.url("/demo:int4"), open.url("/demo:int4")}, {});
  ASSERT_TRUE(package) << package.error().message;
  ASSERT_THAT(package->places, SizeIs(2));
  EXPECT_EQ(package->places[0].key, "the-key");
  EXPECT_EQ(package->places[1].key, "");
  for (const auto& request : open.requests()) EXPECT_FALSE(request.headers.Find("authorization"));
}

TEST_F(RemoteDepotsTest, ErrorsSayWhatToDo) {
  FakeOrigin guarded(Serve(Api(), "the-key"));
  const auto without = Select({guarded.url("/demo:int4")});
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().code, ErrorCode::kUnauthenticated);
  EXPECT_THAT(without.error().message, HasSubstr("TANDEM_DEPOT_KEY"));
  const auto wrong = Open({{guarded.url(), "another"}}).Select({guarded.url("/demo:int4")}, {});
  EXPECT_THAT(wrong.error().message, HasSubstr("does not take the key"));
  EXPECT_THAT(wrong.error().message, ::testing::Not(HasSubstr("another")));
  FakeOrigin depot(Serve(Api()));
  EXPECT_EQ(Select({depot.url("/demo:int8")}).error().code, ErrorCode::kNotFound);
  FakeOrigin portal([](const auto&) { return FakeOrigin::Reply{.body = "<html>log in</html>"}; });
  EXPECT_EQ(Select({portal.url("/demo:int4")}).error().code, ErrorCode::kCorrupt);
}

TEST_F(RemoteDepotsTest, ADigestThatIsNotTheManifestsIsRefused) {
  const std::string wanted = crypto::Sha256Hex("another");
  FakeOrigin liar(Serve({{"/v2/demo/manifests/sha256:" + wanted, ManifestText()}}));
  const auto by_api = Select({liar.url("/demo@sha256:" + wanted)});
  ASSERT_FALSE(by_api);
  EXPECT_EQ(by_api.error().code, ErrorCode::kCorrupt);
  Files files = Layout("");
  files["/blobs/sha256/" + crypto::Sha256Hex(ManifestText())] = ManifestText("changed");
  FakeOrigin rotten(Serve(files));
  EXPECT_EQ(Select({rotten.url("/demo:int4")}).error().code, ErrorCode::kCorrupt);
}

TEST_F(RemoteDepotsTest, PassingErrorsAreRetried) {
  int calls = 0;
  FakeOrigin flaky([&](const FakeOrigin::Request& request) {
    if (++calls == 1) return FakeOrigin::Reply{.status = 503, .headers = {{"Retry-After", "7"}}};
    return Serve(Api())(request);
  });
  ASSERT_TRUE(Select({flaky.url("/demo:int4")}));
  EXPECT_THAT(surroundings_.pauses, ElementsAre(std::chrono::seconds(7)));
}

TEST(DepotUrlTest, UrlsAreTakenApart) {
  const auto url = ParseDepotUrl("http://host:7070/models/demo:int4");
  ASSERT_TRUE(url) << url.error().message;
  EXPECT_EQ(url->origin, "http://host:7070");
  EXPECT_EQ(url->name, "models/demo:int4");
  EXPECT_EQ(url->digest, "");
  const std::string digest(64, 'a');
  const auto by_digest = ParseDepotUrl("https://host/demo:int4@sha256:" + digest);
  ASSERT_TRUE(by_digest);
  EXPECT_EQ(by_digest->name, "demo:int4");
  EXPECT_EQ(by_digest->digest, digest);
  for (const char* bad :
       {"", "demo:int4", "ftp://host/demo", "http://", "http://host", "http://host/",
        "http:///demo", "http://user:secret@host/demo", "http://host/../demo",
        "http://host/demo@sha256:12", "http://host/de mo", "http://host/demo:"}) {
    const auto parsed = ParseDepotUrl(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(parsed.error().param, "model");
    EXPECT_THAT(parsed.error().message, ::testing::Not(HasSubstr("secret")));
  }
}

TEST(DepotUrlTest, TheEnvironmentNamesKeysByOrigin) {
  ::setenv("TANDEM_DEPOT_KEY", "plain http://b:1/=key-b https://c=key-c", 1);
  const auto options = RemoteDepotOptionsFromEnvironment("http://a:7070/demo:int4");
  EXPECT_EQ(options.keys.at("http://a:7070"), "plain");
  EXPECT_EQ(options.keys.at("http://b:1"), "key-b");
  EXPECT_EQ(options.keys.at("https://c"), "key-c");
  ::unsetenv("TANDEM_DEPOT_KEY");
  EXPECT_THAT(RemoteDepotOptionsFromEnvironment("http://a/demo").keys, IsEmpty());
  ::setenv("TANDEM_DEPOTS", " http://a/  http://b/models ", 1);
  EXPECT_THAT(DepotsFromEnvironment(), ElementsAre("http://a", "http://b/models"));
  ::unsetenv("TANDEM_DEPOTS");
}

}  // namespace
}  // namespace tandem::fleet
