// The batch step. Comments give shapes; T is the number of tokens of the step.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/weights.h"
#include "engine/ops/attention.h"
#include "engine/ops/matmul.h"
#include "engine/ops/norm.h"
#include "engine/ops/packed_matmul.h"
#include "engine/ops/rotary.h"
#include "engine/ops/two_planes.h"

namespace tandem::model {
namespace {

constexpr int kMaxStepTokens = 1 << 16;
// Floats that an elementwise loop handles per chunk: about 10 us.
constexpr int64_t kChunkFloats = 32 * 1024;

// Inputs of the widest linear layer.
int64_t WidestInput(const Hyperparameters& h) {
  return std::max({(h.n_mtp_layers > 0 ? 2 : 1) * int64_t{h.d_model}, h.q_dim(), int64_t{h.d_ff}});
}

int64_t PanelFloats(const Hyperparameters& h) {
  return std::max({ops::PanelFloats((h.n_mtp_layers > 0 ? 2 : 1) * int64_t{h.d_model}),
                   ops::PanelFloats(h.q_dim()), ops::PanelFloats(h.d_ff)});
}

// Steps of more tokens than this take the prediction layer along: prompts.
constexpr int kMaxDecodeTokens = 8;
// When this many tokens are waiting for it, a step takes them through the layer.
constexpr int kMaxWaitingTokens = MtpTrail::kTokens - kMaxDecodeTokens;

// Floats of Scratch::gate_up.
int64_t GateUpFloats(const Hyperparameters& h, bool packed, const StepLimits& limits,
                     int n_threads) {
  return packed ? n_threads * ops::GateFloats(limits.max_tokens)
                : limits.max_tokens * 2 * int64_t{h.d_ff};
}

// Bytes of Scratch::activations.
int64_t ActivationBytes(const Hyperparameters& h, const kernels::KernelSet& kernels, bool packed,
                        const StepLimits& limits) {
  if (!packed) return 0;
  return ops::ActivationBytes(kernels, limits.max_tokens, WidestInput(h));
}

// Bytes aligned as kernels want them.
class AlignedBytes {
 public:
  explicit AlignedBytes(int64_t size)
      : data_(static_cast<std::byte*>(::operator new[](size, kAlignment))), size_(size) {}
  ~AlignedBytes() { ::operator delete[](data_, kAlignment); }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;

  std::span<std::byte> span() const { return {data_, size_}; }

 private:
  static constexpr auto kAlignment = std::align_val_t(kernels::kStripAlignment);
  std::byte* data_;
  size_t size_;
};

// A matrix's rows [begin, end) by themselves; empty where a packed one cannot be cut there.
std::optional<ops::Matrix> CutRows(ops::Matrix matrix, int64_t begin, int64_t end) {
  matrix.data += begin * static_cast<int64_t>(matrix.row_bytes);
  matrix.n_rows = end - begin;
  return matrix;
}
std::optional<ops::PackedMatrix> CutRows(ops::PackedMatrix matrix, int64_t begin, int64_t end) {
  if (begin % kernels::kStripRows != 0) return std::nullopt;
  matrix.data += begin / kernels::kStripRows * kernels::StripBytes(matrix.scheme, matrix.n_cols);
  matrix.n_rows = end - begin;
  return matrix;
}

template <typename Part>
bool CutParts(const std::vector<Part>& parts, int64_t begin, int64_t end, std::vector<Part>* out) {
  int64_t first = 0;
  for (const Part& part : parts) {
    const int64_t from = std::max(begin, first) - first;
    const int64_t to = std::min(end, first + part.n_rows) - first;
    first += part.n_rows;
    if (from >= to) continue;
    const auto rows = CutRows(part, from, to);
    if (!rows) return false;
    out->push_back(*rows);
  }
  return true;
}

// Likewise of a layer.
std::optional<Linear> RowsOf(const Linear& linear, int64_t begin, int64_t end) {
  Linear rows;
  if (!CutParts(linear.blocks, begin, end, &rows.blocks) ||
      !CutParts(linear.strips, begin, end, &rows.strips)) {
    return std::nullopt;
  }
  return rows;
}

// Tokens of `width` floats that make a chunk.
int64_t ChunkTokens(int64_t width) { return std::max<int64_t>(1, kChunkFloats / width); }

}  // namespace

struct Forward::Scratch {
  // A token of the step: whose it is and where it stands.
  struct Place {
    KvCache* cache = nullptr;
    int position = 0;
  };
  // Consecutive tokens of one sequence that go through attention together.
  struct Block {
    int first = 0;  // token of the step
    int n_tokens = 0;
  };

  // A token that goes through the prediction layer.
  struct MtpRow {
    KvCache* cache = nullptr;
    int position = 0;
    int32_t token_id = 0;
    const float* hidden_before = nullptr;  // [d_model] of the position before; null: not known
  };

