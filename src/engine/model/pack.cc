#include "engine/model/pack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/log.h"
#include "engine/gguf/writer.h"
#include "engine/kernels/fine_plane.h"
#include "engine/kernels/layout.h"
#include "engine/model/binder.h"
#include "engine/model/vocabulary.h"
#include "engine/model/weights.h"
#include "engine/package/quantize.h"
#include "engine/quant/codec.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::model {
namespace {

using kernels::kStripRows;
using kernels::Scheme;
using package::QuantizationError;

constexpr std::pair<std::string_view, PackScheme> kSchemeNames[] = {
    {"auto", PackScheme::kAuto},
    {"int4", PackScheme::kInt4},
    {"int4g128", PackScheme::kInt4G128},
    {"int4g32", PackScheme::kInt4G32},
    {"int8g128", PackScheme::kInt8G128},
    {"int8g32", PackScheme::kInt8G32},
    {"int4planes", PackScheme::kInt4Planes},
};

// Keys that say nothing about the model in its new form, or that the tokenizer's tables replace.
constexpr std::string_view kDroppedKeys[] = {
    "general.alignment",       "general.file_type",     "general.quantization_version",
    "general.parameter_count", "general.name",          "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges",   "tokenizer.ggml.scores", "tokenizer.ggml.token_type",
};

// A matrix of the package and the rows that it is made of.
struct PlannedTensor {
  package::Tensor tensor;          // name, layout, type, shape, source
  std::vector<ops::Matrix> parts;  // rows, one part behind the other
  bool interleaved = false;        // strips of the first and of the second half of them in turn
  bool exact = false;              // blocks are copied into strips
  const std::vector<float>* norm = nullptr;  // of the RMSNorm that feeds it; null: none
  package::Place place = package::Place::kBehind;
  // Of strips: the bits of the fine plane beside them; 0: there is none. A fine plane has them in
  // its tensor.
  int plane_bits = 0;
  // Of a fine plane and of its norms, which it makes.
  std::shared_ptr<std::vector<float>> row_norms;
  bool is_extra = false;  // its weights are those of another tensor

