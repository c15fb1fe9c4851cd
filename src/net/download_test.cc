#include "net/download.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "net/testing/download_content.h"
#include "net/testing/fake_origin.h"
#include "net/testing/fake_surroundings.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::net {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void Write(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
  }

  DownloadRequest Request(const std::string& url) const {
    return {.sources = {{.url = url}},
            .destination = dir_ / "model.gguf",
            .part = dir_ / "model.gguf.part",
            .size_bytes = content_.size(),
            .digest_hex = crypto::Sha256Hex(content_),
            .make_digest = [] { return std::make_unique<Sha256Digest>(); }};
  }

  Result<DownloadOutcome> Run(const DownloadRequest& request) {
    const auto progress = [this](const DownloadProgress& step) {
      stages_.push_back(step.stage);
      if (on_progress_) on_progress_(step);
    };
    return Download(request, surroundings_.Get(), progress, stop_.get_token());
  }

  // What an interrupted download of `bytes` bytes leaves.
  void LeavePart(const FakeOrigin& origin, size_t bytes, const std::string& etag = "\"v1\"") const {
    Write(dir_ / "model.gguf.part", content_.substr(0, bytes));
    Write(dir_ / "model.gguf.part.json",
          fmt::format(R"({{"url":"{}","etag":"{}","digest":"{}"}})", origin.url("/model"),
                      etag == "\"v1\"" ? R"(\"v1\")" : etag, crypto::Sha256Hex(content_)));
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }

  void ExpectWhole() const {
    EXPECT_EQ(Read(dir_ / "model.gguf"), content_);
    EXPECT_EQ(Files(), (std::vector<std::string>{"model.gguf", "model.gguf.part.lock"}));
  }
  void ExpectNothingKept() const {
    EXPECT_EQ(Files(), (std::vector<std::string>{"model.gguf.part.lock"}));
  }

  const std::string content_ = Content(1'000'000);
  os::TempDir dir_;
  FakeSurroundings surroundings_;
  std::stop_source stop_;
  std::vector<DownloadProgress::Stage> stages_;
  std::function<void(const DownloadProgress&)> on_progress_;
};

using Stage = DownloadProgress::Stage;

TEST_F(DownloadTest, AFileArrivesWholeAndTheScaffoldingGoesAway) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  uint64_t last_done = 0;
  on_progress_ = [&](const DownloadProgress& step) {
    EXPECT_GE(step.done_bytes, last_done);
    EXPECT_EQ(step.total_bytes, content_.size());
    last_done = step.done_bytes;
    EXPECT_FALSE(fs::exists(dir_ / "model.gguf")) << "visible before it was whole";
  };
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->size_bytes, content_.size());
  EXPECT_EQ(outcome->received_bytes, content_.size());
  EXPECT_EQ(outcome->digest_hex, crypto::Sha256Hex(content_));
  EXPECT_EQ(last_done, content_.size());
  EXPECT_EQ(stages_.back(), Stage::kFinishing);
  ExpectWhole();
}

TEST_F(DownloadTest, ACutConnectionIsResumedFromTheLastByte) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"v1\"");
    if (++calls < 4) reply.cut_at = 100'000;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->received_bytes, content_.size()) << "bytes were fetched twice";
  const auto requests = origin.requests();
  ASSERT_THAT(requests, SizeIs(4));
  EXPECT_FALSE(requests[0].headers.Find("range"));
  EXPECT_EQ(requests[1].headers.Find("range"), "bytes=100000-");
  EXPECT_EQ(requests[1].headers.Find("if-range"), "\"v1\"");
  EXPECT_EQ(requests[3].headers.Find("range"), "bytes=300000-");
  // Each attempt made progress, so each pause is that of a first failure.
  EXPECT_EQ(surroundings_.pauses, std::vector(3, milliseconds(250)));
  ExpectWhole();
}

TEST_F(DownloadTest, APartOfAnEarlierProcessIsContinued) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  LeavePart(origin, 600'000);
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->received_bytes, 400'000U);
  EXPECT_EQ(stages_.front(), Stage::kCheckingPart);
  ExpectWhole();
}

TEST_F(DownloadTest, AWholePartNeedsNoNetwork) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  LeavePart(origin, content_.size());
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), IsEmpty());
  ExpectWhole();
}

TEST_F(DownloadTest, APartWithRottenBytesIsFetchedAgainFromTheStart) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  LeavePart(origin, 600'000);
  Write(dir_ / "model.gguf.part", std::string(600'000, '\0'));  // a power loss's favourite
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(2));
  ExpectWhole();
}

TEST_F(DownloadTest, APartOfAnotherFileOrWithoutRecordIsNotUsed) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  Write(dir_ / "model.gguf.part", std::string(500, 'x'));
  for (const char* record : {"", "{", "[]", R"({"digest": 7})", R"({"digest": "0123"})"}) {
    SCOPED_TRACE(record);
    Write(dir_ / "model.gguf.part", std::string(500, 'x'));
    Write(dir_ / "model.gguf.part.json", record);
    const auto outcome = Run(Request(origin.url("/model")));
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_FALSE(origin.requests().back().headers.Find("range"));
    ExpectWhole();
    fs::remove(dir_ / "model.gguf");
  }
}

