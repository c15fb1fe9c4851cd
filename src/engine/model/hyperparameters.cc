#include "engine/model/hyperparameters.h"

#include <cmath>
#include <optional>

#include "base/log.h"

namespace tandem::model {
namespace {

// Far above any model of these families; low enough that no product of shapes overflows and that a
// nonsensical file is told what is wrong with it.
constexpr uint64_t kMaxLayers = 1024;
constexpr uint64_t kMaxHeads = 1024;
constexpr uint64_t kMaxHeadDim = 1024;
constexpr uint64_t kMaxWidth = 1 << 20;  // d_model, d_ff
constexpr uint64_t kMaxVocabulary = 1 << 24;
constexpr uint64_t kMaxContext = 1 << 26;

// The keys of one architecture.
class Keys {
 public:
  Keys(const gguf::File& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  std::string Name(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }

  // A count that must be there and lie in [1, max].
  Result<int> Count(std::string_view key, uint64_t max) const {
    const std::string name = Name(key);
    TANDEM_ASSIGN_OR_RETURN(const uint64_t value, Missing(file_.GetUint(name), name));
    return InRange(name, value, max);
  }

  Result<std::optional<int>> OptionalCount(std::string_view key, uint64_t max) const {
    const std::string name = Name(key);
    TANDEM_ASSIGN_OR_RETURN(const std::optional<uint64_t> value, file_.FindUint(name));
    if (!value) return std::nullopt;
    TANDEM_ASSIGN_OR_RETURN(const int count, InRange(name, *value, max));
    return count;
  }

  // A number that may be missing, in (0, max].
  Result<std::optional<double>> Positive(std::string_view key, double max) const {
    const std::string name = Name(key);
    TANDEM_ASSIGN_OR_RETURN(const std::optional<double> value, file_.FindFloat(name));
    if (value && !(*value > 0 && *value <= max)) {
      return Err(ErrorCode::kCorrupt, "{}: {} is {}; expected a number above 0, at most {}",
                 file_.name(), name, *value, max);
    }
    return value;
  }

 private:
  // A model file without a key that its architecture needs is broken, whoever asked for the key.
  template <typename T>
  static Result<T> Missing(Result<T> result, const std::string& name) {
    if (!result && result.error().code == ErrorCode::kNotFound) {
      result.error().code = ErrorCode::kCorrupt;
      result.error().param = name;
    }
    return result;
  }

  Result<int> InRange(const std::string& name, uint64_t value, uint64_t max) const {
    if (value < 1 || value > max) {
      return Err(ErrorCode::kCorrupt, "{}: {} is {}; expected 1 to {}", file_.name(), name, value,
                 max);
    }
    return static_cast<int>(value);
  }

  const gguf::File& file_;
  const std::string prefix_;
};

Status ReadHeads(const gguf::File& file, const Keys& keys, Hyperparameters* h) {
  TANDEM_ASSIGN_OR_RETURN(h->n_heads, keys.Count("attention.head_count", kMaxHeads));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int> n_kv_heads,
                          keys.OptionalCount("attention.head_count_kv", kMaxHeads));
  h->n_kv_heads = n_kv_heads.value_or(h->n_heads);
  if (h->n_heads % h->n_kv_heads != 0) {
    return Err(ErrorCode::kCorrupt, "{}: {} query heads cannot share {} KV heads evenly",
               file.name(), h->n_heads, h->n_kv_heads);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int> key_length,
                          keys.OptionalCount("attention.key_length", kMaxHeadDim));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int> value_length,
                          keys.OptionalCount("attention.value_length", kMaxHeadDim));
  if (!key_length && h->d_model % h->n_heads != 0) {
    return Err(ErrorCode::kCorrupt, "{}: {} = {} is not a multiple of {} = {}", file.name(),
               keys.Name("embedding_length"), h->d_model, keys.Name("attention.head_count"),
               h->n_heads);
  }
  h->head_dim = key_length.value_or(h->d_model / h->n_heads);
  if (value_length.value_or(h->head_dim) != h->head_dim) {
    return Err(ErrorCode::kUnsupported,
               "{}: keys of {} and values of {} elements; Tandem needs "
               "them equal",
               file.name(), h->head_dim, *value_length);
  }
  if (h->head_dim % 8 != 0 || h->head_dim > static_cast<int>(kMaxHeadDim)) {
    return Err(ErrorCode::kUnsupported,
               "{}: heads of {} elements; Tandem needs a multiple of 8, at most {}", file.name(),
               h->head_dim, kMaxHeadDim);
  }
  return {};
}

Status ReadRotary(const gguf::File& file, const Keys& keys, Hyperparameters* h) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int> rotary_dim,
                          keys.OptionalCount("rope.dimension_count", kMaxHeadDim));
  h->rotary_dim = rotary_dim.value_or(h->head_dim);
  if (h->rotary_dim % 2 != 0 || h->rotary_dim > h->head_dim) {
    return Err(ErrorCode::kCorrupt,
               "{}: {} is {}; expected an even number, at most the {} of a head", file.name(),
               keys.Name("rope.dimension_count"), h->rotary_dim, h->head_dim);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<double> theta, keys.Positive("rope.freq_base", 1e12));
  h->rope_theta = theta.value_or(10000.0);

  const std::string type_key = keys.Name("rope.scaling.type");
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> type, file.FindString(type_key));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<double> factor,
                          file.FindFloat(keys.Name("rope.scaling.factor")));
  const bool plain = !type || *type == "none" || *type == "longrope";
  if (!plain || (!type && factor && *factor != 0 && *factor != 1)) {
    return Err(ErrorCode::kUnsupported,
               "{}: RoPE scaling '{}' is not supported; Tandem has none and longrope", file.name(),
               type.value_or("linear"));
  }

  const bool has_long = file.Find("rope_factors_long.weight") != nullptr;
  const bool has_short = file.Find("rope_factors_short.weight") != nullptr;
  if (has_long != has_short) {
    return Err(ErrorCode::kCorrupt, "{}: tensor rope_factors_{}.weight is missing beside {}",
               file.name(), has_long ? "short" : "long", has_long ? "long" : "short");
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<double> attention_factor,
                          keys.Positive("rope.scaling.attn_factor", 1000));
  h->rope_attention_factor = attention_factor.value_or(1.0);
  if (!has_long) return {};
  TANDEM_ASSIGN_OR_RETURN(h->original_context_length,
                          keys.Count("rope.scaling.original_context_length", kMaxContext));
  if (!attention_factor && h->context_length > h->original_context_length) {
    // What the key would hold (arXiv:2402.13753, as in the published configurations).
    const double original = h->original_context_length;
    h->rope_attention_factor =
        std::sqrt(1 + std::log(h->context_length / original) / std::log(original));
  }
  return {};
}

