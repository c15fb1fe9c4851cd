#include "engine/model/huggingface.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/json.hpp>

#include "engine/gguf/writer.h"
#include "engine/safetensors/checkpoint.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "os/file.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kMaxConfigBytes = size_t{4} << 20;
constexpr size_t kMaxTokenizerBytes = size_t{128} << 20;
// Files beside the weights; the first one must be there.
constexpr const char* kSideFiles[] = {"config.json", "generation_config.json", "tokenizer.json",
                                      "tokenizer_config.json", "chat_template.jinja"};

std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

// A JSON file, null where it is not there.
Result<json::value> ReadJson(const fs::path& path, size_t max_bytes) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return json::value();
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, max_bytes));
  boost::system::error_code error;
  json::value document = json::parse(text, error);
  if (error || !document.is_object()) {
    return Err(ErrorCode::kCorrupt, "{}: not a JSON object: {}", path.string(), error.message());
  }
  return document;
}

// The fields of a config.json.
class Config {
 public:
  Config(const json::object& fields, std::string name) : fields_(fields), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  // Null where the field is missing or null.
  const json::value* Find(std::string_view field) const {
    const json::value* value = fields_.if_contains(field);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  Result<std::optional<uint32_t>> FindCount(std::string_view field) const {
    const json::value* value = Find(field);
    if (value == nullptr) return std::nullopt;
    const int64_t* number = value->if_int64();
    if (number == nullptr || *number < 0 || *number > INT32_MAX) return Wrong(field, "a count");
    return static_cast<uint32_t>(*number);
  }
  Result<uint32_t> Count(std::string_view field) const {
    TANDEM_ASSIGN_OR_RETURN(const auto value, FindCount(field));
    if (!value) return Wrong(field, "a count");
    return *value;
  }
  Result<std::optional<double>> FindNumber(std::string_view field) const {
    const json::value* value = Find(field);
    if (value == nullptr) return std::nullopt;
    boost::system::error_code error;
    const double number = value->to_number<double>(error);
    if (error || !std::isfinite(number)) return Wrong(field, "a number");
    return number;
  }
  bool IsTrue(std::string_view field) const {
    const json::value* value = Find(field);
    return value != nullptr && value->is_bool() && value->get_bool();
  }
  std::string_view String(std::string_view field) const {
    const json::value* value = Find(field);
    const json::string* text = value == nullptr ? nullptr : value->if_string();
    return text == nullptr ? std::string_view() : View(*text);
  }
  Result<std::vector<float>> Floats(std::string_view field) const {
    const json::value* value = Find(field);
    const json::array* list = value == nullptr ? nullptr : value->if_array();
    std::vector<float> floats;
    if (list == nullptr || list->size() > 4096) return Wrong(field, "a list of numbers");
    for (const json::value& element : *list) {
      boost::system::error_code error;
      floats.push_back(static_cast<float>(element.to_number<double>(error)));
      if (error) return Wrong(field, "a list of numbers");
    }
    return floats;
  }
  // The first id of a field that is one id or a list of them.
  Result<std::optional<uint32_t>> FindId(std::string_view field) const {
    const json::value* value = Find(field);
    if (value == nullptr || !value->is_array()) return FindCount(field);
    const json::array& list = value->get_array();
    const int64_t* id = list.empty() ? nullptr : list[0].if_int64();
    if (id == nullptr || *id < 0 || *id > INT32_MAX) return Wrong(field, "a list of ids");
    return static_cast<uint32_t>(*id);
  }

  std::unexpected<Error> Wrong(std::string_view field, std::string_view expected) const {
    auto error = Err(ErrorCode::kCorrupt, "{}: '{}' is {}, not {}", name_, field,
                     Find(field) == nullptr ? "missing" : "there", expected);
    error.error().param = field;
    return error;
  }

 private:
  const json::object& fields_;
  const std::string name_;
};

enum class Family { kPhi3, kQwen2 };

Result<Family> ReadFamily(const Config& config) {
  const json::value* value = config.Find("architectures");
  const json::array* list = value == nullptr ? nullptr : value->if_array();
  const json::string* first =
      list == nullptr || list->empty() ? nullptr : list->front().if_string();
  if (first == nullptr) return config.Wrong("architectures", "a list of names");
  if (*first == "Phi3ForCausalLM") return Family::kPhi3;
  if (*first == "Qwen2ForCausalLM" || *first == "MiMoForCausalLM") return Family::kQwen2;
  return Err(ErrorCode::kUnsupported,
             "{}: architecture '{}' is not supported; Tandem runs Phi3ForCausalLM, "
             "Qwen2ForCausalLM and MiMoForCausalLM",
             config.name(), View(*first).substr(0, 64));
}

std::string MtpName(std::string_view rest) { return fmt::format("model.mtp_layers.0.{}", rest); }

// Names behind the number of a layer.
constexpr std::pair<std::string_view, std::string_view> kLayerNames[] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.qkv_proj.weight", "attn_qkv.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.gate_up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"input_proj.weight", "nextn.eh_proj.weight"},
    {"token_layernorm.weight", "nextn.enorm.weight"},
    {"hidden_layernorm.weight", "nextn.hnorm.weight"},
    {"final_layernorm.weight", "nextn.shared_head_norm.weight"},
};
constexpr std::pair<std::string_view, std::string_view> kWholeNames[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

// GGUF's name; the same name where there is none.
std::string GgufName(std::string_view name, uint32_t n_layers) {
  for (const auto& [theirs, ours] : kWholeNames) {
    if (name == theirs) return std::string(ours);
  }
  for (const auto& [prefix, first] : {std::pair<std::string_view, uint32_t>{"model.layers.", 0},
                                      {"model.mtp_layers.", n_layers}}) {
    if (!name.starts_with(prefix)) continue;
    uint32_t layer = 0;
    const char* begin = name.data() + prefix.size();
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), layer);
    const std::string_view rest(end, name.data() + name.size());
    if (error != std::errc() || !rest.starts_with('.')) continue;
    // A name that is written otherwise could stand for the same tensor twice.
    if (std::string_view(begin, end) != std::to_string(layer)) continue;
    for (const auto& [theirs, ours] : kLayerNames) {
      if (rest.substr(1) == theirs) return fmt::format("blk.{}.{}", uint64_t{first} + layer, ours);
    }
  }
  return std::string(name);
}

