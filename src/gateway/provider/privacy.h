// Where a conversation's text may go.
#pragma once

#include <string_view>

#include "base/error.h"

namespace tandem::gateway {

// Ordered: a larger value is stricter, and the strictest of request, key, model and conversation
// wins.
enum class Privacy { kAny, kRedacted, kOnDevice };

// "any", "redacted", "on_device". ParsePrivacy gives kInvalidArgument with the list of names.
std::string_view PrivacyName(Privacy privacy);
Result<Privacy> ParsePrivacy(std::string_view name);

}  // namespace tandem::gateway