  int64_t n_source_rows() const {
    int64_t n = 0;
    for (const ops::Matrix& part : parts) n += part.n_rows;
    return n;
  }
  // Which of the parts' rows is row r of the tensor; -1: zeros.
  int64_t SourceRow(int64_t r) const {
    if (!interleaved) return r;
    const int64_t half = n_source_rows() / 2;
    const int64_t strip = r / kStripRows;
    const int64_t row = strip / 2 * kStripRows + r % kStripRows;
    return row < half ? strip % 2 * half + row : -1;
  }
  // A row of the parts, and the part's type.
  std::pair<const std::byte*, quant::Type> BlocksOf(int64_t source_row) const {
    const ops::Matrix* part = parts.data();
    while (source_row >= part->n_rows) source_row -= part++->n_rows;
    return {part->data + static_cast<size_t>(source_row) * part->row_bytes, part->type};
  }
};

// Finest first, by bits a weight.
int Fineness(Scheme scheme) {
  constexpr std::array kFinest = {Scheme::kInt8G32, Scheme::kInt8G128, Scheme::kInt4G32,
                                  Scheme::kInt4G128};
  return static_cast<int>(std::ranges::find(kFinest, scheme) - kFinest.begin());
}

Scheme SchemeLike(quant::Type type) {
  switch (type) {
    case quant::Type::kQ4_0:
    case quant::Type::kQ4_1:
    case quant::Type::kQ4_K:
    case quant::Type::kIQ4_NL:
      return Scheme::kInt4G32;
    case quant::Type::kQ8_0:
      return Scheme::kInt8G32;
    default:
      return Scheme::kInt8G128;
  }
}

Scheme Choose(PackScheme scheme, quant::Type type) {
  switch (scheme) {
    case PackScheme::kAuto:
      return SchemeLike(type);
    case PackScheme::kInt4:
    case PackScheme::kInt4Planes:
    case PackScheme::kInt4G128:
      return Scheme::kInt4G128;
    case PackScheme::kInt4G32:
      return Scheme::kInt4G32;
    case PackScheme::kInt8G128:
      return Scheme::kInt8G128;
    case PackScheme::kInt8G32:
      return Scheme::kInt8G32;
  }
  return Scheme::kInt8G128;
}

struct HeadCoding {
  Scheme scheme;
  int plane_bits = 0;
};
HeadCoding ChooseHead(PackScheme scheme, quant::Type type) {
  if (scheme == PackScheme::kInt4) return {Scheme::kInt4G32};
  if (scheme == PackScheme::kInt4Planes) return {Scheme::kInt4G128, 3};
  if (scheme != PackScheme::kAuto) return {Choose(scheme, type)};
  switch (type) {
    case quant::Type::kQ4_0:
      return {Scheme::kInt4G32};
    case quant::Type::kQ8_0:  // exactly, which planes cannot: no group may have both 120 and -120
      return {Scheme::kInt8G32};
    case quant::Type::kF32:
    case quant::Type::kF16:
    case quant::Type::kBF16:
      return {Scheme::kInt4G128, 4};
    default:
      return {Scheme::kInt4G128, 3};  // 7 bits: finer than the source
  }
}

std::string SourceTypes(const std::vector<ops::Matrix>& parts) {
  std::string text;
  for (const ops::Matrix& part : parts) {
    const std::string_view name = quant::GetType(part.type).name;
    if (text.find(name) != std::string::npos) continue;
    text += text.empty() ? "" : ", ";
    text += name;
  }
  return text;
}

PlannedTensor PlanStrips(std::string name, std::vector<ops::Matrix> parts, Scheme scheme,
                         const std::vector<float>* norm, bool interleaved = false) {
  PlannedTensor planned{.parts = std::move(parts), .interleaved = interleaved, .norm = norm};
  const int64_t n_rows = planned.n_source_rows();
  planned.tensor = {.name = std::move(name),
                    .layout = package::Layout::kStrips,
                    .scheme = scheme,
                    .n_rows = interleaved ? GateUpRows(n_rows / 2) : n_rows,
                    .n_cols = planned.parts[0].n_cols,
                    .source = SourceTypes(planned.parts)};
  planned.exact = std::ranges::all_of(planned.parts, [&](const ops::Matrix& part) {
    const auto exact = kernels::ExactScheme(part.type);
    return exact && *exact == scheme && part.type == planned.parts[0].type;
  });
  return planned;
}

// The head: one tensor, or strips, what they leave over, and the norms of that.
void PlanHead(const std::string& name, const ops::Matrix& head, const HeadCoding& coding,
              const std::vector<float>* norm, std::vector<PlannedTensor>* plan) {
  PlannedTensor strips = PlanStrips(name, {head}, coding.scheme, norm);
  strips.place = package::Place::kNewBlock;
  strips.plane_bits = coding.plane_bits;
  plan->push_back(std::move(strips));
  if (coding.plane_bits == 0) return;
  const auto row_norms = std::make_shared<std::vector<float>>();
  PlannedTensor fine{.parts = {head}, .row_norms = row_norms, .is_extra = true};
  fine.tensor = {.name = name + ".fine",
                 .layout = package::Layout::kFine,
                 .scheme = coding.scheme,
                 .fine_bits = coding.plane_bits,
                 .n_rows = head.n_rows,
                 .n_cols = head.n_cols,
                 .source = SourceTypes(fine.parts)};
  plan->push_back(std::move(fine));
  PlannedTensor norms{.parts = {head}, .row_norms = row_norms, .is_extra = true};
  norms.tensor = {.name = name + ".fine_norm",
                  .layout = package::Layout::kRows,
                  .type = quant::Type::kF32,
                  .n_rows = 1,
                  .n_cols = head.n_rows,
                  .source = SourceTypes(norms.parts)};
  plan->push_back(std::move(norms));
}

// A table of which single rows are read: blocks as they are, floats as Q8_0.
PlannedTensor PlanRows(std::string name, const ops::Matrix& matrix) {
  const bool shorten = quant::GetType(matrix.type).block_elements == 1 &&
                       matrix.n_cols % quant::GetType(quant::Type::kQ8_0).block_elements == 0;
  PlannedTensor planned{.parts = {matrix}};
  planned.tensor = {.name = std::move(name),
                    .layout = package::Layout::kRows,
                    .type = shorten ? quant::Type::kQ8_0 : matrix.type,
                    .n_rows = matrix.n_rows,
                    .n_cols = matrix.n_cols,
                    .source = SourceTypes(planned.parts)};
  return planned;
}

// q, k and v as one matrix; as three where their sources ask for schemes of different bits.
void PlanQkv(const LayerWeights& weights, int layer, PackScheme scheme,
             std::vector<PlannedTensor>* plan) {
  const std::vector<ops::Matrix>& parts = weights.qkv.blocks;
  std::vector<Scheme> schemes;
  for (const ops::Matrix& part : parts) schemes.push_back(Choose(scheme, part.type));
  if (std::ranges::adjacent_find(schemes, std::ranges::not_equal_to()) == schemes.end()) {
    plan->push_back(
        PlanStrips(BlockName(layer, "attn_qkv"), parts, schemes[0], &weights.attention_norm));
    return;
  }
  // They read the same activations, so the groups must be as long.
  const bool any_short =
      std::ranges::any_of(schemes, [](Scheme one) { return kernels::GetScheme(one).group == 32; });
  constexpr const char* kNames[] = {"attn_q", "attn_k", "attn_v"};
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool lengthened = any_short && schemes[i] == Scheme::kInt8G128;
    plan->push_back(PlanStrips(BlockName(layer, kNames[i]), {parts[i]},
                               lengthened ? Scheme::kInt8G32 : schemes[i],
                               &weights.attention_norm));
  }
}

