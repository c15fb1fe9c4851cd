// Charter of model/: architectures (phi3, qwen2) over a package or GGUF weights: a batch step takes
// token ids and KV caches and gives logits. It may include base, os, quant, kernels, ops, gguf,
// package and tokenizer (for the vocabulary adaptor). Deliberately absent: scheduling, sampling,
// text.
//
//   auto file = gguf::File::Open(path);
//   auto model = Model::Load(*file);
//   auto pool = ops::ThreadPool::Create(0);
//   auto forward = Forward::Create(*model, pool->get(), {.max_tokens = 256, .max_logit_rows = 1});
//   auto cache = KvCache::Create((*model)->hyperparameters(), {.context_tokens = 4096});
//   BatchEntry entry{cache->get(), prompt_ids, 1};
//   (*forward)->Step({&entry, 1}, logits);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/gguf/file.h"
#include "engine/kernels/kernels.h"
#include "engine/model/hyperparameters.h"
#include "engine/model/kv_cache.h"
#include "engine/model/logits_wanted.h"
#include "engine/model/mtp_trail.h"
#include "engine/ops/attention.h"
#include "engine/ops/thread_pool.h"
#include "engine/package/file.h"

namespace tandem::model {

struct BoundWeights;  // binder.h
struct LayerWeights;  // weights.h
struct Linear;        // weights.h
struct Weights;       // weights.h

// A loaded model: the file's mapped tensors, checked and bound to their places. Immutable.
// Thread: any.
class Model {
 public:
  struct Options {
    // Which instruction set computes; null: kernels::Active().
    const kernels::KernelSet* kernels = nullptr;
    // Bind the layer of multi-token prediction, where there is one. Without it, it takes no memory.
    bool mtp = true;
  };

  // Checks every tensor that the architecture needs: there, of the right shape, of a type that we
  // compute. Tensors that it does not need (a second multi-token prediction layer) are ignored.
  // Weights stay in the file's mapping; only norms and biases are copied. Errors: kUnsupported,
  // kCorrupt; the message names the tensor or key, what was found and what was expected. Cost:
  // reads norms and biases only.
  static Result<std::shared_ptr<const Model>> Load(std::shared_ptr<const gguf::File> file,
                                                   const Options& options);
  static Result<std::shared_ptr<const Model>> Load(std::shared_ptr<const gguf::File> file) {
    return Load(std::move(file), Options{});
  }
  // The same from a package, whose linear layers are multiplied in integers: logits are then the
  // same whatever the instruction set of those products.
  static Result<std::shared_ptr<const Model>> Load(std::shared_ptr<const package::File> file,
                                                   const Options& options);
  static Result<std::shared_ptr<const Model>> Load(std::shared_ptr<const package::File> file) {
    return Load(std::move(file), Options{});
  }
  ~Model();

  const Hyperparameters& hyperparameters() const { return hyperparameters_; }
  // Bytes of all weights that a step may touch; a tied head counts once.
  uint64_t weights_bytes() const { return weights_bytes_; }
  // Bytes of weights that decoding one token streams: everything but multi-token prediction, the
  // embedding table, of which it reads a row, unless it is the tied head, and the fine plane of a
  // head in two, of which it reads a few.
  uint64_t bytes_per_token() const { return bytes_per_token_; }
  // Multiplications of a weight that decoding one token takes, and how many of them the head makes,
  // which a prompt's other tokens do without.
  uint64_t products_per_token() const;
  uint64_t head_products() const;
  bool tied_head() const { return tied_head_; }
  const kernels::KernelSet& kernels() const { return *kernels_; }
  // Whether the linear layers come from a package.
  bool packed() const;
  const Weights& weights() const { return *weights_; }

 private:
  Model();

  Status Take(BoundWeights bound, const Options& options);

  // What the weights are views of: one of the two.
  std::shared_ptr<const gguf::File> file_;
  std::shared_ptr<const package::File> package_;
  const kernels::KernelSet* kernels_ = nullptr;
  Hyperparameters hyperparameters_;
  std::unique_ptr<const Weights> weights_;
  uint64_t weights_bytes_ = 0;
  uint64_t bytes_per_token_ = 0;
  bool tied_head_ = false;
};

// One sequence's share of a batch step.
struct BatchEntry {
  KvCache* cache = nullptr;
  // The tokens that follow what the cache holds: positions length(), length() + 1, ...
  std::span<const int32_t> token_ids;
  // Logits are wanted for the last so many of token_ids: 0 for a middle chunk of a prompt, 1 to
  // sample the next token, token_ids.size() to score or verify.
  int n_logit_rows = 1;
  // What each of these rows is for.
  LogitsWanted wanted = {};
  // Of a model with multi-token prediction: kept up with the tokens, for Draft(). Null: no drafts
  // will be wanted.
  MtpTrail* trail = nullptr;
};

// A sequence for which a draft is wanted.
struct DraftEntry {
  KvCache* cache = nullptr;
  MtpTrail* trail = nullptr;  // as in all its steps
  int32_t token_id = 0;       // that follows what the cache holds
};

struct StepLimits {
  int max_tokens = 256;    // of all entries of one step
  int max_logit_rows = 8;  // likewise
};

// Bytes of scratch memory that a Forward with these limits takes at most, of a package or of a GGUF
// file.
uint64_t ScratchBytes(const Hyperparameters& hyperparameters, const kernels::KernelSet& kernels,
                      bool packed, const StepLimits& limits, int n_threads);

// What the scans of a head in two planes came to, since the start.
struct ScanCounts {
  int64_t n_scans = 0;      // rows of logits of which only the largest were wanted
  int64_t n_completed = 0;  // logits that were completed for them
  int64_t n_widened = 0;    // scans that completed more than ops::kScanRows
  int64_t n_outside = 0;    // of those, where it changed the largest one
};

// Runs batch steps of one model.
// Thread: one at a time, together with its pool and the caches that it is given.
class Forward {
 public:
  // The pool must outlive the Forward.
  // Errors: kInvalidArgument for limits below one token, kResourceExhausted if the scratch memory
  // cannot be had.
  static Result<std::unique_ptr<Forward>> Create(std::shared_ptr<const Model> model,
                                                 ops::ThreadPool* pool, const StepLimits& limits);
  ~Forward();