  Scratch(const Hyperparameters& h, const kernels::KernelSet& kernels, bool packed,
          bool planes_wanted, const StepLimits& limits, int n_threads)
      : places(limits.max_tokens),
        blocks(limits.max_tokens),
        x(limits.max_tokens * int64_t{h.d_model}),
        branch(x.size()),
        qkv(limits.max_tokens * (h.q_dim() + 2 * h.kv_dim())),
        attention(limits.max_tokens * h.q_dim()),
        gate_up(GateUpFloats(h, packed, limits, n_threads)),
        hidden(limits.max_tokens * int64_t{h.d_ff}),
        cos(limits.max_tokens * int64_t{h.rotary_dim} / 2),
        sin(cos.size()),
        per_thread(n_threads * ops::AttentionScratchBytes(h.head_dim)),
        panels(packed ? 0 : n_threads * PanelFloats(h)),
        activations(ActivationBytes(h, kernels, packed, limits)),
        step_hidden(h.n_mtp_layers > 0 ? x.size() : 0),
        mtp_input(2 * x.size() * (h.n_mtp_layers > 0 ? 1 : 0)) {
    if (planes_wanted) planes.emplace(kernels, h.vocab_size, h.d_model, limits.max_logit_rows);
    if (h.n_mtp_layers == 0) return;
    mtp_rows.reserve(static_cast<size_t>(limits.max_tokens));
    draft_rows.reserve(static_cast<size_t>(limits.max_logit_rows));
  }

