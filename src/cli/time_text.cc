#include "cli/time_text.h"

#include <charconv>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace tandem::cli {

Result<std::chrono::seconds> ParseSpan(std::string_view text) {
  constexpr int64_t kMostSeconds = int64_t{36525} * 86400;  // 100 years
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  int64_t seconds = 0;
  if (unit == "s") seconds = 1;
  if (unit == "m") seconds = 60;
  if (unit == "h") seconds = 3600;
  if (unit == "d") seconds = 86400;
  if (unit == "w") seconds = 7 * int64_t{86400};
  if (unit.empty() && number == 0) seconds = 1;
  if (error != std::errc() || seconds == 0 || number < 0 || number > kMostSeconds / seconds) {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is no span of time; write for example 45s, 30m, 24h, 90d or 2w", text);
  }
  return std::chrono::seconds(number * seconds);
}

std::string FormatTime(int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

}  // namespace tandem::cli
