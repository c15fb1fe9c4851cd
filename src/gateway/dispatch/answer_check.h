// The last look at a finished text, for requests with `quality_check`. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tandem::gateway::dispatch {

// Why the text is not fit to be an answer: which check failed and its figure; nothing where it is.
//   empty        no character but white space
//   repetition   it ends in the same piece over and over (a loop that ran until it was cut)
//   replacement  more than one character in ten is U+FFFD, so the bytes were no text
// Cost: linear in the text, times kMaxPeriod for its tail.
std::optional<std::string> FindDegeneration(std::string_view text);

}  // namespace tandem::gateway::dispatch
