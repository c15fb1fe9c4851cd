// Packages from another depot, and what became damaged on this machine.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/depot/depot.h"
#include "fleet/fetch/hub.h"
#include "fleet/fetch/remote_depot.h"
#include "fleet/fetch/testing/fake_hub.h"
#include "fleet/fleet.h"
#include "net/testing/fake_origin.h"
#include "net/testing/fake_surroundings.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;
using net::FakeOrigin;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kSize = 9'000'000;  // three chunks

std::string Content(uint32_t state) {
  std::string content(kSize, '\0');
  for (char& c : content) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return content;
}

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class RepairTest : public ::testing::Test {
 protected:
  RepairTest() : remote_(Depot::Open(dir_ / "remote").value()) {
    log::SetLevel(log::Level::kOff);
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY", "TANDEM_DEPOTS"}) {
      ::unsetenv(name);
    }
    hub_server_.AddFile("user/repo", "m-Q4_0.gguf", content_);
    hub_.emplace(HubOptions{.endpoint = hub_server_.endpoint()}, surroundings_.Get());
    depots_.emplace(RemoteDepotOptions{}, surroundings_.Get());
    fleet_ = Fleet::Open({.models_dir = dir_ / "models"}, catalogue_, *hub_, surroundings_.clock,
                         &*depots_)
                 .value();
  }

  // Files below a folder, as any web server gives them.
  FakeOrigin::Handler Files(const std::string& folder) {
    return [root = dir_ / folder](const FakeOrigin::Request& request) {
      const fs::path path = root / request.target.substr(1);
      if (!fs::is_regular_file(path)) return FakeOrigin::Reply{.status = 404};
      return FakeOrigin::ServeContent(request, Read(path));
    };
  }
  // A model of the other depot.
  void Offer(const std::string& name, const std::string& content) {
    const ManifestFile file{
        .name = "m.gguf", .size_bytes = content.size(), .sha256 = crypto::Sha256Hex(content)};
    ASSERT_TRUE(remote_.PutBlob(file.sha256, content));
    ASSERT_TRUE(remote_.Commit({.name = name, .quant = "int4", .files = {file}}));
  }
  Result<PullOutcome> Pull(const std::string& reference, const PullOptions& options = {}) {
    return fleet_->Pull(reference, {}, {}, options);
  }
  fs::path Blob(const std::string& content) const {
    return dir_ / "models/blobs/sha256" / crypto::Sha256Hex(content);
  }
  // One wrong byte.
  static void Rot(const fs::path& blob, size_t at) {
    std::fstream file(blob, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(at));
    const char old = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(old ^ 1));
  }
  std::vector<std::string> RangesOf(const FakeOrigin& origin) const {
    std::vector<std::string> ranges;
    for (const auto& request : origin.requests()) {
      if (const auto range = request.headers.Find("range")) ranges.emplace_back(*range);
    }
    return ranges;
  }

  const std::string content_ = Content(1);
  const std::string second_chunk_ = fmt::format("bytes={}-{}", kChunkBytes, 2 * kChunkBytes - 1);
  os::TempDir dir_;
  Depot remote_;
  FakeHub hub_server_;
  net::FakeSurroundings surroundings_;
  const Catalogue catalogue_ = Catalogue::Parse(R"({"models": []})").value();
  std::optional<Hub> hub_;
  std::optional<RemoteDepots> depots_;
  std::unique_ptr<Fleet> fleet_;
};

TEST_F(RepairTest, APackageOfADepotIsInstalledAsItIsThere) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  const auto pulled = Pull(web.url("/demo:int4"));
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(pulled->model.name, "demo:int4");
  EXPECT_EQ(pulled->model.quant, "int4");
  EXPECT_GE(pulled->received_bytes, kSize);
  EXPECT_EQ(Read(fleet_->Resolve("demo:int4")->path), content_);
  const Depot here = Depot::Open(dir_ / "models").value();
  EXPECT_EQ(here.Find("demo:int4")->digest(), remote_.Find("demo:int4")->digest());
  const auto again = Pull(web.url("/demo:int4"));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->already_installed);
}

TEST_F(RepairTest, ATagThatMovedBringsTheNewPackage) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  ASSERT_TRUE(Pull(web.url("/demo:int4")));
  const std::string next = Content(2);
  Offer("demo:int4", next);
  const auto pulled = Pull(web.url("/demo:int4"));
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_FALSE(pulled->already_installed);
  EXPECT_EQ(Read(fleet_->Resolve("demo:int4")->path), next);
  EXPECT_FALSE(fs::exists(Blob(content_))) << "the old one was not freed";
}

TEST_F(RepairTest, TwoVariantsThatShareAFileFetchItOnce) {
  Offer("demo:int4", content_);
  Offer("demo:copy", content_);
  FakeOrigin web(Files("remote"));
  ASSERT_TRUE(Pull(web.url("/demo:int4")));
  const auto copy = Pull(web.url("/demo:copy"));
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_LT(copy->received_bytes, 5000U);
}