void PlanLayer(const LayerWeights& weights, int layer, PackScheme scheme,
               std::vector<PlannedTensor>* plan) {
  const size_t first = plan->size();
  PlanQkv(weights, layer, scheme, plan);
  (*plan)[first].place = package::Place::kNewBlock;
  const ops::Matrix& output = weights.attention_output.blocks[0];
  plan->push_back(
      PlanStrips(BlockName(layer, "attn_output"), {output}, Choose(scheme, output.type), nullptr));
  std::vector<Scheme> schemes;
  for (const ops::Matrix& part : weights.gate_up.blocks) {
    schemes.push_back(Choose(scheme, part.type));
  }
  plan->push_back(PlanStrips(BlockName(layer, "ffn_gate_up"), weights.gate_up.blocks,
                             *std::ranges::min_element(schemes, {}, Fineness), &weights.ffn_norm,
                             /*interleaved=*/true));
  const ops::Matrix& down = weights.down.blocks[0];
  plan->push_back(
      PlanStrips(BlockName(layer, "ffn_down"), {down}, Choose(scheme, down.type), nullptr));
}

// In the order of use: embedding, layers, head, multi-token prediction.
std::vector<PlannedTensor> MakePlan(const Model& model, PackScheme scheme) {
  const Weights& weights = model.weights();
  std::vector<PlannedTensor> plan;
  const ops::Matrix& head = weights.head.blocks[0];
  const char* head_name = model.tied_head() ? "token_embd.weight" : "output.weight";
  if (!model.tied_head()) {
    plan.push_back(PlanRows("token_embd.weight", weights.embedding.blocks[0]));
  }
  const Hyperparameters& h = model.hyperparameters();
  for (int layer = 0; layer < h.n_layers; ++layer) {
    PlanLayer(weights.layers[layer], layer, scheme, &plan);
  }
  PlanHead(head_name, head, ChooseHead(scheme, head.type), &weights.output_norm, &plan);
  plan.front().place = package::Place::kNewBlock;
  if (weights.mtp) {
    // Its norms are of two inputs side by side; neither alone says how large a column is.
    const ops::Matrix& input = weights.mtp->input.blocks[0];
    const size_t first = plan.size();
    plan.push_back(PlanStrips(BlockName(h.n_layers, "nextn.eh_proj"), {input},
                              Choose(scheme, input.type), nullptr));
    PlanLayer(weights.mtp->layer, h.n_layers, scheme, &plan);
    plan[first].place = package::Place::kNewBlock;
    plan[first + 1].place = package::Place::kBehind;
  }
  return plan;
}

