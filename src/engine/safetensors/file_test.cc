#include "engine/safetensors/file.h"

#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::safetensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A file of this header and as many bytes of data.
std::string Bytes(std::string header, size_t n_data) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (size_t i = 0; i < n_data; ++i) bytes += static_cast<char>(i);
  return bytes;
}

Result<File> ParseText(const std::string& bytes) {
  return File::Parse(std::as_bytes(std::span(bytes)), "x.safetensors");
}

Error ErrorOf(const std::string& bytes) {
  const auto file = ParseText(bytes);
  EXPECT_FALSE(file.has_value());
  return file ? Error{} : file.error();
}

TEST(SafetensorsFileTest, WorkedExampleOfTheFormatIsRead) {
  const std::string bytes =
      Bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  )", 0) +
      std::string("\x00\x00\x80\x3f\x00\x00\x20\xc0", 8);
  ASSERT_EQ(bytes.size(), 72u);
  const auto file = ParseText(bytes);
  ASSERT_TRUE(file) << file.error().message;
  const Tensor* tensor = file->Find("a");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->type, quant::Type::kF32);
  EXPECT_THAT(tensor->shape, ElementsAre(2));
  float values[2];
  std::memcpy(values, tensor->data, 8);
  EXPECT_EQ(values[0], 1.0F);
  EXPECT_EQ(values[1], -2.5F);
  EXPECT_EQ(file->Find("b"), nullptr);
}

TEST(SafetensorsFileTest, TensorsStandInTheOrderOfTheirDataAndMetadataIsNone) {
  const std::string bytes = Bytes(R"({"__metadata__":{"format":"pt"},
               "z":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
               "scalar":{"dtype":"F16","shape":[],"data_offsets":[0,2]},
               "none":{"dtype":"F64","shape":[0,5],"data_offsets":[4,4]},
               "odd":{"dtype":"I16","shape":[1],"data_offsets":[2,4]}})",
                                  16);
  const auto file = ParseText(bytes);
  ASSERT_TRUE(file) << file.error().message;
  std::vector<std::string> names;
  for (const Tensor& tensor : file->tensors()) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("scalar", "odd", "none", "z"));
  EXPECT_EQ(file->Find("odd")->type, std::nullopt);
  EXPECT_EQ(file->Find("z")->ShapeText(), "[2, 3]");
  EXPECT_EQ(static_cast<int>(file->Find("z")->data[0]), 4);
  EXPECT_EQ(file->n_bytes(), bytes.size());
}

TEST(SafetensorsFileTest, BrokenFilesAreRefusedAndTheMessageSaysWhat) {
  const auto one = [](const std::string& entry, size_t n_data) {
    return Bytes("{\"w\":" + entry + "}", n_data);
  };
  std::string huge_header = Bytes("{}", 0);
  huge_header[7] = '\x7f';
  const struct {
    std::string bytes;
    const char* message;
  } cases[] = {
      {"short", "too few"},
      {huge_header, "a header of"},
      {Bytes("{}", 0).substr(0, 9), "a header of"},
      {Bytes(" {}", 0), "does not start with"},
      {Bytes("{\"w\":", 0), "not a JSON object"},
      {Bytes("[]", 0), "does not start with"},
      {one("7", 0), "no JSON object"},
      {one(R"({"shape":[],"data_offsets":[0,4]})", 4), "'dtype' is missing"},
      {one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4),
       "something else than counts"},
      {one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", 4),
       "something else than counts"},
      {one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})", 4), "at most 8"},
      {one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})", 4),
       "more elements than a file can hold"},
      {one(R"({"dtype":"F32","shape":[1]})", 4), "'data_offsets' is not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4,8]})", 4), "not a pair"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4), "4 to 0"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 4), "is the file whole?"},
      {one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), "takes 8 bytes"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})", 5), "1 bytes behind the last"},
      {one(R"({"dtype":"F32","shape":[1],"data_offsets":[1,5]})", 5), "starts at byte 1"},
      {Bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
             6),
       "starts at byte 2"},
      // The first of the two is lost, which leaves its bytes to nobody.
      {Bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                "a":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
             6),
       "starts at byte 4"},
      {Bytes(
           "{\"" + std::string(300, 'n') + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
           0),
       "its name has 300 bytes"},
  };
  for (const auto& test : cases) {
    const Error error = ErrorOf(test.bytes);
    EXPECT_EQ(error.code, ErrorCode::kCorrupt) << test.message;
    EXPECT_THAT(error.message, HasSubstr(test.message));
    EXPECT_THAT(error.message, HasSubstr("x.safetensors"));
  }
}

TEST(SafetensorsFileTest, UnknownDtypeIsUnsupported) {
  const Error error = ErrorOf(Bytes(R"({"w":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1));
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("tensor w has the unknown dtype 'F4'"));
}

TEST(SafetensorsFileTest, EveryTruncationOfAFileIsRefused) {
  const std::string bytes =
      Bytes(R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}})", 8);
  ASSERT_TRUE(ParseText(bytes));
  for (size_t n = 0; n < bytes.size(); ++n) {
    const auto file = ParseText(bytes.substr(0, n));
    EXPECT_FALSE(file) << n;
  }
}

TEST(SafetensorsFileTest, TensorsStayWhenTheFileIsMovedAndItsMappingTaken) {
  const os::TempDir dir;
  const std::string bytes = Bytes(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3);
  ASSERT_TRUE(os::WriteFileAtomic(dir / "a.safetensors", bytes));
  auto file = File::Open(dir / "a.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  const Tensor tensor = *file->Find("a");
  const auto mapping = std::move(*file).TakeMapping();
  ASSERT_TRUE(mapping);
  EXPECT_EQ(static_cast<int>(tensor.data[2]), 2);
}

}  // namespace
}  // namespace tandem::safetensors
