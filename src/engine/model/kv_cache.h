// The keys and values of one sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/model/hyperparameters.h"
#include "engine/model/kv_page.h"

namespace tandem::model {

// Bytes that the pages of a cache of so many tokens take.
uint64_t KvCacheBytes(const Hyperparameters& hyperparameters, KvType type, int64_t context_tokens);

// Keys (rotated) and values of one sequence, for every layer, in pages that come as tokens do.
// Pages can be shared with other caches of the same beginning; who goes on in the middle of a
// shared page gets a copy of it first.
//
//   kF32   exact to float rounding: for references
//   kF16   rounds every key and value to 11 bits
//   kInt8  to 8 bits with a scale per token and head, after a Hadamard rotation: half of kF16
//
// Which LongRoPE factors apply is decided here, once, by the context: keys rotated with different
// factors in one cache would be garbage.
//
// Thread: belongs to one thread at a time.
class KvCache {
 public:
  struct Options {
    int context_tokens = 0;  // 1 .. hyperparameters.context_length
    KvType type = KvType::kF32;
  };
  using Pages = std::vector<std::shared_ptr<const KvPage>>;

  // Errors: kInvalidArgument for a context that the model does not have.
  static Result<std::unique_ptr<KvCache>> Create(const Hyperparameters& hyperparameters,
                                                 const Options& options);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int length() const { return length_; }  // tokens that are cached
  int context_tokens() const { return context_tokens_; }
  int free_tokens() const { return context_tokens_ - length_; }
  KvType type() const { return layout_.type; }
  bool uses_long_rope() const { return uses_long_rope_; }
  // Of the pages held, shared ones too; and when the context is full.
  uint64_t bytes() const { return pages_.size() * layout_.page_bytes(); }
  uint64_t full_bytes() const;

  // Forgets everything after the first n_tokens, and pages that held nothing else; the next step
  // continues there. For a token or a whole speculation taken back, and for the next turn of a
  // chat. Errors: kInvalidArgument if n_tokens is negative or above length().
  Status Truncate(int n_tokens);

  // The pages of the first n_tokens, 0 <= n_tokens <= length(). From now on this cache only reads
  // them.
  Pages Share(int n_tokens);
  // Makes an empty cache hold the first n_tokens of pages that a cache with the same options
  // shared.
  // Errors: kInvalidArgument for pages of another layout or too few of them, and where tokens are
  // held already.
  Status Adopt(std::span<const std::shared_ptr<const KvPage>> pages, int n_tokens);

  // For the forward step.
  const KvLayout& layout() const { return layout_; }
  bool Fits(const Hyperparameters& hyperparameters) const;
  // Makes the pages of the next n_tokens writable; changes nothing that can be seen.
  // Errors: kResourceExhausted.
  Status Reserve(int n_tokens);
  // Whether a position's page is there and this cache's own to write to.
  bool IsWritable(int position) const {
    const auto page = static_cast<size_t>(position / kPageTokens);
    return page < pages_.size() && pages_[page].own != nullptr;
  }
  // The tile of a position that was reserved, of one layer and KV head.
  std::byte* tile(int layer, int kv_head, int position) {
    return pages_[position / kPageTokens].own->data() + layout_.tile_offset(layer, kv_head);
  }
  // Starts of all pages.
  std::span<const std::byte* const> page_data() const { return page_data_; }
  void Extend(int n_tokens) { length_ += n_tokens; }

 private:
  struct Held {
    std::shared_ptr<const KvPage> page;
    KvPage* own;  // the same, or null: not to be written
  };

  KvCache() = default;
  void Push(Held held);
  void KeepPages(size_t n);

  KvLayout layout_;
  int context_tokens_ = 0;
  int length_ = 0;
  bool uses_long_rope_ = false;
  std::vector<Held> pages_;                  // at least length() tokens' worth
  std::vector<const std::byte*> page_data_;  // [pages_.size()]
};

}  // namespace tandem::model
