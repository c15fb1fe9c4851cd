#include "fleet/catalogue/variant.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json.hpp>

#include "fleet/catalogue/catalogue.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr uint64_t kGigabyte = 1000000000;
// What must stay free beside the model: code and tables of the process (48 MiB), and room for the
// application and the system, without which phones end the application. 0.8 GB as worked out from
// what published deployments of these models report.
constexpr uint64_t kReserveBytes = 800000000;
// The engine's defaults: tokens that one step takes in (prefill beside decoding sessions) and
// sessions that generate at the same time. A test holds the sum against the engine's own plan.
constexpr uint64_t kStepTokens = 256;
constexpr uint64_t kSessions = 8;
// Keys and values are kept in 8 bits with a scale a token and head, in pages of so many tokens.
constexpr uint64_t kPageTokens = 64;
constexpr uint64_t kScaleBytes = 4;
// Norms, biases and keys, the tokenizer's tables.
constexpr uint64_t kTokenBytes = 42;
// The writer starts each layer, and the head, at a multiple of 2 MiB: half of it is lost on
// average.
constexpr uint64_t kLayerGapBytes = uint64_t{1} << 20;
constexpr uint64_t kSmallLayerBytes = uint64_t{2} << 20;  // below: no such gap

struct NamedBits {
  std::string_view name;
  uint32_t milli;
};
// Codes and scales of one weight, docs/package.md and GGUF.
constexpr std::array kBits = {
    NamedBits{"int4g128", 4125}, NamedBits{"int4g32", 4500}, NamedBits{"int8g128", 8125},
    NamedBits{"int8g32", 8500},  NamedBits{"Q4_0", 4500},    NamedBits{"Q8_0", 8500},
    NamedBits{"Q6_K", 6563},     NamedBits{"F16", 16000},    NamedBits{"BF16", 16000}};

std::optional<uint32_t> BitsOf(std::string_view name) {
  const auto* found = std::ranges::find(kBits, name, &NamedBits::name);
  if (found == kBits.end()) return std::nullopt;
  return found->milli;
}

uint64_t BytesOf(uint64_t n_weights, uint64_t milli_bits) {
  // In two parts: the product of a forged shape would overflow.
  constexpr uint64_t kMilliBits = 8000;
  return n_weights / kMilliBits * milli_bits +
         (n_weights % kMilliBits * milli_bits + kMilliBits - 1) / kMilliBits;
}

uint64_t U(int32_t value) { return static_cast<uint64_t>(value); }

