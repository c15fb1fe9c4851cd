// A linear model over hashed features: one column for each task class, and one that tells whether
// several steps of reasoning are wanted. docs/formats/classify-model.md has the file.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "gateway/classify/features.h"
#include "gateway/classify/task_class.h"

namespace tandem::gateway {

inline constexpr int kModelColumns = kTaskClassCount + 1;
inline constexpr int kComplexColumn = kTaskClassCount;

using ModelScores = std::array<float, kModelColumns>;  // log odds before normalisation

// Which features have weights, and where. What training has not seen, or too rarely, is in no slot
// and counts for nothing: without that, unknown words would draw the weights of known ones.
class FeatureTable {
 public:
  static constexpr int kBits = 15;
  static constexpr uint32_t kSlots = 1U << kBits;  // 352 KiB with the weights: inside an L2 cache
  static constexpr uint32_t kNone = kSlots;

  FeatureTable() : tags_(kSlots) {}
  explicit FeatureTable(std::vector<uint16_t> tags) : tags_(std::move(tags)) {}

  // The slot of a feature, or kNone.
  uint32_t Find(uint32_t hash) const {
    const uint32_t slot = hash >> (32 - kBits);
    const uint16_t tag = Tag(hash);
    if (tags_[slot] == tag) return slot;
    if (tags_[slot ^ 1] == tag) return slot ^ 1;
    return kNone;
  }
  // Gives the feature one of its two slots; nothing where both are taken.
  void Insert(uint32_t hash);

  std::span<const uint16_t> tags() const { return tags_; }

 private:
  static uint16_t Tag(uint32_t hash) {
    const auto tag = static_cast<uint16_t>(hash);
    return tag == 0 ? 1 : tag;  // 0 is an empty slot
  }

  std::vector<uint16_t> tags_;  // [kSlots]
};

class LinearModel {
 public:
  // What training knows and a test compares.
  struct Provenance {
    uint64_t training_digest = 0;  // FNV-1a of the training file
    uint64_t feature_digest = 0;   // FeatureDigest() of the same file
  };

  // Rounds f32 weights [FeatureTable::kSlots][kModelColumns] to int8, with one scale a column.
  static LinearModel Quantise(FeatureTable table, std::span<const float> weights,
                              const ModelScores& bias, const Provenance& provenance);

  // Errors: kCorrupt where the bytes are no model or one of another shape.
  static Result<LinearModel> Parse(std::string_view bytes);
  std::string Serialise() const;

  // The weighted sum over the features that the table has, over the length of their vector.
  // Thread: any. Never allocates. Cost: about 3 ns a feature.
  ModelScores Score(const FeatureSet& features) const;

  const Provenance& provenance() const { return provenance_; }

 private:
  LinearModel() = default;

  Provenance provenance_;
  ModelScores scale_ = {};
  ModelScores bias_ = {};
  FeatureTable table_;
  // Rows of one slot lie together: [kSlots][kTaskClassCount], [kSlots].
  std::vector<int8_t> class_weights_;
  std::vector<int8_t> complex_weights_;
};

// The Euclidean length of a vector of so many features of either kind: 1 for the empty one.
float FeatureLength(size_t n_instruction, size_t n_content);

// The model that the build embeds from data/classify/model.bin.
const LinearModel& EmbeddedModel();

inline constexpr uint64_t kFnvOffset = 0xCBF29CE484222325U;
uint64_t Fnv1a(std::string_view bytes, uint64_t hash = kFnvOffset);

// Changes where ExtractFeatures gives other features for `text`; chained by `hash`.
uint64_t FeatureDigest(std::string_view text, uint64_t hash = kFnvOffset);

}  // namespace tandem::gateway
