// What a hostile or broken server can do, one row each: the download ends in the right file or in
// the right error, never in a wrong file, and never without end.
#include <atomic>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/download.h"
#include "net/testing/download_content.h"
#include "net/testing/fake_origin.h"
#include "net/testing/fake_surroundings.h"
#include "os/testing/temp_dir.h"

namespace tandem::net {
namespace {

namespace fs = std::filesystem;
using Request = FakeOrigin::Request;
using Reply = FakeOrigin::Reply;
using std::chrono::seconds;

constexpr size_t kSize = 1'000'000;
constexpr uint64_t kChunk = 64 << 10;
constexpr std::string_view kEtag = "\"v1\"";

// What a server does to its n-th reply (from 1), which was an honest one.
using Mischief = std::function<void(const Request& request, int n, FakeClock& clock, Reply& reply)>;

struct Row {
  const char* name;
  Mischief mischief;
  // With and without a list of chunks; nothing: the file arrives.
  std::optional<ErrorCode> with_chunks;
  std::optional<ErrorCode> without_chunks;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

bool IsRange(const Request& request) { return request.headers.Find("range").has_value(); }

std::string Corrupted(std::string body, size_t at) {
  if (at < body.size()) body[at] ^= 0x40;
  return body;
}

const Row kRows[] = {
    {"Honest", [](auto&, int, auto&, Reply&) {}, {}, {}},
    {"LengthTooShort",
     [](auto&, int, auto&, Reply& reply) { reply.body.resize(reply.body.size() - 7); },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"LengthTooLong", [](auto&, int, auto&, Reply& reply) { reply.body += "1234567"; },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"LengthIsNoNumberAndBodyIsWhole",
     [](auto&, int, auto&, Reply& reply) {
       reply.announce_length = false;
       reply.headers.Set("X-Length", "many");
     },
     {},
     {}},
    {"EndlessBodyWithoutLength",
     [](auto&, int, auto&, Reply& reply) {
       reply.chunked = true;
       reply.body += std::string(4 * kSize, 'x');
     },
     {},  // chunks tell when it is whole
     ErrorCode::kCorrupt},
    {"TruncatedOnce",
     [](auto&, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 333'333;
     },
     {},
     {}},
    {"TruncatedAlwaysAfterAFewBytes",
     [](auto&, int, auto&, Reply& reply) { reply.cut_at = 100'000; },
     {},
     {}},
    {"TruncatedAlwaysBeforeTheFirstByte", [](auto&, int, auto&, Reply& reply) { reply.cut_at = 0; },
     ErrorCode::kUnavailable, ErrorCode::kUnavailable},
    {"WholeFileInsteadOfRange",
     [](auto&, int n, auto&, Reply& reply) {
       reply = {.body = Content(kSize)};
       if (n == 1) reply.cut_at = 400'000;
     },
     {},
     {}},
    {"WholeFileInsteadOfRangeCutAlways",
     [](auto&, int, auto&, Reply& reply) { reply = {.body = Content(kSize), .cut_at = 400'000}; },
     ErrorCode::kUnavailable, ErrorCode::kCorrupt},
    {"RangeNobodyAskedFor",
     [](auto&, int, auto&, Reply& reply) {
       reply.status = 206;
       reply.headers.Set("Content-Range", "bytes 0-999999/1000000");
     },
     ErrorCode::kUnsupported, ErrorCode::kUnsupported},
    {"WrongRangeStart",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (!IsRange(request)) return;
       reply.headers.Set("Content-Range", "bytes 1-999999/1000000");
     },
     ErrorCode::kUnavailable,
     {}},  // starts over without a range
    {"WrongRangeTotal",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (IsRange(request)) reply.headers.Set("Content-Range", "bytes 300000-999999/2000000");
     },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"RangeWithoutContentRange",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (IsRange(request)) reply.headers.Remove("Content-Range");
     },
     ErrorCode::kUnavailable,
     {}},
    {"RangeRefused",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (IsRange(request)) reply = {.status = 416};
     },
     ErrorCode::kUnavailable,
     {}},
    {"RangeRefusedForAShorterFile",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (IsRange(request)) {
         reply = {.status = 416, .headers = {{"Content-Range", "bytes */500"}}};
       }
     },
     ErrorCode::kCorrupt,
     {}},
    {"MoreThanTheRange",
     [](const Request& request, int n, auto&, Reply& reply) {
       if (n == 1) reply.cut_at = 300'000;
       if (IsRange(request)) {
         reply.chunked = true;
         reply.body += std::string(100, 'x');
       }
     },
     {},
     ErrorCode::kCorrupt},
    {"OneCorruptByteOnce",
     [](auto&, int n, auto&, Reply& reply) {
       if (n == 1) reply.body = Corrupted(std::move(reply.body), 500'000);
     },
     {},
     ErrorCode::kCorrupt},
    {"OneCorruptByteAlways",
     [](const Request& request, int, auto&, Reply& reply) {
       const size_t first = IsRange(request)
                                ? std::stoull(std::string(request.headers.Find("range")->substr(6)))
                                : 0;
       if (first <= 500'000) reply.body = Corrupted(std::move(reply.body), 500'000 - first);
     },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"AllZeros",
     [](auto&, int, auto&, Reply& reply) { reply.body.assign(reply.body.size(), '\0'); },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"EtagChangesWithEveryReply",
     [](auto&, int n, auto&, Reply& reply) {
       reply.headers.Set("ETag", fmt::format("\"v{}\"", n));
       if (n < 4) reply.cut_at = 200'000;
     },
     {},
     {}},
    {"ContentChangesUnderTheSameEtag",
     [](auto&, int n, auto&, Reply& reply) {
       if (n != 1) return;
       reply.body = Content(kSize + 1).substr(1);
       reply.cut_at = 200'000;
     },
     {},
     {}},
    {"StallsOnce",
     [](auto&, int n, FakeClock& clock, Reply& reply) {
       if (n != 1) return;
       reply.pause_at = 50'000;
       reply.on_pause = [&clock] { clock.Advance(seconds(61)); };
       reply.hang = true;
     },
     {},
     {}},
    {"StallsAlways",
     [](auto&, int, FakeClock& clock, Reply& reply) {
       reply.pause_at = 0;
       reply.on_pause = [&clock] { clock.Advance(seconds(61)); };
       reply.hang = true;
     },
     ErrorCode::kDeadlineExceeded, ErrorCode::kDeadlineExceeded},
    {"RedirectsInACircle",
     [](const Request& request, int, auto&, Reply& reply) {
       reply = FakeOrigin::Redirect(request.target);
     },
     ErrorCode::kFailedPrecondition, ErrorCode::kFailedPrecondition},
    {"RedirectsToAFile",
     [](auto&, int, auto&, Reply& reply) { reply = FakeOrigin::Redirect("file:///etc/passwd"); },
     ErrorCode::kFailedPrecondition, ErrorCode::kFailedPrecondition},
    {"RedirectsWithCredentials",
     [](auto&, int, auto&, Reply& reply) {
       reply = FakeOrigin::Redirect("http://user:secret@127.0.0.1/");
     },
     ErrorCode::kFailedPrecondition, ErrorCode::kFailedPrecondition},
    {"PortalInsteadOfTheFile",
     [](auto&, int, auto&, Reply& reply) { reply = {.body = "<html>please log in</html>"}; },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"HeadersWithoutEnd",
     [](auto&, int, auto&, Reply& reply) {
       for (int i = 0; i < 3000; ++i) reply.headers.Add("X-More", std::string(100, 'x'));
     },
     ErrorCode::kCorrupt, ErrorCode::kCorrupt},
    {"Overloaded", [](auto&, int, auto&, Reply& reply) { reply = {.status = 503}; },
     ErrorCode::kUnavailable, ErrorCode::kUnavailable},
    {"ComeBackTomorrow",
     [](auto&, int, auto&, Reply& reply) {
       reply = {.status = 429, .headers = {{"Retry-After", "86400"}}};
     },
     ErrorCode::kUnavailable, ErrorCode::kUnavailable},
    {"Gone", [](auto&, int, auto&, Reply& reply) { reply = {.status = 410}; }, ErrorCode::kNotFound,
     ErrorCode::kNotFound},
};

class HostileServerTest : public ::testing::TestWithParam<Row> {
 protected:
  HostileServerTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
  }

