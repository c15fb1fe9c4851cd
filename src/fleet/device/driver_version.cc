#include "fleet/device/driver_version.h"

#include <algorithm>
#include <charconv>

namespace tandem::fleet {
namespace {

constexpr size_t kMaxNumbers = 8;
constexpr size_t kMaxShown = 40;

}  // namespace

Result<DriverVersion> DriverVersion::Parse(std::string_view text) {
  const auto bad = [text] {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is no version of a driver; expected numbers with dots, for example v2.7.1",
               text.substr(0, kMaxShown));
  };
  std::string_view rest = text.substr(0, text.find_first_of("-+"));
  if (rest.starts_with('v') || rest.starts_with('V')) rest.remove_prefix(1);
  DriverVersion version;
  while (true) {
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error != std::errc() || end == rest.data()) return bad();
    version.numbers_.push_back(number);
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    if (rest.empty()) return version;
    if (!rest.starts_with('.') || version.numbers_.size() == kMaxNumbers) return bad();
    rest.remove_prefix(1);
  }
}

std::string DriverVersion::ToString() const {
  std::string text;
  for (const uint32_t number : numbers_) {
    if (!text.empty()) text += '.';
    text += fmt::format("{}", number);
  }
  return text;
}

std::strong_ordering DriverVersion::operator<=>(const DriverVersion& other) const {
  for (size_t i = 0; i < std::max(numbers_.size(), other.numbers_.size()); ++i) {
    const uint32_t mine = i < numbers_.size() ? numbers_[i] : 0;
    const uint32_t theirs = i < other.numbers_.size() ? other.numbers_[i] : 0;
    if (mine != theirs) return mine <=> theirs;
  }
  return std::strong_ordering::equal;
}

}  // namespace tandem::fleet
