#include "fleet/depot/depot.h"

#include <fstream>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/depot/uploads.h"
#include "os/file.h"
#include "os/testing/power_loss_file_system.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

void Write(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Of each model, beside its files: manifest, configuration, list of chunks.
constexpr size_t kOwnBlobs = 3;

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class DepotTest : public ::testing::Test {
 protected:
  DepotTest() : depot_(Depot::Open(dir_ / "models").value()) { log::SetLevel(log::Level::kOff); }

  static ManifestFile FileOf(const std::string& name, const std::string& content) {
    return {.name = name, .size_bytes = content.size(), .sha256 = crypto::Sha256Hex(content)};
  }
  static Manifest ModelOf(const std::string& name, const std::vector<std::string>& contents) {
    Manifest manifest{.name = name, .repo = "user/repo", .quant = "Q4_0"};
    for (const std::string& content : contents) {
      manifest.files.push_back(
          FileOf(fmt::format("m-{:05}-of-{:05}.gguf", manifest.files.size() + 1, contents.size()),
                 content));
    }
    return manifest;
  }
  // What the fetcher does.
  void Land(const Manifest& manifest, const std::vector<std::string>& contents) {
    for (size_t i = 0; i < contents.size(); ++i) {
      Write(depot_.BlobPath(manifest.files[i]), contents[i]);
    }
  }
  Manifest Install(const std::string& name, const std::vector<std::string>& contents) {
    const Manifest manifest = ModelOf(name, contents);
    EXPECT_TRUE(depot_.BeginPull(manifest));
    Land(manifest, contents);
    return depot_.Commit(manifest).value();
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const Manifest& manifest : depot_.List().value()) names.push_back(manifest.name);
    return names;
  }
  size_t Entries(const char* folder) const {
    const fs::directory_iterator entries(dir_ / "models" / folder);
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }

  os::TempDir dir_;
  Depot depot_;
};

TEST_F(DepotTest, AnInstalledModelIsListedFoundAndOpenedUnderItsOwnFileNames) {
  Install("hf.co/user/repo:Q4_0", {"first", "second"});
  EXPECT_THAT(Names(), ElementsAre("hf.co/user/repo:Q4_0"));
  EXPECT_THAT(depot_.ListPulls().value(), IsEmpty());
  const auto manifest = depot_.Find("hf.co/user/repo:Q4_0");
  ASSERT_TRUE(manifest);
  const auto path = depot_.ModelPath(*manifest);
  ASSERT_TRUE(path) << path.error().message;
  EXPECT_EQ(path->filename(), "m-00001-of-00002.gguf");
  EXPECT_EQ(Read(*path), "first");
  EXPECT_EQ(Read(path->parent_path() / "m-00002-of-00002.gguf"), "second");
}

TEST_F(DepotTest, ASecondDepotOnTheSameDirectorySeesTheSameModels) {
  Install("a", {"x"});
  const auto other = Depot::Open(dir_ / "models");
  ASSERT_TRUE(other);
  EXPECT_TRUE(other->Find("a"));
}

TEST_F(DepotTest, TheDirectoryCanBeMoved) {
  Install("a", {"content"});
  fs::rename(dir_ / "models", dir_ / "elsewhere");
  const auto moved = Depot::Open(dir_ / "elsewhere").value();
  EXPECT_EQ(Read(moved.ModelPath(moved.Find("a").value()).value()), "content");
}

TEST_F(DepotTest, ARelativeDirectoryGivesAbsolutePaths) {
  const fs::path relative = fs::relative(dir_ / "models");
  ASSERT_TRUE(relative.is_relative());
  Install("a", {"content"});
  const Depot depot = Depot::Open(relative).value();
  EXPECT_TRUE(depot.ModelPath(depot.Find("a").value())->is_absolute());
}