  std::vector<Place> places;     // [T]
  std::vector<Block> blocks;     // of the T tokens, at most as many
  std::vector<float> x;          // [T, d_model] the residual stream
  std::vector<float> branch;     // [T, d_model] input of a block, normalised; then its output
  std::vector<float> qkv;        // [T, q_dim + 2 kv_dim]
  std::vector<float> attention;  // [T, q_dim]
  std::vector<float> gate_up;    // [T, 2 d_ff], or [n_threads, GateFloats] of a package
  std::vector<float> hidden;     // [T, d_ff]
  std::vector<float> cos;        // [T, rotary_dim / 2]
  std::vector<float> sin;        // [T, rotary_dim / 2]
  AlignedBytes per_thread;       // [n_threads, AttentionScratchBytes]
  std::vector<float> panels;     // [n_threads, PanelFloats]; none of a package
  AlignedBytes activations;      // of the widest input of a linear layer; of a package only
  std::optional<ops::PlaneScratch> planes;  // of a head in two planes only
  // Of a model with multi-token prediction.
  std::vector<float> step_hidden;  // [T, d_model] what the last layer gave
  std::vector<float> mtp_input;    // [mtp_rows, 2 d_model]
  std::vector<MtpRow> mtp_rows;    // at most max_tokens
  std::vector<int> draft_rows;     // of x, which give drafts; at most max_logit_rows
};

uint64_t ScratchBytes(const Hyperparameters& h, const kernels::KernelSet& kernels, bool packed,
                      const StepLimits& limits, int n_threads) {
  const int64_t per_token = 2 * int64_t{h.d_model} + 2 * h.q_dim() + 2 * h.kv_dim() +
                            int64_t{h.d_ff} + h.rotary_dim +
                            (h.n_mtp_layers > 0 ? 3 * int64_t{h.d_model} : 0);
  const int64_t n_floats = per_token * limits.max_tokens +
                           GateUpFloats(h, packed, limits, n_threads) +
                           (packed ? 0 : PanelFloats(h) * n_threads);
  return static_cast<uint64_t>(n_floats) * sizeof(float) +
         static_cast<uint64_t>(n_threads * ops::AttentionScratchBytes(h.head_dim)) +
         static_cast<uint64_t>(ActivationBytes(h, kernels, packed, limits)) +
         (packed ? ops::PlaneScratch::Bytes(kernels, h.vocab_size, h.d_model, limits.max_logit_rows)
                 : 0);
}

Forward::Forward() = default;
Forward::~Forward() = default;

Result<std::unique_ptr<Forward>> Forward::Create(std::shared_ptr<const Model> model,
                                                 ops::ThreadPool* pool, const StepLimits& limits) {
  if (limits.max_tokens < 1 || limits.max_tokens > kMaxStepTokens || limits.max_logit_rows < 1 ||
      limits.max_logit_rows > limits.max_tokens) {
    return Err(ErrorCode::kInvalidArgument,
               "a step of {} tokens with {} rows of logits; use 1 to {} tokens and at most as many "
               "rows",
               limits.max_tokens, limits.max_logit_rows, kMaxStepTokens);
  }
  std::unique_ptr<Forward> forward(new Forward());
  try {
    forward->scratch_ =
        std::make_unique<Scratch>(model->hyperparameters(), model->kernels(), model->packed(),
                                  !model->weights().head.fine.empty(), limits, pool->n_threads());
  } catch (const std::bad_alloc&) {
    return Err(ErrorCode::kResourceExhausted,
               "no memory for steps of {} tokens ({} MiB of scratch); use smaller steps",
               limits.max_tokens,
               ScratchBytes(model->hyperparameters(), model->kernels(), model->packed(), limits,
                            pool->n_threads()) >>
                   20);
  }
  forward->model_ = std::move(model);
  forward->pool_ = pool;
  forward->limits_ = limits;
  forward->SplitLastLayer();
  return forward;
}

// Rows of the last layer's fused q, k and v that can be made without the others.
void Forward::SplitLastLayer() {
  const Hyperparameters& h = model_->hyperparameters();
  const Linear& qkv = model_->weights().layers.back().qkv;
  auto queries = RowsOf(qkv, 0, h.q_dim());
  auto keys_values = RowsOf(qkv, h.q_dim(), h.q_dim() + 2 * h.kv_dim());
  if (!queries || !keys_values) return;
  last_queries_ = std::make_unique<const Linear>(*std::move(queries));
  last_keys_values_ = std::make_unique<const Linear>(*std::move(keys_values));
}

uint64_t Forward::scratch_bytes() const {
  return ScratchBytes(model_->hyperparameters(), model_->kernels(), model_->packed(), limits_,
                      pool_->n_threads());
}

Status Forward::Validate(std::span<const BatchEntry> batch, std::span<float> logits) const {
  const Hyperparameters& h = model_->hyperparameters();
  size_t n_tokens = 0;
  size_t n_rows = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const BatchEntry& entry = batch[i];
    if (entry.wanted.top < 0 || entry.wanted.top > LogitsWanted::kMaxTop) {
      return Err(ErrorCode::kInvalidArgument, "entry {}: the {} largest logits; use 0 to {}", i,
                 entry.wanted.top, LogitsWanted::kMaxTop);
    }
    const size_t n = entry.token_ids.size();
    if (entry.cache == nullptr || n == 0) {
      return Err(ErrorCode::kInvalidArgument, "entry {} of the batch has no {}", i,
                 n == 0 ? "tokens" : "cache");
    }
    if (entry.trail != nullptr && h.n_mtp_layers == 0) {
      return Err(ErrorCode::kInvalidArgument,
                 "entry {} keeps up with multi-token prediction, which this model has not", i);
    }
    if (!entry.cache->Fits(h)) {
      return Err(ErrorCode::kInvalidArgument, "entry {}: its KV cache is of another model", i);
    }
    for (size_t j = 0; j < i; ++j) {
      if (batch[j].cache == entry.cache) {
        return Err(ErrorCode::kInvalidArgument, "entries {} and {} share a KV cache", j, i);
      }
    }
    if (entry.n_logit_rows < 0 || static_cast<size_t>(entry.n_logit_rows) > n) {
      return Err(ErrorCode::kInvalidArgument, "entry {}: {} rows of logits wanted of {} tokens", i,
                 entry.n_logit_rows, n);
    }
    if (n > static_cast<size_t>(entry.cache->free_tokens())) {
      return Err(ErrorCode::kResourceExhausted,
                 "the context of {} tokens is full: {} are used and {} more were given",
                 entry.cache->context_tokens(), entry.cache->length(), n);
    }
    for (const int32_t id : entry.token_ids) {
      if (id < 0 || id >= h.vocab_size) {
        return Err(ErrorCode::kInvalidArgument,
                   "token id {} is outside the vocabulary of {} tokens", id, h.vocab_size);
      }
    }
    n_tokens += n;
    n_rows += entry.n_logit_rows;
  }
  if (n_tokens == 0) return Err(ErrorCode::kInvalidArgument, "the batch is empty");
  if (n_tokens > static_cast<size_t>(limits_.max_tokens) ||
      n_rows > static_cast<size_t>(limits_.max_logit_rows)) {
    return Err(ErrorCode::kInvalidArgument,
               "{} tokens and {} rows of logits; a step takes at most {} and {}", n_tokens, n_rows,
               limits_.max_tokens, limits_.max_logit_rows);
  }
  if (logits.size() < n_rows * h.vocab_size) {
    return Err(ErrorCode::kInvalidArgument, "room for {} logits where {} rows of {} were asked for",
               logits.size(), n_rows, h.vocab_size);
  }
  return {};
}

