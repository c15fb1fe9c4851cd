// Files that are damaged, truncated or hostile: a clear error, never a crash, a hang or a large
// allocation.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gguf/file.h"
#include "engine/gguf/testing/exercise.h"
#include "engine/gguf/testing/gguf_bytes.h"

namespace {
std::atomic<size_t> largest_allocation{0};
}  // namespace

// The largest single allocation since the test last reset it. The array and sized forms end here.
// The thread sanitizer links its own operators, which cannot be replaced; there nothing is counted.
#if !__has_feature(thread_sanitizer)
void* operator new(size_t size) {
  size_t seen = largest_allocation.load();
  while (size > seen && !largest_allocation.compare_exchange_weak(seen, size)) {
  }
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

namespace tandem::gguf {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A file of under 2 KB may cost this much in one piece: entries are larger in memory than on disk.
constexpr size_t kMaxAllocation = size_t{1} << 16;

// A bit of everything: scalars, text, arrays, an alignment, tensors of three types.
GgufBytes SmallFile() {
  GgufBytes bytes;
  bytes.Header(3, 9);
  bytes.Key("general.architecture", ValueType::kString).String("phi3");
  bytes.Key("general.alignment", ValueType::kUint32).U32(32);
  bytes.Key("phi3.block_count", ValueType::kUint32).U32(2);
  bytes.Key("phi3.eps", ValueType::kFloat32).Number(1e-5F);
  bytes.Key("tokenizer.add_bos", ValueType::kBool).Number<uint8_t>(0);
  bytes.Key("tokenizer.tokens", ValueType::kArray).Array(ValueType::kString, 3);
  bytes.String("a").String("\xC4\xA0the").String("<|end|>");
  bytes.Key("tokenizer.types", ValueType::kArray).Array(ValueType::kInt32, 3).U32(1).U32(1).U32(3);
  bytes.Key("wide", ValueType::kUint64).U64(uint64_t{1} << 40);
  bytes.Key("flags", ValueType::kArray).Array(ValueType::kBool, 3).Raw(std::string("\1\0\1", 3));
  bytes.Tensor("norm", {3}, 0, 0).Tensor("weight", {32, 2}, 2, 32).Tensor("big", {256}, 14, 96);
  bytes.PadTo(32).Number(1.0F).Number(2.0F).Number(3.0F).PadTo(32);
  bytes.Zeros(36).PadTo(32).Zeros(210);
  return bytes;
}

size_t DataStart() { return (SmallFile().size() - 210) / 32 * 32 - 96; }

struct Outcome {
  bool opened = false;
  Error error;
  size_t largest = 0;  // allocation, in bytes
};

// Parses a copy of exactly the right size, so that asan sees a read past its end, and uses what
// comes out.
Outcome Try(std::span<const std::byte> bytes) {
  const std::vector<std::byte> copy(bytes.begin(), bytes.end());
  Outcome outcome;
  largest_allocation = 0;
  const auto file = File::Parse(copy, "bad.gguf");
  outcome.opened = file.has_value();
  if (file) {
    Exercise(**file, copy);
  } else {
    outcome.error = file.error();
  }
  outcome.largest = largest_allocation;
  return outcome;
}

TEST(MalformedTest, TheSmallFileItselfIsWellFormed) {
  const GgufBytes bytes = SmallFile();
  const Outcome outcome = Try(bytes.bytes());
  EXPECT_TRUE(outcome.opened) << outcome.error.message;
  EXPECT_EQ(File::Parse(bytes.bytes(), "x").value()->Find("norm")->data,
            bytes.bytes().data() + DataStart());
}

TEST(MalformedTest, TruncationAtAnyByteIsAnErrorThatNamesTheOffset) {
  const GgufBytes bytes = SmallFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const Outcome outcome = Try(std::span(bytes.bytes()).first(size));
    ASSERT_FALSE(outcome.opened) << "cut to " << size;
    EXPECT_EQ(outcome.error.code, ErrorCode::kCorrupt) << outcome.error.message;
    EXPECT_THAT(outcome.error.message, StartsWith("bad.gguf: byte ")) << "cut to " << size;
    EXPECT_LT(outcome.largest, kMaxAllocation) << "cut to " << size;
  }
}

TEST(MalformedTest, AnyChangedHeaderByteIsAnErrorOrAFileThatIsSafeToUse) {
  const std::vector<std::byte> good = SmallFile().bytes();
  int refused = 0;
  int accepted = 0;
  for (size_t at = 0; at < DataStart(); ++at) {
    std::vector<uint8_t> values = {0, 1, 0x7F, 0x80, 0xFF};
    for (int bit = 0; bit < 8; ++bit) {
      values.push_back(static_cast<uint8_t>(static_cast<uint8_t>(good[at]) ^ (1 << bit)));
    }
    for (const uint8_t value : values) {
      std::vector<std::byte> bytes = good;
      bytes[at] = static_cast<std::byte>(value);
      const Outcome outcome = Try(bytes);
      ASSERT_LT(outcome.largest, kMaxAllocation) << "byte " << at << " = " << int{value};
      if (outcome.opened) {
        ++accepted;
      } else {
        ++refused;
        ASSERT_THAT(outcome.error.message, StartsWith("bad.gguf: ")) << "byte " << at;
        ASSERT_TRUE(outcome.error.code == ErrorCode::kCorrupt ||
                    outcome.error.code == ErrorCode::kUnsupported)
            << outcome.error.message;
      }
    }
  }
  // Most bytes are names, text and numbers, whose change the container cannot see.
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 1000);
}