// Multi-token prediction layers count as blocks, after those of the main model.
Status ReadPredictionLayers(const gguf::File& file, const Keys& keys, Hyperparameters* h) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<uint64_t> n_next,
                          file.FindUint(keys.Name("nextn_predict_layers")));
  if (!n_next || *n_next == 0 || *n_next >= static_cast<uint64_t>(h->n_layers)) return {};
  const int first = h->n_layers - static_cast<int>(*n_next);
  const auto has = [&](std::string_view name) {
    return file.Find(fmt::format("blk.{}.nextn.{}.weight", first, name)) != nullptr;
  };
  // A package has this layer's matrices elsewhere, but its norms here.
  if (!has("hnorm") && !has("eh_proj")) return {};
  h->n_layers = first;
  if (h->architecture == Architecture::kQwen2 && !has("embed_tokens") && !has("shared_head_head")) {
    h->n_mtp_layers = 1;
  } else {
    log::Warning("{}: its layer of multi-token prediction is not of MiMo's kind and is left out",
                 file.name());
  }
  return {};
}

}  // namespace

std::string_view ArchitectureName(Architecture architecture) {
  switch (architecture) {
    case Architecture::kPhi3:
      return "phi3";
    case Architecture::kQwen2:
      return "qwen2";
  }
  return "unknown";
}