TEST_F(DownloadTest, WrongBytesAreAnErrorAndNothingIsKept) {
  std::string wrong = content_;
  wrong[500'000] ^= 1;
  FakeOrigin origin([&](const auto& request) { return FakeOrigin::ServeContent(request, wrong); });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(outcome.error().message, HasSubstr(crypto::Sha256Hex(wrong)));
  EXPECT_THAT(origin.requests(), SizeIs(1)) << "a file that came in one piece needs no second try";
  ExpectNothingKept();
}

TEST_F(DownloadTest, AWrongLengthIsAnErrorBeforeTheFirstByte) {
  for (const size_t size : {content_.size() - 1, content_.size() + 1}) {
    FakeOrigin origin([&](const auto&) { return FakeOrigin::Reply{.body = Content(size)}; });
    const auto outcome = Run(Request(origin.url("/model")));
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(stages_, IsEmpty());
    ExpectNothingKept();
  }
}

TEST_F(DownloadTest, MoreBytesThanPromisedEndTheDownload) {
  FakeOrigin origin(
      [&](const auto&) { return FakeOrigin::Reply{.body = content_ + "more", .chunked = true}; });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kCorrupt);
  ExpectNothingKept();
}

TEST_F(DownloadTest, ABodyWithoutLengthThatEndsEarlyIsResumed) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"v1\"");
    reply.announce_length = false;
    if (++calls == 1) reply.cut_at = 123'456;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(2));
  EXPECT_EQ(outcome->received_bytes, content_.size());
  ExpectWhole();
}

TEST_F(DownloadTest, AChunkedBodyOfUnknownSizeIsComplete) {
  FakeOrigin origin(
      [&](const auto&) { return FakeOrigin::Reply{.body = content_, .chunked = true}; });
  DownloadRequest request = Request(origin.url("/model"));
  request.size_bytes.reset();
  request.digest_hex.clear();
  const auto outcome = Run(request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->digest_hex, crypto::Sha256Hex(content_));
  ExpectWhole();
}

