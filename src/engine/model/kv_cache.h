// The keys and values of one sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/error.h"
#include "engine/model/hyperparameters.h"

namespace tandem::model {

// kF32 keeps the forward step exact to float rounding; kF16 halves the memory and rounds every key
// and value to 11 bits.
enum class KvType { kF32, kF16 };

// Bytes that a cache of so many tokens takes when full.
uint64_t KvCacheBytes(const Hyperparameters& hyperparameters, KvType type, int64_t context_tokens);

// Keys (rotated) and values of one sequence, for every layer. The memory is reserved at once but
// becomes resident only as tokens arrive.
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

  // Errors: kInvalidArgument for a context that the model does not have, kResourceExhausted if the
  // memory cannot be reserved.
  static Result<std::unique_ptr<KvCache>> Create(const Hyperparameters& hyperparameters,
                                                 const Options& options);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int length() const { return length_; }  // tokens that are cached
  int context_tokens() const { return context_tokens_; }
  int free_tokens() const { return context_tokens_ - length_; }
  KvType type() const { return type_; }
  bool uses_long_rope() const { return uses_long_rope_; }
  uint64_t bytes() const { return bytes_; }  // reserved

  // Forgets everything after the first n_tokens; the next step continues there.
  // Errors: kInvalidArgument if n_tokens is negative or above length().
  Status Truncate(int n_tokens);

  // For the forward step.
  // [context_tokens, head_dim] elements of type(), one KV head of one layer.
  std::byte* keys(int layer, int kv_head) { return data_.get() + Offset(layer, kv_head); }
  std::byte* values(int layer, int kv_head) {
    return data_.get() + Offset(layer, kv_head) + plane_bytes_;
  }
  size_t row_bytes() const { return row_bytes_; }  // of one position in keys() or values()
  bool Fits(const Hyperparameters& hyperparameters) const;
  void Extend(int n_tokens) { length_ += n_tokens; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };

  KvCache() = default;
  size_t Offset(int layer, int kv_head) const {
    return (static_cast<size_t>(layer) * n_kv_heads_ + kv_head) * 2 * plane_bytes_;
  }

  int n_layers_ = 0;
  int n_kv_heads_ = 0;
  int head_dim_ = 0;
  int context_tokens_ = 0;
  int length_ = 0;
  KvType type_ = KvType::kF32;
  bool uses_long_rope_ = false;
  size_t row_bytes_ = 0;    // head_dim elements
  size_t plane_bytes_ = 0;  // context_tokens rows
  uint64_t bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;  // [n_layers, n_kv_heads, 2 (K, V), plane_bytes]
};

}  // namespace tandem::model
