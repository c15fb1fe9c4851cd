#include "fleet/depot/blob_response.h"

#include <fstream>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "fleet/depot/depot.h"
#include "fleet/depot/registry.h"
#include "fleet/depot/upload_sink.h"
#include "net/testing/raw_peer.h"
#include "os/testing/power_loss_file_system.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using net::testing::RawClient;
using net::testing::RawResponse;

TEST(ParseRangeTest, RangesAreThoseOfTheStandard) {
  struct Case {
    const char* header;
    uint64_t first;
    uint64_t n_bytes;
  };
  for (const Case& c :
       {Case{"bytes=0-0", 0, 1}, Case{"bytes=10-19", 10, 10}, Case{"bytes=90-", 90, 10},
        Case{"bytes=90-1000", 90, 10}, Case{"bytes=-5", 95, 5}, Case{"bytes=-1000", 0, 100}}) {
    const auto range = ParseRange(c.header, 100);
    ASSERT_TRUE(range && *range) << c.header;
    EXPECT_EQ((*range)->first, c.first) << c.header;
    EXPECT_EQ((*range)->n_bytes, c.n_bytes) << c.header;
  }
  for (const char* ignored :
       {"", "items=0-1", "bytes=", "bytes=5", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "bytes=-",
        "bytes=1-x", "bytes=99999999999999999999-"}) {
    const auto range = ParseRange(ignored, 100);
    ASSERT_TRUE(range) << ignored;
    EXPECT_FALSE(*range) << ignored;
  }
  for (const char* beyond : {"bytes=100-", "bytes=100-200", "bytes=-0"}) {
    EXPECT_FALSE(ParseRange(beyond, 100)) << beyond;
  }
  EXPECT_FALSE(ParseRange("bytes=0-", 0));
  EXPECT_FALSE(ParseRange("bytes=-1", 0));
}

// A registry behind a server, with a caller that may do everything.
class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest()
      : files_(MakeFolder()),
        depot_(Depot::Open(dir_ / "models", files_).value()),
        registry_(std::make_unique<Registry>(&depot_, RegistryOptions{})) {
    net::HttpServerOptions options;
    options.max_body_bytes = 1000;
    options.open_body = [this](const net::HttpRequest& head, std::function<void()> resume) {
      return registry_->OpenBody(head, std::move(resume));
    };
    server_ = net::HttpServer::Start(
                  std::move(options),
                  [this](net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
                    registry_->Handle(std::move(request), std::move(response), {.write = true});
                  })
                  .value();
  }
  std::filesystem::path MakeFolder() {
    std::filesystem::create_directories(dir_ / "models");
    return dir_ / "models";
  }
  RawResponse Call(const std::string& line, const std::string& headers = "",
                   const std::string& body = "") {
    RawClient client(server_->port());
    const std::string length =
        body.empty() ? "" : fmt::format("Content-Length: {}\r\n", body.size());
    client.Send(fmt::format("{} HTTP/1.1\r\nHost: h\r\n{}{}\r\n", line, headers, length));
    client.Send(body);
    return client.ReadResponse(!line.starts_with("HEAD"));
  }
  std::string BeginUpload() {
    return std::string(Call("POST /v2/demo/blobs/uploads/").headers.Find("Location").value_or(""));
  }
  std::string Put(const std::string& content) {
    const std::string digest = crypto::Sha256Hex(content);
    EXPECT_TRUE(depot_.PutBlob(digest, content));
    return "/v2/demo/blobs/sha256:" + digest;
  }

  os::TempDir dir_;
  os::PowerLossFileSystem files_;
  const Depot depot_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<net::HttpServer> server_;
};

TEST_F(RegistryTest, ABlobManyTimesLargerThanTheBuffersComesWhole) {
  std::string content(20 << 20, '\0');
  for (size_t i = 0; i < content.size(); i += 4096) content[i] = static_cast<char>(i >> 12);
  const RawResponse response = Call("GET " + Put(content));
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(crypto::Sha256Hex(response.body), crypto::Sha256Hex(content));
}