TEST_F(DepotTest, APullThatWasBegunIsNotAModel) {
  const Manifest manifest = ModelOf("a", {"first", "second"});
  ASSERT_TRUE(depot_.BeginPull(manifest));
  Write(depot_.BlobPath(manifest.files[0]), "first");
  Write(depot_.PartPath(manifest.files[1]), "sec");
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(depot_.Find("a").error().code, ErrorCode::kNotFound);
  ASSERT_THAT(depot_.ListPulls().value(), SizeIs(1));
  EXPECT_TRUE(depot_.HasBlob(manifest.files[0]));
  EXPECT_FALSE(depot_.HasBlob(manifest.files[1]));
  EXPECT_EQ(depot_.BytesHere(manifest.files[0]), 5U);
  EXPECT_EQ(depot_.BytesHere(manifest.files[1]), 3U);
}

TEST_F(DepotTest, CommitRefusesWhileABlobIsMissingOrShort) {
  const Manifest manifest = ModelOf("a", {"content"});
  ASSERT_TRUE(depot_.BeginPull(manifest));
  EXPECT_EQ(depot_.Commit(manifest).error().code, ErrorCode::kUnavailable);
  Write(depot_.BlobPath(manifest.files[0]), "short");
  EXPECT_EQ(depot_.Commit(manifest).error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(Names(), IsEmpty());
  Write(depot_.BlobPath(manifest.files[0]), "content");
  EXPECT_TRUE(depot_.Commit(manifest));
}

TEST_F(DepotTest, RemoveFreesWhatNobodyElseUses) {
  Install("a", {"shared tokenizer", "weights of a"});
  const Manifest b = Install("b", {"shared tokenizer", "weights of b!"});
  EXPECT_EQ(Entries("blobs/sha256"), 3 + 2 * kOwnBlobs);
  const uint64_t freed = depot_.Remove("a").value();
  EXPECT_GT(freed, std::string("weights of a").size());
  EXPECT_LT(freed, 5000U) << "documents are small";
  EXPECT_TRUE(fs::exists(depot_.BlobPath(crypto::Sha256Hex("shared tokenizer"))));
  EXPECT_FALSE(fs::exists(depot_.BlobPath(crypto::Sha256Hex("weights of a"))));
  EXPECT_THAT(Names(), ElementsAre("b"));
  EXPECT_TRUE(depot_.ModelPath(b));
  EXPECT_EQ(Entries("views"), 1U);
  EXPECT_GT(depot_.Remove("b").value(), std::string("shared tokenizerweights of b!").size());
  EXPECT_EQ(Entries("blobs/sha256"), 0U);
  EXPECT_EQ(depot_.Remove("b").error().code, ErrorCode::kNotFound);
}

TEST_F(DepotTest, RemoveFreesAnInterruptedPull) {
  const Manifest manifest = ModelOf("a", {"first", "second"});
  ASSERT_TRUE(depot_.BeginPull(manifest));
  Write(depot_.BlobPath(manifest.files[0]), "first");
  Write(depot_.PartPath(manifest.files[1]), "sec");
  {
    const auto lock = os::FileLock::Acquire(depot_.PartPath(manifest.files[1]).string() + ".lock");
  }
  EXPECT_EQ(depot_.Remove("a").value(), 8U);
  EXPECT_THAT(depot_.ListPulls().value(), IsEmpty());
  EXPECT_EQ(Entries("blobs/sha256"), 0U);
  EXPECT_FALSE(fs::exists(depot_.PartPath(manifest.files[1])));
}

TEST_F(DepotTest, RemoveRefusesWhileTheModelIsBeingDownloaded) {
  const Manifest manifest = ModelOf("a", {"content"});
  ASSERT_TRUE(depot_.BeginPull(manifest));
  const auto lock =
      os::FileLock::Acquire(depot_.PartPath(manifest.files[0]).string() + ".lock").value();
  const auto removed = depot_.Remove("a");
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(depot_.ListPulls().value(), SizeIs(1));
}

TEST_F(DepotTest, RemovingOneModelSparesThePullOfAnotherThatSharesAFile) {
  Install("a", {"shared"});
  ASSERT_TRUE(depot_.BeginPull(ModelOf("b", {"shared", "more"})));
  EXPECT_TRUE(depot_.Remove("a"));
  EXPECT_TRUE(fs::exists(depot_.BlobPath(crypto::Sha256Hex("shared"))));
  EXPECT_EQ(Entries("blobs/sha256"), 1U);
}

TEST_F(DepotTest, WhatACrashInRemoveLeftIsFreedByTheNextOne) {
  // Killed between index.json and the blobs: files that nobody names.
  const Manifest ghost = Install("ghost", {"0123456789"});
  fs::remove(dir_ / "models/index.json");
  Write(depot_.BlobPath(crypto::Sha256Hex("x")), "x");
  ASSERT_TRUE(depot_.BeginPull(ModelOf("a", {"x"})));
  EXPECT_TRUE(depot_.Remove("a"));
  EXPECT_EQ(Entries("blobs/sha256"), 0U);
  EXPECT_FALSE(depot_.HasBlob(ghost.files[0]));
}

TEST_F(DepotTest, ACrashBetweenManifestAndPullRecordLeavesAModel) {
  const Manifest manifest = Install("a", {"content"});
  Write(dir_ / "models/pulls/a.json", FormatPull(manifest));
  EXPECT_THAT(Names(), ElementsAre("a"));
  EXPECT_TRUE(depot_.BeginPull(manifest));
  EXPECT_TRUE(depot_.Commit(manifest));
  EXPECT_THAT(depot_.ListPulls().value(), IsEmpty());
}

TEST_F(DepotTest, ANewVersionReplacesTheOldOneAndFreesIt) {
  Install("a", {"old version"});
  const Manifest manifest = Install("a", {"new version!"});
  EXPECT_EQ(Entries("blobs/sha256"), 1 + kOwnBlobs);
  EXPECT_EQ(Read(depot_.ModelPath(manifest).value()), "new version!");
}

TEST_F(DepotTest, APullOfANewVersionFreesThePartsOfTheOldPull) {
  const Manifest old_version = ModelOf("a", {"old version"});
  ASSERT_TRUE(depot_.BeginPull(old_version));
  Write(depot_.PartPath(old_version.files[0]), "old");
  {
    const auto lock =
        os::FileLock::Acquire(depot_.PartPath(old_version.files[0]).string() + ".lock");
  }
  ASSERT_TRUE(depot_.BeginPull(ModelOf("a", {"new version"})));
  EXPECT_FALSE(fs::exists(depot_.PartPath(old_version.files[0])));
}

TEST_F(DepotTest, ADamagedManifestHidesItsModelOnlyAndStopsTheFreeingOfFiles) {
  Install("a", {"weights of a"});
  Install("b", {"weights of b"});
  const std::string digest = depot_.Find("a")->digest();
  Write(depot_.BlobPath(digest), "{");
  EXPECT_THAT(Names(), ElementsAre("b"));
  const auto damaged = depot_.Find("a");
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(damaged.error().message, HasSubstr(digest));
  // What "a" needs is not known any more, so nothing is taken away.
  EXPECT_EQ(depot_.Remove("b").value(), 0U);
  EXPECT_TRUE(fs::exists(depot_.BlobPath(crypto::Sha256Hex("weights of b"))));
  // Removing the damaged one clears the doubt.
  EXPECT_GT(depot_.Remove("a").value(), 24U);
  EXPECT_EQ(Entries("blobs/sha256"), 0U);
}

TEST_F(DepotTest, ADamagedIndexIsSaidAndLosesNoFile) {
  Install("a", {"weights of a"});
  Write(dir_ / "models/index.json", "{");
  const auto list = depot_.List();
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(list.error().message, HasSubstr("index.json"));
  EXPECT_FALSE(depot_.Remove("a"));
  EXPECT_TRUE(fs::exists(depot_.BlobPath(crypto::Sha256Hex("weights of a"))));
}

TEST_F(DepotTest, TheDirectoryIsAnImageLayout) {
  Install("demo:int4", {"weights"});
  EXPECT_EQ(Read(dir_ / "models/oci-layout"), R"({"imageLayoutVersion":"1.0.0"})");
  const auto index = oci::ParseIndex(Read(dir_ / "models/index.json"));
  ASSERT_TRUE(index) << index.error().message;
  ASSERT_THAT(index->manifests, SizeIs(1));
  EXPECT_EQ(index->manifests[0].Annotation(oci::kRefName), "demo:int4");
  const auto manifest = oci::ParseManifest(Read(depot_.BlobPath(index->manifests[0].sha256)));
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_TRUE(manifest->is_model());
  EXPECT_TRUE(fs::exists(depot_.BlobPath(manifest->config.sha256)));
  ASSERT_THAT(manifest->layers, SizeIs(2));
  EXPECT_EQ(manifest->layers[0].sha256, crypto::Sha256Hex("weights"));
  EXPECT_EQ(manifest->layers[1].media_type, oci::kChunksType);
  const auto chunks = depot_.ReadChunks(depot_.Find("demo:int4").value());
  ASSERT_TRUE(chunks) << chunks.error().message;
  EXPECT_EQ(chunks->chunk_bytes, kChunkBytes);
  EXPECT_THAT(chunks->files.at(crypto::Sha256Hex("weights")),
              ElementsAre(crypto::Sha256Hex("weights")));
}

TEST_F(DepotTest, AForeignManifestIsKeptAndIsNoModel) {
  const std::string config = "{}";
  ASSERT_TRUE(depot_.PutBlob(crypto::Sha256Hex(config), config));
  const oci::ImageManifest image{.artifact_type = "application/x-other",
                                 .config = {.media_type = "application/vnd.oci.empty.v1+json",
                                            .sha256 = crypto::Sha256Hex(config),
                                            .size_bytes = config.size()}};
  const auto stored = depot_.StoreManifest("other:1", oci::FormatManifest(image));
  ASSERT_TRUE(stored) << stored.error().message;
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(depot_.Find("other:1").error().code, ErrorCode::kUnsupported);
  ASSERT_THAT(depot_.ListManifests().value(), SizeIs(1));
  Install("a", {"weights"});
  EXPECT_TRUE(depot_.Remove("a"));
  EXPECT_TRUE(fs::exists(depot_.BlobPath(crypto::Sha256Hex(config)))) << "another's blob was freed";
}

TEST_F(DepotTest, AManifestWhoseBlobsAreMissingIsRefused) {
  const oci::ImageManifest image{
      .artifact_type = "x",
      .config = {.media_type = "y", .sha256 = std::string(64, 'a'), .size_bytes = 2}};
  const auto stored = depot_.StoreManifest("other:1", oci::FormatManifest(image));
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(stored.error().message, HasSubstr(std::string(64, 'a')));
  EXPECT_THAT(depot_.ListManifests().value(), IsEmpty());
}

TEST_F(DepotTest, AQuarantinedFileIsAPartAgain) {
  const Manifest manifest = Install("a", {"content"});
  ASSERT_TRUE(depot_.Quarantine(manifest.files[0]));
  EXPECT_FALSE(depot_.HasBlob(manifest.files[0]));
  EXPECT_EQ(Read(depot_.PartPath(manifest.files[0])), "content");
  EXPECT_TRUE(depot_.Quarantine(manifest.files[0])) << "nothing to do";
  // The model still wants it, so it is not freed.
  Install("b", {"other"});
  EXPECT_TRUE(depot_.Remove("b"));
  EXPECT_TRUE(fs::exists(depot_.PartPath(manifest.files[0])));
}

TEST_F(DepotTest, AnUploadedBlobIsKeptUntilAManifestNamesItOrItsProcessEnds) {
  const std::string digest = crypto::Sha256Hex("weights");
  {
    Uploads uploads(&depot_);
    const auto id = uploads.Begin();
    ASSERT_TRUE(id) << id.error().message;
    auto upload = uploads.Take(*id);
    ASSERT_TRUE(upload);
    EXPECT_FALSE(uploads.Take(*id)) << "one request at a time";
    ASSERT_TRUE(upload->Append("wei"));
    uploads.Put(std::move(upload));
    upload = uploads.Take(*id);
    ASSERT_TRUE(upload->Append("ghts"));
    EXPECT_EQ(upload->size_bytes(), 7U);
    ASSERT_TRUE(uploads.Finish(std::move(upload), digest));
    EXPECT_EQ(Read(depot_.BlobPath(digest)), "weights");
    Install("a", {"x"});
    EXPECT_TRUE(depot_.Remove("a"));
    EXPECT_TRUE(fs::exists(depot_.BlobPath(digest)));
    EXPECT_TRUE(uploads.Waits(digest));
  }
  Install("a", {"x"});
  EXPECT_TRUE(depot_.Remove("a"));
  EXPECT_FALSE(fs::exists(depot_.BlobPath(digest)));
  EXPECT_EQ(Entries("uploads"), 0U);
}

TEST_F(DepotTest, AnUploadWithAnotherDigestIsRefusedAndGone) {
  Uploads uploads(&depot_);
  auto upload = uploads.Take(uploads.Begin().value());
  ASSERT_TRUE(upload->Append("weights"));
  const Status finished = uploads.Finish(std::move(upload), std::string(64, 'a'));
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Entries("uploads"), 0U);
  EXPECT_EQ(Entries("blobs/sha256"), 0U);
}

