// A Merkle tree over texts, as certificate transparency builds it (RFC 9162, section 2.1): one
// signature over its root vouches for every text, and a short path shows that a text is in it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "crypto/digest.h"

namespace tandem::gateway::privacy {

// The digest of one text: SHA-256 of a byte 0 and the text, so that no text is an inner node.
crypto::Digest MerkleLeaf(std::string_view text);

// Immutable. Cost: one SHA-256 of 65 bytes a leaf to build, and 32 bytes a node.
class MerkleTree {
 public:
  // At least one leaf.
  explicit MerkleTree(std::vector<crypto::Digest> leaves);

  const crypto::Digest& root() const { return levels_.back().front(); }
  // What a leaf has to be hashed with on its way to the root, from the bottom.
  std::vector<crypto::Digest> Path(uint64_t index) const;

 private:
  // From the leaves up to the root. A node without a neighbour stands in the next level as it is.
  std::vector<std::vector<crypto::Digest>> levels_;
};

// The root of the tree of `n_leaves` in which `path` leads from leaf number `index`; nothing where
// no such tree has a path of this length.
std::optional<crypto::Digest> MerkleRoot(const crypto::Digest& leaf, uint64_t index,
                                         uint64_t n_leaves, std::span<const crypto::Digest> path);

}  // namespace tandem::gateway::privacy