  FakeOrigin::Handler Server(const Mischief& mischief) {
    return [this, mischief, n = std::make_shared<std::atomic<int>>(0)](const Request& request) {
      Reply reply = FakeOrigin::ServeContent(request, content_, std::string(kEtag));
      mischief(request, ++*n, surroundings_.clock, reply);
      return reply;
    };
  }

  Result<DownloadOutcome> Run(std::vector<DownloadSource> sources, bool with_chunks) {
    const DownloadRequest request = {
        .sources = std::move(sources),
        .destination = dir_ / "blob",
        .part = dir_ / "blob.part",
        .size_bytes = kSize,
        .digest_hex = crypto::Sha256Hex(content_),
        .make_digest = [] { return std::make_unique<Sha256Digest>(); },
        .chunks = with_chunks ? &chunks_ : nullptr,
        .transfer = {.stall_window = seconds(60), .stall_bytes = 60'000}};
    return Download(request, surroundings_.Get(), {}, {});
  }

  void ExpectOutcome(const Result<DownloadOutcome>& outcome, std::optional<ErrorCode> expected) {
    if (expected) {
      ASSERT_FALSE(outcome);
      EXPECT_EQ(outcome.error().code, *expected) << outcome.error().message;
      EXPECT_FALSE(fs::exists(dir_ / "blob"));
      return;
    }
    ASSERT_TRUE(outcome) << outcome.error().message;
    ExpectWhole();
  }
  void ExpectWhole() {
    std::ostringstream text;
    text << std::ifstream(dir_ / "blob", std::ios::binary).rdbuf();
    EXPECT_EQ(text.str(), content_);
  }

  const std::string content_ = Content(kSize);
  const ChunkDigests chunks_ = ChunksOf(content_, kChunk);
  os::TempDir dir_;
  FakeSurroundings surroundings_;
};

TEST_P(HostileServerTest, WithChunksTheFileIsRightOrTheErrorIs) {
  FakeOrigin origin(Server(GetParam().mischief));
  ExpectOutcome(Run({{.url = origin.url("/blob")}}, true), GetParam().with_chunks);
}

TEST_P(HostileServerTest, WithoutChunksTheFileIsRightOrTheErrorIs) {
  FakeOrigin origin(Server(GetParam().mischief));
  ExpectOutcome(Run({{.url = origin.url("/blob")}}, false), GetParam().without_chunks);
}

TEST_P(HostileServerTest, AnHonestSecondSourceAlwaysSavesIt) {
  for (const bool with_chunks : {true, false}) {
    SCOPED_TRACE(with_chunks);
    FakeOrigin hostile(Server(GetParam().mischief));
    FakeOrigin honest(Server([](auto&, int, auto&, Reply&) {}));
    const auto outcome = Run({{.url = hostile.url("/blob"), .bearer_token = "hostile-key"},
                              {.url = honest.url("/blob"), .bearer_token = "honest-key"}},
                             with_chunks);
    ExpectOutcome(outcome, {});
    for (const Request& request : hostile.requests()) {
      EXPECT_EQ(request.headers.Find("authorization"), "Bearer hostile-key");
    }
    for (const Request& request : honest.requests()) {
      EXPECT_EQ(request.headers.Find("authorization"), "Bearer honest-key");
    }
    fs::remove(dir_ / "blob");
  }
}

TEST_P(HostileServerTest, TheSameBehindARedirectGetsNoToken) {
  FakeOrigin hostile(Server(GetParam().mischief));
  FakeOrigin front([&](const auto&) { return FakeOrigin::Redirect(hostile.url("/elsewhere")); });
  (void)Run({{.url = front.url("/blob"), .bearer_token = "secret"}}, true);
  EXPECT_FALSE(front.requests().empty());
  for (const Request& request : hostile.requests()) {
    EXPECT_FALSE(request.headers.Find("authorization"));
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, HostileServerTest, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace tandem::net
