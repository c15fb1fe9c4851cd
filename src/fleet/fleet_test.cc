#include "fleet/fleet.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <semaphore>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/fetch/hub.h"
#include "fleet/fetch/testing/fake_hub.h"
#include "net/testing/fake_surroundings.h"
#include "os/paths.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Stage = PullProgress::Stage;

constexpr const char* kTable = R"({"models": [
  {"name": "tiny", "aliases": ["tiny-int4"], "title": "T", "license": "MIT", "sources": [
    {"hub": "gone/repo", "quant": "Q4_0"}, {"hub": "user/repo", "quant": "Q4_0"}]},
  {"name": "demo", "title": "D", "license": "Apache-2.0", "bundled": "demo.gguf"}]})";

// What manifest, configuration and list of chunks of a small model stay below.
constexpr uint64_t kDocumentBytes = 5000;

std::string Content(size_t size, uint32_t state) {
  std::string content(size, '\0');
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

class FleetTest : public ::testing::Test {
 protected:
  FleetTest() {
    log::SetLevel(log::Level::kOff);
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
    fake_.AddFile("user/repo", "m-Q4_0.gguf", content_);
    fake_.AddFile("user/repo", "m-Q8_0.gguf", "eight bits");
  }

  // Once the fake hub is as it should be.
  Fleet& Open() {
    hub_.emplace(HubOptions{.endpoint = fake_.endpoint()}, surroundings_.Get());
    fleet_ = Fleet::Open({.models_dir = dir_ / "models", .bundled_dirs = {dir_ / "a", dir_ / "b"}},
                         catalogue_, *hub_, surroundings_.clock)
                 .value();
    return *fleet_;
  }
  Result<PullOutcome> Pull(Fleet& fleet, std::string_view reference) {
    return fleet.Pull(
        reference, [this](const PullProgress& step) { steps_.push_back(step.stage); },
        stop_.get_token());
  }
  size_t Blobs() const {
    const fs::directory_iterator blobs(dir_ / "models/blobs/sha256");
    return static_cast<size_t>(std::distance(begin(blobs), end(blobs)));
  }

  const std::string content_ = Content(1'000'000, 1);
  os::TempDir dir_;
  FakeHub fake_;
  net::FakeSurroundings surroundings_;
  const Catalogue catalogue_ = Catalogue::Parse(kTable).value();
  std::optional<Hub> hub_;
  std::unique_ptr<Fleet> fleet_;
  std::stop_source stop_;
  std::vector<Stage> steps_;
};

TEST_F(FleetTest, PullByShortNameThenResolveListShowVerifyRemove) {
  Fleet& fleet = Open();
  const auto before = fleet.Resolve("tiny");
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(before.error().param, "model");
  EXPECT_THAT(before.error().message, HasSubstr("tandem pull tiny"));

  const auto pulled = Pull(fleet, "tiny-int4");
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_FALSE(pulled->already_installed);
  EXPECT_EQ(pulled->received_bytes, content_.size());
  EXPECT_EQ(steps_.front(), Stage::kResolving);
  EXPECT_EQ(steps_.back(), Stage::kInstalling);

  const auto resolved = fleet.Resolve("tiny-int4");
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_EQ(resolved->name, "tiny");
  EXPECT_EQ(resolved->path.filename(), "m-Q4_0.gguf");
  EXPECT_EQ(Read(resolved->path), content_);

  const auto info = fleet.Show("tiny");
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->kind, ModelInfo::Kind::kPulled);
  EXPECT_TRUE(info->complete);
  EXPECT_EQ(info->repo, "user/repo") << "the first source does not exist";
  EXPECT_EQ(info->revision, FakeHub::kCommit);
  EXPECT_EQ(info->quant, "Q4_0");
  EXPECT_EQ(info->license, "MIT");
  EXPECT_EQ(info->size_bytes, content_.size());
  EXPECT_EQ(info->present_bytes, content_.size());
  EXPECT_EQ(info->installed_at_s, UnixSeconds(surroundings_.clock.SystemNow()));
  ASSERT_THAT(info->files, SizeIs(1));
  EXPECT_EQ(info->files[0].sha256, crypto::Sha256Hex(content_));
  EXPECT_THAT(fleet.List().value(), SizeIs(1));
  EXPECT_TRUE(fleet.Verify("tiny", {}, {})->good);

  const auto removed = fleet.Remove("tiny");
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_GE(removed->freed_bytes, content_.size());
  EXPECT_LT(removed->freed_bytes, content_.size() + kDocumentBytes);
  EXPECT_EQ(Blobs(), 0U);
  EXPECT_THAT(fleet.List().value(), IsEmpty());
  EXPECT_EQ(fleet.Remove("tiny").error().code, ErrorCode::kNotFound);
}

