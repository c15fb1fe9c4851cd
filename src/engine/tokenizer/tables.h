// A tokenizer's tables as one run of bytes, which a package maps and a tokenizer reads in place:
// nothing is built when a model is loaded. docs/package.md draws it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

// A merge of two neighbouring tokens, as it stands in the tables.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

// What an empty slot of the merges' hash table holds.
inline constexpr uint32_t kEmptySlot = UINT32_MAX;

// Views of the tables. ReadTables() guarantees what the comments say.
struct Tables {
  VocabularyKind kind = VocabularyKind::kO200k;
  std::span<const uint32_t> ends;        // [n_tokens] where a token's bytes end; not decreasing
  std::span<const TokenType> types;      // [n_tokens]
  std::string_view bytes;                // of all tokens, back to back
  std::span<const int32_t> byte_tokens;  // [256] the token of each byte
  std::span<const Merge> merges;         // by importance; ids in range
  // Open addressing over merges, by HashPair() of bpe.cc: indices or kEmptySlot. A power of two, of
  // which at least one is empty, so that every search ends.
  std::span<const uint32_t> slots;
  std::vector<AddedTokenFlags> added;      // ids in range
  std::vector<int32_t> end_of_generation;  // sorted; ids in range
  std::optional<int32_t> bos, eos, pad;    // in range
  bool add_bos = false;

  int32_t n_tokens() const { return static_cast<int32_t>(ends.size()); }
  // Token `id`'s bytes; `id` in range.
  std::string_view TokenBytes(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    const size_t begin = i == 0 ? 0 : ends[i - 1];
    return bytes.substr(begin, ends[i] - begin);
  }
};

// The same bytes for the same tables.
std::vector<std::byte> WriteTables(const Tables& tables);

// Views into `bytes`, which must be aligned to 4 and outlive them. Any bytes: what they say is
// checked, but not that the hash table finds every merge, so a forged one gives wrong tokens, never
// worse.
// Errors: kCorrupt; kUnsupported for another version.
// Cost: one pass, about a millisecond for 200,000 tokens.
Result<Tables> ReadTables(std::span<const std::byte> bytes);

}  // namespace tandem::tokenizer
