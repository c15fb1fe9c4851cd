#include "engine/gguf/file.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gguf/testing/gguf_bytes.h"
#include "engine/gguf/writer.h"
#include "os/testing/temp_dir.h"

namespace tandem::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const File> MustParse(const GgufBytes& file) {
  auto parsed = File::Parse(file.bytes(), "test.gguf");
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return parsed.value_or(nullptr);
}

// Every scalar type once, each at an odd offset.
GgufBytes AllScalars() {
  GgufBytes file;
  file.Header(0, 12);
  file.Key("u8", ValueType::kUint8).Number<uint8_t>(200);
  file.Key("i8", ValueType::kInt8).Number<int8_t>(-100);
  file.Key("u16", ValueType::kUint16).Number<uint16_t>(65000);
  file.Key("i16", ValueType::kInt16).Number<int16_t>(-30000);
  file.Key("u32", ValueType::kUint32).Number<uint32_t>(4000000000);
  file.Key("i32", ValueType::kInt32).Number<int32_t>(-2000000000);
  file.Key("f32", ValueType::kFloat32).Number<float>(1e-5F);
  file.Key("bool", ValueType::kBool).Number<uint8_t>(1);
  file.Key("string", ValueType::kString).String("caf\xC3\xA9");
  file.Key("u64", ValueType::kUint64).Number<uint64_t>(UINT64_MAX);
  file.Key("i64", ValueType::kInt64).Number<int64_t>(INT64_MIN);
  file.Key("f64", ValueType::kFloat64).Number<double>(0.1);
  return file;
}

TEST(FileTest, EveryScalarTypeIsReadAsItStands) {
  const GgufBytes bytes = AllScalars();
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->metadata().size(), 12U);
  EXPECT_EQ(file->metadata()[3].key, "i16");
  EXPECT_EQ(file->GetUint("u8").value(), 200U);
  EXPECT_EQ(file->GetInt("i8").value(), -100);
  EXPECT_EQ(file->GetUint("u16").value(), 65000U);
  EXPECT_EQ(file->GetInt("i16").value(), -30000);
  EXPECT_EQ(file->GetUint("u32").value(), 4000000000U);
  EXPECT_EQ(file->GetInt("i32").value(), -2000000000);
  EXPECT_EQ(file->GetFloat("f32").value(), 1e-5F);
  EXPECT_TRUE(file->GetBool("bool").value());
  EXPECT_EQ(file->GetString("string").value(), "caf\xC3\xA9");
  EXPECT_EQ(file->GetUint("u64").value(), UINT64_MAX);
  EXPECT_EQ(file->GetInt("i64").value(), INT64_MIN);
  EXPECT_EQ(file->GetFloat("f64").value(), 0.1);
}

TEST(FileTest, AnyIntegerWidthServesWhereTheNumberFits) {
  const GgufBytes bytes = AllScalars();
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->GetInt("u8").value(), 200);
  EXPECT_EQ(file->GetFloat("u16").value(), 65000.0);
  EXPECT_EQ(file->GetFloat("i32").value(), -2000000000.0);
  EXPECT_EQ(file->GetUint("u16", 65000).value(), 65000U);

  const Error negative = file->GetUint("i8").error();
  EXPECT_EQ(negative.code, ErrorCode::kCorrupt);
  EXPECT_EQ(negative.param, "i8");
  EXPECT_THAT(negative.message, HasSubstr("-100"));
  EXPECT_THAT(file->GetUint("u16", 64999).error().message, HasSubstr("0 to 64999"));
  EXPECT_FALSE(file->GetInt("u64").has_value());
  EXPECT_FALSE(file->GetBool("u8").has_value());  // 200 is no bool
}

