#include "gateway/privacy/merkle.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::gateway::privacy {
namespace {

// RFC 9162, 2.1.1, word for word: the root of n texts is that of the first k and that of the rest,
// k the largest power of two below n.
crypto::Digest RootByDefinition(const std::vector<std::string>& texts, size_t begin, size_t end) {
  if (end - begin == 1) return MerkleLeaf(texts[begin]);
  size_t k = 1;
  while (2 * k < end - begin) k *= 2;
  std::string node(1, '\x01');
  for (const auto& half :
       {RootByDefinition(texts, begin, begin + k), RootByDefinition(texts, begin + k, end)}) {
    node.append(half.begin(), half.end());
  }
  return crypto::Sha256Of(node);
}

std::vector<std::string> Texts(size_t n) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < n; ++i) texts.push_back("text " + std::to_string(i));
  return texts;
}

MerkleTree TreeOf(const std::vector<std::string>& texts) {
  std::vector<crypto::Digest> leaves;
  for (const std::string& text : texts) leaves.push_back(MerkleLeaf(text));
  return MerkleTree(std::move(leaves));
}

TEST(MerkleTest, LeafIsThatOfTheStandard) {
  // The leaf of the empty text, as certificate transparency's test vectors have it.
  EXPECT_EQ(crypto::Hex(MerkleLeaf("")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

TEST(MerkleTest, RootAndPathsAreThoseOfTheStandardForEverySize) {
  for (size_t n = 1; n <= 40; ++n) {
    const std::vector<std::string> texts = Texts(n);
    const MerkleTree tree = TreeOf(texts);
    ASSERT_EQ(tree.root(), RootByDefinition(texts, 0, n)) << n;
    for (size_t i = 0; i < n; ++i) {
      const auto path = tree.Path(i);
      ASSERT_EQ(MerkleRoot(MerkleLeaf(texts[i]), i, n, path), tree.root()) << i << " of " << n;
    }
  }
}

TEST(MerkleTest, AnotherPlaceSizeOrPathLeadsElsewhere) {
  const std::vector<std::string> texts = Texts(13);
  const MerkleTree tree = TreeOf(texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    const crypto::Digest leaf = MerkleLeaf(texts[i]);
    auto path = tree.Path(i);
    for (size_t other = 0; other < 16; ++other) {
      if (other != i) EXPECT_NE(MerkleRoot(leaf, other, 13, path), tree.root()) << i << other;
    }
    EXPECT_NE(MerkleRoot(MerkleLeaf("another"), i, 13, path), tree.root());
    path.front()[0] ^= 1;
    EXPECT_NE(MerkleRoot(leaf, i, 13, path), tree.root());
    path.front()[0] ^= 1;
    path.push_back(leaf);
    EXPECT_FALSE(MerkleRoot(leaf, i, 13, path));
    path.resize(path.size() - 2);
    EXPECT_FALSE(MerkleRoot(leaf, i, 13, path));
  }
  EXPECT_FALSE(MerkleRoot(MerkleLeaf(""), 0, 0, {}));
  EXPECT_FALSE(MerkleRoot(MerkleLeaf(""), 1, 1, {}));
}

}  // namespace
}  // namespace tandem::gateway::privacy
