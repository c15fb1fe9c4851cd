#include "gateway/package_depot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway {
namespace {

using ::testing::HasSubstr;

TEST(PackageDepotTest, BothSpellingsOfTheModelAreRead) {
  for (const char* body :
       {R"({"model_id": "demo", "quantization": "int4", "target_platform": "android_arm64",
            "npu_acceleration": true, "include_tokenizer": false})",
        R"({"model": "demo", "quantization": "int4", "target_platform": "android_arm64",
            "npu_acceleration": true, "include_tokenizer": false, "more": 1})"}) {
    const auto question = ParseDownload(body);
    ASSERT_TRUE(question) << question.error().message;
    EXPECT_EQ(question->model, "demo");
    EXPECT_EQ(question->quantization, "int4");
    EXPECT_EQ(question->target_platform, "android_arm64");
    EXPECT_TRUE(question->npu);
    EXPECT_FALSE(question->include_tokenizer);
  }
  const auto plain =
      ParseDownload(R"({"model": "m", "quantization": "q", "target_platform": "p"})");
  ASSERT_TRUE(plain);
  EXPECT_FALSE(plain->npu);
  EXPECT_TRUE(plain->include_tokenizer);
}

TEST(PackageDepotTest, AFieldThatIsMissingOrMistypedIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"quantization": "q", "target_platform": "p"})", "model"},
      {R"({"model": 7, "quantization": "q", "target_platform": "p"})", "model"},
      {R"({"model_id": "", "quantization": "q", "target_platform": "p"})", "model_id"},
      {R"({"model": "m", "target_platform": "p"})", "quantization"},
      {R"({"model": "m", "quantization": "q"})", "target_platform"},
      {R"({"model": "m", "quantization": "q", "target_platform": []})", "target_platform"},
      {R"({"model": "m", "quantization": "q", "target_platform": "p", "npu_acceleration": "x"})",
       "npu_acceleration"},
      {R"({"model": "m", "quantization": "q", "target_platform": "p", "include_tokenizer": 1})",
       "include_tokenizer"},
  };
  for (const auto& [body, param] : cases) {
    const auto question = ParseDownload(body);
    ASSERT_FALSE(question) << body;
    EXPECT_EQ(question.error().code, FailureCode::kInvalidRequest);
    EXPECT_EQ(question.error().param, param) << body;
  }
  for (const char* body : {"", "[]", "{", "null"}) {
    EXPECT_EQ(ParseDownload(body).error().code, FailureCode::kInvalidRequest) << body;
  }
  EXPECT_EQ(ParseDownload(std::string(1 << 20, ' ')).error().code, FailureCode::kPayloadTooLarge);
}

TEST(PackageDepotTest, TheAnswerHasTheContractsFields) {
  PackageDepot::Package package{.model = "demo",
                                .quantization = "int4",
                                .manifest_path = "/v2/demo/manifests/sha256:ab",
                                .manifest_sha256 = "ab",
                                .files = {{.name = "demo.tandem",
                                           .path = "/v2/demo/blobs/sha256:cd",
                                           .size_bytes = 3 << 20,
                                           .sha256 = "cd",
                                           .media_type = "t"},
                                          {.name = "x", .path = "/x", .size_bytes = 1 << 19}},
                                .signature_hex = "00ff",
                                .key_id = "key"};
  const PackageDepot::Question question{.model = "demo", .target_platform = "android_arm64"};
  const auto body =
      boost::json::parse(DownloadBody(question, package, "http://host:7070")).as_object();
  EXPECT_EQ(body.at("status"), "ready");
  EXPECT_EQ(body.at("model_name"), "demo");
  EXPECT_EQ(body.at("quantization"), "int4");
  EXPECT_EQ(body.at("target_platform"), "android_arm64");
  EXPECT_EQ(body.at("size_mb").to_number<double>(), 3.5);
  EXPECT_EQ(body.at("manifest_digest"), "sha256:ab");
  EXPECT_EQ(body.at("signature"), "00ff");
  const auto& file = body.at("files").as_array().at(0).as_object();
  EXPECT_EQ(file.at("name"), "demo.tandem");
  EXPECT_EQ(file.at("url"), "http://host:7070/v2/demo/blobs/sha256:cd");
  EXPECT_EQ(file.at("size_bytes").to_number<uint64_t>(), uint64_t{3} << 20);
  EXPECT_EQ(file.at("sha256"), "cd");
  package.signature_hex.clear();
  const auto unsigned_body = boost::json::parse(DownloadBody(question, package, "")).as_object();
  EXPECT_TRUE(unsigned_body.at("signature").is_null());
}

TEST(PackageDepotTest, WhatIsUnknownAndWhatIsNotHereAreDifferentFailures) {
  EXPECT_EQ(DownloadFailure({ErrorCode::kNotFound, "no", "model"}).code,
            FailureCode::kModelNotFound);
  const Failure elsewhere =
      DownloadFailure({ErrorCode::kFailedPrecondition, "not as int8", "quantization"});
  EXPECT_EQ(elsewhere.code, FailureCode::kModelNotInstalled);
  EXPECT_EQ(elsewhere.param, "quantization");
  EXPECT_THAT(elsewhere.message, HasSubstr("int8"));
}

}  // namespace
}  // namespace tandem::gateway