// Wherever the power goes during an update: the old version or the new one, whole, and never a
// model with a file that is not right.
TEST_F(DepotTest, APowerLossAtAnyWriteOfAnUpdateLeavesTheOldOrTheNewModel) {
  using os::PowerLossFileSystem;
  using After = PowerLossFileSystem::After;
  for (const After after : {After::kEverything, After::kOnlyFlushed, After::kNamesAndZeros}) {
    for (uint64_t at = 0;; ++at) {
      SCOPED_TRACE(fmt::format("operation {}, {}", at, static_cast<int>(after)));
      const os::TempDir dir;
      const Manifest old_version = ModelOf("a", {"the old weights", "shared"});
      const Manifest new_version = ModelOf("a", {"the new weights!", "shared"});
      {
        const Depot depot = Depot::Open(dir / "models").value();
        ASSERT_TRUE(depot.PutBlob(old_version.files[0].sha256, "the old weights"));
        ASSERT_TRUE(depot.PutBlob(old_version.files[1].sha256, "shared"));
        ASSERT_TRUE(depot.Commit(old_version));
      }
      PowerLossFileSystem files(dir / "models");
      const Depot depot = Depot::Open(dir / "models", files).value();
      files.CutPowerAt(at);
      const bool installed = depot.BeginPull(new_version) &&
                             depot.PutBlob(new_version.files[0].sha256, "the new weights!") &&
                             depot.Commit(new_version);
      const bool was_cut = files.power_is_off();
      files.Restart(after);
      const auto found = depot.Find("a");
      ASSERT_TRUE(found) << found.error().message;
      const bool is_new = found->files[0].sha256 == new_version.files[0].sha256;
      if (installed) EXPECT_TRUE(is_new) << "said to be installed, and lost";
      for (const VerifiedFile& file : depot.Verify(*found, {}, {}).value()) {
        EXPECT_TRUE(file.good) << file.name << ": " << file.problem;
      }
      // And the update can be done again.
      ASSERT_TRUE(depot.BeginPull(new_version));
      ASSERT_TRUE(depot.PutBlob(new_version.files[0].sha256, "the new weights!"));
      ASSERT_TRUE(depot.Commit(new_version));
      EXPECT_EQ(Read(depot.ModelPath(depot.Find("a").value()).value()), "the new weights!");
      EXPECT_FALSE(fs::exists(depot.BlobPath(old_version.files[0]))) << "the old one was not freed";
      if (!was_cut) break;
      ASSERT_LT(at, 1000U);
    }
  }
}

