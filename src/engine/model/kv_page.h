// The memory of a run of positions in a KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/error.h"
#include "engine/kernels/kv_tile.h"
#include "engine/model/hyperparameters.h"
#include "os/memory.h"

namespace tandem::model {

using kernels::KvType;

// Positions of a page: one tile of attention.
inline constexpr int kPageTokens = kernels::kTilePositions;

// What a page holds and where: the tiles of every layer and KV head, one after the other.
struct KvLayout {
  int n_layers = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  KvType type = KvType::kF32;

  static KvLayout Of(const Hyperparameters& h, KvType type) {
    return {h.n_cache_layers(), h.n_kv_heads, h.head_dim, type};
  }
  size_t tile_bytes() const { return kernels::KvTileBytes(type, head_dim); }
  size_t tile_offset(int layer, int kv_head) const {
    return (static_cast<size_t>(layer) * n_kv_heads + kv_head) * tile_bytes();
  }
  size_t page_bytes() const { return tile_offset(n_layers, 0); }
  bool operator==(const KvLayout&) const = default;
};

// kPageTokens positions of every layer and KV head, on whole pages of the system's memory, which
// go back to it when the last owner lets go. One cache fills a page; once it is shared, nobody
// writes into it any more.
class KvPage {
 public:
  // Errors: kResourceExhausted where the memory cannot be had.
  static Result<std::shared_ptr<KvPage>> Create(const KvLayout& layout);
  KvPage(const KvPage&) = delete;
  KvPage& operator=(const KvPage&) = delete;

  std::byte* data() { return memory_.data(); }
  const std::byte* data() const { return memory_.data(); }
  const KvLayout& layout() const { return layout_; }

 private:
  KvPage(const KvLayout& layout, os::AnonymousMemory memory)
      : layout_(layout), memory_(std::move(memory)) {}

  const KvLayout layout_;
  os::AnonymousMemory memory_;  // [layout_.page_bytes()]
};

}  // namespace tandem::model
