// A linear model over hashed features: one column for each task class, and one that tells whether
// several steps of reasoning are wanted. docs/formats/classify-model.md has the file.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "gateway/classify/features.h"
#include "gateway/classify/task_class.h"

namespace tandem::gateway {

inline constexpr int kModelColumns = kTaskClassCount + 1;
inline constexpr int kComplexColumn = kTaskClassCount;

using ModelScores = std::array<float, kModelColumns>;  // log odds before normalisation

class LinearModel {
 public:
  // What training knows and a test compares.
  struct Provenance {
    uint64_t training_digest = 0;  // FNV-1a of the training file
    uint64_t feature_digest = 0;   // FeatureDigest() of the same file
  };

  // Rounds f32 weights [kFeatureBuckets][kModelColumns] to int8, with one scale a column.
  static LinearModel Quantise(std::span<const float> weights, const ModelScores& bias,
                              const Provenance& provenance);

  // Errors: kCorrupt where the bytes are no model or one for other features than these.
  static Result<LinearModel> Parse(std::string_view bytes);
  std::string Serialise() const;

  // Thread: any. Never allocates. Cost: about 3 ns a feature.
  ModelScores Score(const FeatureSet& features) const;

  const Provenance& provenance() const { return provenance_; }

 private:
  LinearModel() = default;

  Provenance provenance_;
  ModelScores scale_ = {};
  ModelScores bias_ = {};
  // Rows of one bucket lie together: [kFeatureBuckets][kTaskClassCount], [kFeatureBuckets].
  std::vector<int8_t> class_weights_;
  std::vector<int8_t> complex_weights_;
};

// The Euclidean length of the feature vector, which scores are divided by: 1 for the empty one.
float FeatureLength(const FeatureSet& features);

// The model that the build embeds from data/classify/model.bin.
const LinearModel& EmbeddedModel();

inline constexpr uint64_t kFnvOffset = 0xCBF29CE484222325U;
uint64_t Fnv1a(std::string_view bytes, uint64_t hash = kFnvOffset);

// Changes where ExtractFeatures gives other features for `text`; chained by `hash`.
uint64_t FeatureDigest(std::string_view text, uint64_t hash = kFnvOffset);

}  // namespace tandem::gateway
