#include "cli/time_text.h"

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(TimeTextTest, SpansAreANumberAndAUnit) {
  EXPECT_EQ(ParseSpan("45s").value().count(), 45);
  EXPECT_EQ(ParseSpan("30m").value().count(), 1800);
  EXPECT_EQ(ParseSpan("24h").value().count(), 86400);
  EXPECT_EQ(ParseSpan("90d").value().count(), 90 * 86400);
  EXPECT_EQ(ParseSpan("2w").value().count(), 14 * 86400);
  EXPECT_EQ(ParseSpan("0").value().count(), 0);
  EXPECT_EQ(ParseSpan("0h").value().count(), 0);
}

TEST(TimeTextTest, EverythingElseIsRefused) {
  for (const char* bad : {"", "h", "1", "-1h", "1.5h", "1 h", "1hh", "1y", "99999999999999999999s",
                          "36526d", "9223372036854775807w"}) {
    const auto span = ParseSpan(bad);
    ASSERT_FALSE(span.has_value()) << bad;
    EXPECT_EQ(span.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(TimeTextTest, TimesAreIsoInUtc) {
  EXPECT_EQ(FormatTime(1767225600), "2026-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00Z");
}

}  // namespace
}  // namespace tandem::cli