TEST(FileTest, ErrorsNameFileOffsetKeyAndBothTypes) {
  GgufBytes bytes;
  bytes.Header(0, 1).Key("phi3.block_count", ValueType::kString).String("many");
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  const Error error = file->GetUint("phi3.block_count").error();
  EXPECT_EQ(error.message,
            "test.gguf: byte 52: the value of 'phi3.block_count' is of type string, expected an "
            "integer");
  EXPECT_EQ(error.param, "phi3.block_count");
  EXPECT_FALSE(file->GetFloat("phi3.block_count").has_value());
  EXPECT_FALSE(file->GetBool("phi3.block_count").has_value());
  EXPECT_FALSE(file->GetIntArray("phi3.block_count").has_value());
  EXPECT_FALSE(file->GetStringArray("phi3.block_count").has_value());
  // A value of the wrong type is an error even where it may be missing.
  EXPECT_FALSE(file->FindUint("phi3.block_count").has_value());

  const Error missing = file->GetUint("phi3.vocab_size").error();
  EXPECT_EQ(missing.code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.message, "test.gguf: the key 'phi3.vocab_size' is missing");
  EXPECT_EQ(file->FindUint("phi3.vocab_size").value(), std::nullopt);
  EXPECT_EQ(file->FindString("phi3.block_count").value(), "many");
}

TEST(FileTest, NonFiniteNumbersAndBrokenTextAreErrorsWhenAskedFor) {
  GgufBytes bytes;
  bytes.Header(0, 2);
  bytes.Key("nan", ValueType::kFloat32).Number(std::numeric_limits<float>::quiet_NaN());
  bytes.Key("text", ValueType::kString).String("\xFF");
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->GetFloat("nan").error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(file->GetString("text").error().message, HasSubstr("not UTF-8"));
}

TEST(FileTest, ArraysAreViewsOfAnyElementWidth) {
  GgufBytes bytes;
  bytes.Header(0, 6);
  bytes.Key("odd", ValueType::kUint8).Number<uint8_t>(0);
  bytes.Key("strings", ValueType::kArray).Array(ValueType::kString, 3);
  bytes.String("a").String("").String("\xFF\0z");
  bytes.Key("i32", ValueType::kArray).Array(ValueType::kInt32, 3);
  bytes.Number<int32_t>(1).Number<int32_t>(-2).Number<int32_t>(3);
  bytes.Key("u64", ValueType::kArray).Array(ValueType::kUint64, 2).U64(5).U64(uint64_t{1} << 63);
  bytes.Key("f32", ValueType::kArray).Array(ValueType::kFloat32, 2).Number(0.5F).Number(-2.0F);
  bytes.Key("none", ValueType::kArray).Array(ValueType::kFloat64, 0);
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);

  EXPECT_THAT(file->GetStringArray("strings").value(), ElementsAre("a", "", "\xFF"));
  const IntArray ints = file->GetIntArray("i32").value();
  ASSERT_EQ(ints.size(), 3U);
  EXPECT_EQ(ints[0], 1);
  EXPECT_EQ(ints[1], -2);
  EXPECT_EQ(ints[2], 3);
  const FloatArray floats = file->GetFloatArray("f32").value();
  ASSERT_EQ(floats.size(), 2U);
  EXPECT_EQ(floats[0], 0.5);
  EXPECT_EQ(floats[1], -2.0);
  EXPECT_EQ(file->GetFloatArray("none").value().size(), 0U);
  EXPECT_THAT(file->GetIntArray("u64").error().message, HasSubstr("element 1 of 'u64'"));
  EXPECT_FALSE(file->GetIntArray("f32").has_value());
  EXPECT_FALSE(file->GetFloatArray("i32").has_value());
}

TEST(FileTest, TextShowsValuesForPeople) {
  GgufBytes bytes;
  bytes.Header(0, 4);
  bytes.Key("number", ValueType::kInt16).Number<int16_t>(-7);
  bytes.Key("flag", ValueType::kBool).Number<uint8_t>(0);
  bytes.Key("text", ValueType::kString).String("two\nlines, and a long tail");
  bytes.Key("list", ValueType::kArray)
      .Array(ValueType::kString, 3)
      .String("a")
      .String("b")
      .String("c");
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->FindKey("number")->Text(), "-7");
  EXPECT_EQ(file->FindKey("flag")->Text(), "false");
  EXPECT_EQ(file->FindKey("text")->Text(1), "\"two lines, and a...\" (26 bytes)");
  EXPECT_EQ(file->FindKey("list")->Text(2), "[\"a\", \"b\", ... 3 in all]");
  EXPECT_EQ(file->FindKey("list")->Text(3), "[\"a\", \"b\", \"c\"]");
  EXPECT_EQ(file->FindKey("other"), nullptr);
}

