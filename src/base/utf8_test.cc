#include "base/utf8.h"

#include <gtest/gtest.h>

namespace tandem::utf8 {
namespace {

TEST(Utf8Test, DecodesEveryLength) {
  EXPECT_EQ(DecodeOne("a").code_point, U'a');
  EXPECT_EQ(DecodeOne("\xC3\xA9").code_point, U'\u00E9');
  EXPECT_EQ(DecodeOne("\xE2\x82\xAC").code_point, U'\u20AC');
  EXPECT_EQ(DecodeOne("\xF0\x9F\x98\x80").code_point, U'\U0001F600');
}

TEST(Utf8Test, RejectsOverlongSurrogateAndTooLarge) {
  EXPECT_EQ(DecodeOne("\xC0\x80").kind, Kind::kInvalid);
  EXPECT_EQ(DecodeOne("\xE0\x80\x80").kind, Kind::kInvalid);
  EXPECT_EQ(DecodeOne("\xED\xA0\x80").kind, Kind::kInvalid);
  EXPECT_EQ(DecodeOne("\xF4\x90\x80\x80").kind, Kind::kInvalid);
  EXPECT_EQ(DecodeOne("\x80").kind, Kind::kInvalid);
}

TEST(Utf8Test, TellsIncompleteFromInvalid) {
  EXPECT_EQ(DecodeOne("\xE2\x82").kind, Kind::kIncomplete);
  EXPECT_EQ(DecodeOne("\xF0\x9F\x98").kind, Kind::kIncomplete);
  EXPECT_EQ(DecodeOne("\xE2x").kind, Kind::kInvalid);
}

TEST(Utf8Test, SanitizeReplacesMaximalSubparts) {
  EXPECT_EQ(Sanitize("a\xFFz"), "a\xEF\xBF\xBDz");
  // A truncated three-byte sequence is one replacement, an overlong one is one a byte.
  EXPECT_EQ(Sanitize("\xE2\x82z"), "\xEF\xBF\xBDz");
  EXPECT_EQ(Sanitize("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(FindInvalid("ok\xE2"), 2u);
  EXPECT_EQ(FindInvalid("gr\xC3\xBC\xC3\x9F"), npos);
}

TEST(Utf8Test, AppendThenDecodeGivesTheSameCodePointForAll) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    Append(code_point, &text);
    const Decoded decoded = DecodeOne(text);
    ASSERT_EQ(decoded.kind, Kind::kValid) << static_cast<uint32_t>(code_point);
    ASSERT_EQ(decoded.code_point, code_point);
    ASSERT_EQ(decoded.length, text.size());
  }
}

}  // namespace
}  // namespace tandem::utf8