Status Forward::Step(std::span<const BatchEntry> batch, std::span<float> logits) {
  TANDEM_RETURN_IF_ERROR(Validate(batch, logits));
  for (const BatchEntry& entry : batch) {
    TANDEM_RETURN_IF_ERROR(entry.cache->Reserve(static_cast<int>(entry.token_ids.size())));
  }
  int n_tokens = Place(batch);
  Embed(batch);
  Rotary(n_tokens);
  const int last = model_->hyperparameters().n_layers - 1;
  for (int layer = 0; layer < last; ++layer) {
    Attention(layer, n_tokens);
    FeedForward(layer, n_tokens);
  }
  n_tokens = LastLayer(batch, n_tokens);
  if (n_tokens > 0) {
    Project(model_->weights().head, scratch_->x.data(), &model_->weights().output_norm, n_tokens,
            logits.data());
    if (!model_->weights().head.fine.empty()) CompleteHead(batch, n_tokens, logits.data());
  }
  int first_token = 0;
  for (const BatchEntry& entry : batch) {
    if (entry.trail != nullptr) CatchUp(entry, first_token);
    first_token += static_cast<int>(entry.token_ids.size());
  }
  for (const BatchEntry& entry : batch) {
    entry.cache->Extend(static_cast<int>(entry.token_ids.size()));
  }
  return {};
}

int Forward::Place(std::span<const BatchEntry> batch) {
  int t = 0;
  for (const BatchEntry& entry : batch) {
    for (size_t i = 0; i < entry.token_ids.size(); ++i) {
      scratch_->places[t++] = {entry.cache, entry.cache->length() + static_cast<int>(i)};
    }
  }
  return t;
}

// x = embedding[token id]
void Forward::Embed(std::span<const BatchEntry> batch) {
  float* x = scratch_->x.data();
  for (const BatchEntry& entry : batch) {
    for (const int32_t id : entry.token_ids) {
      EmbedToken(id, x);
      x += model_->hyperparameters().d_model;
    }
  }
}

void Forward::EmbedToken(int32_t id, float* x) const {
  const Linear& embedding = model_->weights().embedding;
  const int64_t width = model_->hyperparameters().d_model;
  if (embedding.packed()) {
    const ops::PackedMatrix& table = embedding.strips[0];
    const ops::FinePlane& fine = embedding.fine;
    if (fine.empty()) {
      kernels::UnpackRow(table.scheme, table.data, id, width, x);
    } else {
      kernels::UnpackRowInPlanes(table.scheme, table.data, fine.bits, fine.rows, id, width, x);
    }
  } else {
    const ops::Matrix& table = embedding.blocks[0];
    model_->kernels().ForType(table.type).unpack(table.data + id * table.row_bytes, width, x);
  }
}

// cos and sin of every token's position, for all layers and heads.
void Forward::Rotary(int n_tokens) {
  const Hyperparameters& h = model_->hyperparameters();
  const Weights& weights = model_->weights();
  const int64_t n_pairs = h.rotary_dim / 2;
  for (int t = 0; t < n_tokens; ++t) {
    const Scratch::Place& place = scratch_->places[t];
    ops::CosSin(
        place.position,
        place.cache->uses_long_rope() ? weights.long_frequencies : weights.short_frequencies,
        h.rope_attention_factor, scratch_->cos.data() + t * n_pairs,
        scratch_->sin.data() + t * n_pairs);
  }
}

// branch = RmsNorm(x) * weight
void Forward::Normalise(const float* x, const std::vector<float>& weight, int n_tokens) {
  const Hyperparameters& h = model_->hyperparameters();
  const int64_t width = h.d_model;
  pool_->ParallelFor(n_tokens, ChunkTokens(width), [&](int, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      ops::RmsNorm(model_->kernels(), x + t * width, weight.data(), h.rms_norm_eps, width,
                   scratch_->branch.data() + t * width);
    }
  });
}

// y = W x, or W RmsNorm(x) where there is a norm; a layer in blocks then uses up `branch`.
void Forward::Project(const Linear& linear, const float* x, const std::vector<float>* norm,
                      int n_tokens, float* y) {
  if (linear.packed()) {
    const ops::PackedMatrix& first = linear.strips[0];
    ops::QuantizeTokens(model_->kernels(), *pool_, x, norm != nullptr ? norm->data() : nullptr,
                        model_->hyperparameters().rms_norm_eps, n_tokens, first.n_cols,
                        first.group(), scratch_->activations.span());
    ops::MatMul(model_->kernels(), *pool_, linear.strips, scratch_->activations.span(), n_tokens,
                y);
    return;
  }
  if (norm != nullptr) {
    Normalise(x, *norm, n_tokens);
    x = scratch_->branch.data();
  }
  ops::MatMul(model_->kernels(), *pool_, linear.blocks, x, n_tokens, y, scratch_->panels);
}