// What a thread needs to make strips of one tensor.
struct StripScratch {
  StripScratch(const PlannedTensor& planned, const kernels::SchemeInfo& info)
      : n_groups((planned.tensor.n_cols + info.group - 1) / info.group),
        values(planned.tensor.n_cols),
        codes(kStripRows * planned.tensor.n_cols),
        fine_codes(planned.plane_bits > 0 ? planned.tensor.n_cols : 0),
        scales(kStripRows * n_groups),
        blocks(planned.exact ? kStripRows * planned.parts[0].row_bytes : 0) {}

  int64_t n_groups;
  std::vector<float> values;       // [n_cols]
  std::vector<int8_t> codes;       // [16, n_cols]
  std::vector<int8_t> fine_codes;  // [n_cols], of planes only
  std::vector<uint16_t> scales;    // [16, n_groups]
  std::vector<std::byte> blocks;   // [16, row_bytes]
};

// Makes n units of a tensor on all threads of a pool: make(worker, i) gives the error of one. They
// are summed in order, whoever made them.
template <typename Make>
Result<QuantizationError> MakeUnits(ops::ThreadPool* pool, int64_t n, const Make& make) {
  std::vector<QuantizationError> errors(n);
  std::mutex mutex;
  std::optional<std::pair<int64_t, Error>> failure;  // of the first unit that has one
  pool->ParallelFor(n, 1, [&](int worker, int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      auto made = make(worker, unit);
      if (made) {
        errors[unit] = *made;
        continue;
      }
      const std::lock_guard lock(mutex);
      if (!failure || unit < failure->first) failure = {unit, std::move(made).error()};
    }
  });
  if (failure) return std::unexpected(std::move(failure->second));
  QuantizationError sum;
  for (const QuantizationError& error : errors) sum.Add(error);
  return sum;
}

// One row of a matrix in planes.
//   values  scratch: [n_cols]
Result<package::PlaneErrors> QuantizePlanes(const PlannedTensor& planned, int bits,
                                            const Model& model, int64_t row,
                                            std::vector<float>* values, int8_t* codes,
                                            int8_t* fine_codes, uint16_t* scales) {
  const auto [blocks, type] = planned.BlocksOf(row);
  model.kernels().ForType(type).unpack(blocks, planned.tensor.n_cols, values->data());
  auto errors =
      package::QuantizeRowInPlanes(planned.tensor.scheme, bits, *values, codes, fine_codes, scales);
  if (!errors) return Wrap(std::move(errors).error(), fmt::format("row {}", row));
  return errors;
}

// Makes rows of a fine plane on all threads of a pool, and their norms.
class FineMaker {
 public:
  FineMaker(const PlannedTensor& planned, const Model& model, ops::ThreadPool* pool)
      : planned_(planned), model_(model), pool_(pool), scratch_(pool->n_threads()) {
    const package::Tensor& tensor = planned.tensor;
    const int group = kernels::GetScheme(tensor.scheme).group;
    for (Scratch& scratch : scratch_) {
      scratch.values.resize(tensor.n_cols);
      scratch.codes.resize(tensor.n_cols);
      scratch.fine_codes.resize(tensor.n_cols);
      scratch.scales.resize((tensor.n_cols + group - 1) / group);
    }
    planned.row_norms->resize(tensor.n_rows);
  }

  Result<QuantizationError> operator()(int64_t first, int64_t n, std::span<std::byte> out) {
    const package::Tensor& tensor = planned_.tensor;
    const int64_t row_bytes = kernels::FineRowBytes(tensor.fine_bits, tensor.n_cols);
    return MakeUnits(pool_, n, [&](int worker, int64_t i) -> Result<QuantizationError> {
      Scratch& scratch = scratch_[worker];
      TANDEM_ASSIGN_OR_RETURN(
          const package::PlaneErrors errors,
          QuantizePlanes(planned_, tensor.fine_bits, model_, first + i, &scratch.values,
                         scratch.codes.data(), scratch.fine_codes.data(), scratch.scales.data()));
      kernels::PackFineRow(tensor.fine_bits, scratch.fine_codes, out.data() + i * row_bytes);
      (*planned_.row_norms)[first + i] =
          package::FineNorm(tensor.scheme, tensor.fine_bits, scratch.fine_codes, scratch.scales);
      return errors.both;
    });
  }

