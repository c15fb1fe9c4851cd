// A list of names, found in texts.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/privacy/secret.h"

namespace tandem::gateway::privacy {

// Upper and lower case are alike, and so are composed and decomposed accents; runs of white space
// in a name match any white space. Matches begin and end at word boundaries, except in scripts that
// put no space between words. Immutable; thread: any.
class NameList {
 public:
  // Names of fewer than two characters are left out: they would match too much.
  explicit NameList(std::span<const std::string> names);

  // The longest name at each place, in order, not overlapping.
  // Cost: linear in the text; times the longest name's length where the text keeps almost matching.
  void Find(std::string_view text, std::vector<SecretSpan>* found) const;

  bool empty() const { return children_.empty(); }

 private:
  // The end of the longest name that begins at `begin`; `begin` where there is none.
  size_t Match(std::string_view text, size_t begin) const;

  // A trie over the bytes of folded names: (node << 8 | byte) -> node. Node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<bool> ends_;  // [n_nodes] a name ends here
  // First bytes, in UTF-8 before folding, of what may begin a name.
  std::array<bool, 256> starts_{};
};

}  // namespace tandem::gateway::privacy
