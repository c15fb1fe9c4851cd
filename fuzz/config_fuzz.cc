// Any bytes as a configuration, in TOML, in JSON and in the wire contract's shape: a typed error
// whose message is a text, or a configuration that is shown and read back as the same.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/configuration.h"
#include "base/check.h"
#include "base/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem;
  // A copy of exactly this size, so that reading beyond it is seen.
  const std::vector<char> copy(data, data + size);
  const auto parsed = app::ParseConfiguration(std::string_view(copy.data(), copy.size()), "f");
  if (!parsed) {
    const std::string& message = parsed.error().message;
    TANDEM_CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
    TANDEM_CHECK(message.starts_with("f:") && utf8::IsValid(message));
    return 0;
  }
  TANDEM_CHECK(!parsed->strategies.empty());
  const std::string shown = app::FormatConfiguration(*parsed);
  const auto again = app::ParseConfiguration(shown, "f");
  TANDEM_CHECK(again && app::FormatConfiguration(*again) == shown);
  const auto json =
      app::ParseConfiguration(app::FormatJsonDocument(app::DescribeConfiguration(*parsed)), "f");
  TANDEM_CHECK(json && app::FormatConfiguration(*json) == shown);
  return 0;
}
