#include "app/configuration_live.h"

#include <sys/stat.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class LiveConfigurationTest : public testing::Test {
 protected:
  void Write(std::string_view text) { ASSERT_TRUE(os::WriteFileAtomic(file_, text)); }
  std::string Read() { return os::ReadFile(file_, 1 << 20).value(); }
  void Open(ConfigurationFlags flags = {}) {
    auto opened = LiveConfiguration::Open(file_, std::move(flags));
    ASSERT_TRUE(opened) << opened.error().message;
    live_ = *std::move(opened);
  }
  // Notes what a subscriber of this name is asked, and what was in force then.
  void Listen(std::string name) {
    live_->Subscribe([this,
                      name](const ConfigurationVersion& next) -> Result<LiveConfiguration::Commit> {
      events_.push_back(name + " prepares " + Threads(next) + " over " + Threads(live_->Current()));
      if (refuse_ == name) return Err(ErrorCode::kUnavailable, "{} refuses", name);
      return [this, name] { events_.push_back(name + " commits " + Threads(live_->Current())); };
    });
  }
  static std::string Threads(const ConfigurationVersion& version) {
    return std::to_string(version.number) + ":" + std::to_string(version.value->server.io_threads);
  }

  const os::TempDir dir_;
  const std::filesystem::path file_ = dir_ / "tandem.toml";
  std::unique_ptr<LiveConfiguration> live_;
  std::vector<std::string> events_;
  std::string refuse_;
};

TEST_F(LiveConfigurationTest, ReloadTakesTheNewFileAsAWhole) {
  Write("[server]\nio_threads = 1\n");
  Open();
  Listen("a");
  Listen("b");
  const ConfigurationVersion before = live_->Current();
  EXPECT_EQ(before.number, 1u);
  Write("[server]\nio_threads = 2\n");
  EXPECT_EQ(Threads(live_->Current()), "1:1");
  ASSERT_TRUE(live_->Reload());
  EXPECT_THAT(events_, ElementsAre("a prepares 2:2 over 1:1", "b prepares 2:2 over 1:1",
                                   "a commits 2:2", "b commits 2:2"));
  EXPECT_NE(live_->Current().sha256, before.sha256);
  EXPECT_EQ(Threads(before), "1:1") << "who holds a version keeps it";
}

TEST_F(LiveConfigurationTest, AWrongFileChangesNothing) {
  Write("[server]\nio_threads = 1\n");
  Open();
  Listen("a");
  Write("[server]\nio_threads = 2\nlissten = 1\n");
  const Status status = live_->Reload();
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("tandem.toml:3:1: server: unknown key 'lissten'"));
  EXPECT_EQ(Threads(live_->Current()), "1:1");
  EXPECT_THAT(events_, IsEmpty());
  std::filesystem::remove(file_);
  EXPECT_EQ(live_->Reload().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Threads(live_->Current()), "1:1");
}

TEST_F(LiveConfigurationTest, AFileThatSaysTheSameIsNoNewVersionButWhatItNamesIsReadAgain) {
  Write("[server]\nio_threads = 1\n");
  Open();
  Listen("a");
  const std::string sha256 = live_->Current().sha256;
  Write("# a comment\nserver = {io_threads = 1}\n");
  EXPECT_TRUE(live_->Reload());
  EXPECT_EQ(live_->Current().number, 1u);
  EXPECT_EQ(live_->Current().sha256, sha256);
  EXPECT_THAT(events_, ElementsAre("a prepares 1:1 over 1:1", "a commits 1:1"));
}

TEST_F(LiveConfigurationTest, OneThatRefusesKeepsTheOldVersionForAll) {
  Write("[server]\nio_threads = 1\n");
  Open();
  Listen("a");
  Listen("b");
  refuse_ = "b";
  const Status status = live_->Replace("[server]\nio_threads = 2\n");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "b refuses");
  EXPECT_THAT(events_, ElementsAre("a prepares 2:2 over 1:1", "b prepares 2:2 over 1:1"));
  EXPECT_EQ(Threads(live_->Current()), "1:1");
  EXPECT_EQ(Read(), "[server]\nio_threads = 1\n");
}