// Every eight bytes of the header as a count, length or offset of the worst sizes.
TEST(MalformedTest, HugeNumbersAnywhereCostNothing) {
  const std::vector<std::byte> good = SmallFile().bytes();
  for (size_t at = 0; at + 8 <= DataStart(); ++at) {
    for (const uint64_t value : {UINT64_MAX, UINT64_MAX - 31, uint64_t{1} << 63, uint64_t{1} << 62,
                                 uint64_t{1} << 32, uint64_t{1} << 30, uint64_t{0xFFFFFFFF}}) {
      std::vector<std::byte> bytes = good;
      const auto raw = std::bit_cast<std::array<std::byte, 8>>(value);
      std::ranges::copy(raw, bytes.begin() + static_cast<std::ptrdiff_t>(at));
      ASSERT_LT(Try(bytes).largest, kMaxAllocation) << "byte " << at << " = " << value;
    }
  }
}

// ---- what each rule says ----

void ExpectError(const GgufBytes& bytes, ErrorCode code, std::string_view message) {
  const Outcome outcome = Try(bytes.bytes());
  ASSERT_FALSE(outcome.opened) << message;
  EXPECT_EQ(outcome.error.code, code) << outcome.error.message;
  EXPECT_THAT(outcome.error.message, HasSubstr(message));
}

TEST(MalformedTest, MagicAndVersion) {
  ExpectError(GgufBytes(), ErrorCode::kCorrupt, "byte 0: not a GGUF file: it starts with []");
  ExpectError(GgufBytes().Raw("PK\3\4").Zeros(100), ErrorCode::kCorrupt,
              "byte 0: not a GGUF file: it starts with [50 4b 03 04] instead of 'GGUF'");
  ExpectError(GgufBytes().Header(0, 0, 1), ErrorCode::kUnsupported, "byte 4: GGUF version 1;");
  ExpectError(GgufBytes().Header(0, 0, 0), ErrorCode::kUnsupported, "byte 4: GGUF version 0;");
  ExpectError(GgufBytes().Header(0, 0, 4), ErrorCode::kUnsupported, "byte 4: GGUF version 4;");
  ExpectError(GgufBytes().Header(0, 0, 0x03000000), ErrorCode::kUnsupported,
              "byte 4: a big-endian GGUF file (version 3)");
}

TEST(MalformedTest, CountsAreHeldAgainstTheBytesThatAreLeft) {
  ExpectError(GgufBytes().Header(0, 5).Zeros(69), ErrorCode::kCorrupt,
              "byte 16: 5 metadata entries cannot stand in the 69 bytes that are left");
  ExpectError(GgufBytes().Header(UINT64_MAX, 0).Zeros(100), ErrorCode::kCorrupt,
              "byte 8: 18446744073709551615 tensors cannot stand in the 100 bytes");
  // Enough bytes at first, but the metadata takes them.
  ExpectError(GgufBytes().Header(4, 1).Key("k", ValueType::kString).String(std::string(99, 'x')),
              ErrorCode::kCorrupt, "byte 8: 4 tensors cannot stand in the 0 bytes");
}