bool IsPlatform(std::string_view text) {
  return text.size() <= 64 && text.contains('_') && !text.starts_with('_') &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

json::array TextsJson(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

}  // namespace

uint64_t ModelShape::n_linear_parameters() const {
  const uint64_t q_dim = U(n_heads) * U(head_dim);
  const uint64_t kv_dim = U(n_kv_heads) * U(head_dim);
  const uint64_t attention = U(d_model) * (2 * q_dim + 2 * kv_dim);
  return U(n_layers) * (attention + 3 * U(d_model) * U(d_ff));
}

uint64_t ModelShape::n_vocabulary_parameters() const { return U(vocab_size) * U(d_model); }

uint64_t ModelShape::n_parameters() const {
  return n_linear_parameters() + (tied_embeddings ? 1 : 2) * n_vocabulary_parameters() +
         (2 * U(n_layers) + 1) * U(d_model);
}

std::string_view AcceleratorName(Accelerator accelerator) {
  switch (accelerator) {
    case Accelerator::kCpu:
      return "cpu";
    case Accelerator::kGpu:
      return "gpu";
    case Accelerator::kNpu:
      return "npu";
  }
  return "unknown";
}

std::optional<Accelerator> ParseAccelerator(std::string_view name) {
  for (const auto accelerator : {Accelerator::kCpu, Accelerator::kGpu, Accelerator::kNpu}) {
    if (AcceleratorName(accelerator) == name) return accelerator;
  }
  return std::nullopt;
}

bool Variant::IsQuantization(std::string_view wanted) const {
  return wanted == quantization ||
         std::ranges::find(quantization_aliases, wanted) != quantization_aliases.end();
}

bool Variant::RunsOn(std::string_view platform) const {
  return std::ranges::any_of(platforms, [&](std::string_view mine) {
    return mine == platform ||
           (mine.starts_with(platform) && mine.substr(platform.size()).starts_with('_'));
  });
}

uint32_t MemoryNeeds::min_ram_gb() const {
  return std::max(floor_gb, static_cast<uint32_t>((total_bytes() + kGigabyte - 1) / kGigabyte));
}

std::optional<SchemeBits> FindSchemeBits(std::string_view scheme) {
  if (scheme == "int4") scheme = "int4g128+int4g32";
  const size_t plus = scheme.find('+');
  const auto linear = BitsOf(scheme.substr(0, plus));
  const auto head = plus == scheme.npos ? linear : BitsOf(scheme.substr(plus + 1));
  if (!linear || !head) return std::nullopt;
  return SchemeBits{*linear, *head};
}

Result<MemoryNeeds> ComputeNeeds(const ModelShape& shape, const Variant& variant,
                                 int32_t context_tokens) {
  const auto bits = FindSchemeBits(variant.scheme);
  if (!bits) {
    return Err(ErrorCode::kUnsupported, "what a weight of scheme '{}' takes is not known",
               variant.scheme);
  }
  const uint64_t kv_dim = U(shape.n_kv_heads) * U(shape.head_dim);
  const uint64_t q_dim = U(shape.n_heads) * U(shape.head_dim);
  MemoryNeeds needs;
  needs.context_tokens = std::min(context_tokens, shape.context_length);
  const uint64_t linear_bytes = BytesOf(shape.n_linear_parameters(), bits->linear_milli);
  const uint64_t head_bytes = BytesOf(shape.n_vocabulary_parameters(), bits->head_milli);
  const uint64_t vector_bytes =
      4 * U(shape.n_layers) * (2 * U(shape.d_model) + q_dim + 2 * kv_dim) + 4 * U(shape.d_model);
  const uint64_t layer_bytes = linear_bytes / std::max<uint64_t>(U(shape.n_layers), 1);
  const uint64_t gap_bytes =
      layer_bytes < kSmallLayerBytes ? 0 : (U(shape.n_layers) + 1) * kLayerGapBytes;
  needs.weights_bytes = linear_bytes + head_bytes + vector_bytes;
  needs.package_bytes =
      variant.size_bytes.value_or(needs.weights_bytes + (shape.tied_embeddings ? 0 : head_bytes) +
                                  gap_bytes + kTokenBytes * U(shape.vocab_size));
  const uint64_t pages = (U(needs.context_tokens) + kPageTokens - 1) / kPageTokens;
  needs.kv_cache_bytes = 2 * U(shape.n_layers) * U(shape.n_kv_heads) *
                         (U(shape.head_dim) + kScaleBytes) * pages * kPageTokens;
  const uint64_t widest = std::max({U(shape.d_model), q_dim, U(shape.d_ff)});
  const uint64_t step_floats =
      2 * U(shape.d_model) + 2 * q_dim + 2 * kv_dim + U(shape.d_ff) + U(shape.head_dim);
  // A step's activations in float, its widest input once more in bytes with scales, and rows of
  // logits.
  needs.scratch_bytes = kStepTokens * (4 * step_floats + widest + widest / 4) +
                        4 * kSessions * (U(shape.d_model) + U(shape.vocab_size));
  needs.reserve_bytes = kReserveBytes;
  return needs;
}

Result<ModelShape> ParseShape(const json::value& value, const std::string& where) {
  // Bounds that no decoder comes near and no product of which overflows (a model's weights stay
  // below 2^54, a cache's bytes below 2^57).
  constexpr int32_t kMaxLayers = 1024;
  constexpr int32_t kMaxDim = 1 << 20;
  constexpr int32_t kMaxVocab = 1 << 24;
  JsonFields fields(value, where);
  const auto count = [&fields](const char* name, int32_t max) {
    const int32_t number = fields.Count(name, max, JsonFields::kRequired);
    if (number == 0) fields.Fail(name, "must be above 0");
    return number;
  };
  const ModelShape shape{
      .n_layers = count("n_layers", kMaxLayers),
      .n_heads = count("n_heads", kMaxLayers),
      .n_kv_heads = count("n_kv_heads", kMaxLayers),
      .head_dim = count("head_dim", kMaxLayers),
      .d_model = count("d_model", kMaxDim),
      .d_ff = count("d_ff", kMaxDim),
      .vocab_size = count("vocab_size", kMaxVocab),
      .context_length = count("context_length", kMaxVocab),
      .tied_embeddings = fields.Bool("tied_embeddings", JsonFields::kRequired).value_or(false)};
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return shape;
}

json::value ShapeJson(const ModelShape& shape) {
  return json::object{{"n_layers", shape.n_layers},
                      {"n_heads", shape.n_heads},
                      {"n_kv_heads", shape.n_kv_heads},
                      {"head_dim", shape.head_dim},
                      {"d_model", shape.d_model},
                      {"d_ff", shape.d_ff},
                      {"vocab_size", shape.vocab_size},
                      {"context_length", shape.context_length},
                      {"tied_embeddings", shape.tied_embeddings}};
}

Result<Variant> ParseVariant(const json::value& value, const std::string& where) {
  JsonFields fields(value, where);
  Variant variant{.name = fields.Text("name", JsonFields::kRequired),
                  .quantization = fields.Text("quantization", JsonFields::kRequired),
                  .quantization_aliases = fields.Texts("quantization_aliases"),
                  .scheme = fields.Text("scheme", JsonFields::kRequired),
                  .platforms = fields.Texts("platforms", JsonFields::kRequired)};
  const std::string accelerator = fields.Text("accelerator", JsonFields::kRequired);
  if (const auto parsed = ParseAccelerator(accelerator)) {
    variant.accelerator = *parsed;
  } else {
    fields.Fail("accelerator", "must be cpu, gpu or npu");
  }
  variant.size_bytes = fields.Number("size_bytes");
  if (!IsSafeFileName(variant.name)) fields.Fail("name", "cannot be a variant's name");
  if (variant.platforms.empty()) fields.Fail("platforms", "must not be empty");
  for (const std::string& platform : variant.platforms) {
    if (!IsPlatform(platform)) {
      fields.Fail("platforms", "must be SYSTEM_ARCHITECTURE, for example android_arm64");
    }
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  if (const json::value* certificate = fields.Object("certificate")) {
    TANDEM_ASSIGN_OR_RETURN(variant.certificate,
                            ParseCertificate(*certificate, where + ".certificate"));
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return variant;
}

json::value VariantJson(const Variant& variant) {
  json::object object = {{"name", variant.name},
                         {"quantization", variant.quantization},
                         {"scheme", variant.scheme},
                         {"platforms", TextsJson(variant.platforms)},
                         {"accelerator", AcceleratorName(variant.accelerator)}};
  if (!variant.quantization_aliases.empty()) {
    object["quantization_aliases"] = TextsJson(variant.quantization_aliases);
  }
  if (variant.size_bytes) object["size_bytes"] = *variant.size_bytes;
  if (variant.certificate) object["certificate"] = CertificateJson(*variant.certificate);
  return object;
}

}  // namespace tandem::fleet
