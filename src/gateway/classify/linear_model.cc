#include "gateway/classify/linear_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "gateway/classify/embedded_model.h"

namespace tandem::gateway {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

constexpr std::array<char, 8> kMagic = {'T', 'D', 'M', 'C', 'L', 'S', '0', '1'};

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  uint32_t feature_bits = kFeatureBits;
  uint32_t columns = kModelColumns;
  LinearModel::Provenance provenance;
  ModelScores scale = {};
  ModelScores bias = {};
};
static_assert(sizeof(FileHeader) == 8 + 2 * 4 + 2 * 8 + 2 * 4 * kModelColumns);

constexpr size_t kFileBytes = sizeof(FileHeader) + size_t{kFeatureBuckets} * kModelColumns;

// sum[c] += rows[bucket][c], for the edges and the body alike.
using ClassSums = std::array<int32_t, kTaskClassCount>;
void Accumulate(std::span<const uint16_t> buckets, const int8_t* class_weights,
                const int8_t* complex_weights, ClassSums* sums, int32_t* complex_sum) {
  ClassSums total = {};
  int32_t complex_total = 0;
  for (const uint16_t bucket : buckets) {
    const int8_t* row = class_weights + size_t{bucket} * kTaskClassCount;
    for (int c = 0; c < kTaskClassCount; ++c) total[c] += row[c];
    complex_total += complex_weights[bucket];
  }
  *sums = total;
  *complex_sum = complex_total;
}

}  // namespace

LinearModel LinearModel::Quantise(std::span<const float> weights, const ModelScores& bias,
                                  const Provenance& provenance) {
  TANDEM_CHECK(weights.size() == size_t{kFeatureBuckets} * kModelColumns);
  LinearModel model;
  model.provenance_ = provenance;
  model.bias_ = bias;
  model.class_weights_.resize(size_t{kFeatureBuckets} * kTaskClassCount);
  model.complex_weights_.resize(kFeatureBuckets);
  for (int c = 0; c < kModelColumns; ++c) {
    float largest = 0;
    for (size_t b = 0; b < kFeatureBuckets; ++b) {
      largest = std::max(largest, std::abs(weights[b * kModelColumns + c]));
    }
    model.scale_[c] = largest / 127;
    for (size_t b = 0; b < kFeatureBuckets; ++b) {
      const float value = weights[b * kModelColumns + c];
      const auto rounded =
          static_cast<int8_t>(largest > 0 ? std::lround(value / model.scale_[c]) : 0);
      if (c == kComplexColumn) {
        model.complex_weights_[b] = rounded;
      } else {
        model.class_weights_[b * kTaskClassCount + c] = rounded;
      }
    }
  }
  return model;
}

Result<LinearModel> LinearModel::Parse(std::string_view bytes) {
  FileHeader header;
  if (bytes.size() < sizeof(header)) {
    return Err(ErrorCode::kCorrupt, "a classifier model of {} bytes is cut short", bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) {
    return Err(ErrorCode::kCorrupt,
               "not a classifier model; tandem-train-classify train writes one");
  }
  if (header.feature_bits != kFeatureBits || header.columns != kModelColumns ||
      bytes.size() != kFileBytes) {
    return Err(ErrorCode::kCorrupt,
               "a classifier model of {} feature bits, {} columns and {} bytes, where this build "
               "has {}, {} and {}; train again with tandem-train-classify",
               header.feature_bits, header.columns, bytes.size(), kFeatureBits, kModelColumns,
               kFileBytes);
  }
  LinearModel model;
  model.provenance_ = header.provenance;
  model.scale_ = header.scale;
  model.bias_ = header.bias;
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::ranges::all_of(model.scale_, finite) || !std::ranges::all_of(model.bias_, finite)) {
    return Err(ErrorCode::kCorrupt, "a classifier model with a scale or bias that is no number");
  }
  const auto* weights = reinterpret_cast<const int8_t*>(bytes.data() + sizeof(header));
  const auto* complex_weights = weights + size_t{kFeatureBuckets} * kTaskClassCount;
  model.class_weights_.assign(weights, complex_weights);
  model.complex_weights_.assign(complex_weights, complex_weights + kFeatureBuckets);
  return model;
}

std::string LinearModel::Serialise() const {
  const FileHeader header{.provenance = provenance_, .scale = scale_, .bias = bias_};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(class_weights_.data()), class_weights_.size());
  bytes.append(reinterpret_cast<const char*>(complex_weights_.data()), complex_weights_.size());
  return bytes;
}

ModelScores LinearModel::Score(const FeatureSet& features) const {
  ClassSums instruction_sums;
  ClassSums content_sums;
  int32_t instruction_complex;
  int32_t content_complex;
  Accumulate(features.instruction(), class_weights_.data(), complex_weights_.data(),
             &instruction_sums, &instruction_complex);
  Accumulate(features.content(), class_weights_.data(), complex_weights_.data(), &content_sums,
             &content_complex);
  const float length = FeatureLength(features);
  ModelScores scores;
  for (int c = 0; c < kTaskClassCount; ++c) {
    scores[c] = static_cast<float>(kInstructionWeight * instruction_sums[c] + content_sums[c]) /
                    length * scale_[c] +
                bias_[c];
  }
  scores[kComplexColumn] =
      static_cast<float>(kInstructionWeight * instruction_complex + content_complex) / length *
          scale_[kComplexColumn] +
      bias_[kComplexColumn];
  return scores;
}

float FeatureLength(const FeatureSet& features) {
  const auto squares =
      static_cast<float>(kInstructionWeight * kInstructionWeight * features.instruction().size() +
                         features.content().size());
  return std::sqrt(std::max(squares, 1.0F));
}

const LinearModel& EmbeddedModel() {
  static const LinearModel model = [] {
    Result<LinearModel> parsed = LinearModel::Parse({kEmbeddedModel, kEmbeddedModelBytes});
    TANDEM_CHECK(parsed.has_value());
    return std::move(parsed).value();
  }();
  return model;
}

uint64_t Fnv1a(std::string_view bytes, uint64_t hash) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return hash;
}

uint64_t FeatureDigest(std::string_view text, uint64_t hash) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  for (const auto part : {features.instruction(), features.content()}) {
    hash = Fnv1a({reinterpret_cast<const char*>(part.data()), part.size_bytes()}, hash);
    hash = Fnv1a("|", hash);
  }
  return hash;
}

}  // namespace tandem::gateway