// Two tensors, the first of which needs padding: 3 floats are 12 bytes, the second starts at 32.
GgufBytes TwoTensors(uint32_t version = 3) {
  GgufBytes bytes;
  bytes.Header(2, 0, version);
  bytes.Tensor("norm", {3}, 0, 0).Tensor("weight", {32, 2}, 2, 32).PadTo(32);
  bytes.Number(1.0F).Number(2.0F).Number(3.0F).PadTo(32);
  for (int i = 0; i < 36; ++i) bytes.Number(static_cast<uint8_t>(i));
  return bytes;
}

TEST(FileTest, TensorsPointAtTheirBytes) {
  for (const uint32_t version : {2U, 3U}) {
    const GgufBytes bytes = TwoTensors(version);
    const auto file = MustParse(bytes);
    ASSERT_NE(file, nullptr);
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(file->alignment(), 32U);
    ASSERT_EQ(file->tensors().size(), 2U);

    const Tensor* norm = file->Find("norm");
    ASSERT_NE(norm, nullptr);
    EXPECT_EQ(norm->type, quant::Type::kF32);
    EXPECT_EQ(norm->n_dims, 1);
    EXPECT_THAT(norm->dims, ElementsAre(3, 1, 1, 1));
    ASSERT_EQ(norm->n_bytes, 12U);
    std::array<float, 3> values;
    std::memcpy(values.data(), norm->data, 12);
    EXPECT_THAT(values, ElementsAre(1.0F, 2.0F, 3.0F));

    const Tensor* weight = file->Find("weight");
    ASSERT_NE(weight, nullptr);
    EXPECT_EQ(weight->type, quant::Type::kQ4_0);
    EXPECT_THAT(weight->dims, ElementsAre(32, 2, 1, 1));
    EXPECT_EQ(weight->n_elements(), 64);
    EXPECT_EQ(weight->n_rows(), 2);
    ASSERT_EQ(weight->n_bytes, 36U);
    EXPECT_EQ(weight->bytes().back(), std::byte{35});
    EXPECT_EQ(file->Find("bias"), nullptr);
  }
}

TEST(FileTest, AScalarTensorHasOneElement) {
  GgufBytes bytes;
  bytes.Header(1, 0).Tensor("scale", {}, 0, 0).PadTo(32).Number(4.0F);
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->Find("scale")->n_dims, 0);
  EXPECT_EQ(file->Find("scale")->n_bytes, 4U);
}

TEST(FileTest, AlignmentComesFromTheFileInAnyIntegerWidth) {
  GgufBytes bytes;
  bytes.Header(2, 1).Key("general.alignment", ValueType::kUint64).U64(64);
  bytes.Tensor("a", {1}, 0, 0).Tensor("b", {1}, 0, 64).PadTo(64);
  bytes.Number(1.0F).PadTo(64).Number(2.0F);
  const auto file = MustParse(bytes);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->alignment(), 64U);
  EXPECT_EQ(file->Find("b")->data - file->Find("a")->data, 64);
}

// ---- files on disk, and split ones ----

void WriteBytes(const std::filesystem::path& path, const GgufBytes& file) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(file.bytes().data()),
            static_cast<std::streamsize>(file.size()));
  ASSERT_TRUE(out.good());
}

GgufBytes Part(uint16_t number, uint16_t count, int32_t n_tensors, std::string_view tensor,
               float value) {
  GgufBytes bytes;
  bytes.Header(1, 4);
  bytes.Key("general.name", ValueType::kString).String(number == 0 ? "first" : "other");
  bytes.Key("split.no", ValueType::kUint16).Number(number);
  bytes.Key("split.count", ValueType::kUint16).Number(count);
  bytes.Key("split.tensors.count", ValueType::kInt32).Number(n_tensors);
  bytes.Tensor(tensor, {1}, 0, 0).PadTo(32).Number(value);
  return bytes;
}

