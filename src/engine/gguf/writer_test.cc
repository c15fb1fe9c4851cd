#include "engine/gguf/writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gguf/file.h"
#include "engine/gguf/testing/gguf_bytes.h"
#include "os/testing/temp_dir.h"

namespace tandem::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
std::span<const std::byte> BytesOf(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<std::string> NamesIn(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

TEST(WriterTest, WritesTheBytesThatTheFormatSays) {
  const std::vector<float> norm = {1, 2, 3};
  const std::vector<uint8_t> weight(36, 7);
  Writer writer;
  writer.SetString("general.architecture", "phi3");
  writer.SetNumber<uint32_t>("phi3.block_count", 32);
  writer.SetNumber<bool>("flag", true);
  writer.SetArray<int32_t>("types", std::vector<int32_t>{1, -2});
  writer.SetStringArray("tokens", std::vector<std::string>{"a", "bc"});
  writer.AddTensor("norm", quant::Type::kF32, {{3}}, BytesOf(norm));
  writer.AddTensor("weight", quant::Type::kQ4_0, {{32, 2}}, BytesOf(weight));

  GgufBytes expected;
  expected.Header(2, 5);
  expected.Key("general.architecture", ValueType::kString).String("phi3");
  expected.Key("phi3.block_count", ValueType::kUint32).U32(32);
  expected.Key("flag", ValueType::kBool).Number<uint8_t>(1);
  expected.Key("types", ValueType::kArray).Array(ValueType::kInt32, 2);
  expected.Number<int32_t>(1).Number<int32_t>(-2);
  expected.Key("tokens", ValueType::kArray).Array(ValueType::kString, 2).String("a").String("bc");
  expected.Tensor("norm", {3}, 0, 0).Tensor("weight", {32, 2}, 2, 32).PadTo(32);
  expected.Number(1.0F).Number(2.0F).Number(3.0F).PadTo(32);
  for (int i = 0; i < 36; ++i) expected.Number<uint8_t>(7);
  expected.PadTo(32);
  const auto actual = writer.FinishInMemory();
  ASSERT_TRUE(actual.has_value()) << actual.error().message;
  EXPECT_EQ(*actual, expected.bytes());
}

TEST(WriterTest, EveryNumberTypeComesBackAsItself) {
  Writer writer;
  writer.SetNumber<uint8_t>("uint8", 200);
  writer.SetNumber<int8_t>("int8", -100);
  writer.SetNumber<uint16_t>("uint16", 65000);
  writer.SetNumber<int16_t>("int16", -30000);
  writer.SetNumber<uint32_t>("uint32", 4000000000);
  writer.SetNumber<int32_t>("int32", -2000000000);
  writer.SetNumber<uint64_t>("uint64", UINT64_MAX);
  writer.SetNumber<int64_t>("int64", INT64_MIN);
  writer.SetNumber<float>("float32", 0.1F);
  writer.SetNumber<double>("float64", 0.1);
  writer.SetNumber<bool>("bool", true);
  const auto bytes = writer.FinishInMemory();
  const auto file = File::Parse(bytes.value(), "numbers");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  std::string texts;
  for (const KeyValue& entry : (*file)->metadata()) {
    EXPECT_EQ(ValueTypeName(entry.type), entry.key);
    texts += entry.Text() + " ";
  }
  EXPECT_EQ(texts,
            "200 -100 65000 -30000 4000000000 -2000000000 18446744073709551615 "
            "-9223372036854775808 0.1 0.1 true ");
}

TEST(WriterTest, SettingAKeyAgainReplacesItInPlace) {
  Writer writer;
  writer.SetNumber<uint32_t>("a", 1);
  writer.SetNumber<uint32_t>("b", 2);
  writer.SetString("a", "one");
  const auto bytes = writer.FinishInMemory();
  const auto file = File::Parse(bytes.value(), "test");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ((*file)->metadata().size(), 2U);
  EXPECT_EQ((*file)->metadata()[0].key, "a");
  EXPECT_EQ((*file)->GetString("a").value(), "one");
}

TEST(WriterTest, ObeysTheAlignmentThatIsSet) {
  const std::vector<float> one = {1};
  Writer writer;
  writer.SetNumber<uint32_t>("general.alignment", 128);
  writer.AddTensor("a", quant::Type::kF32, {{1}}, BytesOf(one));
  writer.AddTensor("b", quant::Type::kF32, {{1}}, BytesOf(one));
  const auto bytes = writer.FinishInMemory();
  const auto file = File::Parse(bytes.value(), "test");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->alignment(), 128U);
  EXPECT_EQ(((*file)->Find("a")->data - bytes->data()) % 128, 0);
  EXPECT_EQ((*file)->Find("b")->data - (*file)->Find("a")->data, 128);
}

TEST(WriterTest, SourcesAreCalledInOrderAndMayWriteInPieces) {
  const os::TempDir dir;
  std::vector<int> calls;
  Writer writer;
  for (int t = 0; t < 2; ++t) {
    // 3 MiB in pieces of 999 floats: more than the writer's buffer, and never a whole page.
    writer.AddTensor(t == 0 ? "a" : "b", quant::Type::kF32, {{786432}},
                     [t, &calls](const Writer::Sink& sink) -> Status {
                       calls.push_back(t);
                       for (int first = 0; first < 786432; first += 999) {
                         std::vector<float> piece;
                         for (int i = first; i < std::min(first + 999, 786432); ++i) {
                           piece.push_back(static_cast<float>(i + t));
                         }
                         TANDEM_RETURN_IF_ERROR(sink(BytesOf(piece)));
                       }
                       return {};
                     });
  }
  EXPECT_TRUE(calls.empty());
  const Status status = writer.Finish(dir / "streamed.gguf");
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_THAT(calls, ElementsAre(0, 1));
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("streamed.gguf"));
  const auto file = File::Open(dir / "streamed.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const auto* values = reinterpret_cast<const float*>((*file)->Find("b")->data);
  for (int i = 0; i < 786432; ++i) ASSERT_EQ(values[i], static_cast<float>(i + 1));
}

TEST(WriterTest, AFailureLeavesTheOldFileAndNothingElse) {
  const os::TempDir dir;
  std::ofstream(dir / "model.gguf") << "old";
  const std::vector<float> two = {1, 2};
  const auto finish = [&](Writer::Source source) {
    Writer writer;
    writer.AddTensor("a", quant::Type::kF32, {{3}}, std::move(source));
    const Status status = writer.Finish(dir / "model.gguf");
    EXPECT_FALSE(status.has_value());
    EXPECT_THAT(NamesIn(dir.path()), ElementsAre("model.gguf"));
    std::ifstream in(dir / "model.gguf");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "old");
    return status.error();
  };
  const Error short_one = finish([&](const Writer::Sink& sink) { return sink(BytesOf(two)); });
  EXPECT_EQ(short_one.message, "tensor 'a' has 12 bytes, but was given 8");
  const Error long_one = finish([&](const Writer::Sink& sink) -> Status {
    TANDEM_RETURN_IF_ERROR(sink(BytesOf(two)));
    return sink(BytesOf(two));
  });
  EXPECT_EQ(long_one.message, "tensor 'a' has 12 bytes, but was given more");
  const Error own = finish(
      [](const Writer::Sink&) -> Status { return Err(ErrorCode::kUnavailable, "no weights"); });
  EXPECT_EQ(own.code, ErrorCode::kUnavailable);

  Writer writer;
  EXPECT_EQ(writer.Finish(dir / "none" / "model.gguf").error().code, ErrorCode::kNotFound);
}

