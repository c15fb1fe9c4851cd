// Downloads with a list of chunks: only what is missing or bad is fetched, whatever the disk went
// through before.
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/download.h"
#include "net/testing/download_content.h"
#include "net/testing/fake_origin.h"
#include "net/testing/fake_surroundings.h"
#include "os/testing/power_loss_file_system.h"
#include "os/testing/temp_dir.h"

namespace tandem::net {
namespace {

namespace fs = std::filesystem;
using os::PowerLossFileSystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kSize = 1'000'000;
constexpr uint64_t kChunk = 64 << 10;

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
void Write(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class DownloadChunksTest : public ::testing::Test {
 protected:
  DownloadChunksTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
  }

  DownloadRequest Request(std::vector<DownloadSource> sources) const {
    return {.sources = std::move(sources),
            .destination = dir_ / "blob",
            .part = dir_ / "blob.part",
            .size_bytes = content_.size(),
            .digest_hex = crypto::Sha256Hex(content_),
            .make_digest = [] { return std::make_unique<Sha256Digest>(); },
            .chunks = &chunks_};
  }
  DownloadRequest Request() const { return Request({{.url = origin_.url("/blob")}}); }

  Result<DownloadOutcome> Run(const DownloadRequest& request) {
    return Download(request, surroundings_.Get(), {}, {});
  }
  std::vector<std::string> RangesAsked() const {
    std::vector<std::string> ranges;
    for (const auto& request : origin_.requests()) {
      ranges.emplace_back(request.headers.Find("range").value_or("all"));
    }
    return ranges;
  }
  static std::string RangeOf(size_t first_chunk, size_t end_chunk) {
    return fmt::format("bytes={}-{}", first_chunk * kChunk, end_chunk * kChunk - 1);
  }

  const std::string content_ = Content(kSize);
  const ChunkDigests chunks_ = ChunksOf(content_, kChunk);
  os::TempDir dir_;
  FakeSurroundings surroundings_;
  FakeOrigin origin_{
      [this](const auto& request) { return FakeOrigin::ServeContent(request, content_); }};
};

TEST_F(DownloadChunksTest, OnlyRottenChunksOfAPartAreFetchedAgain) {
  std::string part = content_;
  part[5 * kChunk + 7] ^= 1;
  part[6 * kChunk] ^= 1;
  std::fill_n(part.begin() + 11 * kChunk, kChunk, '\0');  // a sleeping laptop's favourite
  Write(dir_ / "blob.part", part);
  const auto outcome = Run(Request());
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(RangesAsked(), ElementsAre(RangeOf(5, 7), RangeOf(11, 12)));
  EXPECT_EQ(outcome->received_bytes, 3 * kChunk);
  EXPECT_EQ(Read(dir_ / "blob"), content_);
  EXPECT_THAT(surroundings_.pauses, IsEmpty());
}

TEST_F(DownloadChunksTest, APartIsGoneOnWithFromAnyByte) {
  for (const size_t here : {size_t{1}, size_t{kChunk - 1}, size_t{kChunk}, size_t{kChunk + 1},
                            size_t{500'000}, kSize - 1, kSize}) {
    SCOPED_TRACE(here);
    Write(dir_ / "blob.part", content_.substr(0, here));
    const auto outcome = Run(Request());
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(outcome->received_bytes, kSize - here);
    EXPECT_EQ(Read(dir_ / "blob"), content_);
    fs::remove(dir_ / "blob");
  }
}

TEST_F(DownloadChunksTest, ARottenBeginningOfAChunkCostsThatChunkAndBlamesNobody) {
  std::string part = content_.substr(0, 3 * kChunk + 1000);
  part[3 * kChunk + 5] ^= 1;
  Write(dir_ / "blob.part", part);
  const auto outcome = Run(Request());
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(Read(dir_ / "blob"), content_);
  ASSERT_THAT(origin_.requests(), SizeIs(2));
  EXPECT_EQ(RangesAsked()[1], fmt::format("bytes={}-", 3 * kChunk));
}

TEST_F(DownloadChunksTest, APartThatIsTooLongIsCut) {
  Write(dir_ / "blob.part", content_ + "and more");
  const auto outcome = Run(Request());
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->received_bytes, 0U);
  EXPECT_EQ(Read(dir_ / "blob"), content_);
}

TEST_F(DownloadChunksTest, GoodChunksSurviveASourceThatIsCorrupt) {
  FakeOrigin corrupt([this](const auto& request) {
    auto reply = FakeOrigin::ServeContent(request, content_);
    reply.body.back() ^= 1;
    return reply;
  });
  const auto outcome = Run(Request({{.url = corrupt.url("/blob")}}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(corrupt.requests(), SizeIs(kMaxBadChunks));
  const auto repaired = Run(Request());
  ASSERT_TRUE(repaired) << repaired.error().message;
  EXPECT_LE(repaired->received_bytes, kChunk);
  EXPECT_EQ(Read(dir_ / "blob"), content_);
}

TEST_F(DownloadChunksTest, AListThatDoesNotBelongToTheFileInstallsNothing) {
  DownloadRequest request = Request();
  request.digest_hex = std::string(64, 'a');
  const auto outcome = Run(request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(outcome.error().message, HasSubstr("list of chunks"));
  EXPECT_FALSE(fs::exists(dir_ / "blob"));
}

TEST_F(DownloadChunksTest, SourcesTakeTurnsWithoutAPauseUntilEachHasFailed) {
  FakeOrigin broken([](const auto&) { return FakeOrigin::Reply{.status = 503}; });
  int calls = 0;
  FakeOrigin flaky([&](const auto& request) {
    auto reply = FakeOrigin::ServeContent(request, content_);
    if (++calls == 1) reply.cut_at = 0;
    return reply;
  });
  const auto outcome = Run(Request({{.url = broken.url("/a")}, {.url = flaky.url("/b")}}));
  ASSERT_TRUE(outcome) << outcome.error().message;
  // The second source at once, then the first after a pause, then the second after one.
  EXPECT_THAT(surroundings_.pauses, ElementsAre(milliseconds(250), milliseconds(250)));
  EXPECT_THAT(broken.requests(), SizeIs(2));
  EXPECT_EQ(Read(dir_ / "blob"), content_);
}

TEST_F(DownloadChunksTest, WhenAllSourcesRefuseTheLastErrorIsGiven) {
  FakeOrigin gone([](const auto&) { return FakeOrigin::Reply{.status = 404}; });
  FakeOrigin forbidden([](const auto&) { return FakeOrigin::Reply{.status = 403}; });
  const auto outcome = Run(Request({{.url = gone.url("/a")}, {.url = forbidden.url("/b")}}));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kPermissionDenied);
  EXPECT_THAT(surroundings_.pauses, IsEmpty());
}

TEST_F(DownloadChunksTest, AnotherSourceGoesOnInTheMiddleOfAChunk) {
  FakeOrigin first([this](const auto& request) {
    auto reply = FakeOrigin::ServeContent(request, content_);
    reply.cut_at = 2 * kChunk + 100;
    return reply;
  });
  const auto outcome = Run(Request({{.url = first.url("/a")}, {.url = origin_.url("/b")}}));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(RangesAsked(), ElementsAre(fmt::format("bytes={}-", 2 * kChunk + 100)));
  EXPECT_EQ(outcome->received_bytes, kSize);
}

TEST_F(DownloadChunksTest, ALimitOnTheRateIsKeptAndIsNoStall) {
  DownloadRequest request = Request();
  request.max_bytes_per_second = 50'000;
  request.transfer.stall_window = seconds(2);
  request.transfer.stall_bytes = 200'000;  // more than the limit lets through
  const SteadyTime before = surroundings_.clock.Now();
  const auto outcome = Run(request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  const double took_ms = MillisecondsBetween(before, surroundings_.clock.Now());
  EXPECT_NEAR(took_ms, 20'000, 500);
  EXPECT_THAT(surroundings_.pauses, ::testing::Each(::testing::Le(milliseconds(1100))))
      << "a limit should slow down, not stop and go";
  EXPECT_THAT(origin_.requests(), SizeIs(1));
}

TEST_F(DownloadChunksTest, AFullDiskIsSaidAndTheNextCallGoesOn) {
  PowerLossFileSystem files(dir_.path());
  surroundings_.files = &files;
  files.SetDiskBytes(400'000);
  const auto too_small = Run(Request());
  ASSERT_FALSE(too_small);
  EXPECT_EQ(too_small.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(too_small.error().message, HasSubstr("1000000 more bytes"));
  EXPECT_THAT(origin_.requests(), IsEmpty());
  // Another process takes the room while the download runs.
  files.SetFreeBytesLie(true);
  const auto full = Run(Request());
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(origin_.requests(), SizeIs(1)) << "another attempt would not help";
  files.SetDiskBytes(10 * kSize);
  const auto outcome = Run(Request());
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_LE(outcome->received_bytes, 600'000U);
  EXPECT_EQ(Read(dir_ / "blob"), content_);
}

// Wherever the power goes: either no file or the right one, and the next call brings the right one.
TEST_F(DownloadChunksTest, APowerLossAtAnyWriteLeavesNothingOrTheWholeFile) {
  using After = PowerLossFileSystem::After;
  FakeOrigin origin([this](const auto& request) {
    return FakeOrigin::ServeContent(request, content_.substr(0, 300'000), "\"v1\"");
  });
  const std::string content = content_.substr(0, 300'000);
  const ChunkDigests chunks = ChunksOf(content, kChunk);
  for (const bool with_chunks : {true, false}) {
    for (const After after : {After::kEverything, After::kOnlyFlushed, After::kNamesAndZeros}) {
      for (uint64_t at = 0;; at += 1 + at / 8) {
        SCOPED_TRACE(
            fmt::format("operation {}, {}, chunks {}", at, static_cast<int>(after), with_chunks));
        const os::TempDir dir;
        PowerLossFileSystem files(dir.path());
        surroundings_.files = &files;
        DownloadRequest request = Request({{.url = origin.url("/blob")}});
        request.destination = dir / "blob";
        request.part = dir / "blob.part";
        request.size_bytes = content.size();
        request.digest_hex = crypto::Sha256Hex(content);
        request.chunks = with_chunks ? &chunks : nullptr;
        files.CutPowerAt(at);
        const auto cut = Run(request);
        const bool was_cut = files.power_is_off();
        files.Restart(after);
        if (fs::exists(dir / "blob")) EXPECT_EQ(Read(dir / "blob"), content);
        if (cut) EXPECT_TRUE(fs::exists(dir / "blob")) << "said to be there, and lost";
        const auto again = Run(request);
        ASSERT_TRUE(again) << again.error().message;
        EXPECT_EQ(Read(dir / "blob"), content);
        EXPECT_FALSE(fs::exists(dir / "blob.part"));
        if (!was_cut) break;
        ASSERT_LT(at, 10'000U);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::net