TEST_F(DownloadTest, AServerThatIgnoresRangesStartsOverCleanly) {
  int calls = 0;
  FakeOrigin origin([&](const auto&) {
    FakeOrigin::Reply reply{.headers = {{"ETag", "\"v1\""}}, .body = content_};
    if (++calls == 1) reply.cut_at = 400'000;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->received_bytes, content_.size() + 400'000);
  ExpectWhole();
}

TEST_F(DownloadTest, AServerThatIgnoresRangesAndCutsEveryReplyIsGivenUp) {
  FakeOrigin origin(
      [&](const auto&) { return FakeOrigin::Reply{.body = content_, .cut_at = 400'000}; });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("starting over"));
}

TEST_F(DownloadTest, AChangedEtagStartsOverEvenIfTheServerIgnoresIfRange) {
  const std::string old_content = Content(1'000'001).substr(1);
  int calls = 0;
  FakeOrigin origin([&](const FakeOrigin::Request& request) {
    ++calls;
    FakeOrigin::Request plain = request;
    plain.headers.Remove("if-range");
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(plain, calls == 1 ? old_content : content_,
                                                       calls == 1 ? "\"v1\"" : "\"v2\"");
    if (calls == 1) reply.cut_at = 300'000;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  const auto requests = origin.requests();
  ASSERT_THAT(requests, SizeIs(3));
  EXPECT_EQ(requests[1].headers.Find("range"), "bytes=300000-");
  EXPECT_FALSE(requests[2].headers.Find("range"));
  ExpectWhole();
}

TEST_F(DownloadTest, AWeakEtagIsNotSentAsIfRange) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "W/\"v1\"");
    if (++calls == 1) reply.cut_at = 300'000;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_FALSE(origin.requests()[1].headers.Find("if-range"));
  EXPECT_EQ(origin.requests()[1].headers.Find("range"), "bytes=300000-");
  ExpectWhole();
}

TEST_F(DownloadTest, ARangeThatWasNotAskedForIsNotWritten) {
  int calls = 0;
  FakeOrigin origin([&](const FakeOrigin::Request& request) {
    ++calls;
    FakeOrigin::Request shifted = request;
    if (calls == 2) shifted.headers.Set("Range", "bytes=300001-");
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(shifted, content_, "\"v1\"");
    if (calls == 1) reply.cut_at = 300'000;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(3));
  ExpectWhole();
}

TEST_F(DownloadTest, RangeNotSatisfiableAtTheEndMeansComplete) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"v1\"");
    if (++calls == 1) {
      reply.chunked = true;
      reply.cut_at = content_.size();  // all bytes, but no end
    }
    return reply;
  });
  DownloadRequest request = Request(origin.url("/model"));
  request.size_bytes.reset();
  const auto outcome = Run(request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(2));
  ExpectWhole();
}

TEST_F(DownloadTest, RangeNotSatisfiableElsewhereStartsOver) {
  FakeOrigin origin([&](const FakeOrigin::Request& request) {
    if (request.headers.Find("range")) {
      return FakeOrigin::Reply{.status = 416, .headers = {{"Content-Range", "bytes */500"}}};
    }
    return FakeOrigin::ServeContent(request, content_);
  });
  LeavePart(origin, 600'000);
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(2));
  ExpectWhole();
}

TEST_F(DownloadTest, PassingServerErrorsAreRetriedWithGrowingPauses) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    if (++calls <= 3) return FakeOrigin::Reply{.status = calls == 2 ? 500 : 503};
    return FakeOrigin::ServeContent(request, content_);
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(surroundings_.pauses,
            (std::vector{milliseconds(250), milliseconds(500), milliseconds(1000)}));
  ExpectWhole();
}

TEST_F(DownloadTest, RetryAfterIsHonoured) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    if (++calls == 1) {
      return FakeOrigin::Reply{.status = 429, .headers = {{"Retry-After", "17"}}};
    }
    return FakeOrigin::ServeContent(request, content_);
  });
  ASSERT_TRUE(Run(Request(origin.url("/model"))));
  EXPECT_EQ(surroundings_.pauses, std::vector{milliseconds(17'000)});
}

TEST_F(DownloadTest, ARetryAfterBeyondReasonIsReportedInsteadOfWaitedFor) {
  FakeOrigin origin([&](const auto&) {
    return FakeOrigin::Reply{.status = 503, .headers = {{"Retry-After", "86400"}}};
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("86400 seconds"));
  EXPECT_THAT(surroundings_.pauses, IsEmpty());
}

TEST_F(DownloadTest, AttemptsWithoutProgressEndAndThePartStays) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"v1\"");
    reply.cut_at = ++calls == 1 ? 300'000 : 0;
    return reply;
  });
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(surroundings_.pauses, SizeIs(5));
  EXPECT_EQ(Read(dir_ / "model.gguf.part"), content_.substr(0, 300'000));
  EXPECT_FALSE(fs::exists(dir_ / "model.gguf"));
}

TEST_F(DownloadTest, RefusalsAreNotRetried) {
  const std::vector<std::pair<int, ErrorCode>> cases = {{401, ErrorCode::kUnauthenticated},
                                                        {403, ErrorCode::kPermissionDenied},
                                                        {404, ErrorCode::kNotFound},
                                                        {400, ErrorCode::kUnsupported},
                                                        {206, ErrorCode::kUnsupported}};
  for (const auto& [status, code] : cases) {
    FakeOrigin origin([&](const auto&) {
      return FakeOrigin::Reply{.status = status, .headers = {{"X-Error-Message", "because"}}};
    });
    const auto outcome = Run(Request(origin.url("/model")));
    ASSERT_FALSE(outcome) << status;
    EXPECT_EQ(outcome.error().code, code);
    EXPECT_THAT(outcome.error().message, HasSubstr("because"));
    EXPECT_THAT(origin.requests(), SizeIs(1));
  }
}

TEST_F(DownloadTest, ASignedLinkThatExpiresIsAskedForAgainAndNeverSeesTheToken) {
  int links = 0;
  FakeOrigin cdn([&](const FakeOrigin::Request& request) {
    if (request.target == "/blob?link=1" && request.headers.Find("range")) {
      return FakeOrigin::Reply{.status = 403};
    }
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"cdn\"");
    if (!request.headers.Find("range")) reply.cut_at = 200'000;
    return reply;
  });
  FakeOrigin hub([&](const auto&) {
    ++links;
    return FakeOrigin::Redirect(cdn.url(fmt::format("/blob?link={}", links == 2 ? 1 : links)));
  });
  DownloadRequest request = Request(hub.url("/model"));
  request.sources[0].bearer_token = "hf_abc";
  const auto outcome = Run(request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(hub.requests(), SizeIs(3));
  for (const auto& seen : hub.requests()) {
    EXPECT_EQ(seen.headers.Find("authorization"), "Bearer hf_abc");
  }
  ASSERT_THAT(cdn.requests(), SizeIs(3));
  for (const auto& seen : cdn.requests()) EXPECT_FALSE(seen.headers.Find("authorization"));
  ExpectWhole();
}

TEST_F(DownloadTest, ASlowDripIsCutAndResumed) {
  int calls = 0;
  FakeOrigin origin([&](const auto& request) {
    FakeOrigin::Reply reply = FakeOrigin::ServeContent(request, content_, "\"v1\"");
    if (++calls == 1) {
      reply.pause_at = 50'000;
      reply.on_pause = [this] { surroundings_.clock.Advance(seconds(61)); };
      reply.hang = true;
    }
    return reply;
  });
  DownloadRequest request = Request(origin.url("/model"));
  request.transfer.stall_window = seconds(60);
  request.transfer.stall_bytes = 60'000;  // more than the drip brings before it dries up
  const auto outcome = Run(request);
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_THAT(origin.requests(), SizeIs(2));
  EXPECT_THAT(stages_, ::testing::Contains(Stage::kRetrying));
  ExpectWhole();
}

TEST_F(DownloadTest, TooLittleDiskIsSaidBeforeTheFirstRequest) {
  FakeOrigin origin([&](const auto&) { return FakeOrigin::Reply{}; });
  DownloadRequest request = Request(origin.url("/model"));
  request.size_bytes = 1ULL << 60;
  const auto outcome = Run(request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(outcome.error().message, HasSubstr("1152921504606846976"));
  EXPECT_THAT(origin.requests(), IsEmpty());
}

TEST_F(DownloadTest, AnAnnouncedSizeThatDoesNotFitTheDiskIsRefusedBeforeTheFirstByte) {
  FakeOrigin origin([&](const auto&) {
    return FakeOrigin::Reply{.headers = {{"Content-Length", "1152921504606846976"}}, .body = "x"};
  });
  DownloadRequest request = Request(origin.url("/model"));
  request.size_bytes.reset();
  const auto outcome = Run(request);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kResourceExhausted);
}

TEST_F(DownloadTest, AWriteThatFailsIsAnErrorAndTheNextCallGoesOn) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  // A file size limit stands for a disk that fills up.
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = 300'000, .rlim_max = old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto failed = Run(Request(origin.url("/model")));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_EQ(fs::file_size(dir_ / "model.gguf.part"), 300'000U);
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_EQ(outcome->received_bytes, 700'000U);
  ExpectWhole();
}

