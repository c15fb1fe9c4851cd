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

constexpr std::array<char, 8> kMagic = {'T', 'D', 'M', 'C', 'L', 'S', '0', '2'};

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  uint32_t slot_bits = FeatureTable::kBits;
  uint32_t columns = kModelColumns;
  LinearModel::Provenance provenance;
  ModelScores scale = {};
  ModelScores bias = {};
};
static_assert(sizeof(FileHeader) == 8 + 2 * 4 + 2 * 8 + 2 * 4 * kModelColumns);

constexpr size_t kSlots = FeatureTable::kSlots;
constexpr size_t kFileBytes = sizeof(FileHeader) + kSlots * (sizeof(uint16_t) + kModelColumns);

struct Sums {
  std::array<int32_t, kTaskClassCount> classes = {};
  int32_t complex_reasoning = 0;
  size_t n_found = 0;
};

Sums AddRows(const FeatureTable& table, std::span<const uint32_t> hashes,
             const int8_t* class_weights, const int8_t* complex_weights) {
  Sums sums;
  for (const uint32_t hash : hashes) {
    const uint32_t slot = table.Find(hash);
    if (slot == FeatureTable::kNone) continue;
    ++sums.n_found;
    const int8_t* row = class_weights + size_t{slot} * kTaskClassCount;
    for (int c = 0; c < kTaskClassCount; ++c) sums.classes[c] += row[c];
    sums.complex_reasoning += complex_weights[slot];
  }
  return sums;
}

}  // namespace

void FeatureTable::Insert(uint32_t hash) {
  if (Find(hash) != kNone) return;
  const uint32_t slot = hash >> (32 - kBits);
  if (tags_[slot] == 0) {
    tags_[slot] = Tag(hash);
  } else if (tags_[slot ^ 1] == 0) {
    tags_[slot ^ 1] = Tag(hash);
  }
}

LinearModel LinearModel::Quantise(FeatureTable table, std::span<const float> weights,
                                  const ModelScores& bias, const Provenance& provenance) {
  TANDEM_CHECK(weights.size() == kSlots * kModelColumns);
  LinearModel model;
  model.table_ = std::move(table);
  model.provenance_ = provenance;
  model.bias_ = bias;
  model.class_weights_.resize(kSlots * kTaskClassCount);
  model.complex_weights_.resize(kSlots);
  for (int c = 0; c < kModelColumns; ++c) {
    float largest = 0;
    for (size_t b = 0; b < kSlots; ++b) {
      largest = std::max(largest, std::abs(weights[b * kModelColumns + c]));
    }
    model.scale_[c] = largest / 127;
    for (size_t b = 0; b < kSlots; ++b) {
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
  if (header.slot_bits != FeatureTable::kBits || header.columns != kModelColumns ||
      bytes.size() != kFileBytes) {
    return Err(ErrorCode::kCorrupt,
               "a classifier model of {} slot bits, {} columns and {} bytes, where this build "
               "has {}, {} and {}; train again with tandem-train-classify",
               header.slot_bits, header.columns, bytes.size(), FeatureTable::kBits, kModelColumns,
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
  std::vector<uint16_t> tags(kSlots);
  std::memcpy(tags.data(), bytes.data() + sizeof(header), kSlots * sizeof(uint16_t));
  model.table_ = FeatureTable(std::move(tags));
  const auto* weights =
      reinterpret_cast<const int8_t*>(bytes.data() + sizeof(header) + kSlots * sizeof(uint16_t));
  const auto* complex_weights = weights + kSlots * kTaskClassCount;
  model.class_weights_.assign(weights, complex_weights);
  model.complex_weights_.assign(complex_weights, complex_weights + kSlots);
  return model;
}

std::string LinearModel::Serialise() const {
  const FileHeader header{.provenance = provenance_, .scale = scale_, .bias = bias_};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(table_.tags().data()), table_.tags().size_bytes());
  bytes.append(reinterpret_cast<const char*>(class_weights_.data()), class_weights_.size());
  bytes.append(reinterpret_cast<const char*>(complex_weights_.data()), complex_weights_.size());
  return bytes;
}

ModelScores LinearModel::Score(const FeatureSet& features) const {
  const Sums instruction =
      AddRows(table_, features.instruction(), class_weights_.data(), complex_weights_.data());
  const Sums content =
      AddRows(table_, features.content(), class_weights_.data(), complex_weights_.data());
  const float length = FeatureLength(instruction.n_found, content.n_found);
  const auto score = [&](int32_t instruction_sum, int32_t content_sum, int column) {
    return static_cast<float>(kInstructionWeight * instruction_sum + content_sum) / length *
               scale_[column] +
           bias_[column];
  };
  ModelScores scores;
  for (int c = 0; c < kTaskClassCount; ++c) {
    scores[c] = score(instruction.classes[c], content.classes[c], c);
  }
  scores[kComplexColumn] =
      score(instruction.complex_reasoning, content.complex_reasoning, kComplexColumn);
  return scores;
}

float FeatureLength(size_t n_instruction, size_t n_content) {
  const auto squares =
      static_cast<float>(kInstructionWeight * kInstructionWeight * n_instruction + n_content);
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
