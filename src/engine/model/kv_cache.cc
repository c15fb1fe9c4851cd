#include "engine/model/kv_cache.h"

#include <new>

namespace tandem::model {
namespace {

constexpr std::align_val_t kAlignment{64};  // a cache line
// 64 TiB: beyond any machine, and beyond what an allocator could be asked without complaint.
constexpr uint64_t kMaxBytes = uint64_t{1} << 46;

uint64_t ElementBytes(KvType type) { return type == KvType::kF16 ? 2 : 4; }

}  // namespace

uint64_t KvCacheBytes(const Hyperparameters& hyperparameters, KvType type, int64_t context_tokens) {
  return 2 * static_cast<uint64_t>(hyperparameters.n_layers) *
         static_cast<uint64_t>(hyperparameters.kv_dim()) * ElementBytes(type) *
         static_cast<uint64_t>(context_tokens);
}

void KvCache::Free::operator()(std::byte* data) const { ::operator delete(data, kAlignment); }

Result<std::unique_ptr<KvCache>> KvCache::Create(const Hyperparameters& hyperparameters,
                                                 const Options& options) {
  if (options.context_tokens < 1 || options.context_tokens > hyperparameters.context_length) {
    return Err(ErrorCode::kInvalidArgument,
               "a context of {} tokens; this model takes 1 to {} tokens", options.context_tokens,
               hyperparameters.context_length);
  }
  std::unique_ptr<KvCache> cache(new KvCache());
  cache->n_layers_ = hyperparameters.n_layers;
  cache->n_kv_heads_ = hyperparameters.n_kv_heads;
  cache->head_dim_ = hyperparameters.head_dim;
  cache->context_tokens_ = options.context_tokens;
  cache->type_ = options.type;
  cache->uses_long_rope_ = hyperparameters.original_context_length > 0 &&
                           options.context_tokens > hyperparameters.original_context_length;
  cache->row_bytes_ = hyperparameters.head_dim * ElementBytes(options.type);
  cache->plane_bytes_ = cache->row_bytes_ * options.context_tokens;
  cache->bytes_ = KvCacheBytes(hyperparameters, options.type, options.context_tokens);
  void* data =
      cache->bytes_ > kMaxBytes ? nullptr : ::operator new(cache->bytes_, kAlignment, std::nothrow);
  if (data == nullptr) {
    return Err(ErrorCode::kResourceExhausted,
               "no memory for a KV cache of {} tokens ({} MiB); use a smaller context",
               options.context_tokens, cache->bytes_ >> 20);
  }
  cache->data_.reset(static_cast<std::byte*>(data));
  return cache;
}

Status KvCache::Truncate(int n_tokens) {
  if (n_tokens < 0 || n_tokens > length_) {
    return Err(ErrorCode::kInvalidArgument, "cannot keep {} tokens of a cache that holds {}",
               n_tokens, length_);
  }
  length_ = n_tokens;
  return {};
}

bool KvCache::Fits(const Hyperparameters& hyperparameters) const {
  return n_layers_ == hyperparameters.n_layers && n_kv_heads_ == hyperparameters.n_kv_heads &&
         head_dim_ == hyperparameters.head_dim;
}

}  // namespace tandem::model