 private:
  struct Scratch {
    std::vector<float> values;       // [n_cols]
    std::vector<int8_t> codes;       // [n_cols]
    std::vector<int8_t> fine_codes;  // [n_cols]
    std::vector<uint16_t> scales;    // [groups]
  };

  const PlannedTensor& planned_;
  const Model& model_;
  ops::ThreadPool* const pool_;
  std::vector<Scratch> scratch_;  // by worker
};

// Makes strips of a tensor on all threads of a pool.
class StripMaker {
 public:
  StripMaker(const PlannedTensor& planned, const Model& model, ops::ThreadPool* pool)
      : planned_(planned),
        info_(kernels::GetScheme(planned.tensor.scheme)),
        model_(model),
        pool_(pool) {
    for (int i = 0; i < pool->n_threads(); ++i) scratch_.emplace_back(planned, info_);
    if (planned.norm == nullptr) return;
    for (const float weight : *planned.norm) importance_.push_back(weight * weight);
  }

  Result<QuantizationError> operator()(int64_t first, int64_t n, std::span<std::byte> out) {
    const auto strip_bytes =
        static_cast<size_t>(kernels::StripBytes(planned_.tensor.scheme, planned_.tensor.n_cols));
    return MakeUnits(pool_, n, [&](int worker, int64_t strip) {
      return MakeStrip(first + strip, &scratch_[worker],
                       out.data() + static_cast<size_t>(strip) * strip_bytes);
    });
  }

 private:
  Result<QuantizationError> MakeStrip(int64_t strip, StripScratch* scratch, std::byte* out) {
    const package::Tensor& tensor = planned_.tensor;
    const int64_t first_row = strip * kStripRows;
    const auto n_rows = static_cast<int>(std::min<int64_t>(kStripRows, tensor.n_rows - first_row));
    if (planned_.exact) return CopyStrip(first_row, n_rows, scratch, out);
    QuantizationError error;
    for (int r = 0; r < n_rows; ++r) {
      int8_t* codes = scratch->codes.data() + r * tensor.n_cols;
      uint16_t* scales = scratch->scales.data() + r * scratch->n_groups;
      const int64_t row = planned_.SourceRow(first_row + r);
      if (row < 0) {
        std::fill_n(codes, tensor.n_cols, int8_t{0});
        std::fill_n(scales, scratch->n_groups, uint16_t{0});
        continue;
      }
      if (planned_.plane_bits > 0) {
        TANDEM_ASSIGN_OR_RETURN(
            const package::PlaneErrors errors,
            QuantizePlanes(planned_, planned_.plane_bits, model_, row, &scratch->values, codes,
                           scratch->fine_codes.data(), scales));
        error.Add(errors.coarse);
        continue;
      }
      const auto [blocks, type] = planned_.BlocksOf(row);
      model_.kernels().ForType(type).unpack(blocks, tensor.n_cols, scratch->values.data());
      auto quantized =
          package::QuantizeRow(tensor.scheme, scratch->values, importance_, codes, scales);
      if (!quantized) return Wrap(std::move(quantized).error(), fmt::format("row {}", row));
      error.Add(*quantized);
    }
    kernels::PackStrip(tensor.scheme, scratch->codes.data(), scratch->scales.data(), n_rows,
                       tensor.n_cols, out);
    return error;
  }

  Result<QuantizationError> CopyStrip(int64_t first_row, int n_rows, StripScratch* scratch,
                                      std::byte* out) {
    const ops::Matrix& part = planned_.parts[0];
    for (int r = 0; r < n_rows; ++r) {
      std::byte* to = scratch->blocks.data() + static_cast<size_t>(r) * part.row_bytes;
      const int64_t row = planned_.SourceRow(first_row + r);
      // Blocks of zeros are rows of zeros: their scales are 0.
      if (row < 0) {
        std::memset(to, 0, part.row_bytes);
      } else {
        std::memcpy(to, planned_.BlocksOf(row).first, part.row_bytes);
      }
    }
    TANDEM_RETURN_IF_ERROR(kernels::PackStripExactly(part.type, scratch->blocks.data(),
                                                     part.row_bytes, n_rows, part.n_cols, out));
    return QuantizationError{};
  }