// x += branch
void Forward::AddBranch(int n_tokens) {
  const int64_t width = model_->hyperparameters().d_model;
  pool_->ParallelFor(n_tokens, ChunkTokens(width), [&](int, int64_t begin, int64_t end) {
    ops::Add(scratch_->x.data() + begin * width, scratch_->branch.data() + begin * width,
             (end - begin) * width);
  });
}

// x += W_o Attend(rotate(q), rotate(k), v) with q, k, v = W_qkv RmsNorm(x) + bias
void Forward::Attention(int layer, int n_tokens) {
  const Hyperparameters& h = model_->hyperparameters();
  const LayerWeights& weights = LayerOf(layer);
  Project(weights.qkv, scratch_->x.data(), &weights.attention_norm, n_tokens, scratch_->qkv.data());
  PlaceHeads(layer, n_tokens, h.n_heads, h.n_kv_heads);
  AttendHeads(layer, n_tokens, h.q_dim() + 2 * h.kv_dim());
  Project(weights.attention_output, scratch_->attention.data(), nullptr, n_tokens,
          scratch_->branch.data());
  AddBranch(n_tokens);
}

// The last layer matters only to tokens whose logits are wanted, and to multi-token prediction; of
// others it makes keys and values. Afterwards x has the wanted rows alone, whose number comes back.
int Forward::LastLayer(std::span<const BatchEntry> batch, int n_tokens) {
  const Hyperparameters& h = model_->hyperparameters();
  const int layer = h.n_layers - 1;
  int n_rows = 0;
  for (const BatchEntry& entry : batch) n_rows += entry.n_logit_rows;
  const auto has_trail = [](const BatchEntry& entry) { return entry.trail != nullptr; };
  if (std::ranges::any_of(batch, has_trail)) {
    Attention(layer, n_tokens);
    FeedForward(layer, n_tokens);
    std::copy_n(scratch_->x.data(), n_tokens * int64_t{h.d_model}, scratch_->step_hidden.data());
    KeepLogitRows(batch);
    return n_rows;
  }
  if (n_rows == n_tokens || !last_queries_) {
    Attention(layer, n_tokens);
    KeepLogitRows(batch);
    if (n_rows > 0) FeedForward(layer, n_rows);
    return n_rows;
  }
  const LayerWeights& weights = LayerOf(layer);
  Project(*last_keys_values_, scratch_->x.data(), &weights.attention_norm, n_tokens,
          scratch_->qkv.data());
  PlaceHeads(layer, n_tokens, 0, h.n_kv_heads);
  KeepLogitRows(batch);
  if (n_rows == 0) return 0;
  Project(*last_queries_, scratch_->x.data(), &weights.attention_norm, n_rows,
          scratch_->qkv.data());
  PlaceHeads(layer, n_rows, h.n_heads, 0);
  AttendHeads(layer, n_rows, h.q_dim());
  Project(weights.attention_output, scratch_->attention.data(), nullptr, n_rows,
          scratch_->branch.data());
  AddBranch(n_rows);
  FeedForward(layer, n_rows);
  return n_rows;
}

// Moves what belongs to the tokens whose logits are wanted to the front.
void Forward::KeepLogitRows(std::span<const BatchEntry> batch) {
  const int64_t width = model_->hyperparameters().d_model;
  const int64_t n_pairs = model_->hyperparameters().rotary_dim / 2;
  const auto move = [](std::vector<float>& rows, int64_t row_width, int64_t from, int64_t to) {
    std::copy_n(rows.data() + from * row_width, row_width, rows.data() + to * row_width);
  };
  int64_t end = 0;
  int64_t to = 0;
  for (const BatchEntry& entry : batch) {
    end += static_cast<int64_t>(entry.token_ids.size());
    for (int64_t from = end - entry.n_logit_rows; from < end; ++from, ++to) {
      if (from == to) continue;
      move(scratch_->x, width, from, to);
      move(scratch_->cos, n_pairs, from, to);
      move(scratch_->sin, n_pairs, from, to);
      scratch_->places[to] = scratch_->places[from];
    }
  }
}