// Tensors that hold nothing of their own, or that nothing here computes with.
bool IsSkipped(std::string_view name, bool tied) {
  return name.ends_with(".rotary_emb.inv_freq") || (tied && name == "lm_head.weight") ||
         (name.starts_with("model.mtp_layers.") && !name.starts_with("model.mtp_layers.0."));
}

// Builds the parts of a gguf::File.
class Folder {
 public:
  explicit Folder(const fs::path& path) : path_(path) {}

  Result<std::shared_ptr<const gguf::File>> Open() {
    TANDEM_ASSIGN_OR_RETURN(const json::value document,
                            ReadJson(path_ / "config.json", kMaxConfigBytes));
    if (!document.is_object()) {
      return Err(ErrorCode::kNotFound, "{}: no config.json", path_.string());
    }
    const Config config(document.get_object(), (path_ / "config.json").string());
    TANDEM_ASSIGN_OR_RETURN(family_, ReadFamily(config));
    prefix_ = family_ == Family::kPhi3 ? "phi3." : "qwen2.";
    TANDEM_ASSIGN_OR_RETURN(safetensors::Checkpoint checkpoint,
                            safetensors::Checkpoint::Open(path_));
    has_mtp_ = checkpoint.tensors().contains(MtpName("input_proj.weight"));
    TANDEM_RETURN_IF_ERROR(WriteKeys(config));
    TANDEM_RETURN_IF_ERROR(WriteTokenizer(config));
    TANDEM_RETURN_IF_ERROR(AddTensors(config, checkpoint));
    TANDEM_ASSIGN_OR_RETURN(parts_.header, writer_.FinishInMemory());
    parts_.name = path_.string();
    parts_.n_bytes = checkpoint.n_bytes();
    parts_.mappings = std::move(checkpoint).TakeMappings();
    return gguf::File::Assemble(std::move(parts_));
  }

