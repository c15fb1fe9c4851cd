#include "engine/package/file.h"

#include <cstring>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/package/manifest.h"
#include "engine/package/testing/small_package.h"
#include "os/testing/temp_dir.h"

namespace tandem::package {
namespace {

using ::testing::HasSubstr;

// Parses a copy of exactly these bytes and uses what comes out.
Result<uint64_t> Try(std::span<const std::byte> bytes) {
  const AlignedBytes copy(bytes);
  TANDEM_ASSIGN_OR_RETURN(const auto file, File::Parse(copy.bytes(), "small"));
  return Exercise(*file, copy.bytes());
}

uint64_t ReadU64(std::span<const std::byte> bytes, size_t offset) {
  uint64_t value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The package with another manifest, whose digest is right: what an attacker would send.
std::vector<std::byte> WithManifest(const std::function<void(std::string*)>& change) {
  std::vector<std::byte> bytes = SmallPackage();
  const uint64_t offset = ReadU64(bytes, 24);
  std::string text(reinterpret_cast<const char*>(bytes.data()) + offset, bytes.size() - offset);
  change(&text);
  bytes.resize(offset + text.size());
  std::memcpy(bytes.data() + offset, text.data(), text.size());
  const std::string header = FormatHeader({.file_bytes = bytes.size(),
                                           .manifest_offset = offset,
                                           .manifest_bytes = text.size(),
                                           .manifest_sha256 = crypto::Sha256Of(text)});
  std::memcpy(bytes.data(), header.data(), header.size());
  return bytes;
}

std::vector<std::byte> WithReplaced(std::string_view from, std::string_view to) {
  return WithManifest([&](std::string* text) {
    const size_t at = text->find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text->replace(at, from.size(), to);
  });
}

TEST(PackageFileTest, GivesBackWhatWasWritten) {
  const AlignedBytes bytes(SmallPackage());
  const auto file = File::Parse(bytes.bytes(), "small");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ((*file)->tensors().size(), 4U);

  const Tensor* down = (*file)->Find("blk.0.down");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->layout, Layout::kStrips);
  EXPECT_EQ(down->scheme, kernels::Scheme::kInt4G128);
  EXPECT_EQ(down->n_rows, 20);
  EXPECT_EQ(down->n_cols, 130);
  EXPECT_EQ(down->source, "F16");
  EXPECT_EQ(down->relative_error, 0.01);
  EXPECT_EQ(down->n_bytes, 2U * (64 + 2 * 1024));
  EXPECT_EQ(down->bytes()[5], static_cast<std::byte>(2 + 5 * 7));

  const Tensor* embedding = (*file)->Find("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->layout, Layout::kRows);
  EXPECT_EQ(embedding->type_name(), "Q8_0");
  EXPECT_EQ(embedding->n_bytes, 10U * 2 * 34);
  EXPECT_EQ((*file)->Find("blk.0.gate"), nullptr);

  EXPECT_EQ((*file)->tokenizer().size(), 100U);
  EXPECT_EQ((*file)->model()->GetString("general.architecture").value(), "phi3");
  EXPECT_NE((*file)->model()->Find("output_norm.weight"), nullptr);
  EXPECT_TRUE((*file)->Verify({}, {}));
}

TEST(PackageFileTest, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::vector<std::byte> bytes = SmallPackage();
  ASSERT_TRUE(Try(bytes));
  for (size_t n = 0; n < bytes.size(); n += n < 4200 || n + 2000 > bytes.size() ? 1 : 97) {
    const auto result = Try(std::span(bytes).first(n));
    ASSERT_FALSE(result) << n;
    EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(result.error().message, HasSubstr("small: "));
  }
}

TEST(PackageFileTest, EveryChangeOfTheHeaderIsAnError) {
  const std::vector<std::byte> bytes = SmallPackage();
  for (size_t at = 0; at < kHeaderBytes; ++at) {
    for (const unsigned flip : {1U, 0x80U, 0xFFU}) {
      std::vector<std::byte> changed = bytes;
      changed[at] ^= static_cast<std::byte>(flip);
      const auto result = Try(changed);
      ASSERT_FALSE(result) << at;
      EXPECT_TRUE(result.error().code == ErrorCode::kCorrupt ||
                  (at >= 8 && at < 12 && result.error().code == ErrorCode::kUnsupported))
          << at;
    }
  }
}

TEST(PackageFileTest, AnOlderVersionSaysToPackAgain) {
  std::vector<std::byte> bytes = SmallPackage();
  bytes[8] = std::byte{1};
  const auto result = Try(bytes);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(result.error().message, HasSubstr("version 1, this Tandem reads 2; pack the model"));
}

TEST(PackageFileTest, EveryChangeOfTheManifestIsAnError) {
  const std::vector<std::byte> bytes = SmallPackage();
  for (size_t at = ReadU64(bytes, 24); at < bytes.size(); ++at) {
    std::vector<std::byte> changed = bytes;
    changed[at] ^= std::byte{1};
    ASSERT_FALSE(Try(changed)) << at;
  }
}

TEST(PackageFileTest, BytesBehindTheEndAreAnError) {
  std::vector<std::byte> bytes = SmallPackage();
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(Try(bytes));
}

TEST(PackageFileTest, AnHonestManifestOfTheSameFormIsRead) {
  EXPECT_TRUE(Try(WithReplaced(R"("source":"F16")", R"("source":"F16","later":[{}])")));
}

TEST(PackageFileTest, AManifestThatLiesIsAnErrorThatNamesTheField) {
  const struct {
    const char* from;
    const char* to;
    const char* message;
  } kLies[] = {
      {R"("rows":20)", R"("rows":33)", "tensor 'blk.0.down': 'bytes'"},
      {R"("rows":20)", R"("rows":0)", "tensor 'blk.0.down': 'bytes'"},
      {R"("rows":20)", R"("rows":-1)", "tensor 'blk.0.down': 'rows'"},
      {R"("rows":20)", R"("rows":18446744073709551615)", "tensor 'blk.0.down': 'rows'"},
      {R"("rows":20)", R"("rows":1e300)", "tensor 'blk.0.down': 'rows'"},
      {R"("cols":130)", R"("cols":99999999999)", "tensor 'blk.0.down': 'cols'"},
      {R"("cols":64)", R"("cols":65)", "tensor 'token_embd.weight': 'bytes'"},
      {R"("bytes":4224)", R"("bytes":4288)", "'bytes'"},
      {R"("offset":4096)", R"("offset":0)", "at offset 0"},
      {R"("offset":4096)", R"("offset":4097)", "at offset 4097"},
      {R"("offset":4096)", R"("offset":18446744073709551552)", "at offset"},
      {R"("offset":4096)", R"("offset":8192)", "tensor 'blk.0.down'"},
      {R"("bytes":100)", R"("bytes":10000)", "the tokenizer"},
      {R"("name":"blk.0.up")", R"("name":"blk.0.down")", "two tensors"},
      {R"("name":"blk.0.up")", R"("name":"")", "'name'"},
      {R"("name":"blk.0.up")", R"("name":7)", "'name'"},
      {R"("type":"int4g128")", R"("type":"int3")", "int3"},
      {R"("layout":"strips")", R"("layout":"columns")", "columns"},
      {R"("type":"fine3")", R"("type":"fine2")", "fine2"},
      {R"("type":"fine3")", R"("type":"fine4")", "tensor 'blk.0.down.fine': 'bytes'"},
      {R"("rows":21)", R"("rows":22)", "tensor 'blk.0.down.fine': 'bytes'"},
      {R"("error":)", R"("error":-)", "'error'"},
      {R"("error":)", R"("wrong":)", "'error'"},
      {R"("source":"F16")", R"("source":16)", "'source'"},
      {R"("sha256":")", R"("sha256":"0)", "'sha256'"},
      {R"("model":{)", R"("modell":{)", "'model'"},
      {R"("tensors":[)", R"("tensors":[7,)", "'tensors'"},
      {R"("tokenizer":{)", R"("tokenizer":7,"t":{)", "'tokenizer'"},
      {R"({"model")", R"([{"model")", "JSON"},
  };
  for (const auto& [from, to, message] : kLies) {
    const auto result = Try(WithReplaced(from, to));
    ASSERT_FALSE(result) << from << " -> " << to;
    EXPECT_THAT(result.error().message, HasSubstr(message)) << from << " -> " << to;
    EXPECT_TRUE(result.error().code == ErrorCode::kCorrupt ||
                result.error().code == ErrorCode::kUnsupported);
  }
}

TEST(PackageFileTest, VerifyFindsEveryChangedByteBehindTheHeader) {
  const std::vector<std::byte> bytes = SmallPackage();
  const uint64_t manifest = ReadU64(bytes, 24);
  size_t opened = 0;
  for (size_t at = kHeaderBytes; at < manifest; at += 13) {
    std::vector<std::byte> changed = bytes;
    changed[at] ^= std::byte{4};
    const AlignedBytes copy(changed);
    const auto file = File::Parse(copy.bytes(), "small");
    if (!file) continue;  // the model's keys are parsed at once
    ++opened;
    const Status status = (*file)->Verify({}, {});
    ASSERT_FALSE(status) << at;
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
  }
  EXPECT_GT(opened, 500U);
}

TEST(PackageFileTest, VerifyReportsProgressAndCanBeStopped) {
  const AlignedBytes bytes(SmallPackage());
  const auto file = File::Parse(bytes.bytes(), "small").value();
  uint64_t done = 0;
  uint64_t total = 0;
  std::stop_source stop;
  ASSERT_TRUE(file->Verify(
      [&](uint64_t d, uint64_t t) {
        EXPECT_GE(d, done);
        done = d;
        total = t;
      },
      stop.get_token()));
  EXPECT_EQ(done, bytes.bytes().size());
  EXPECT_EQ(total, done);
  stop.request_stop();
  EXPECT_EQ(file->Verify({}, stop.get_token()).error().code, ErrorCode::kCancelled);
}

TEST(PackageFileTest, UnalignedBytesAreRefused) {
  std::vector<std::byte> padded(SmallPackage().size() + 128);
  const auto* at = padded.data() + 1;
  while (reinterpret_cast<uintptr_t>(at) % 2 == 0) ++at;
  EXPECT_EQ(File::Parse({at, 128}, "odd").error().code, ErrorCode::kInvalidArgument);
}

TEST(PackageFileTest, OpenTellsPackagesFromOtherFiles) {
  const os::TempDir dir;
  const auto path = dir.path() / "small.tandem";
  ASSERT_TRUE(SmallWriter().Finish(path, {}));
  EXPECT_TRUE(IsPackage(path).value());
  const auto file = File::Open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE((*file)->Verify({}, {}));

  const auto other = dir.path() / "other";
  ASSERT_TRUE(os::WriteFileAtomic(other, "GGUF and so on"));
  EXPECT_FALSE(IsPackage(other).value());
  const auto refused = File::Open(other);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(other.string()));
  EXPECT_EQ(IsPackage(dir.path() / "none").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace tandem::package