  // Runs one batch step: appends every entry's tokens to its cache and writes the rows of logits
  // that were asked for, grouped by entry in the order of the batch, then by position; of each,
  // what is wanted of it.
  //   logits (out) [sum of n_logit_rows, vocab_size] f32, not normalised
  // A token's logits depend only on its sequence: neither on the other entries, nor on how the
  // sequence was cut into steps, nor on the number of threads, bit for bit.
  // Errors: kInvalidArgument for a token id outside the vocabulary, an empty entry, a cache that is
  // of another shape or listed twice, more tokens or rows than the limits; kResourceExhausted if a
  // cache has no room or there is no memory for its pages. Nothing has changed then.
  // Allocates pages of the caches and nothing else.
  // Cost: reads all weights once, model.bytes_per_token().
  // Source: pre-norm transformer with grouped-query attention (arXiv:2305.13245), rotary
  // embeddings (arXiv:2104.09864), SwiGLU (arXiv:2002.05202).
  Status Step(std::span<const BatchEntry> batch, std::span<float> logits);

  // What the multi-token prediction layer says comes after each entry's token. The cache's length
  // stays; tokens of earlier steps that the layer has not seen go through it in passing.
  //   logits (out) [batch.size(), vocab_size] f32, not normalised
  // Errors: as Step(), with nothing changed; kUnsupported for a model without such a layer.
  // Cost: reads that layer's weights and the head once.
  // Source: multi-token prediction as in arXiv:2412.19437 and MiMo (arXiv:2505.07608).
  Status Draft(std::span<const DraftEntry> batch, std::span<float> logits);
  // Takes the layer over all that it has not seen, as far as it is remembered: before a cache's
  // pages are shared.
  void CatchUp(KvCache* cache, MtpTrail* trail);

  const Model& model() const { return *model_; }
  const StepLimits& limits() const { return limits_; }
  uint64_t scratch_bytes() const;
  const ScanCounts& scan_counts() const { return scan_counts_; }

 private:
  struct Scratch;
  Forward();

  Status Validate(std::span<const BatchEntry> batch, std::span<float> logits) const;
  int Place(std::span<const BatchEntry> batch);
  void Embed(std::span<const BatchEntry> batch);
  void Rotary(int n_tokens);
  void Normalise(const float* x, const std::vector<float>& weight, int n_tokens);
  void Project(const Linear& linear, const float* x, const std::vector<float>* norm, int n_tokens,
               float* y);
  void AddBranch(int n_tokens);
  void Attention(int layer, int n_tokens);
  int LastLayer(std::span<const BatchEntry> batch, int n_tokens);
  void KeepLogitRows(std::span<const BatchEntry> batch);
  void PlaceHeads(int layer, int n_tokens, int n_queries, int n_kv);
  ops::AttentionShape ShapeOf(const KvCache& cache) const;
  int MakeBlocks(int n_tokens);
  void AttendHeads(int layer, int n_tokens, int64_t width);
  void FeedForward(int layer, int n_tokens);
  void SplitLastLayer();
  const LayerWeights& LayerOf(int layer) const;
  void EmbedToken(int32_t id, float* x) const;
  // ---- multi-token prediction
  Status ValidateDrafts(std::span<const DraftEntry> batch, std::span<float> logits) const;
  void CatchUp(const BatchEntry& entry, int first_token);
  void AddMtpRow(KvCache* cache, int position, int32_t token, const float* hidden_before);
  void RunMtpRows();
  void CompleteHead(std::span<const BatchEntry> batch, int n_rows, float* logits);

  std::shared_ptr<const Model> model_;
  ops::ThreadPool* pool_ = nullptr;
  StepLimits limits_;
  // Of the last layer's qkv; null where its rows cannot be made separately.
  std::unique_ptr<const Linear> last_queries_;
  std::unique_ptr<const Linear> last_keys_values_;
  std::unique_ptr<Scratch> scratch_;
  ScanCounts scan_counts_;
};

}  // namespace tandem::model