 private:
  void SetCount(std::string_view key, uint32_t value) {
    writer_.SetNumber<uint32_t>(prefix_ + std::string(key), value);
  }
  void SetNumber(std::string_view key, double value) {
    writer_.SetNumber<double>(prefix_ + std::string(key), value);
  }

  Status WriteKeys(const Config& config) {
    if (config.String("hidden_act") != "silu") {
      return Err(ErrorCode::kUnsupported, "{}: 'hidden_act' is '{}'; Tandem computes silu",
                 config.name(), config.String("hidden_act").substr(0, 64));
    }
    writer_.SetString("general.architecture", family_ == Family::kPhi3 ? "phi3" : "qwen2");
    const std::string name = fs::absolute(path_).lexically_normal().filename().string();
    writer_.SetString("general.name", name.empty() ? path_.filename().string() : name);
    TANDEM_ASSIGN_OR_RETURN(n_layers_, config.Count("num_hidden_layers"));
    SetCount("block_count", n_layers_ + (has_mtp_ ? 1 : 0));
    if (has_mtp_) SetCount("nextn_predict_layers", 1);
    const std::pair<const char*, const char*> counts[] = {
        {"max_position_embeddings", "context_length"},
        {"hidden_size", "embedding_length"},
        {"intermediate_size", "feed_forward_length"},
        {"num_attention_heads", "attention.head_count"}};
    for (const auto& [field, key] : counts) {
      TANDEM_ASSIGN_OR_RETURN(const uint32_t value, config.Count(field));
      SetCount(key, value);
    }
    TANDEM_ASSIGN_OR_RETURN(const auto n_kv_heads, config.FindCount("num_key_value_heads"));
    if (n_kv_heads) SetCount("attention.head_count_kv", *n_kv_heads);
    TANDEM_ASSIGN_OR_RETURN(const auto head_dim, config.FindCount("head_dim"));
    if (head_dim) {
      SetCount("attention.key_length", *head_dim);
      SetCount("attention.value_length", *head_dim);
    }
    TANDEM_ASSIGN_OR_RETURN(const auto eps, config.FindNumber("rms_norm_eps"));
    if (!eps) return config.Wrong("rms_norm_eps", "a number");
    SetNumber("attention.layer_norm_rms_epsilon", *eps);
    // Qwen2 names a window also where it uses none.
    if (family_ == Family::kPhi3 || config.IsTrue("use_sliding_window")) {
      TANDEM_ASSIGN_OR_RETURN(const auto window, config.FindCount("sliding_window"));
      if (window) SetCount("attention.sliding_window", *window);
    }
    return WriteRotary(config, head_dim);
  }

