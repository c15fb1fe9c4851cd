#include "base/error.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace tandem {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) return Err(ErrorCode::kInvalidArgument, "{} is odd", value);
  return value / 2;
}

Result<int> Quarter(int value) {
  TANDEM_ASSIGN_OR_RETURN(const int half, Half(value));
  return Half(half);
}

TEST(ErrorTest, AssignOrReturnPassesTheFirstErrorOn) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_EQ(Quarter(7).error().message, "7 is odd");
  EXPECT_EQ(Quarter(6).error().message, "3 is odd");
}

TEST(ErrorTest, WrapKeepsCodeAndParamAndPrefixesTheMessage) {
  const auto wrapped = Wrap(Error{ErrorCode::kCorrupt, "bad magic", "file"}, "reading x.gguf");
  EXPECT_EQ(wrapped.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(wrapped.error().param, "file");
  EXPECT_EQ(wrapped.error().message, "reading x.gguf: bad magic");
}

TEST(ErrorTest, ErrnoMapsToTheCodeThatCallersActOn) {
  EXPECT_EQ(ErrnoError(ENOENT, "open").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ErrnoError(ENOSPC, "write").error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(ErrnoError(EIO, "read").error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace tandem