TEST_F(LiveConfigurationTest, ReplaceWritesTheFileAsItWasGiven) {
  Write("[server]\nio_threads = 1\n");
  ASSERT_EQ(::chmod(file_.c_str(), 0600), 0);
  Open();
  const std::string seen = live_->Current().sha256;
  ASSERT_TRUE(live_->Replace("# mine\n[server]\nio_threads = 2\n", seen));
  EXPECT_EQ(Threads(live_->Current()), "2:2");
  EXPECT_EQ(Read(), "# mine\n[server]\nio_threads = 2\n");
  struct stat status{};
  ASSERT_EQ(::stat(file_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  // Who decided by the old version is told.
  const Status late = live_->Replace("[server]\nio_threads = 3\n", seen);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(Threads(live_->Current()), "2:2");
  // What is wrong is neither in force nor in the file.
  EXPECT_FALSE(live_->Replace("[server]\nio_threads = 0\n"));
  EXPECT_EQ(Threads(live_->Current()), "2:2");
  EXPECT_EQ(Read(), "# mine\n[server]\nio_threads = 2\n");
  // The next reading sees the same.
  EXPECT_TRUE(live_->Reload());
  EXPECT_EQ(live_->Current().number, 2u);
}

TEST_F(LiveConfigurationTest, ReplaceThroughALinkKeepsTheLink) {
  const std::filesystem::path real = dir_ / "real.toml";
  ASSERT_TRUE(os::WriteFileAtomic(real, "[server]\nio_threads = 1\n"));
  std::filesystem::create_symlink("real.toml", file_);
  Open();
  ASSERT_TRUE(live_->Replace("[server]\nio_threads = 2\n"));
  EXPECT_TRUE(std::filesystem::is_symlink(file_));
  EXPECT_EQ(os::ReadFile(real, 1 << 20).value(), "[server]\nio_threads = 2\n");
}

TEST_F(LiveConfigurationTest, WhatCannotBeWrittenIsNotInForce) {
  Write("[server]\nio_threads = 1\n");
  Open();
  Listen("a");
  std::filesystem::remove_all(dir_.path());
  EXPECT_FALSE(live_->Replace("[server]\nio_threads = 2\n"));
  EXPECT_THAT(events_, ElementsAre("a prepares 2:2 over 1:1"));
  EXPECT_EQ(Threads(live_->Current()), "1:1");
}

TEST_F(LiveConfigurationTest, FlagsStayOverEveryVersion) {
  Write("[server]\nio_threads = 1\nmax_in_flight = 5\n");
  Open({.io_threads = 3, .upstreams = {"m=https://a/v1"}});
  Write("[server]\nio_threads = 2\nmax_in_flight = 6\n");
  ASSERT_TRUE(live_->Reload());
  const auto value = live_->Current().value;
  EXPECT_EQ(value->server.io_threads, 3);
  EXPECT_EQ(value->server.max_in_flight, 6);
  EXPECT_NE(value->FindUpstream("m"), nullptr);
}

TEST_F(LiveConfigurationTest, WithoutAFileTheShippedOneIsInForceUntilItIsReplaced) {
  auto opened = LiveConfiguration::Open(std::nullopt, {});
  ASSERT_TRUE(opened);
  live_ = *std::move(opened);
  EXPECT_NE(live_->Current().value->FindStrategy("three-tier"), nullptr);
  EXPECT_EQ(live_->Reload().error().code, ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(live_->Replace("[server]\nio_threads = 2\n"));
  EXPECT_EQ(Threads(live_->Current()), "2:2");
}

// Readers never see half of a version, whatever changes beside them.
TEST_F(LiveConfigurationTest, ReadersSeeWholeVersions) {
  Write("[server]\nio_threads = 1\nmax_in_flight = 1\n");
  Open();
  std::atomic<bool> done = false;
  std::atomic<int> seen = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      uint64_t last = 0;
      do {
        const ConfigurationVersion version = live_->Current();
        EXPECT_EQ(version.value->server.io_threads, version.value->server.max_in_flight);
        EXPECT_EQ(version.sha256.size(), 64u);
        EXPECT_GE(version.number, last);
        last = version.number;
        ++seen;
      } while (!done);
    });
  }
  std::vector<std::thread> writers;
  for (int i = 0; i < 2; ++i) {
    writers.emplace_back([this, i] {
      for (int n = 1; n <= 20; ++n) {
        const std::string text = "[server]\nio_threads = " + std::to_string(n + i) +
                                 "\nmax_in_flight = " + std::to_string(n + i) + "\n";
        EXPECT_TRUE(live_->Replace(text));
        EXPECT_TRUE(live_->Reload());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_GE(seen, 2);
}

}  // namespace
}  // namespace tandem::app