// Of every token's row of qkv (n_queries heads of q, then n_kv heads of k, then of v; one of the
// two may be none): adds the bias, rotates q and k, and puts k and v where they stay.
void Forward::PlaceHeads(int layer, int n_tokens, int n_queries, int n_kv) {
  const Hyperparameters& h = model_->hyperparameters();
  const std::vector<float>& bias = LayerOf(layer).qkv_bias;
  const int64_t width = int64_t{n_queries + 2 * n_kv} * h.head_dim;
  const int64_t bias_begin = n_queries > 0 ? 0 : h.q_dim();
  const int n_pairs = h.rotary_dim / 2;
  const int64_t scratch_bytes = ops::AttentionScratchBytes(h.head_dim);
  pool_->ParallelFor(n_tokens, ChunkTokens(width), [&](int worker, int64_t begin, int64_t end) {
    const auto scratch = scratch_->per_thread.span().subspan(worker * scratch_bytes, scratch_bytes);
    for (int64_t t = begin; t < end; ++t) {
      float* row = scratch_->qkv.data() + t * width;
      if (!bias.empty()) ops::Add(row, bias.data() + bias_begin, width);
      const float* cos = scratch_->cos.data() + t * n_pairs;
      const float* sin = scratch_->sin.data() + t * n_pairs;
      for (int head = 0; head < n_queries + n_kv; ++head) {
        ops::Rotate(row + int64_t{head} * h.head_dim, n_pairs, cos, sin);
      }
      const auto [cache, position] = scratch_->places[t];
      const float* keys = row + int64_t{n_queries} * h.head_dim;
      for (int head = 0; head < n_kv; ++head) {
        const float* key = keys + int64_t{head} * h.head_dim;
        ops::StoreKeyAndValue(model_->kernels(), ShapeOf(*cache), key, key + h.kv_dim(),
                              position % kPageTokens, cache->tile(layer, head, position), scratch);
      }
    }
  });
}

ops::AttentionShape Forward::ShapeOf(const KvCache& cache) const {
  const Hyperparameters& h = model_->hyperparameters();
  return {.type = cache.type(), .head_dim = h.head_dim, .n_queries = h.n_heads / h.n_kv_heads};
}

// Cuts the tokens into blocks that Attend() takes at once, and says how many.
int Forward::MakeBlocks(int n_tokens) {
  const int block_tokens = ops::BlockTokens(ShapeOf(*scratch_->places[0].cache));
  int n_blocks = 0;
  for (int t = 0; t < n_tokens;) {
    int n = 1;
    while (n < block_tokens && t + n < n_tokens &&
           scratch_->places[t + n].cache == scratch_->places[t].cache) {
      ++n;
    }
    scratch_->blocks[n_blocks++] = {t, n};
    t += n;
  }
  return n_blocks;
}

// attention = softmax(q k^T / sqrt(head_dim)) v, every query head over its KV head's past. The
// queries stand in qkv, `width` apart.
void Forward::AttendHeads(int layer, int n_tokens, int64_t width) {
  const Hyperparameters& h = model_->hyperparameters();
  const int64_t group = int64_t{h.n_heads / h.n_kv_heads} * h.head_dim;
  const int64_t scratch_bytes = ops::AttentionScratchBytes(h.head_dim);
  const int n_blocks = MakeBlocks(n_tokens);
  int64_t n_positions = 0;
  for (int t = 0; t < n_tokens; ++t) n_positions += scratch_->places[t].position + 1;
  // A block's work for one KV head is its positions times the group, twice.
  const int64_t chunk = std::max<int64_t>(1, kChunkFloats * n_blocks / (group * n_positions));
  pool_->ParallelFor(
      int64_t{n_blocks} * h.n_kv_heads, chunk, [&](int worker, int64_t begin, int64_t end) {
        const auto scratch =
            scratch_->per_thread.span().subspan(worker * scratch_bytes, scratch_bytes);
        for (int64_t item = begin; item < end; ++item) {
          const Scratch::Block block = scratch_->blocks[item / h.n_kv_heads];
          const auto head = static_cast<int>(item % h.n_kv_heads);
          const auto [cache, position] = scratch_->places[block.first];
          ops::Attend(model_->kernels(), ShapeOf(*cache),
                      scratch_->qkv.data() + block.first * width + head * group, width,
                      block.n_tokens, position, cache->page_data(),
                      cache->layout().tile_offset(layer, head),
                      scratch_->attention.data() + block.first * h.q_dim() + head * group,
                      h.q_dim(), scratch);
        }
      });
}

// x += W_down (silu(gate) * up) with gate, up = W_gate_up RmsNorm(x)
void Forward::FeedForward(int layer, int n_tokens) {
  const LayerWeights& weights = LayerOf(layer);
  const kernels::KernelSet& kernels = model_->kernels();
  const Hyperparameters& h = model_->hyperparameters();
  const int64_t d_ff = h.d_ff;
  if (weights.gate_up.packed()) {
    const ops::PackedMatrix& gate_up = weights.gate_up.strips[0];
    ops::QuantizeTokens(kernels, *pool_, scratch_->x.data(), weights.ffn_norm.data(),
                        h.rms_norm_eps, n_tokens, gate_up.n_cols, gate_up.group(),
                        scratch_->activations.span());
    ops::GatedMatMul(kernels, *pool_, gate_up, scratch_->activations.span(), n_tokens, d_ff,
                     scratch_->hidden.data(), scratch_->gate_up);
  } else {
    Project(weights.gate_up, scratch_->x.data(), &weights.ffn_norm, n_tokens,
            scratch_->gate_up.data());
    pool_->ParallelFor(n_tokens, ChunkTokens(d_ff), [&](int, int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* gate = scratch_->gate_up.data() + t * 2 * d_ff;
        kernels.silu_mul(gate, gate + d_ff, d_ff, scratch_->hidden.data() + t * d_ff);
      }
    });
  }
  Project(weights.down, scratch_->hidden.data(), nullptr, n_tokens, scratch_->branch.data());
  AddBranch(n_tokens);
}