TEST(MalformedTest, Keys) {
  ExpectError(GgufBytes().Header(0, 1).Key("", ValueType::kUint64).U64(1), ErrorCode::kCorrupt,
              "byte 24: a metadata key is empty");
  ExpectError(GgufBytes().Header(0, 1).Key("a\xFF", ValueType::kUint64).U64(1), ErrorCode::kCorrupt,
              "byte 24: a metadata key is not text: 'a\xEF\xBF\xBD'");
  ExpectError(GgufBytes().Header(0, 1).Key(std::string_view("a\0b", 3), ValueType::kUint64).U64(1),
              ErrorCode::kCorrupt, "byte 24: a metadata key is not text");
  ExpectError(GgufBytes().Header(0, 1).Key(std::string(65536, 'k'), ValueType::kUint8).Zeros(1),
              ErrorCode::kCorrupt, "byte 24: a metadata key has 65536 bytes, at most 65535");
  GgufBytes twice;
  twice.Header(0, 3).Key("a", ValueType::kUint8).Zeros(1).Key("b", ValueType::kUint8).Zeros(1);
  twice.Key("a", ValueType::kUint8).Zeros(1);
  ExpectError(twice, ErrorCode::kCorrupt,
              "byte 65: the key 'a' is there twice (first value at byte 37)");
}

TEST(MalformedTest, Values) {
  ExpectError(GgufBytes().Header(0, 1).Key("k", ValueType{13}).U64(0), ErrorCode::kCorrupt,
              "byte 33: the value of 'k' has type 13, which GGUF does not have");
  ExpectError(GgufBytes().Header(0, 1).Key("k", ValueType::kBool).Number<uint8_t>(2),
              ErrorCode::kCorrupt, "byte 37: the value of 'k' is a bool of value 2");
  ExpectError(GgufBytes().Header(0, 1).Key("k", ValueType::kString).U64(uint64_t{1} << 31).Zeros(9),
              ErrorCode::kCorrupt, "at most 1073741824 are allowed");
  ExpectError(GgufBytes().Header(0, 1).Key("k", ValueType::kString).U64(10).Zeros(9),
              ErrorCode::kCorrupt,
              "byte 45: the file ends inside the value of 'k': 10 bytes are needed, 9 are left");
}

TEST(MalformedTest, Arrays) {
  const auto array = [](ValueType type, uint64_t count) {
    return GgufBytes().Header(0, 1).Key("k", ValueType::kArray).Array(type, count);
  };
  ExpectError(array(ValueType::kArray, 1).Array(ValueType::kUint8, 0), ErrorCode::kUnsupported,
              "byte 37: the value of 'k' is an array of arrays");
  ExpectError(array(ValueType{99}, 0), ErrorCode::kCorrupt,
              "byte 37: the value of 'k' is an array of type 99");
  ExpectError(array(ValueType::kUint8, (uint64_t{1} << 30) + 1), ErrorCode::kCorrupt,
              "byte 41: the value of 'k' has 1073741825 elements");
  ExpectError(array(ValueType::kFloat64, 3).Zeros(23), ErrorCode::kCorrupt,
              "24 bytes are needed, 23 are left");
  ExpectError(array(ValueType::kString, 4).Zeros(31), ErrorCode::kCorrupt,
              "32 bytes are needed, 31 are left");
  ExpectError(array(ValueType::kString, 2).U64(8).U64(8).U64(8).Zeros(7), ErrorCode::kCorrupt,
              "8 bytes are needed, 7 are left");
  ExpectError(array(ValueType::kBool, 2).Raw("\1\7"), ErrorCode::kCorrupt,
              "byte 50: the value of 'k' is a bool of value 7");
}

TEST(MalformedTest, Alignment) {
  const auto alignment = [](uint32_t value) {
    return GgufBytes().Header(0, 1).Key("general.alignment", ValueType::kUint32).U32(value);
  };
  ExpectError(alignment(0), ErrorCode::kCorrupt, "byte 53: 'general.alignment' is 0, which is not");
  ExpectError(alignment(48), ErrorCode::kCorrupt, "is 48, which is not a power of two");
  ExpectError(GgufBytes().Header(0, 1).Key("general.alignment", ValueType::kString).String("32"),
              ErrorCode::kCorrupt, "'general.alignment' is of type string");
  ExpectError(
      GgufBytes().Header(0, 1).Key("general.alignment", ValueType::kUint64).U64(uint64_t{1} << 40),
      ErrorCode::kCorrupt, "allowed is 0 to 2147483648");
  // An alignment of one is legal, but this F32 tensor would stand at an odd address.
  ExpectError(GgufBytes()
                  .Header(2, 1)
                  .Key("general.alignment", ValueType::kUint32)
                  .U32(1)
                  .Tensor("a", {1}, 1, 0)
                  .Tensor("bb", {1}, 0, 2)
                  .Zeros(7),
              ErrorCode::kUnsupported, "are not aligned to");
}