TEST_F(DepotTest, ABlobThatHasGoneIsSaidWithTheCommandThatBringsItBack) {
  const Manifest manifest = Install("a", {"content"});
  fs::remove(depot_.BlobPath(manifest.files[0]));
  const auto path = depot_.ModelPath(manifest);
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(path.error().message, HasSubstr("tandem pull a"));
}

TEST_F(DepotTest, LinksThatWereLostOrBentAreMadeAgain) {
  const Manifest manifest = Install("a", {"content"});
  fs::remove_all(dir_ / "models/views");
  EXPECT_EQ(Read(depot_.ModelPath(manifest).value()), "content");
  const fs::path link = depot_.ModelPath(manifest).value();
  fs::remove(link);
  fs::create_symlink("/etc/hostname", link);
  EXPECT_EQ(Read(depot_.ModelPath(manifest).value()), "content");
}

TEST_F(DepotTest, VerifyTellsGoodFromRotten) {
  const Manifest manifest = Install("a", {"good content", "bad content", "cut content", "gone"});
  Write(depot_.BlobPath(manifest.files[1]), "bad c0ntent");
  Write(depot_.BlobPath(manifest.files[2]), "cut");
  fs::remove(depot_.BlobPath(manifest.files[3]));
  uint64_t read_bytes = 0;
  const auto files =
      depot_.Verify(manifest, [&](uint64_t bytes) { read_bytes = bytes; }, std::stop_token());
  ASSERT_TRUE(files);
  ASSERT_THAT(*files, SizeIs(5));
  EXPECT_TRUE((*files)[4].good) << "the list of chunks";
  EXPECT_TRUE((*files)[0].good);
  EXPECT_FALSE((*files)[1].good);
  EXPECT_THAT((*files)[1].problem, HasSubstr(crypto::Sha256Hex("bad c0ntent")));
  EXPECT_THAT((*files)[2].problem, HasSubstr("3 bytes instead of 11"));
  EXPECT_THAT((*files)[3].problem, HasSubstr("cannot be opened"));
  EXPECT_THAT((*files)[1].problem, HasSubstr("1 of its 1 chunks"));
  EXPECT_GT(read_bytes, 26U);
}