TEST(FileTest, OpenMapsAFileAndSaysWhichOneIsMissing) {
  const os::TempDir dir;
  WriteBytes(dir / "two.gguf", TwoTensors());
  const auto file = File::Open(dir / "two.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->Find("weight")->bytes()[1], std::byte{1});
  EXPECT_EQ((*file)->n_bytes(), TwoTensors().size());
  EXPECT_EQ((*file)->mappings().size(), 1U);

  const auto missing = File::Open(dir / "three.gguf");
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("three.gguf"));
}

TEST(FileTest, ASplitModelIsOneFileOfAllTensors) {
  const os::TempDir dir;
  WriteBytes(dir / "m-00001-of-00003.gguf", Part(0, 3, 3, "a", 1));
  WriteBytes(dir / "m-00002-of-00003.gguf", Part(1, 3, 3, "b", 2));
  WriteBytes(dir / "m-00003-of-00003.gguf", Part(2, 3, 3, "c", 3));
  const auto file = File::Open(dir / "m-00001-of-00003.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->GetString("general.name").value(), "first");
  EXPECT_EQ((*file)->tensors().size(), 3U);
  EXPECT_EQ((*file)->n_bytes(), 3 * Part(0, 3, 3, "a", 1).size());
  for (const auto& [name, value] : {std::pair("a", 1.0F), {"b", 2.0F}, {"c", 3.0F}}) {
    float actual;
    std::memcpy(&actual, (*file)->Find(name)->data, sizeof(actual));
    EXPECT_EQ(actual, value);
  }
  // The other parts send the caller to the first.
  const auto second = File::Open(dir / "m-00002-of-00003.gguf");
  EXPECT_EQ(second.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(second.error().message, HasSubstr("m-00001-of-00003.gguf"));
}

TEST(FileTest, ASplitModelMustBeWhole) {
  const os::TempDir dir;
  WriteBytes(dir / "m-00001-of-00002.gguf", Part(0, 2, 2, "a", 1));
  const auto lone = File::Open(dir / "m-00001-of-00002.gguf");
  EXPECT_EQ(lone.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(lone.error().message, HasSubstr("m-00002-of-00002.gguf"));

  WriteBytes(dir / "m-00002-of-00002.gguf", Part(0, 2, 2, "b", 2));  // says that it is the first
  EXPECT_THAT(File::Open(dir / "m-00001-of-00002.gguf").error().message,
              HasSubstr("its name says 2 of 2"));
  WriteBytes(dir / "m-00002-of-00002.gguf", Part(1, 3, 2, "b", 2));  // of another split
  EXPECT_EQ(File::Open(dir / "m-00001-of-00002.gguf").error().code, ErrorCode::kCorrupt);
  WriteBytes(dir / "m-00002-of-00002.gguf", Part(1, 2, 2, "a", 2));  // a tensor twice
  EXPECT_THAT(File::Open(dir / "m-00001-of-00002.gguf").error().message,
              HasSubstr("two tensors of the name 'a'"));
  WriteBytes(dir / "m-00002-of-00002.gguf", Part(1, 2, 2, "b", 2));
  EXPECT_TRUE(File::Open(dir / "m-00001-of-00002.gguf").has_value());

  WriteBytes(dir / "m-00001-of-00002.gguf", Part(0, 2, 3, "a", 1));  // one tensor too few
  EXPECT_THAT(File::Open(dir / "m-00001-of-00002.gguf").error().message,
              HasSubstr("'split.tensors.count' is 3, but 2 tensors are there"));
  WriteBytes(dir / "renamed.gguf", Part(0, 2, 2, "a", 1));
  EXPECT_THAT(File::Open(dir / "renamed.gguf").error().message,
              HasSubstr("must end in '-00001-of-00002.gguf'"));
  WriteBytes(dir / "m-00001-of-00002.gguf", Part(2, 2, 2, "a", 1));  // part 3 of 2
  EXPECT_EQ(File::Open(dir / "m-00001-of-00002.gguf").error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tandem::gguf
