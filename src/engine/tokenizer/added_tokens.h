// Finds added tokens (<|end|>, <tool_call>, ...) in text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

struct AddedToken {
  std::string text;
  AddedTokenFlags flags;
};

// Immutable; any thread.
class AddedTokenMatcher {
 public:
  // Bounds the work at each position of a text, and so keeps it linear.
  static constexpr size_t kMaxTokenBytes = 512;

  AddedTokenMatcher() = default;
  // Texts are unique, valid UTF-8, not empty and at most kMaxTokenBytes long.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  struct Match {
    size_t begin = 0;  // in bytes
    size_t end = 0;
    AddedTokenFlags flags;
  };
  // The first match at or after `from`: leftmost, then longest. `text` is valid UTF-8. What lstrip
  // and rstrip eat is left to the caller, who knows what stands before and behind `text`.
  std::optional<Match> Find(std::string_view text, size_t from) const;

  std::optional<int32_t> FindId(std::string_view token_text) const;
  bool empty() const { return tokens_.empty(); }

 private:
  // The longest token that `text` starts with; null: none.
  const AddedToken* LongestPrefix(std::string_view text) const;

  std::vector<AddedToken> tokens_;          // sorted by text
  std::array<uint32_t, 257> first_byte_{};  // tokens_ that start with byte b: [b] .. [b + 1]
};

}  // namespace tandem::tokenizer