TEST_F(DepotTest, VerifyCanBeStopped) {
  const Manifest manifest = Install("a", {"content"});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(depot_.Verify(manifest, {}, stop.get_token()).error().code, ErrorCode::kCancelled);
}

TEST_F(DepotTest, AReferenceOpensTheUsersFileAndRemoveLeavesIt) {
  Write(dir_ / "mine.gguf", "my weights");
  Manifest manifest{.name = "mine"};
  manifest.path = dir_ / "mine.gguf";
  manifest.path_size_bytes = 10;
  ASSERT_TRUE(depot_.AddReference(manifest));
  EXPECT_EQ(depot_.AddReference(manifest).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(depot_.ModelPath(depot_.Find("mine").value()).value(), dir_ / "mine.gguf");
  EXPECT_TRUE(depot_.Verify(manifest, {}, {}).value()[0].good);
  Write(dir_ / "mine.gguf", "other weights");
  EXPECT_EQ(depot_.ModelPath(manifest).error().code, ErrorCode::kFailedPrecondition);
  EXPECT_FALSE(depot_.Verify(manifest, {}, {}).value()[0].good);
  EXPECT_EQ(depot_.Remove("mine").value(), 0U);
  EXPECT_TRUE(fs::exists(dir_ / "mine.gguf"));
}

TEST_F(DepotTest, ManyWritersAtOnceLeaveWholeModels) {
  std::vector<std::jthread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([this, i] {
      const Depot depot = Depot::Open(dir_ / "models").value();
      const std::vector<std::string> contents = {"shared", fmt::format("own {}", i)};
      const Manifest manifest = ModelOf(fmt::format("model-{}", i), contents);
      for (int round = 0; round < 10; ++round) {
        EXPECT_TRUE(depot.BeginPull(manifest));
        do {
          for (size_t f = 0; f < contents.size(); ++f) {
            EXPECT_TRUE(os::WriteFileAtomic(depot.BlobPath(manifest.files[f]), contents[f]));
          }
        } while (!depot.Commit(manifest));
        EXPECT_TRUE(depot.ModelPath(manifest));
        if (round % 2 == 0) EXPECT_TRUE(depot.Remove(manifest.name));
      }
    });
  }
  writers.clear();
  EXPECT_THAT(Names(), SizeIs(4));
  for (const Manifest& manifest : depot_.List().value()) {
    for (const VerifiedFile& file : depot_.Verify(manifest, {}, {}).value()) {
      EXPECT_TRUE(file.good) << manifest.name << " " << file.name << ": " << file.problem;
    }
  }
}

}  // namespace
}  // namespace tandem::fleet
