#include "engine/package/writer.h"

#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/package/testing/small_package.h"
#include "os/testing/temp_dir.h"

namespace tandem::package {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> NamesIn(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

std::string ReadAll(const std::filesystem::path& path) {
  return os::ReadFile(path, size_t{1} << 30).value();
}

TEST(PackageWriterTest, SameCallsGiveTheSameBytesOnDiskAndInMemory) {
  const os::TempDir dir;
  ASSERT_TRUE(SmallWriter().Finish(dir.path() / "a", {}));
  ASSERT_TRUE(SmallWriter().Finish(dir.path() / "b", {}));
  const std::string a = ReadAll(dir.path() / "a");
  EXPECT_EQ(a, ReadAll(dir.path() / "b"));
  const std::vector<std::byte> memory = SmallPackage();
  EXPECT_EQ(a, std::string(reinterpret_cast<const char*>(memory.data()), memory.size()));
}

TEST(PackageWriterTest, LargeTensorsStartBlocksAndSmallOnesSharePages) {
  Writer writer(SmallModel());
  // 3 MiB and a bit, so that the next block is at 4 MiB.
  writer.Add(RowsTensor("a", quant::Type::kF32, 3 * 256 + 1, 1024), FillWith(1), Place::kNewBlock);
  writer.Add(RowsTensor("b", quant::Type::kF32, 1, 10), FillWith(2), Place::kBehind);
  writer.Add(RowsTensor("c", quant::Type::kF32, 1, 10), FillWith(2), Place::kNewBlock);
  ASSERT_TRUE(writer.FinishInMemory());
  EXPECT_EQ(writer.tensors()[0].offset, 4096U);
  EXPECT_EQ(writer.tensors()[1].offset, 4096U + (3 << 20) + 4096);
  EXPECT_EQ(writer.tensors()[2].offset, 4U << 20);
}

TEST(PackageWriterTest, FillsAreAskedForEveryUnitOnceInOrder) {
  Writer writer(SmallModel());
  constexpr int64_t kRows = 5000;  // of 4 KiB: several batches
  int64_t next = 0;
  int calls = 0;
  writer.Add(
      RowsTensor("a", quant::Type::kF32, kRows, 1024),
      [&](int64_t first, int64_t n, std::span<std::byte> out) -> Result<QuantizationError> {
        EXPECT_EQ(first, next);
        EXPECT_EQ(out.size(), static_cast<size_t>(n) * 4096);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(out.data()) % kernels::kStripAlignment, 0U);
        next += n;
        ++calls;
        std::ranges::fill(out, std::byte{0});
        return QuantizationError{.squares = static_cast<double>(n), .source_squares = 4.0 * n};
      },
      Place::kNewBlock);
  uint64_t done = 0;
  const os::TempDir dir;
  ASSERT_TRUE(writer.Finish(dir.path() / "p", {.progress =
                                                   [&](uint64_t d, uint64_t total) {
                                                     EXPECT_GT(d, done);
                                                     EXPECT_LE(d, total);
                                                     done = d;
                                                   },
                                               .stop = {}}));
  EXPECT_EQ(next, kRows);
  EXPECT_GE(calls, 2);
  EXPECT_GE(done, static_cast<uint64_t>(kRows) * 4096);
  EXPECT_EQ(writer.tensors()[0].relative_error, 0.5);
}

TEST(PackageWriterTest, WhatFailsLeavesNoFileAndTheOldOneAsItWas) {
  const os::TempDir dir;
  const auto path = dir.path() / "p";
  ASSERT_TRUE(os::WriteFileAtomic(path, "old"));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(SmallWriter().Finish(path, {.progress = {}, .stop = stop.get_token()}).error().code,
            ErrorCode::kCancelled);

  Writer failing = SmallWriter();
  failing.Add(
      RowsTensor("bad", quant::Type::kF32, 1, 1),
      [](int64_t, int64_t, std::span<std::byte>) -> Result<QuantizationError> {
        return Err(ErrorCode::kIo, "the disk is gone");
      },
      Place::kBehind);
  const Status failed = failing.Finish(path, {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_THAT(failed.error().message, HasSubstr("bad"));

  EXPECT_EQ(ReadAll(path), "old");
  EXPECT_EQ(NamesIn(dir.path()), std::vector<std::string>{"p"});
  EXPECT_FALSE(SmallWriter().Finish(dir.path() / "no" / "such" / "folder", {}));
}

TEST(PackageWriterTest, WhatAPackageCannotHaveIsRefused) {
  const auto finish = [](Tensor tensor) {
    Writer writer = SmallWriter();
    writer.Add(std::move(tensor), FillWith(0), Place::kBehind);
    const auto result = writer.FinishInMemory();
    EXPECT_FALSE(result);
    return result ? Error{} : result.error();
  };
  EXPECT_THAT(finish(RowsTensor("blk.0.up", quant::Type::kF32, 1, 1)).message, HasSubstr("two"));
  EXPECT_EQ(finish(RowsTensor("", quant::Type::kF32, 1, 1)).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(finish(RowsTensor("\xFF", quant::Type::kF32, 1, 1)).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(finish(RowsTensor("odd", quant::Type::kQ8_0, 1, 33)).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(finish(RowsTensor("none", quant::Type::kF32, 0, 1)).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(finish(StripsTensor("wide", kernels::Scheme::kInt4G128, 1, int64_t{1} << 40)).code,
            ErrorCode::kInvalidArgument);
  const auto no_model = Writer({}).FinishInMemory();
  ASSERT_FALSE(no_model);
  EXPECT_EQ(no_model.error().code, ErrorCode::kInvalidArgument);
}

TEST(PackageWriterTest, AModelWithoutATokenizerHasNone) {
  Writer writer(SmallModel());
  const AlignedBytes bytes(writer.FinishInMemory().value());
  EXPECT_THAT(File::Parse(bytes.bytes(), "bare").value()->tokenizer(), IsEmpty());
}

}  // namespace
}  // namespace tandem::package