const LayerWeights& Forward::LayerOf(int layer) const {
  const Weights& weights = model_->weights();
  return layer < model_->hyperparameters().n_layers ? weights.layers[layer] : weights.mtp->layer;
}

// Takes a step's tokens, or what has been waiting too long, through the prediction layer. The cache
// has not been extended yet; the entry's tokens start at first_token of the step.
void Forward::CatchUp(const BatchEntry& entry, int first_token) {
  const int64_t width = model_->hyperparameters().d_model;
  MtpTrail& trail = *entry.trail;
  const int begin = entry.cache->length();
  const int end = begin + static_cast<int>(entry.token_ids.size());
  const float* hidden = scratch_->step_hidden.data() + first_token * width;
  if (end - begin > kMaxDecodeTokens || end - trail.n_done() > kMaxWaitingTokens) {
    for (int position = std::min(trail.n_done(), end); position < end; ++position) {
      const auto token =
          position < begin ? trail.token(position)
                           : std::optional(entry.token_ids[static_cast<size_t>(position - begin)]);
      if (!token) continue;
      AddMtpRow(
          entry.cache, position, *token,
          position > begin ? hidden + (position - begin - 1) * width : trail.hidden(position - 1));
    }
    RunMtpRows();
    trail.set_n_done(end);
  }
  trail.Append(begin, entry.token_ids, hidden);
}

void Forward::CatchUp(KvCache* cache, MtpTrail* trail) {
  for (int position = trail->n_done(); position < cache->length(); ++position) {
    const auto token = trail->token(position);
    if (token) AddMtpRow(cache, position, *token, trail->hidden(position - 1));
  }
  RunMtpRows();
  trail->set_n_done(std::max(trail->n_done(), cache->length()));
}

Status Forward::ValidateDrafts(std::span<const DraftEntry> batch, std::span<float> logits) const {
  const Hyperparameters& h = model_->hyperparameters();
  if (h.n_mtp_layers == 0) {
    return Err(ErrorCode::kUnsupported, "this model has no layer of multi-token prediction");
  }
  if (batch.empty() || batch.size() > static_cast<size_t>(limits_.max_logit_rows) ||
      logits.size() < batch.size() * static_cast<size_t>(h.vocab_size)) {
    return Err(ErrorCode::kInvalidArgument, "{} drafts; a step takes 1 to {}, with room for each",
               batch.size(), limits_.max_logit_rows);
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    const DraftEntry& entry = batch[i];
    if (entry.cache == nullptr || entry.trail == nullptr || !entry.cache->Fits(h)) {
      return Err(ErrorCode::kInvalidArgument, "draft {}: no cache of this model, or no trail", i);
    }
    if (entry.token_id < 0 || entry.token_id >= h.vocab_size) {
      return Err(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {} tokens",
                 entry.token_id, h.vocab_size);
    }
    if (entry.cache->free_tokens() < 1) {
      return Err(ErrorCode::kResourceExhausted, "the context of {} tokens is full",
                 entry.cache->context_tokens());
    }
    for (size_t j = 0; j < i; ++j) {
      if (batch[j].cache == entry.cache) {
        return Err(ErrorCode::kInvalidArgument, "drafts {} and {} share a KV cache", j, i);
      }
    }
  }
  return {};
}

Status Forward::Draft(std::span<const DraftEntry> batch, std::span<float> logits) {
  TANDEM_RETURN_IF_ERROR(ValidateDrafts(batch, logits));
  const Hyperparameters& h = model_->hyperparameters();
  const int64_t width = h.d_model;
  for (const DraftEntry& entry : batch) TANDEM_RETURN_IF_ERROR(entry.cache->Reserve(1));
  for (size_t done = 0; done < batch.size();) {
    // As many sequences as fit, each with what has been waiting for the layer.
    std::vector<int>& last_rows = scratch_->draft_rows;
    last_rows.clear();
    for (const DraftEntry& entry : batch.subspan(done)) {
      const int end = entry.cache->length();
      int position = std::min(entry.trail->n_done(), end);
      const size_t n_rows = scratch_->mtp_rows.size() + static_cast<size_t>(end - position) + 1;
      if (!last_rows.empty() && n_rows > static_cast<size_t>(limits_.max_tokens)) break;
      for (; position < end; ++position) {
        const auto token = entry.trail->token(position);
        if (token) AddMtpRow(entry.cache, position, *token, entry.trail->hidden(position - 1));
      }
      AddMtpRow(entry.cache, end, entry.token_id, entry.trail->hidden(end - 1));
      entry.trail->set_n_done(end + 1);
      last_rows.push_back(static_cast<int>(scratch_->mtp_rows.size()) - 1);
    }
    RunMtpRows();
    const auto n_drafts = static_cast<int>(last_rows.size());
    for (int i = 0; i < n_drafts; ++i) {
      std::copy_n(scratch_->x.data() + last_rows[static_cast<size_t>(i)] * width, width,
                  scratch_->x.data() + i * width);
    }
    Project(model_->weights().head, scratch_->x.data(), &model_->weights().mtp->final_norm,
            n_drafts, logits.data() + static_cast<int64_t>(done) * h.vocab_size);
    done += last_rows.size();
  }
  return {};
}