TEST_F(FleetTest, AnInstalledModelIsNotAskedForAgain) {
  Fleet& fleet = Open();
  ASSERT_TRUE(Pull(fleet, "hf.co/user/repo:q8_0"));
  const size_t requests = fake_.hub_requests().size();
  const auto again = Pull(fleet, "hf.co/user/repo:Q8_0");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->already_installed);
  EXPECT_EQ(again->model.name, "hf.co/user/repo:Q8_0");
  EXPECT_EQ(fake_.hub_requests().size(), requests);
}

TEST_F(FleetTest, AHubReferenceWithoutQuantisationFindsWhatIsInstalled) {
  Fleet& fleet = Open();
  EXPECT_EQ(fleet.Resolve("hf.co/user/repo").error().code, ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(Pull(fleet, "hf.co/user/repo:Q8_0"));
  EXPECT_EQ(fleet.Resolve("hf.co/user/repo")->name, "hf.co/user/repo:Q8_0");
  EXPECT_EQ(fleet.Resolve("hf.co/user/repo:Q4_0").error().code, ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(Pull(fleet, "hf.co/user/repo:Q4_0"));
  EXPECT_EQ(fleet.Resolve("hf.co/user/repo")->name, "hf.co/user/repo:Q4_0") << "the default order";
  EXPECT_GE(fleet.Remove("hf.co/user/repo:Q8_0")->freed_bytes, 10U);
  EXPECT_THAT(fleet.List().value(), SizeIs(1));
}

TEST_F(FleetTest, TwoNamesForTheSameBytesShareThem) {
  Fleet& fleet = Open();
  ASSERT_TRUE(Pull(fleet, "tiny"));
  // Installed already, under the short name.
  EXPECT_TRUE(Pull(fleet, "hf.co/user/repo:Q4_0")->already_installed);
  fake_.AddFile("other/copy", "copy-Q4_0.gguf", content_);
  const auto copy = Pull(fleet, "hf.co/other/copy:Q4_0");
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(copy->received_bytes, 0U);
  EXPECT_EQ(Blobs(), 1U + 3 + 2) << "the weights, and of each its documents but for a shared list";
  EXPECT_LT(fleet.Remove("tiny")->freed_bytes, kDocumentBytes);
  EXPECT_EQ(Read(fleet.Resolve("hf.co/other/copy")->path), content_);
  EXPECT_GE(fleet.Remove("hf.co/other/copy")->freed_bytes, content_.size());
}

TEST_F(FleetTest, AStoppedPullIsShownAndGoesOnWhereItStopped) {
  Fleet& fleet = Open();
  const auto stopped = fleet.Pull(
      "tiny",
      [this](const PullProgress& step) {
        if (step.done_bytes > 0) stop_.request_stop();
      },
      stop_.get_token());
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(fleet.Resolve("tiny").error().code, ErrorCode::kFailedPrecondition);
  const auto models = fleet.List().value();
  ASSERT_THAT(models, SizeIs(1));
  EXPECT_FALSE(models[0].complete);
  EXPECT_GT(models[0].present_bytes, 0U);
  EXPECT_EQ(models[0].path, "");
  EXPECT_FALSE(fleet.Show("tiny")->complete);
  stop_ = {};
  const auto resumed = Pull(fleet, "tiny");
  ASSERT_TRUE(resumed) << resumed.error().message;
  EXPECT_EQ(resumed->received_bytes, content_.size() - models[0].present_bytes);
  EXPECT_TRUE(fleet.Show("tiny")->complete);
}

TEST_F(FleetTest, AnInterruptedPullCanBeRemoved) {
  Fleet& fleet = Open();
  fake_.TweakContent([](const auto&, FakeHub::Reply& reply) { reply.cut_at = 0; });
  ASSERT_FALSE(Pull(fleet, "tiny"));
  ASSERT_THAT(fleet.List().value(), SizeIs(1));
  ASSERT_TRUE(fleet.Remove("tiny"));
  EXPECT_THAT(fleet.List().value(), IsEmpty());
}

TEST_F(FleetTest, WrongBytesInstallNothing) {
  Fleet& fleet = Open();
  fake_.TweakContent([](const auto&, FakeHub::Reply& reply) { reply.body[7] ^= 1; });
  const auto pulled = Pull(fleet, "tiny");
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(Blobs(), 0U);
  EXPECT_EQ(fleet.Resolve("tiny").error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(FleetTest, AFileRemovedByAnotherProcessDuringThePullIsFetchedAgain) {
  Fleet& fleet = Open();
  bool removed = false;
  const auto pulled = fleet.Pull(
      "tiny",
      [&](const PullProgress& step) {
        if (step.stage != Stage::kInstalling || removed) return;
        removed = true;
        fs::remove(dir_ / "models/blobs/sha256" / crypto::Sha256Hex(content_));
      },
      stop_.get_token());
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(pulled->received_bytes, 2 * content_.size());
  EXPECT_EQ(Read(pulled->model.path), content_);
}

TEST_F(FleetTest, AModelWithALostFileIsRepairedByPull) {
  Fleet& fleet = Open();
  ASSERT_TRUE(Pull(fleet, "tiny"));
  fs::remove(dir_ / "models/blobs/sha256" / crypto::Sha256Hex(content_));
  EXPECT_THAT(fleet.Resolve("tiny").error().message, HasSubstr("tandem pull tiny"));
  EXPECT_FALSE(fleet.Show("tiny")->complete);
  ASSERT_TRUE(Pull(fleet, "tiny"));
  EXPECT_EQ(Read(fleet.Resolve("tiny")->path), content_);
}

TEST_F(FleetTest, VerifyReportsADamagedFile) {
  Fleet& fleet = Open();
  ASSERT_TRUE(Pull(fleet, "tiny"));
  std::ofstream(dir_ / "models/blobs/sha256" / crypto::Sha256Hex(content_),
                std::ios::binary | std::ios::in)
      << "x";
  const auto outcome = fleet.Verify("tiny", {}, {});
  ASSERT_TRUE(outcome);
  EXPECT_FALSE(outcome->good);
  ASSERT_THAT(outcome->files, SizeIs(2));
  EXPECT_FALSE(outcome->files[0].good);
  EXPECT_TRUE(outcome->files[1].good) << "the list of chunks";
}

TEST_F(FleetTest, TheBundledModelIsTheFirstOneFoundAndCannotBeRemoved) {
  Fleet& fleet = Open();
  const auto missing = fleet.Resolve("demo");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(missing.error().message, HasSubstr("TANDEM_SHARE_DIR"));
  fs::create_directories(dir_ / "a");
  fs::create_directories(dir_ / "b");
  std::ofstream(dir_ / "b/demo.gguf") << "second";
  EXPECT_EQ(Read(fleet.Resolve("demo")->path), "second");
  std::ofstream(dir_ / "a/demo.gguf") << "first";
  EXPECT_EQ(Read(fleet.Resolve("demo")->path), "first");
  const auto models = fleet.List().value();
  ASSERT_THAT(models, SizeIs(1));
  EXPECT_EQ(models[0].kind, ModelInfo::Kind::kBundled);
  EXPECT_EQ(models[0].size_bytes, 5U);
  EXPECT_TRUE(Pull(fleet, "demo")->already_installed);
  EXPECT_EQ(fleet.Remove("demo").error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(fake_.hub_requests(), IsEmpty());
}

TEST_F(FleetTest, AFileIsUsedWhereItIs) {
  Fleet& fleet = Open();
  const fs::path file = dir_ / "mine.gguf";
  EXPECT_EQ(fleet.Resolve(file.string()).error().code, ErrorCode::kNotFound);
  std::ofstream(file) << "my weights";
  const auto resolved = fleet.Resolve(file.string());
  ASSERT_TRUE(resolved);
  EXPECT_EQ(resolved->name, "mine");
  EXPECT_EQ(resolved->path, file);
  EXPECT_EQ(fleet.Show(file.string())->size_bytes, 10U);
  EXPECT_EQ(Pull(fleet, file.string()).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(fleet.Remove(file.string()).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(FleetTest, AnImportedFileHasANameAndStaysWhereItIs) {
  Fleet& fleet = Open();
  const fs::path file = dir_ / "mine.gguf";
  std::ofstream(file) << "my weights";
  for (const char* name : {"tiny", "hf.co/a/b", "x.gguf", "", "a b"}) {
    EXPECT_EQ(fleet.Import(file, name).error().code, ErrorCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(fleet.Import(dir_ / "none", "mine").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(fleet.Import(dir_.path(), "mine").error().code, ErrorCode::kNotFound);
  const auto imported = fleet.Import(file, "mine");
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(imported->kind, ModelInfo::Kind::kReference);
  EXPECT_EQ(Read(fleet.Resolve("mine")->path), "my weights");
  EXPECT_TRUE(fleet.Verify("mine", {}, {})->good);
  ASSERT_TRUE(fleet.Remove("mine"));
  EXPECT_TRUE(fs::exists(file));
  EXPECT_EQ(fleet.Resolve("mine").error().code, ErrorCode::kNotFound);
}

TEST_F(FleetTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  Fleet& fleet = Open();
  for (const auto& error :
       {fleet.Resolve("nope").error(), fleet.Show("nope").error(), Pull(fleet, "nope").error()}) {
    EXPECT_EQ(error.code, ErrorCode::kNotFound);
    EXPECT_EQ(error.param, "model");
    EXPECT_THAT(error.message, HasSubstr("tiny, demo"));
  }
}

TEST_F(FleetTest, SplitModelsReportOneProgressForAllParts) {
  fake_.AddFile("user/split", "s-Q4_0-00001-of-00002.gguf", Content(300'000, 2));
  fake_.AddFile("user/split", "s-Q4_0-00002-of-00002.gguf", Content(200'000, 3));
  Fleet& fleet = Open();
  uint64_t last_bytes = 0;
  const auto pulled = fleet.Pull(
      "hf.co/user/split",
      [&](const PullProgress& step) {
        if (step.stage == Stage::kResolving) return;
        EXPECT_EQ(step.total_bytes, 500'000U);
        EXPECT_GE(step.done_bytes, last_bytes);
        last_bytes = step.done_bytes;
      },
      stop_.get_token());
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(last_bytes, 500'000U);
  EXPECT_EQ(Read(pulled->model.path.parent_path() / "s-Q4_0-00002-of-00002.gguf"),
            Content(200'000, 3));
}

TEST(DefaultFleetOptionsTest, TheShareDirectoryOfTheEnvironmentComesFirst) {
  ::setenv("TANDEM_SHARE_DIR", "/opt/share/tandem", 1);
  const FleetOptions options = DefaultFleetOptions("/data");
  ::unsetenv("TANDEM_SHARE_DIR");
  EXPECT_EQ(options.models_dir, "/data/models");
  ASSERT_FALSE(options.bundled_dirs.empty());
  EXPECT_EQ(options.bundled_dirs[0], "/opt/share/tandem/models");
}

TEST(DefaultFleetOptionsTest, TheInstalledLayoutAndTheCheckoutAreSearched) {
  const fs::path program = os::ExecutablePath().value();
  const FleetOptions options = DefaultFleetOptions("/data");
  EXPECT_THAT(options.bundled_dirs,
              ::testing::Contains(program.parent_path().parent_path() / "share/tandem/models"));
  EXPECT_THAT(
      options.bundled_dirs,
      ::testing::Contains(program.parent_path().parent_path().parent_path() / "models/demo"));
}

// --- kill -9 -----------------------------------------------------------------------------------

constexpr size_t kKillPartBytes = 2'000'000;

// The program that gets killed: pulls from TANDEM_KILL_ENDPOINT and, where TANDEM_KILL_STAGE says
// so, kills itself at the first report of that stage with at least TANDEM_KILL_BYTES.
TEST(FleetKillChild, DISABLED_Run) {
  const std::string endpoint = os::GetEnv("TANDEM_KILL_ENDPOINT").value();
  const fs::path models_dir = os::GetEnv("TANDEM_KILL_DIR").value();
  const int stage = std::stoi(os::GetEnv("TANDEM_KILL_STAGE").value());
  const uint64_t bytes = std::stoull(os::GetEnv("TANDEM_KILL_BYTES").value());
  const Catalogue catalogue = Catalogue::Parse(kTable).value();
  const Hub hub(HubOptions{.endpoint = endpoint}, net::RealSurroundings());
  const RealClock clock;
  const auto fleet = Fleet::Open({.models_dir = models_dir}, catalogue, hub, clock).value();
  const auto pulled =
      fleet->Pull("hf.co/user/split",
                  [&](const PullProgress& step) {
                    if (static_cast<int>(step.stage) == stage && step.done_bytes >= bytes) {
                      ::kill(::getpid(), SIGKILL);
                    }
                  },
                  {});
  ASSERT_TRUE(pulled) << pulled.error().message;
}

class FleetKillTest : public ::testing::Test {
 protected:
  FleetKillTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
    fake_.AddFile("user/split", "s-Q4_0-00001-of-00002.gguf", first_);
    fake_.AddFile("user/split", "s-Q4_0-00002-of-00002.gguf", second_);
  }

  // Starts a pull in a process of its own.
  pid_t StartChild(int stage, uint64_t bytes) {
    ::setenv("TANDEM_KILL_ENDPOINT", fake_.endpoint().c_str(), 1);
    ::setenv("TANDEM_KILL_DIR", (dir_ / "models").c_str(), 1);
    ::setenv("TANDEM_KILL_STAGE", std::to_string(stage).c_str(), 1);
    ::setenv("TANDEM_KILL_BYTES", std::to_string(bytes).c_str(), 1);
    std::string program = os::ExecutablePath().value();
    std::string filter = "--gtest_filter=FleetKillChild.DISABLED_Run";
    std::string disabled = "--gtest_also_run_disabled_tests";
    std::string brief = "--gtest_brief=1";
    char* arguments[] = {program.data(), filter.data(), disabled.data(), brief.data(), nullptr};
    pid_t pid = kNoChild;
    EXPECT_EQ(::posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, environ), 0);
    return pid;
  }

  // Waits until a child is gone. True if it was killed, false if it pulled everything.
  static bool WasKilled(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
      EXPECT_EQ(WTERMSIG(status), SIGKILL);
      return true;
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return false;
  }

  bool RunChild(int stage, uint64_t bytes) {
    child_ = kStarting;
    const pid_t pid = StartChild(stage, bytes);
    child_ = pid;
    child_.notify_all();
    const bool killed = WasKilled(pid);
    child_ = kNoChild;
    return killed;
  }

  // From a server's thread.
  void KillChild() {
    child_.wait(kStarting);
    if (const pid_t pid = child_; pid > 0) ::kill(pid, SIGKILL);
  }

  std::unique_ptr<Fleet> OpenFleet() {
    hub_.emplace(HubOptions{.endpoint = fake_.endpoint()}, surroundings_.Get());
    return Fleet::Open({.models_dir = dir_ / "models"}, catalogue_, *hub_, surroundings_.clock)
        .value();
  }

  // After any kill: nothing is visible that is not whole.
  void ExpectNothingHalf(Fleet& fleet) {
    const auto models = fleet.List();
    ASSERT_TRUE(models) << models.error().message;
    for (const ModelInfo& model : *models) EXPECT_FALSE(model.complete);
    EXPECT_FALSE(fleet.Resolve("hf.co/user/split"));
    for (const auto& blob : fs::directory_iterator(dir_ / "models/blobs/sha256")) {
      EXPECT_EQ(crypto::Sha256Hex(Read(blob.path())), blob.path().filename());
    }
  }
  void ExpectWhole(Fleet& fleet) {
    const auto model = fleet.Resolve("hf.co/user/split");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(Read(model->path), first_);
    EXPECT_EQ(Read(model->path.parent_path() / "s-Q4_0-00002-of-00002.gguf"), second_);
    EXPECT_TRUE(fleet.Verify("hf.co/user/split", {}, {})->good);
  }

  const std::string first_ = Content(kKillPartBytes, 4);
  const std::string second_ = Content(kKillPartBytes, 5);
  os::TempDir dir_;
  FakeHub fake_;
  net::FakeSurroundings surroundings_;
  const Catalogue catalogue_ = Catalogue::Parse(kTable).value();
  std::optional<Hub> hub_;
  static constexpr pid_t kStarting = 0;
  static constexpr pid_t kNoChild = -1;
  static constexpr int kNoStage = -1;  // the child does not kill itself
  std::atomic<pid_t> child_{kNoChild};
};

TEST_F(FleetKillTest, KilledAtEachStageThePullGoesOnAndEndsWithTheRightBytes) {
  const std::pair<Stage, uint64_t> moments[] = {
      {Stage::kResolving, 0},
      {Stage::kDownloading, 1},
      {Stage::kDownloading, kKillPartBytes / 2},
      {Stage::kDownloading, kKillPartBytes},
      {Stage::kChecking, 0},
      {Stage::kDownloading, kKillPartBytes + 1},
      {Stage::kDownloading, kKillPartBytes * 3 / 2},
      {Stage::kDownloading, kKillPartBytes * 2},
      {Stage::kInstalling, 0},
  };
  const auto fleet = OpenFleet();
  for (const auto& [stage, bytes] : moments) {
    SCOPED_TRACE(fmt::format("stage {} at {} bytes", static_cast<int>(stage), bytes));
    ASSERT_TRUE(RunChild(static_cast<int>(stage), bytes)) << "the child should have died";
    ExpectNothingHalf(*fleet);
  }
  const auto pulled = fleet->Pull("hf.co/user/split", {}, {});
  ASSERT_TRUE(pulled) << pulled.error().message;
  EXPECT_EQ(pulled->received_bytes, 0U) << "everything was there when the last child died";
  ExpectWhole(*fleet);
}

TEST_F(FleetKillTest, KilledFromOutsideAtAnyOffsetEachPullGoesOnFromTheBytesOnDisk) {
  uint32_t state = 7;
  fake_.TweakContent([&](const FakeHub::Request& request, FakeHub::Reply& reply) {
    // The child waits for this reply, so the part has the length that it asked with.
    std::error_code absent;
    const std::string digest = request.target.substr(request.target.find("/blob/") + 6, 64);
    const uintmax_t here = fs::file_size(dir_ / "models/incoming" / (digest + ".part"), absent);
    const std::string wanted = absent || here == 0 ? "" : fmt::format("bytes={}-", here);
    EXPECT_EQ(request.headers.Find("range").value_or(""), wanted);
    state = state * 1664525 + 1013904223;
    reply.pause_at = (state >> 8) % 700'000;
    reply.on_pause = [this] { KillChild(); };
    reply.hang = true;
  });
  const auto fleet = OpenFleet();
  int kills = 0;
  while (kills < 12 && RunChild(kNoStage, 0)) {
    ++kills;
    ExpectNothingHalf(*fleet);
  }
  // At most 700,000 of the 4,000,000 bytes arrive for each request.
  EXPECT_GE(kills, 3);
  fake_.TweakContent(nullptr);
  const auto pulled = fleet->Pull("hf.co/user/split", {}, {});
  ASSERT_TRUE(pulled) << pulled.error().message;
  ExpectWhole(*fleet);
}

TEST_F(FleetKillTest, TwoProcessesThatPullAtOnceBothSucceedAndFetchEachByteOnce) {
  std::binary_semaphore first_is_half_way{0};
  std::binary_semaphore second_knows_its_files{0};
  std::atomic<int> described{0};
  fake_.TweakResolve([&](const auto&, auto&) {
    if (++described == 4) second_knows_its_files.release();  // two files for each of the two
  });
  std::atomic<bool> is_first_request{true};
  fake_.TweakContent([&](const auto&, FakeHub::Reply& reply) {
    if (!is_first_request.exchange(false)) return;
    reply.pause_at = 500'000;
    reply.on_pause = [&] {
      first_is_half_way.release();
      EXPECT_TRUE(second_knows_its_files.try_acquire_for(std::chrono::minutes(2)));
    };
  });
  const pid_t first = StartChild(kNoStage, 0);
  ASSERT_TRUE(first_is_half_way.try_acquire_for(std::chrono::minutes(2)));
  const pid_t second = StartChild(kNoStage, 0);
  EXPECT_FALSE(WasKilled(first));
  EXPECT_FALSE(WasKilled(second));
  EXPECT_THAT(fake_.content_requests(), SizeIs(2));
  ExpectWhole(*OpenFleet());
}

}  // namespace
}  // namespace tandem::fleet