Result<Hyperparameters> ReadHyperparameters(const gguf::File& file) {
  Hyperparameters h;
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> architecture,
                          file.FindString("general.architecture"));
  if (!architecture) {
    return Err(ErrorCode::kCorrupt, "{}: general.architecture is missing; is this a model?",
               file.name());
  }
  if (*architecture == "phi3") {
    h.architecture = Architecture::kPhi3;
  } else if (*architecture == "qwen2" || *architecture == "mimo") {
    h.architecture = Architecture::kQwen2;
  } else {
    return Err(ErrorCode::kUnsupported,
               "{}: architecture '{}' is not supported; Tandem runs phi3 and qwen2 (mimo)",
               file.name(), *architecture);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> name,
                          file.FindString("general.name"));
  h.name = name.value_or("");

  const Keys keys(file, *architecture);
  TANDEM_ASSIGN_OR_RETURN(h.n_layers, keys.Count("block_count", kMaxLayers));
  TANDEM_ASSIGN_OR_RETURN(h.d_model, keys.Count("embedding_length", kMaxWidth));
  TANDEM_ASSIGN_OR_RETURN(h.d_ff, keys.Count("feed_forward_length", kMaxWidth));
  TANDEM_ASSIGN_OR_RETURN(h.context_length, keys.Count("context_length", kMaxContext));
  TANDEM_RETURN_IF_ERROR(ReadHeads(file, keys, &h));
  TANDEM_RETURN_IF_ERROR(ReadRotary(file, keys, &h));
  TANDEM_ASSIGN_OR_RETURN(const std::optional<double> eps,
                          keys.Positive("attention.layer_norm_rms_epsilon", 1));
  if (!eps) {
    return Err(ErrorCode::kCorrupt, "{}: {} is missing", file.name(),
               keys.Name("attention.layer_norm_rms_epsilon"));
  }
  h.rms_norm_eps = *eps;

  TANDEM_RETURN_IF_ERROR(ReadPredictionLayers(file, keys, &h));

  // Phi-4-mini's files carry a window that is longer than its context, or 0.
  TANDEM_ASSIGN_OR_RETURN(const std::optional<uint64_t> window,
                          file.FindUint(keys.Name("attention.sliding_window")));
  if (window && *window > 0 && *window < static_cast<uint64_t>(h.context_length)) {
    log::Warning("{}: context limited to its sliding window of {} tokens", file.name(), *window);
    h.context_length = static_cast<int>(*window);
  }

  const gguf::Tensor* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr) {
    // In a package the matrices stand elsewhere, and this key says how many rows there are.
    TANDEM_ASSIGN_OR_RETURN(const std::optional<int> rows,
                            keys.OptionalCount("vocab_size", kMaxVocabulary));
    if (rows) {
      h.vocab_size = *rows;
      return h;
    }
    return Err(ErrorCode::kCorrupt, "{}: tensor token_embd.weight is missing", file.name());
  }
  if (embedding->n_dims != 2 || embedding->dims[1] < 1 ||
      embedding->dims[1] > static_cast<int64_t>(kMaxVocabulary)) {
    return Err(ErrorCode::kCorrupt,
               "{}: token_embd.weight has {} dimensions and {} rows; expected a matrix of 1 to {} "
               "rows, one per token",
               file.name(), embedding->n_dims, embedding->dims[1], kMaxVocabulary);
  }
  h.vocab_size = static_cast<int>(embedding->dims[1]);
  return h;
}

}  // namespace tandem::model