TEST_F(RepairTest, OnlyTheDamagedChunkIsFetchedFromTheDepot) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  ASSERT_TRUE(Pull(web.url("/demo:int4")));
  Rot(Blob(content_), kChunkBytes + 100);
  const auto verified = fleet_->Verify("demo:int4", {}, {});
  ASSERT_TRUE(verified);
  EXPECT_FALSE(verified->good);
  EXPECT_THAT(verified->files[0].problem, HasSubstr(fmt::format("at byte {}", kChunkBytes)));
  const auto repaired = fleet_->Repair("demo:int4", {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  EXPECT_THAT(repaired->repaired, ElementsAre("m.gguf"));
  EXPECT_EQ(repaired->received_bytes, kChunkBytes);
  EXPECT_THAT(RangesOf(web), ElementsAre(second_chunk_));
  EXPECT_TRUE(fleet_->Verify("demo:int4", {}, {})->good);
  EXPECT_THAT(fleet_->Repair("demo:int4", {}, {})->repaired, IsEmpty());
}

TEST_F(RepairTest, AModelOfTheHubIsRepairedByTheChunksThatWereNotedWhenItCame) {
  ASSERT_TRUE(Pull("hf.co/user/repo:Q4_0"));
  Rot(Blob(content_), kChunkBytes + 100);
  const auto repaired = fleet_->Repair("hf.co/user/repo:Q4_0", {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  EXPECT_EQ(repaired->received_bytes, kChunkBytes);
  const auto requests = hub_server_.content_requests();
  EXPECT_EQ(requests.back().headers.Find("range"), second_chunk_);
  EXPECT_TRUE(fleet_->Verify("hf.co/user/repo:Q4_0", {}, {})->good);
}

TEST_F(RepairTest, ADamagedListOfAModelOfTheHubIsMadeAgain) {
  ASSERT_TRUE(Pull("hf.co/user/repo:Q4_0"));
  const Depot here = Depot::Open(dir_ / "models").value();
  const Manifest before = here.Find("hf.co/user/repo:Q4_0").value();
  Rot(here.BlobPath(*before.chunks), 20);
  const auto repaired = fleet_->Repair("hf.co/user/repo:Q4_0", {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  EXPECT_THAT(repaired->repaired, ElementsAre("chunks.json"));
  EXPECT_EQ(repaired->received_bytes, 0U);
  EXPECT_EQ(here.Find("hf.co/user/repo:Q4_0")->digest(), before.digest());
  EXPECT_TRUE(fleet_->Verify("hf.co/user/repo:Q4_0", {}, {})->good);
}

TEST_F(RepairTest, WithoutASourceNothingIsTouched) {
  Offer("demo:int4", content_);
  {
    FakeOrigin web(Files("remote"));
    ASSERT_TRUE(Pull(web.url("/demo:int4")));
  }
  Rot(Blob(content_), 5);
  const auto repaired = fleet_->Repair("demo:int4", {}, {});
  ASSERT_FALSE(repaired);
  EXPECT_EQ(repaired.error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(fs::exists(Blob(content_)));
  // Another depot has the same package.
  FakeOrigin other(Files("remote"));
  const auto elsewhere = fleet_->Repair("demo:int4", {}, {}, {.from = {other.url()}});
  ASSERT_TRUE(elsewhere) << elsewhere.error().message;
  EXPECT_EQ(Read(Blob(content_)), content_);
}

TEST_F(RepairTest, ADepotThatHasAnotherVersionNowIsNoSource) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  ASSERT_TRUE(Pull(web.url("/demo:int4")));
  Rot(Blob(content_), 5);
  Offer("demo:int4", Content(2));
  const auto repaired = fleet_->Repair("demo:int4", {}, {});
  ASSERT_FALSE(repaired);
  EXPECT_EQ(repaired.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(fs::exists(Blob(content_)));
}

TEST_F(RepairTest, ALostFileComesBackWithThePullOfItsName) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  ASSERT_TRUE(Pull(web.url("/demo:int4")));
  fs::remove(Blob(content_));
  EXPECT_THAT(fleet_->Resolve("demo:int4").error().message, HasSubstr("tandem pull demo:int4"));
  const auto pulled = Pull("demo:int4");
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(Read(fleet_->Resolve("demo:int4")->path), content_);
}

TEST_F(RepairTest, AModelThatWasMadeHereSaysWhatToDo) {
  const Depot here = Depot::Open(dir_ / "models").value();
  const ManifestFile file{
      .name = "m.gguf", .size_bytes = content_.size(), .sha256 = crypto::Sha256Hex(content_)};
  ASSERT_TRUE(here.PutBlob(file.sha256, content_));
  ASSERT_TRUE(here.Commit({.name = "mine:v1", .files = {file}}));
  Rot(Blob(content_), 5);
  const auto repaired = fleet_->Repair("mine:v1", {}, {});
  ASSERT_FALSE(repaired);
  EXPECT_EQ(repaired.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(repaired.error().message, HasSubstr("--from"));
}

TEST_F(RepairTest, APackageThatIsNoModelIsNotInstalled) {
  const oci::ImageManifest image{
      .artifact_type = "application/x-other",
      .config = {.media_type = "c", .sha256 = crypto::Sha256Hex("{}"), .size_bytes = 2}};
  ASSERT_TRUE(remote_.PutBlob(crypto::Sha256Hex("{}"), "{}"));
  ASSERT_TRUE(remote_.StoreManifest("other:v1", oci::FormatManifest(image)));
  FakeOrigin web(Files("remote"));
  const auto pulled = Pull(web.url("/other:v1"));
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(fleet_->List().value(), IsEmpty());
}

TEST_F(RepairTest, ANameIsLookedForInTheDepotsOfTheEnvironment) {
  Offer("demo:int4", content_);
  FakeOrigin web(Files("remote"));
  EXPECT_EQ(Pull("demo:int4").error().code, ErrorCode::kNotFound);
  ::setenv("TANDEM_DEPOTS", web.url().c_str(), 1);
  const auto pulled = Pull("demo:int4");
  ::unsetenv("TANDEM_DEPOTS");
  ASSERT_TRUE(pulled) << pulled.error().message;
}

}  // namespace
}  // namespace tandem::fleet