TEST(MalformedTest, TensorEntries) {
  const auto tensor = [](std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                         uint64_t offset = 0) {
    return GgufBytes().Header(1, 0).Tensor(name, dims, type, offset).PadTo(32).Zeros(4096);
  };
  ExpectError(tensor("", {1}, 0), ErrorCode::kCorrupt, "byte 24: a tensor's name is empty");
  ExpectError(tensor(std::string(64, 'n'), {1}, 0), ErrorCode::kCorrupt,
              "byte 24: a tensor's name has 64 bytes, at most 63 are allowed");
  ExpectError(tensor("w", {1, 1, 1, 1, 1}, 0), ErrorCode::kCorrupt,
              "byte 33: tensor 'w' has 5 dimensions, at most 4");
  ExpectError(tensor("w", {32, 0}, 0), ErrorCode::kCorrupt,
              "byte 45: dimension 1 of tensor 'w' is 0, which is nothing");
  ExpectError(tensor("w", {uint64_t{1} << 63}, 0), ErrorCode::kCorrupt, "which is too large");
  ExpectError(tensor("w", {uint64_t{1} << 32, uint64_t{1} << 31}, 0), ErrorCode::kCorrupt,
              "dimension 1 of tensor 'w' is 2147483648, which is too large");
  ExpectError(tensor("w", {uint64_t{1} << 62}, 0), ErrorCode::kCorrupt, "tensor 'w' is too large");
  ExpectError(tensor("w", {48}, 2), ErrorCode::kCorrupt,
              "byte 45: tensor 'w' has rows of 48 elements, which cannot be Q4_0 (blocks of 32)");
  ExpectError(tensor("w", {256}, 4), ErrorCode::kCorrupt,
              "byte 45: tensor 'w' has type 4, which ggml has withdrawn or never had");
  ExpectError(tensor("w", {256}, 999), ErrorCode::kCorrupt, "withdrawn or never had");
  ExpectError(tensor("w", {256}, 10), ErrorCode::kUnsupported,
              "byte 45: tensor 'w' has type Q2_K (10), which Tandem does not compute; get a file");
  ExpectError(tensor("w", {32}, 0, 32), ErrorCode::kCorrupt,
              "byte 49: the data of tensor 'w' are said to be at 32, but must be at 0");
  ExpectError(
      tensor("w", {2000}, 0), ErrorCode::kCorrupt,
      "byte 49: tensor 'w' has 8000 bytes of data at byte 64, which is behind the end of the "
      "file (4160 bytes)");
  ExpectError(
      GgufBytes().Header(2, 0).Tensor("w", {1}, 0, 0).Tensor("w", {1}, 0, 32).PadTo(32).Zeros(64),
      ErrorCode::kCorrupt, "two tensors of the name 'w'");
  // Overlapping data, a gap, and an end that wraps around.
  for (const uint64_t second : {uint64_t{0}, uint64_t{64}, UINT64_MAX - 31}) {
    ExpectError(GgufBytes()
                    .Header(2, 0)
                    .Tensor("a", {1}, 0, 0)
                    .Tensor("b", {1}, 0, second)
                    .PadTo(32)
                    .Zeros(256),
                ErrorCode::kCorrupt, "but must be at 32");
  }
  // The header is whole, but not one byte of data is there.
  ExpectError(GgufBytes().Header(1, 0).Tensor("w", {1}, 0, 0), ErrorCode::kCorrupt,
              "the file ends before the tensors' data");
}

TEST(MalformedTest, APartOfASplitCannotBeParsedAlone) {
  ExpectError(GgufBytes().Header(0, 1).Key("split.count", ValueType::kUint16).Number<uint16_t>(3),
              ErrorCode::kInvalidArgument, "part 1 of 3 of a split model");
  ExpectError(GgufBytes().Header(0, 1).Key("split.count", ValueType::kString).String("3"),
              ErrorCode::kCorrupt, "the value of 'split.count' is of type string");
}

}  // namespace
}  // namespace tandem::gguf