  Status WriteRotary(const Config& config, std::optional<uint32_t> head_dim) {
    TANDEM_ASSIGN_OR_RETURN(const auto theta, config.FindNumber("rope_theta"));
    if (theta) SetNumber("rope.freq_base", *theta);
    TANDEM_ASSIGN_OR_RETURN(const auto share, config.FindNumber("partial_rotary_factor"));
    if (share) {
      TANDEM_ASSIGN_OR_RETURN(const uint32_t width, config.Count("hidden_size"));
      TANDEM_ASSIGN_OR_RETURN(const uint32_t n_heads, config.Count("num_attention_heads"));
      const uint32_t dim = head_dim.value_or(n_heads == 0 ? 0 : width / n_heads);
      if (*share <= 0 || *share > 1) return config.Wrong("partial_rotary_factor", "in (0, 1]");
      SetCount("rope.dimension_count", static_cast<uint32_t>(std::lround(dim * *share)));
    }
    const json::value* scaling = config.Find("rope_scaling");
    if (scaling == nullptr) return {};
    if (!scaling->is_object()) return config.Wrong("rope_scaling", "an object");
    const Config rope(scaling->get_object(), config.name() + ": rope_scaling");
    const std::string_view type =
        rope.Find("rope_type") != nullptr ? rope.String("rope_type") : rope.String("type");
    if (type == "default") return {};
    writer_.SetString(prefix_ + "rope.scaling.type", type);
    if (type != "longrope") return {};  // the model says that it has no such scaling
    TANDEM_ASSIGN_OR_RETURN(const uint32_t original,
                            config.Count("original_max_position_embeddings"));
    SetCount("rope.scaling.original_context_length", original);
    TANDEM_ASSIGN_OR_RETURN(const auto attention, rope.FindNumber("attention_factor"));
    if (attention) SetNumber("rope.scaling.attn_factor", *attention);
    for (const char* length : {"long", "short"}) {
      TANDEM_ASSIGN_OR_RETURN(const std::vector<float> factors,
                              rope.Floats(fmt::format("{}_factor", length)));
      const auto bytes = std::as_bytes(std::span(factors));
      std::vector<std::byte> buffer(bytes.begin(), bytes.end());
      parts_.tensors.push_back({.name = fmt::format("rope_factors_{}.weight", length),
                                .type = quant::Type::kF32,
                                .n_dims = 1,
                                .dims = {static_cast<int64_t>(factors.size()), 1, 1, 1},
                                .data = buffer.data(),
                                .n_bytes = buffer.size()});
      parts_.buffers.push_back(std::move(buffer));
    }
    return {};
  }

