// Fits the linear model of gateway/classify to labelled prompts.
#pragma once

#include <cstdint>
#include <span>

#include "gateway/classify/linear_model.h"
#include "train_classify/dataset.h"

namespace tandem::train_classify {

inline constexpr int kWordRounds = 12;  // how often training sees each word of words.jsonl

struct TrainingOptions {
  int epochs = 12;
  float learning_rate = 0.1F;
  float decay = 2e-5F;  // L2 towards the prior, a step
  // How much of naive Bayes' weights descent starts at and decays to, and the count that every
  // feature has in every class before any prompt is seen.
  float prior = 0.3F;
  float smoothing = 0.5F;
  // A prompt's features are dropped with this chance, so that no single word decides alone.
  float dropout = 0.1F;
  int min_sources = 2;  // templates or hand-written prompts that a feature must occur in
  uint64_t seed = 1;
};

// Multinomial logistic regression for the classes, binary for the difficulty, by AdaGrad. Each
// class counts the same in each language, however many prompts there are.
// The same examples, options and build give the same model. Cost: about a second an epoch for
// 10,000 prompts.
gateway::LinearModel Train(std::span<const Example> examples, uint64_t training_digest,
                           const TrainingOptions& options);

// FeatureDigest() over all texts: what the model's provenance holds.
uint64_t DatasetFeatureDigest(std::span<const Example> examples);

}  // namespace tandem::train_classify
