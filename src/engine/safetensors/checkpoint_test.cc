#include "engine/safetensors/checkpoint.h"

#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::safetensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  // A file of one tensor of one byte.
  void WriteShard(const std::string& file, const std::string& tensor, char value) {
    const std::string header =
        "{\"" + tensor + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    std::string bytes(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    Write(file, bytes + header + value);
  }
  void Write(const std::string& file, const std::string& bytes) {
    ASSERT_TRUE(os::WriteFileAtomic(dir_ / file, bytes));
  }
  Error OpenError() {
    const auto opened = Checkpoint::Open(dir_.path());
    EXPECT_FALSE(opened);
    return opened ? Error{} : opened.error();
  }

  os::TempDir dir_;
};

TEST_F(CheckpointTest, ShardsOfAnIndexAreOneSetOfTensors) {
  WriteShard("model-1.safetensors", "a", 'A');
  WriteShard("model-2.safetensors", "b", 'B');
  WriteShard("stray.safetensors", "c", 'C');
  Write("model.safetensors.index.json",
        R"({"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors"}})");
  const auto files = CheckpointFiles(dir_.path());
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_THAT(*files, ElementsAre(dir_ / "model-1.safetensors", dir_ / "model-2.safetensors"));
  auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  ASSERT_EQ(checkpoint->tensors().size(), 2u);
  const Tensor b = checkpoint->tensors().at("b");
  const auto mappings = std::move(*checkpoint).TakeMappings();
  EXPECT_EQ(mappings.size(), 2u);
  EXPECT_EQ(static_cast<char>(b.data[0]), 'B');
}

TEST_F(CheckpointTest, ASingleFileNeedsNoIndex) {
  WriteShard("model.safetensors", "a", 'A');
  const auto checkpoint = Checkpoint::Open(dir_.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->tensors().size(), 1u);
}

TEST_F(CheckpointTest, AnEmptyFolderHasNoWeights) {
  EXPECT_EQ(OpenError().code, ErrorCode::kNotFound);
  EXPECT_THAT(OpenError().message, HasSubstr("neither model.safetensors.index.json nor"));
}

TEST_F(CheckpointTest, AnIndexCannotPointOutOfItsFolder) {
  for (const char* name : {"../a.safetensors", "/etc/a.safetensors", "a.bin", ".safetensors",
                           "..safetensors", "b\\\\a.safetensors", ""}) {
    Write("model.safetensors.index.json", std::string(R"({"weight_map": {"a": ")") + name + "\"}}");
    EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt) << name;
    EXPECT_THAT(OpenError().message, HasSubstr("tensor a is not the name")) << name;
  }
}

TEST_F(CheckpointTest, WhatIsNoIndexIsRefused) {
  for (const char* text : {"", "[]", "{}", R"({"weight_map": {}})", R"({"weight_map": 3})"}) {
    Write("model.safetensors.index.json", text);
    EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt) << text;
  }
}

TEST_F(CheckpointTest, AShardThatIsMissingOrLacksItsTensorIsNamed) {
  Write("model.safetensors.index.json",
        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors"}})");
  EXPECT_EQ(OpenError().code, ErrorCode::kNotFound);
  EXPECT_THAT(OpenError().message, HasSubstr("model-1.safetensors"));
  WriteShard("model-1.safetensors", "a", 'A');
  EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt);
  EXPECT_THAT(OpenError().message, HasSubstr("tensor b is missing"));
}

TEST_F(CheckpointTest, ATensorInTwoFilesIsRefused) {
  WriteShard("model-1.safetensors", "a", 'A');
  WriteShard("model-2.safetensors", "a", 'a');
  Write("model.safetensors.index.json",
        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  EXPECT_EQ(OpenError().code, ErrorCode::kCorrupt);
  EXPECT_THAT(OpenError().message, HasSubstr("should be in another file"));
}

}  // namespace
}  // namespace tandem::safetensors