// A row for RunMtpRows(), unless its keys and values are not this cache's to write.
void Forward::AddMtpRow(KvCache* cache, int position, int32_t token, const float* hidden_before) {
  if (!cache->IsWritable(position)) return;
  if (scratch_->mtp_rows.size() == static_cast<size_t>(limits_.max_tokens)) RunMtpRows();
  scratch_->mtp_rows.push_back({cache, position, token, hidden_before});
}

// x = the prediction layer over eh_proj [RmsNorm(embedding), RmsNorm(hidden state before)]
void Forward::RunMtpRows() {
  const Hyperparameters& h = model_->hyperparameters();
  const MtpWeights& weights = *model_->weights().mtp;
  const int64_t width = h.d_model;
  const auto n_rows = static_cast<int>(scratch_->mtp_rows.size());
  if (n_rows == 0) return;
  pool_->ParallelFor(n_rows, ChunkTokens(2 * width), [&](int, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Scratch::MtpRow& row = scratch_->mtp_rows[static_cast<size_t>(t)];
      float* input = scratch_->mtp_input.data() + 2 * t * width;
      float* embedded = scratch_->branch.data() + t * width;
      EmbedToken(row.token_id, embedded);
      ops::RmsNorm(model_->kernels(), embedded, weights.token_norm.data(), h.rms_norm_eps, width,
                   input);
      if (row.hidden_before != nullptr) {
        ops::RmsNorm(model_->kernels(), row.hidden_before, weights.hidden_norm.data(),
                     h.rms_norm_eps, width, input + width);
      } else {
        std::fill_n(input + width, width, 0.0F);
      }
    }
  });
  for (int t = 0; t < n_rows; ++t) {
    const Scratch::MtpRow& row = scratch_->mtp_rows[static_cast<size_t>(t)];
    scratch_->places[static_cast<size_t>(t)] = {row.cache, row.position};
  }
  scratch_->mtp_rows.clear();
  Project(weights.input, scratch_->mtp_input.data(), nullptr, n_rows, scratch_->x.data());
  Rotary(n_rows);
  Attention(h.n_layers, n_rows);
  FeedForward(h.n_layers, n_rows);
}

// Adds to the coarse logits what is wanted of the fine plane; the activations are still those of
// the head.
void Forward::CompleteHead(std::span<const BatchEntry> batch, int n_rows, float* logits) {
  const Linear& head = model_->weights().head;
  const kernels::KernelSet& kernels = model_->kernels();
  const std::span<const std::byte> activations = scratch_->activations.span();
  const int64_t vocab_size = model_->hyperparameters().vocab_size;
  int64_t first = 0;
  for (const BatchEntry& entry : batch) {
    const int64_t last = first + entry.n_logit_rows;
    const LogitsWanted& wanted = entry.wanted;
    if (wanted.top == 0 && first < last) {
      ops::CompleteAll(kernels, *pool_, head.strips[0], head.fine, activations, first, last, n_rows,
                       &*scratch_->planes, logits + first * vocab_size);
    }
    for (int64_t row = first; wanted.top > 0 && row < last; ++row) {
      float* y = logits + row * vocab_size;
      if (wanted.n_ids > 0 && wanted.n_ids < vocab_size) {
        std::fill(y + wanted.n_ids, y + vocab_size, -std::numeric_limits<float>::infinity());
      }
      const ops::ScanReport report =
          ops::CompleteTop(kernels, *pool_, head.strips[0], head.fine, activations, row, n_rows,
                           wanted.top, wanted.excluded, &*scratch_->planes, y);
      ++scan_counts_.n_scans;
      scan_counts_.n_completed += report.n_completed;
      scan_counts_.n_widened += report.widened ? 1 : 0;
      scan_counts_.n_outside += report.outside ? 1 : 0;
    }
    first = last;
  }
}

}  // namespace tandem::model
