#include "train_classify/trainer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tandem::train_classify {
namespace {

using gateway::FeatureSet;
using gateway::FeatureTable;
using gateway::kComplexColumn;
using gateway::kModelColumns;
using gateway::kTaskClassCount;
using gateway::ModelScores;

constexpr size_t kRows = FeatureTable::kSlots;

struct Sample {
  std::vector<uint32_t> slots;
  size_t n_instruction = 0;  // the first ones; they weigh kInstructionWeight
  float length = 1;
  int task = 0;
  bool complex_reasoning = false;
  float weight = 1;
  float complex_weight = 1;
};

// A follow-up alone would teach the words of nothing.
bool IsTaught(const Example& example) { return example.context.empty(); }

// Features that occur in two sources at least, the most frequent first: what one template alone has
// is that template, not its class. A source is a family, or one prompt of a family that lists
// words.
FeatureTable SelectFeatures(std::span<const Example> examples, int min_sources) {
  struct Count {
    int sources = 0;
    uint64_t last = 0;  // the source counted last: those of a family follow each other
  };
  std::unordered_map<uint32_t, Count> counts;
  uint64_t number = 0;
  for (const Example& example : examples) {
    ++number;
    if (!IsTaught(example)) continue;
    const uint64_t source =
        ListsWords(example) ? number : gateway::Fnv1a(example.family + "/" + example.language);
    FeatureSet features;
    gateway::ExtractFeatures(example.text, &features);
    for (const auto part : {features.instruction(), features.content()}) {
      for (const uint32_t hash : part) {
        Count& count = counts[hash];
        if (count.sources == 0 || count.last != source) ++count.sources;
        count.last = source;
      }
    }
  }
  std::vector<std::pair<int, uint32_t>> order;
  for (const auto& [hash, count] : counts) {
    if (count.sources >= min_sources) order.emplace_back(-count.sources, hash);
  }
  std::ranges::sort(order);
  FeatureTable table;
  for (const auto& [sources, hash] : order) table.Insert(hash);
  return table;
}

std::vector<Sample> MakeSamples(std::span<const Example> examples, const FeatureTable& table) {
  std::map<std::pair<TaskClass, std::string>, int> counts;
  for (const Example& example : examples) ++counts[{example.task, example.language}];
  const float even = static_cast<float>(examples.size()) / static_cast<float>(counts.size());
  std::vector<Sample> samples;
  samples.reserve(examples.size());
  for (const Example& example : examples) {
    if (!IsTaught(example)) continue;
    FeatureSet features;
    gateway::ExtractFeatures(example.text, &features);
    Sample& sample = samples.emplace_back();
    for (const auto part : {features.instruction(), features.content()}) {
      for (const uint32_t hash : part) {
        const uint32_t slot = table.Find(hash);
        if (slot != FeatureTable::kNone) sample.slots.push_back(slot);
      }
      if (part.data() == features.instruction().data()) sample.n_instruction = sample.slots.size();
    }
    sample.length =
        gateway::FeatureLength(sample.n_instruction, sample.slots.size() - sample.n_instruction);
    sample.task = static_cast<int>(example.task);
    sample.complex_reasoning = example.complex_reasoning;
    sample.weight = even / static_cast<float>(counts[{example.task, example.language}]);
    // Words alone tell nothing of difficulty; the complex prompts are fewer than the others.
    const bool words_alone = example.family == "words";
    sample.complex_weight = words_alone ? 0.0F : example.complex_reasoning ? 6.0F : 1.0F;
  }
  return samples;
}

// Naive Bayes: how much more often a class has a feature than the classes do on average, as
// logarithms. With few prompts for a word it is the better guess; descent mends where it is wrong.
std::vector<float> MakePrior(std::span<const Sample> samples, const TrainingOptions& options) {
  std::vector<float> counts(kRows * kModelColumns, options.smoothing);
  std::array<float, kModelColumns> totals;
  totals.fill(2 * options.smoothing);
  float all = 2 * options.smoothing;
  for (const Sample& sample : samples) {
    for (const uint32_t slot : sample.slots) {
      float* row = &counts[size_t{slot} * kModelColumns];
      row[sample.task] += sample.weight;
      if (sample.complex_reasoning) row[kComplexColumn] += sample.weight;
    }
    totals[sample.task] += sample.weight;
    if (sample.complex_reasoning) totals[kComplexColumn] += sample.weight;
    all += sample.weight;
  }
  for (size_t b = 0; b < kRows; ++b) {
    float* row = &counts[b * kModelColumns];
    float mean = 0;
    float sum = 0;
    for (int c = 0; c < kTaskClassCount; ++c) {
      sum += row[c];
      row[c] = std::log(row[c] / totals[c]);
      mean += row[c] / kTaskClassCount;
    }
    for (int c = 0; c < kTaskClassCount; ++c) row[c] = options.prior * (row[c] - mean);
    const float complex_count = row[kComplexColumn];
    const float other_count =
        sum - kTaskClassCount * options.smoothing - complex_count + 2 * options.smoothing;
    row[kComplexColumn] = options.prior * std::log((complex_count / totals[kComplexColumn]) /
                                                   (other_count / (all - totals[kComplexColumn])));
  }
  return counts;
}

class Descent {
 public:
  Descent(const TrainingOptions& options, std::vector<float> prior)
      : options_(options),
        generator_(options.seed),
        prior_(std::move(prior)),
        weights_(prior_),
        squares_(weights_.size(), 1e-4F) {}

