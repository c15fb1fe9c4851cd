// The texts inside a JSON text.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::gateway::privacy {

// What a string or number of a JSON text becomes; nothing where it stays as it is. `key` is the
// nearest member's name around it, empty where there is none.
using LeafRewriter =
    std::function<Result<std::optional<std::string>>(std::string_view leaf, std::string_view key)>;

// Rewrites the strings, the members' names and the numbers of a JSON text. A number that changes
// becomes a string; everything else keeps its value to the last digit, but not its white space. A
// string that holds a JSON object or list is rewritten inside, so that escapes hide nothing.
// Nothing where no leaf changed, so that the text can stay as it was.
// Errors: kInvalidArgument where it is no JSON (or deeper than 100 levels); `rewrite`'s.
// Cost: linear.
Result<std::optional<std::string>> RewriteJson(std::string_view text, const LeafRewriter& rewrite);

}  // namespace tandem::gateway::privacy
