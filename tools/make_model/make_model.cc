#include "make_model/make_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/gguf/writer.h"
#include "make_model/random_weights.h"
#include "make_model/tokenizer_keys.h"
#include "os/file.h"

namespace tandem::make_model {
namespace {

// Made and written at a time, in blocks of the tensor's type.
constexpr size_t kChunkBlocks = 8192;

void SetModelKeys(const Options& options, gguf::Writer* writer) {
  const Shape& shape = options.shape;
  const auto key = [&](std::string_view name) {
    return fmt::format("{}.{}", shape.architecture(), name);
  };
  const auto set = [&](std::string_view name, int value) {
    writer->SetNumber<uint32_t>(key(name), static_cast<uint32_t>(value));
  };
  writer->SetString("general.architecture", shape.architecture());
  writer->SetString("general.type", "model");
  writer->SetString("general.name",
                    fmt::format("{} random weights, seed {}", shape.name, options.seed));
  set("block_count", shape.n_layers);
  set("context_length", shape.context_length);
  set("embedding_length", shape.d_model);
  set("feed_forward_length", shape.d_ff);
  set("attention.head_count", shape.n_heads);
  set("attention.head_count_kv", shape.n_kv_heads);
  writer->SetNumber<float>(key("attention.layer_norm_rms_epsilon"), 1e-5F);
  writer->SetNumber<float>(key("rope.freq_base"), shape.rope_theta);
  if (shape.phi3) {
    set("rope.dimension_count", shape.rotary_dim);
    set("rope.scaling.original_context_length", 4096);
    // sqrt(1 + ln(131072 / 4096) / ln 4096), LongRoPE's attention factor.
    writer->SetNumber<float>(key("rope.scaling.attn_factor"),
                             static_cast<float>(std::sqrt(1.0 + 5.0 / 12.0)));
    set("attention.sliding_window", 262144);
  }
  writer->SetNumber<uint32_t>("general.quantization_version", 2);
  writer->SetNumber<uint32_t>("general.file_type", options.mix.file_type);
}

std::vector<float> SmallVector(const TensorPlan& plan, uint64_t seed) {
  if (plan.fill == Fill::kRopeShort || plan.fill == Fill::kRopeLong) {
    return RopeFactors(plan.fill == Fill::kRopeLong);
  }
  const float mean = plan.fill == Fill::kNorm ? 1.0F : 0.0F;
  SplitMix64 random(seed);
  std::vector<float> values(static_cast<size_t>(plan.dims[0]));
  for (float& value : values) value = mean + plan.deviation * NormalTable()[random.Next() >> 48];
  return values;
}

int64_t PlannedBytes(const TensorPlan& plan) {
  const int64_t n_rows = plan.dims.size() > 1 ? plan.dims[1] : 1;
  return n_rows * quant::RowBytes(plan.type, plan.dims[0]);
}

Status CheckDisk(const std::filesystem::path& out, uint64_t needed_bytes) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t free_bytes, os::FreeDiskBytes(out));
  if (free_bytes >= needed_bytes) return {};
  return Err(ErrorCode::kResourceExhausted,
             "'{}' needs {:.1f} GB, {:.1f} GB are free: make room or choose another place",
             out.string(), static_cast<double>(needed_bytes) / 1e9,
             static_cast<double>(free_bytes) / 1e9);
}

}  // namespace

Status MakeModel(const Options& options, const std::filesystem::path& out) {
  gguf::Writer writer;
  SetModelKeys(options, &writer);
  TANDEM_ASSIGN_OR_RETURN(const int vocab_size,
                          SetTokenizerKeys(options.shape, options.tokenizer_json, &writer));
  const std::vector<TensorPlan> plans = PlanTensors(options.shape, options.mix, vocab_size);
  uint64_t total = 0;
  for (const TensorPlan& plan : plans) total += static_cast<uint64_t>(PlannedBytes(plan));
  TANDEM_RETURN_IF_ERROR(CheckDisk(out, total));

  uint64_t done = 0;
  // Each tensor has a seed of its own, so that its weights do not depend on the types of others.
  SplitMix64 seeds(options.seed);
  for (const TensorPlan& plan : plans) {
    const uint64_t seed = seeds.Next();
    writer.AddTensor(
        plan.name, plan.type, plan.dims,
        [&options, &plan, &done, total, seed](const gguf::Writer::Sink& sink) -> Status {
          const auto write = [&](std::span<const std::byte> bytes) -> Status {
            done += bytes.size();
            if (options.progress) options.progress(done, total);
            return sink(bytes);
          };
          if (plan.dims.size() == 1) {
            const std::vector<float> values = SmallVector(plan, seed);
            return write(std::as_bytes(std::span(values)));
          }
          BlockMaker maker(plan.type, plan.deviation, seed);
          std::vector<std::byte> chunk;
          const auto chunk_bytes =
              kChunkBlocks * static_cast<size_t>(quant::GetType(plan.type).block_bytes);
          for (auto left = static_cast<size_t>(PlannedBytes(plan)); left > 0;
               left -= chunk.size()) {
            chunk.resize(std::min(left, chunk_bytes));
            maker.Fill(chunk);
            TANDEM_RETURN_IF_ERROR(write(chunk));
          }
          return {};
        });
  }
  return writer.Finish(out);
}

}  // namespace tandem::make_model