TEST_F(DownloadTest, AStopKeepsThePartForTheNextCall) {
  FakeOrigin origin(
      [&](const auto& request) { return FakeOrigin::ServeContent(request, content_, "\"v1\""); });
  on_progress_ = [&](const DownloadProgress& step) {
    if (step.done_bytes >= 200'000) stop_.request_stop();
  };
  const auto stopped = Run(Request(origin.url("/model")));
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(fs::exists(dir_ / "model.gguf"));
  EXPECT_GE(fs::file_size(dir_ / "model.gguf.part"), 200'000U);
  stop_ = {};
  on_progress_ = nullptr;
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_LT(outcome->received_bytes, content_.size());
  ExpectWhole();
}

TEST_F(DownloadTest, ASecondDownloaderWaitsForTheFirstAndFindsItsFile) {
  FakeOrigin origin([&](const auto&) { return FakeOrigin::Reply{.status = 500}; });
  auto lock = std::make_optional(os::FileLock::Acquire(dir_ / "model.gguf.part.lock").value());
  surroundings_.on_pause = [&] {
    if (surroundings_.pauses.size() < 3) return;
    Write(dir_ / "model.gguf", content_);
    lock.reset();
  };
  const auto outcome = Run(Request(origin.url("/model")));
  ASSERT_TRUE(outcome) << outcome.error().message;
  EXPECT_TRUE(outcome->already_there);
  EXPECT_THAT(surroundings_.pauses, SizeIs(3));
  EXPECT_EQ(stages_, std::vector(3, Stage::kWaitingForLock));
  EXPECT_THAT(origin.requests(), IsEmpty());
}

TEST_F(DownloadTest, RemovePartFreesItUnlessSomebodyWritesIt) {
  FakeOrigin origin([&](const auto&) { return FakeOrigin::Reply{}; });
  LeavePart(origin, 1234);
  {
    const auto lock = os::FileLock::Acquire(dir_ / "model.gguf.part.lock").value();
    const auto refused = RemovePart(dir_ / "model.gguf.part");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_TRUE(PartIsBusy(dir_ / "model.gguf.part"));
  }
  EXPECT_FALSE(PartIsBusy(dir_ / "model.gguf.part"));
  EXPECT_EQ(RemovePart(dir_ / "model.gguf.part").value(), 1234U);
  ExpectNothingKept();
  EXPECT_EQ(RemovePart(dir_ / "model.gguf.part").value(), 0U);
  EXPECT_EQ(RemovePart(dir_ / "no/such/dir.part").value(), 0U);
}

}  // namespace
}  // namespace tandem::net