  const PlannedTensor& planned_;
  const kernels::SchemeInfo& info_;
  const Model& model_;
  ops::ThreadPool* const pool_;
  std::vector<StripScratch> scratch_;  // by worker
  std::vector<float> importance_;      // [n_cols], or empty
};

// Rows as they are, or as Q8_0.
Result<QuantizationError> MakeRows(const PlannedTensor& planned, const Model& model, int64_t first,
                                   int64_t n, std::span<std::byte> out) {
  const ops::Matrix& source = planned.parts[0];
  const std::byte* rows = source.data + static_cast<size_t>(first) * source.row_bytes;
  QuantizationError error;
  if (planned.tensor.type == source.type) {
    std::memcpy(out.data(), rows, out.size());
    return error;
  }
  const int64_t n_cols = source.n_cols;
  const auto row_bytes = static_cast<size_t>(quant::RowBytes(planned.tensor.type, n_cols));
  std::vector<float> values(n_cols);
  std::vector<float> packed(n_cols);
  for (int64_t r = 0; r < n; ++r) {
    std::byte* to = out.data() + static_cast<size_t>(r) * row_bytes;
    model.kernels()
        .ForType(source.type)
        .unpack(rows + static_cast<size_t>(r) * source.row_bytes, n_cols, values.data());
    Status quantized = quant::QuantizeRow(planned.tensor.type, values.data(), to, n_cols);
    if (!quantized) {
      return Wrap(std::move(quantized).error(), fmt::format("row {}", first + r));
    }
    quant::DequantizeRow(planned.tensor.type, to, packed.data(), n_cols);
    for (int64_t c = 0; c < n_cols; ++c) {
      const double difference = double{packed[c]} - values[c];
      error.squares += difference * difference;
      error.source_squares += double{values[c]} * values[c];
    }
  }
  return error;
}

// The model's keys and vectors as a GGUF file.
Result<std::vector<std::byte>> DescribeModel(const gguf::File& file, const Model& model) {
  const Hyperparameters& h = model.hyperparameters();
  TANDEM_ASSIGN_OR_RETURN(const std::string_view architecture,
                          file.GetString("general.architecture"));
  const std::string prefix = std::string(architecture) + ".";
  gguf::Writer writer;
  for (const gguf::KeyValue& entry : file.metadata()) {
    const bool dropped = std::ranges::find(kDroppedKeys, entry.key) != std::end(kDroppedKeys);
    if (!dropped && !entry.key.starts_with("split.")) writer.Copy(entry);
  }
  writer.SetString("general.name",
                   h.name.empty() ? std::filesystem::path(file.name()).stem().string() : h.name);
  uint64_t n_parameters = 0;
  for (const gguf::Tensor& tensor : file.tensors()) {
    n_parameters += static_cast<uint64_t>(tensor.n_elements());
  }
  writer.SetNumber<uint64_t>("general.parameter_count", n_parameters);
  writer.SetNumber<uint32_t>(prefix + "vocab_size", static_cast<uint32_t>(h.vocab_size));
  // Further layers of multi-token prediction stay behind.
  writer.SetNumber<uint32_t>(prefix + "block_count", static_cast<uint32_t>(h.n_cache_layers()));
  if (file.FindKey(prefix + "nextn_predict_layers") != nullptr) {
    writer.SetNumber<uint32_t>(prefix + "nextn_predict_layers",
                               static_cast<uint32_t>(h.n_mtp_layers));
  }

  const auto add = [&](const std::string& name, const std::vector<float>& values) {
    const std::array dims = {static_cast<int64_t>(values.size())};
    writer.AddTensor(name, quant::Type::kF32, dims, std::as_bytes(std::span(values)));
  };
  const Weights& weights = model.weights();
  std::vector<std::vector<float>> factors;  // until FinishInMemory() has read them
  Binder binder(file);
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (!binder.Has(name)) continue;
    TANDEM_ASSIGN_OR_RETURN(std::vector<float> values, binder.Vector(name, h.rotary_dim / 2));
    factors.push_back(std::move(values));
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    add(i == 0 ? "rope_factors_long.weight" : "rope_factors_short.weight", factors[i]);
  }
  const auto add_layer = [&](int layer, const LayerWeights& one) {
    add(BlockName(layer, "attn_norm"), one.attention_norm);
    if (!one.qkv_bias.empty()) add(BlockName(layer, "attn_qkv", "bias"), one.qkv_bias);
    add(BlockName(layer, "ffn_norm"), one.ffn_norm);
  };
  for (int layer = 0; layer < h.n_layers; ++layer) add_layer(layer, weights.layers[layer]);
  if (weights.mtp) {
    add_layer(h.n_layers, weights.mtp->layer);
    add(BlockName(h.n_layers, "nextn.enorm"), weights.mtp->token_norm);
    add(BlockName(h.n_layers, "nextn.hnorm"), weights.mtp->hidden_norm);
    add(BlockName(h.n_layers, "nextn.shared_head_norm"), weights.mtp->final_norm);
  }
  add("output_norm.weight", weights.output_norm);
  return writer.FinishInMemory();
}