  void Step(const Sample& sample) {
    kept_.clear();
    for (size_t i = 0; i < sample.slots.size(); ++i) {
      if (Uniform() < options_.dropout) continue;
      const float weight = i < sample.n_instruction ? gateway::kInstructionWeight : 1;
      kept_.emplace_back(sample.slots[i],
                         weight / (sample.length * std::sqrt(1 - options_.dropout)));
    }
    ModelScores scores = bias_;
    for (const auto& [slot, value] : kept_) {
      const float* row = &weights_[size_t{slot} * kModelColumns];
      for (int c = 0; c < kModelColumns; ++c) scores[c] += value * row[c];
    }
    const ModelScores gradient = Gradient(sample, scores);
    for (const auto& [slot, value] : kept_) {
      const size_t row = size_t{slot} * kModelColumns;
      for (int c = 0; c < kModelColumns; ++c) {
        const float g =
            gradient[c] * value + options_.decay * (weights_[row + c] - prior_[row + c]);
        squares_[row + c] += g * g;
        weights_[row + c] -= options_.learning_rate * g / std::sqrt(squares_[row + c]);
      }
    }
    for (int c = 0; c < kModelColumns; ++c) {
      bias_squares_[c] += gradient[c] * gradient[c];
      bias_[c] -= 0.1F * options_.learning_rate * gradient[c] / std::sqrt(bias_squares_[c]);
    }
  }

  // Fisher-Yates with our own draw: std::shuffle differs between standard libraries.
  void Shuffle(std::vector<uint32_t>* order) {
    for (size_t i = order->size(); i > 1; --i)
      std::swap((*order)[i - 1], (*order)[generator_() % i]);
  }

  std::span<const float> weights() const { return weights_; }
  const ModelScores& bias() const { return bias_; }

 private:
  float Uniform() { return static_cast<float>(generator_() >> 40) * 0x1p-24F; }

  // Of the log loss in the scores.
  static ModelScores Gradient(const Sample& sample, const ModelScores& scores) {
    ModelScores gradient;
    float largest = scores[0];
    for (int c = 1; c < kTaskClassCount; ++c) largest = std::max(largest, scores[c]);
    float sum = 0;
    for (int c = 0; c < kTaskClassCount; ++c) sum += gradient[c] = std::exp(scores[c] - largest);
    for (int c = 0; c < kTaskClassCount; ++c) {
      gradient[c] = sample.weight * (gradient[c] / sum - (c == sample.task ? 1.0F : 0.0F));
    }
    const float probability = 1 / (1 + std::exp(-scores[kComplexColumn]));
    gradient[kComplexColumn] =
        sample.complex_weight * (probability - (sample.complex_reasoning ? 1.0F : 0.0F));
    return gradient;
  }

  TrainingOptions options_;
  std::mt19937_64 generator_;
  std::vector<float> prior_;    // [kRows, kModelColumns]
  std::vector<float> weights_;  // [kRows, kModelColumns]
  std::vector<float> squares_;  // AdaGrad's sums, same shape
  ModelScores bias_ = {};
  ModelScores bias_squares_ = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  std::vector<std::pair<uint32_t, float>> kept_;
};

}  // namespace

gateway::LinearModel Train(std::span<const Example> examples, uint64_t training_digest,
                           const TrainingOptions& options) {
  FeatureTable table = SelectFeatures(examples, options.min_sources);
  const std::vector<Sample> samples = MakeSamples(examples, table);
  std::vector<uint32_t> order(samples.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  Descent descent(options, MakePrior(samples, options));
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    descent.Shuffle(&order);
    for (const uint32_t i : order) descent.Step(samples[i]);
  }
  return gateway::LinearModel::Quantise(
      std::move(table), descent.weights(), descent.bias(),
      {.training_digest = training_digest, .feature_digest = DatasetFeatureDigest(examples)});
}

uint64_t DatasetFeatureDigest(std::span<const Example> examples) {
  uint64_t digest = gateway::kFnvOffset;
  for (const Example& example : examples) digest = gateway::FeatureDigest(example.text, digest);
  return digest;
}

}  // namespace tandem::train_classify