  Status WriteTokenizer(const Config& config) {
    const fs::path path = path_ / "tokenizer.json";
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return {};
    TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxTokenizerBytes));
    auto read = tokenizer::VocabularyFromTokenizerJson(text);
    if (!read) return Wrap(std::move(read).error(), path_.string());
    writer_.SetString("tokenizer.ggml.model", "gpt2");
    writer_.SetString("tokenizer.ggml.pre",
                      read->kind == tokenizer::VocabularyKind::kO200k ? "gpt-4o" : "qwen2");
    const auto strings = [](const tokenizer::FlatStrings& list) {
      std::vector<std::string_view> views;
      for (size_t i = 0; i < list.size(); ++i) views.push_back(list[i]);
      return views;
    };
    std::vector<int32_t> types;
    for (const tokenizer::TokenType type : read->types) types.push_back(static_cast<int32_t>(type));
    writer_.SetStringArray("tokenizer.ggml.tokens",
                           std::span<const std::string_view>(strings(read->tokens)));
    writer_.SetArray<int32_t>("tokenizer.ggml.token_type", types);
    writer_.SetStringArray("tokenizer.ggml.merges",
                           std::span<const std::string_view>(strings(read->merges)));

    TANDEM_ASSIGN_OR_RETURN(const json::value document,
                            ReadJson(path_ / "generation_config.json", kMaxConfigBytes));
    const json::object none;
    const Config generation(document.is_object() ? document.get_object() : none,
                            (path_ / "generation_config.json").string());
    const std::pair<const char*, const char*> ids[] = {
        {"bos_token_id", "bos"}, {"eos_token_id", "eos"}, {"pad_token_id", "padding"}};
    for (const auto& [field, key] : ids) {
      TANDEM_ASSIGN_OR_RETURN(auto id, generation.FindId(field));
      if (!id) {
        TANDEM_ASSIGN_OR_RETURN(id, config.FindId(field));
      }
      if (id) writer_.SetNumber<uint32_t>(fmt::format("tokenizer.ggml.{}_token_id", key), *id);
    }
    return WriteChatTemplate();
  }

  Status WriteChatTemplate() {
    TANDEM_ASSIGN_OR_RETURN(const json::value document,
                            ReadJson(path_ / "tokenizer_config.json", kMaxConfigBytes));
    const json::object none;
    const Config config(document.is_object() ? document.get_object() : none,
                        (path_ / "tokenizer_config.json").string());
    writer_.SetNumber<bool>("tokenizer.ggml.add_bos_token", config.IsTrue("add_bos_token"));
    const fs::path jinja = path_ / "chat_template.jinja";
    std::error_code ignored;
    if (fs::exists(jinja, ignored)) {
      TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(jinja, kMaxConfigBytes));
      writer_.SetString("tokenizer.chat_template", text);
    } else if (!config.String("chat_template").empty()) {
      writer_.SetString("tokenizer.chat_template", config.String("chat_template"));
    }
    return {};
  }

  Status AddTensors(const Config& config, const safetensors::Checkpoint& checkpoint) {
    const bool tied = config.IsTrue("tie_word_embeddings");
    if (!tied && !checkpoint.tensors().contains("lm_head.weight")) {
      return Err(ErrorCode::kCorrupt,
                 "{}: lm_head.weight is missing, and 'tie_word_embeddings' is not true",
                 path_.string());
    }
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (IsSkipped(name, tied)) continue;
      TANDEM_RETURN_IF_ERROR(AddTensor(tensor));
    }
    return {};
  }

  Status AddTensor(const safetensors::Tensor& tensor) {
    if (!tensor.type || tensor.shape.empty() || tensor.shape.size() > 2) {
      return Err(ErrorCode::kUnsupported,
                 "{}: tensor {} is {} of shape {}; expected vectors and matrices of BF16, F16 or "
                 "F32",
                 path_.string(), tensor.name, tensor.dtype, tensor.ShapeText());
    }
    const auto alignment = static_cast<size_t>(quant::GetType(*tensor.type).alignment);
    if (reinterpret_cast<uintptr_t>(tensor.data) % alignment != 0) {
      return Err(ErrorCode::kUnsupported,
                 "{}: tensor {} starts at a byte that is no multiple of {}; save the checkpoint "
                 "again with a current version of safetensors",
                 path_.string(), tensor.name, alignment);
    }
    gguf::Tensor placed{.name = GgufName(tensor.name, n_layers_),
                        .type = *tensor.type,
                        .n_dims = static_cast<int>(tensor.shape.size()),
                        .data = tensor.data,
                        .n_bytes = tensor.n_bytes};
    std::ranges::reverse_copy(tensor.shape, placed.dims.begin());
    if (tensor.name == MtpName("input_proj.weight")) SwapHalves(&placed);
    parts_.tensors.push_back(std::move(placed));
    return {};
  }

  // MiMo's input_proj reads [hidden state, token], the nextn convention [token, hidden state].
  void SwapHalves(gguf::Tensor* tensor) {
    const auto row = static_cast<size_t>(quant::RowBytes(tensor->type, tensor->dims[0]));
    const auto half = static_cast<size_t>(quant::RowBytes(tensor->type, tensor->dims[0] / 2));
    std::vector<std::byte> swapped(tensor->n_bytes);
    for (size_t at = 0; at + row <= swapped.size() && row > 0; at += row) {
      std::memcpy(swapped.data() + at, tensor->data + at + row - half, half);
      std::memcpy(swapped.data() + at + half, tensor->data + at, row - half);
    }
    tensor->data = swapped.data();
    parts_.buffers.push_back(std::move(swapped));
  }

  const fs::path path_;
  Family family_ = Family::kQwen2;
  std::string prefix_;
  bool has_mtp_ = false;
  uint32_t n_layers_ = 0;
  gguf::Writer writer_;
  gguf::File::Parts parts_;
};

}  // namespace

bool IsHuggingFaceFolder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path / "config.json", ignored);
}

Result<std::shared_ptr<const gguf::File>> OpenHuggingFace(const fs::path& folder) {
  return Folder(folder).Open();
}

Result<std::vector<fs::path>> HuggingFaceFiles(const fs::path& folder) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<fs::path> files, safetensors::CheckpointFiles(folder));
  std::error_code ignored;
  if (fs::exists(folder / safetensors::kIndexName, ignored)) {
    files.push_back(folder / safetensors::kIndexName);
  }
  for (const char* name : kSideFiles) {
    if (fs::exists(folder / name, ignored)) files.push_back(folder / name);
  }
  return files;
}

}  // namespace tandem::model