// The tokenizer's tables; empty where the file has none that can be used.
std::vector<std::byte> DescribeTokenizer(const gguf::File& file) {
  const auto make = [&]() -> Result<std::vector<std::byte>> {
    TANDEM_ASSIGN_OR_RETURN(const tokenizer::Vocabulary vocabulary, VocabularyFromGguf(file));
    TANDEM_ASSIGN_OR_RETURN(const auto made, tokenizer::Tokenizer::Create(vocabulary));
    return std::vector<std::byte>(made->bytes().begin(), made->bytes().end());
  };
  auto tables = make();
  if (tables) return *std::move(tables);
  log::Warning("{}: packed without a tokenizer: {}", file.name(), tables.error().message);
  return {};
}

// Lets go of the pages of a file that were read to the end: they count as this process's memory.
void Release(const gguf::File& file, const std::vector<ops::Matrix>& parts) {
  for (const ops::Matrix& part : parts) {
    for (const os::MappedFile& mapping : file.mappings()) {
      const std::byte* begin = mapping.bytes().data();
      if (part.data < begin || part.data >= begin + mapping.bytes().size()) continue;
      mapping.Release(static_cast<size_t>(part.data - begin), part.bytes());
    }
  }
}

// A maker that is made when its first unit is asked for, and with it its threads' memory.
template <typename Maker>
package::Writer::Fill FillWith(const PlannedTensor& planned, const gguf::File& file,
                               const Model& model, ops::ThreadPool* pool, int64_t n_units) {
  return
      [&planned, &model, &file, pool, n_units, maker = std::unique_ptr<Maker>()](
          int64_t first, int64_t n, std::span<std::byte> out) mutable -> Result<QuantizationError> {
        if (!maker) maker = std::make_unique<Maker>(planned, model, pool);
        auto made = (*maker)(first, n, out);
        if (first + n == n_units) {
          maker.reset();
          Release(file, planned.parts);
        }
        return made;
      };
}

// A writer that knows all tensors. `plan` must outlive it.
Result<package::Writer> MakeWriter(const gguf::File& file, const Model& model,
                                   ops::ThreadPool* pool, std::vector<PlannedTensor>* plan) {
  if (model.packed()) {
    return Err(ErrorCode::kInvalidArgument, "{} is a package already", file.name());
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::byte> keys, DescribeModel(file, model));
  package::Writer writer(std::move(keys));
  writer.SetTokenizer(DescribeTokenizer(file));
  for (const PlannedTensor& planned : *plan) {
    package::Writer::Fill fill;
    if (planned.tensor.layout == package::Layout::kRows && planned.row_norms) {
      // The fine plane stands before its norms, and has made them.
      fill = [&planned](int64_t, int64_t, std::span<std::byte> out) -> Result<QuantizationError> {
        std::memcpy(out.data(), planned.row_norms->data(), out.size());
        return QuantizationError{};
      };
    } else if (planned.tensor.layout == package::Layout::kRows) {
      fill = [&planned, &model](int64_t first, int64_t n, std::span<std::byte> out) {
        return MakeRows(planned, model, first, n, out);
      };
    } else if (planned.tensor.layout == package::Layout::kFine) {
      fill = FillWith<FineMaker>(planned, file, model, pool, planned.tensor.n_rows);
    } else {
      fill = FillWith<StripMaker>(planned, file, model, pool,
                                  kernels::StripCount(planned.tensor.n_rows));
    }
    writer.Add(planned.tensor, std::move(fill), planned.place);
  }
  return writer;
}

