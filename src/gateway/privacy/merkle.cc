#include "gateway/privacy/merkle.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"

namespace tandem::gateway::privacy {
namespace {

std::string_view AsView(const crypto::Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

crypto::Digest Inner(const crypto::Digest& left, const crypto::Digest& right) {
  std::array<char, 1 + 2 * sizeof(crypto::Digest)> bytes;
  bytes[0] = 1;
  std::ranges::copy(AsView(left), bytes.begin() + 1);
  std::ranges::copy(AsView(right), bytes.begin() + 1 + sizeof(crypto::Digest));
  return crypto::Sha256Of({bytes.data(), bytes.size()});
}

}  // namespace

crypto::Digest MerkleLeaf(std::string_view text) {
  thread_local crypto::Sha256 sha;  // Finish starts it anew
  sha.Update(std::string_view("\0", 1));
  sha.Update(text);
  return sha.Finish();
}

MerkleTree::MerkleTree(std::vector<crypto::Digest> leaves) {
  TANDEM_CHECK(!leaves.empty());
  levels_.push_back(std::move(leaves));
  while (levels_.back().size() > 1) {
    const std::vector<crypto::Digest>& below = levels_.back();
    std::vector<crypto::Digest> level;
    level.reserve((below.size() + 1) / 2);
    for (size_t i = 0; i + 1 < below.size(); i += 2) level.push_back(Inner(below[i], below[i + 1]));
    if (below.size() % 2 != 0) level.push_back(below.back());
    levels_.push_back(std::move(level));
  }
}

std::vector<crypto::Digest> MerkleTree::Path(uint64_t index) const {
  std::vector<crypto::Digest> path;
  for (const auto& level : levels_) {
    const uint64_t neighbour = index ^ 1;
    if (neighbour < level.size()) path.push_back(level[neighbour]);
    index /= 2;
  }
  return path;
}

std::optional<crypto::Digest> MerkleRoot(const crypto::Digest& leaf, uint64_t index,
                                         uint64_t n_leaves, std::span<const crypto::Digest> path) {
  if (index >= n_leaves) return std::nullopt;
  crypto::Digest digest = leaf;
  for (uint64_t n = n_leaves; n > 1; n = n / 2 + n % 2) {
    if (const bool alone = index % 2 == 0 && index + 1 == n; !alone) {
      if (path.empty()) return std::nullopt;
      digest = index % 2 == 0 ? Inner(digest, path.front()) : Inner(path.front(), digest);
      path = path.subspan(1);
    }
    index /= 2;
  }
  if (!path.empty()) return std::nullopt;
  return digest;
}

}  // namespace tandem::gateway::privacy