TEST_F(RegistryTest, ManySlowReadersAndOneThatLeavesDoNotHoldEachOtherUp) {
  const std::string content(8 << 20, 'x');
  const std::string path = Put(content);
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 16; ++i) {  // more than there are workers, and none of them reads
    slow.push_back(std::make_unique<RawClient>(server_->port()));
    slow.back()->Send(fmt::format("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", path));
    slow.back()->ReadUntil("\r\n\r\n");
  }
  slow[3]->Reset();
  EXPECT_EQ(Call("GET " + path).body.size(), content.size());
  EXPECT_EQ(slow[7]->ReadResponse().body.size(), content.size());
}

TEST_F(RegistryTest, ConditionsAndRangesOfABlob) {
  const std::string content = "0123456789";
  const std::string path = Put(content);
  const std::string etag = fmt::format("\"sha256:{}\"", crypto::Sha256Hex(content));
  EXPECT_EQ(Call("GET " + path, "Range: bytes=2-4\r\n").body, "234");
  EXPECT_EQ(Call("GET " + path, "Range: bytes=2-4\r\nIf-Range: " + etag + "\r\n").body, "234");
  EXPECT_EQ(Call("GET " + path, "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n").body, content);
  EXPECT_EQ(Call("GET " + path, "If-None-Match: " + etag + "\r\n").status, 304);
  const RawResponse beyond = Call("GET " + path, "Range: bytes=10-\r\n");
  EXPECT_EQ(beyond.status, 416);
  EXPECT_EQ(beyond.headers.Find("Content-Range"), "bytes */10");
  const RawResponse head = Call("HEAD " + path);
  EXPECT_EQ(head.headers.Find("Content-Length"), "10");
  EXPECT_EQ(head.headers.Find("Docker-Content-Digest"), "sha256:" + crypto::Sha256Hex(content));
  EXPECT_EQ(Call("GET /v2/demo/blobs/sha256:" + std::string(64, 'a')).status, 404);
  EXPECT_EQ(Call("GET /v2/demo/blobs/md5:abc").status, 400);
}

TEST_F(RegistryTest, AnUploadBeyondTheBodyLimitGoesToTheDisk) {
  const std::string content(10 << 20, 'y');
  const std::string upload = BeginUpload();
  const RawResponse patched = Call("PATCH " + upload, "", content);
  EXPECT_EQ(patched.status, 202) << patched.body;
  EXPECT_EQ(patched.headers.Find("Range"), fmt::format("0-{}", content.size() - 1));
  const std::string digest = crypto::Sha256Hex(content);
  const RawResponse done = Call(fmt::format("PUT {}?digest=sha256:{}", upload, digest));
  EXPECT_EQ(done.status, 201) << done.body;
  EXPECT_TRUE(depot_.HasBlob({.size_bytes = content.size(), .sha256 = digest}));
}

TEST_F(RegistryTest, AClientThatLeavesInTheMiddleGoesOnWhereTheDiskIs) {
  const std::string upload = BeginUpload();
  {
    RawClient client(server_->port());
    client.Send(
        fmt::format("PATCH {} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc", upload));
    client.ShutdownWrite();
    while (client.ReadSome()) {
    }
  }
  // The bytes that came are kept; when exactly they are there, only asking tells.
  RawResponse status;
  do {
    status = Call("GET " + upload);
  } while (status.status == 404);
  EXPECT_EQ(status.headers.Find("Range"), "0-2");
  const RawResponse wrong = Call("PATCH " + upload, "Content-Range: 7-9\r\n", "def");
  EXPECT_EQ(wrong.status, 416);
  EXPECT_EQ(Call("PATCH " + upload, "Content-Range: 3-5\r\n", "def").status, 202);
  const RawResponse done =
      Call(fmt::format("PUT {}?digest=sha256:{}", upload, crypto::Sha256Hex("abcdef")));
  EXPECT_EQ(done.status, 201) << done.body;
}

TEST_F(RegistryTest, AFullDiskIsSaidAndLeavesNothing) {
  const std::string upload = BeginUpload();
  files_.SetDiskBytes(100'000);
  const RawResponse failed = Call("PATCH " + upload, "", std::string(4 << 20, 'z'));
  EXPECT_EQ(failed.status, 507);
  EXPECT_EQ(Call("GET " + upload).status, 404);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "models/uploads"));
}

}  // namespace
}  // namespace tandem::fleet