int64_t MatrixBytes(const package::Tensor& tensor) {
  switch (tensor.layout) {
    case package::Layout::kStrips:
      return kernels::StripCount(tensor.n_rows) * kernels::StripBytes(tensor.scheme, tensor.n_cols);
    case package::Layout::kFine:
      return tensor.n_rows * kernels::FineRowBytes(tensor.fine_bits, tensor.n_cols);
    case package::Layout::kRows:
      return tensor.n_rows * quant::RowBytes(tensor.type, tensor.n_cols);
  }
  return 0;
}

}  // namespace

Result<PackScheme> ParsePackScheme(std::string_view name) {
  std::string known;
  for (const auto& [text, scheme] : kSchemeNames) {
    if (text == name) return scheme;
    known += fmt::format(" {}", text);
  }
  return Err(ErrorCode::kInvalidArgument, "no scheme '{}'; choose one of{}", name.substr(0, 64),
             known);
}

Result<PackReport> Pack(const gguf::File& file, const Model& model, ops::ThreadPool& pool,
                        const std::filesystem::path& path, const PackOptions& options) {
  std::vector<PlannedTensor> plan =
      model.packed() ? std::vector<PlannedTensor>{} : MakePlan(model, options.scheme);
  TANDEM_ASSIGN_OR_RETURN(package::Writer writer, MakeWriter(file, model, &pool, &plan));
  TANDEM_RETURN_IF_ERROR(writer.Finish(path, {.progress = options.progress, .stop = options.stop}));
  PackReport report{.tensors = writer.tensors()};
  std::error_code ignored;
  report.n_bytes = std::filesystem::file_size(path, ignored);
  double bits = 0, weights = 0, table_bits = 0, table_weights = 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    const double tensor_bits = 8.0 * static_cast<double>(report.tensors[i].n_bytes);
    const double tensor_weights = plan[i].is_extra ? 0
                                                   : static_cast<double>(plan[i].n_source_rows()) *
                                                         static_cast<double>(plan[i].tensor.n_cols);
    const bool table = plan[i].is_extra || plan[i].tensor.layout == package::Layout::kRows;
    (table ? table_bits : bits) += tensor_bits;
    (table ? table_weights : weights) += tensor_weights;
  }
  report.bits_per_read_weight = bits / weights;
  report.bits_per_weight = (bits + table_bits) / (weights + table_weights);
  return report;
}

uint64_t PackedWeightsBytes(const Model& model, PackScheme scheme) {
  uint64_t sum = 0;
  for (const PlannedTensor& planned : MakePlan(model, scheme)) {
    const package::Tensor& tensor = planned.tensor;
    sum += static_cast<uint64_t>(MatrixBytes(tensor));
  }
  const Weights& weights = model.weights();
  const Hyperparameters& h = model.hyperparameters();
  size_t n_floats = weights.output_norm.size();
  if (h.original_context_length > 0) n_floats += static_cast<size_t>(h.rotary_dim);
  const auto count = [&](const LayerWeights& layer) {
    n_floats += layer.attention_norm.size() + layer.qkv_bias.size() + layer.ffn_norm.size();
  };
  for (const LayerWeights& layer : weights.layers) count(layer);
  if (weights.mtp) {
    count(weights.mtp->layer);
    n_floats += 3 * weights.output_norm.size();
  }
  return sum + n_floats * sizeof(float);
}

Result<std::vector<std::byte>> PackInMemory(const gguf::File& file, const Model& model,
                                            ops::ThreadPool& pool, PackScheme scheme) {
  std::vector<PlannedTensor> plan =
      model.packed() ? std::vector<PlannedTensor>{} : MakePlan(model, scheme);
  TANDEM_ASSIGN_OR_RETURN(package::Writer writer, MakeWriter(file, model, &pool, &plan));
  return writer.FinishInMemory();
}

}  // namespace tandem::model