TEST(WriterTest, WhatTheFormatForbidsIsNotWritten) {
  const auto message = [](auto fill) {
    Writer writer;
    fill(writer);
    const auto result = writer.FinishInMemory();
    EXPECT_FALSE(result.has_value());
    if (result) return std::string();
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    return result.error().message;
  };
  const std::vector<float> data(64);
  const auto tensor = [&](std::string_view name, quant::Type type, std::vector<int64_t> dims) {
    return message([&](Writer& w) { w.AddTensor(name, type, dims, BytesOf(data)); });
  };
  EXPECT_THAT(message([](Writer& w) { w.SetString("", "x"); }), HasSubstr("metadata key"));
  EXPECT_THAT(message([](Writer& w) { w.SetString("\xFF", "x"); }), HasSubstr("metadata key"));
  EXPECT_THAT(tensor(std::string(64, 'n'), quant::Type::kF32, {64}), HasSubstr("1 to 63 bytes"));
  EXPECT_THAT(tensor("a", quant::Type::kQ4_0, {31}), HasSubstr("a multiple of 32"));
  EXPECT_THAT(tensor("a", quant::Type::kQ4_0, {}), HasSubstr("a multiple of 32"));
  EXPECT_THAT(tensor("a", quant::Type::kF32, {1, 1, 1, 1, 64}), HasSubstr("up to 4"));
  EXPECT_THAT(tensor("a", quant::Type::kF32, {64, 0}), HasSubstr("positive"));
  EXPECT_THAT(tensor("a", quant::Type::kF32, {int64_t{1} << 40, int64_t{1} << 40}),
              HasSubstr("cannot be F32"));
  EXPECT_THAT(message([&](Writer& w) {
                w.AddTensor("a", quant::Type::kF32, {{64}}, BytesOf(data));
                w.AddTensor("a", quant::Type::kF32, {{64}}, BytesOf(data));
              }),
              HasSubstr("two tensors are named 'a'"));
  for (const uint32_t alignment : {0U, 2U, 48U}) {
    EXPECT_THAT(message([&](Writer& w) { w.SetNumber<uint32_t>("general.alignment", alignment); }),
                HasSubstr("power of two"));
  }
  EXPECT_THAT(message([](Writer& w) { w.SetString("general.alignment", "32"); }),
              HasSubstr("power of two"));
}

// Files that llama.cpp wrote: copying every key and tensor gives the same file, byte for byte.
TEST(WriterTest, RewritingGoldenFilesGivesTheSameBytes) {
  const std::filesystem::path golden = TANDEM_SOURCE_DIR "/../shared/golden";
  if (!std::filesystem::is_directory(golden)) GTEST_SKIP() << "no golden files beside the source";
  int n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden)) {
    if (entry.path().extension() != ".gguf") continue;
    ++n_files;
    const auto file = File::Open(entry.path());
    ASSERT_TRUE(file.has_value()) << file.error().message;
    Writer writer;
    for (const KeyValue& key_value : (*file)->metadata()) writer.Copy(key_value);
    for (const Tensor& tensor : (*file)->tensors()) {
      writer.AddTensor(tensor.name, tensor.type,
                       std::span(tensor.dims).first(static_cast<size_t>(tensor.n_dims)),
                       tensor.bytes());
    }
    const auto rewritten = writer.FinishInMemory();
    ASSERT_TRUE(rewritten.has_value()) << rewritten.error().message;
    EXPECT_TRUE(std::ranges::equal(*rewritten, (*file)->mappings().front().bytes()))
        << entry.path();
  }
  EXPECT_GT(n_files, 0);
}

}  // namespace
}  // namespace tandem::gguf
