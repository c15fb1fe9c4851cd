#include "gateway/classify/classifier.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "gateway/classify/features.h"
#include "gateway/classify/rules.h"

namespace tandem::gateway {
namespace {

// Messages up to this size may lean on the one before: "and in Spanish?", "now for 17".
constexpr size_t kFollowUpBytes = 96;
// How much of the earlier message's scores a follow-up takes over, times how unsure it is itself:
// "now for 17" takes most of it, "thanks!" little.
constexpr float kContextShare = 1.5F;

// Log odds that a hint adds. Not learnt: the data has prompts, not requests.
constexpr float kCodeBefore = 2.0F;    // follow-ups in a conversation about code
constexpr float kJsonWanted = 1.0F;    // who asks for JSON extracts, mostly
constexpr float kToolsOffered = 0.5F;  // tools are offered where one step is not enough

// Rules are right in all but very few of the prompts that they match; the exam prints the figure.
constexpr float kRuleConfidence = 0.99F;
// Above this the model's choice stands against a rule that yields to it.
constexpr float kModelStands = 0.6F;

ModelScores ScoreText(const LinearModel& model, std::string_view text) {
  thread_local FeatureSet features;
  features.Clear();
  ExtractFeatures(text, &features);
  return model.Score(features);
}

struct Choice {
  TaskClass task = TaskClass::kGeneralConversation;
  float probability = 0;
};

Choice Choose(const ModelScores& scores) {
  const auto classes = std::span(scores).first<kTaskClassCount>();
  const size_t best = std::ranges::max_element(classes) - classes.begin();
  float sum = 0;
  for (const float score : classes) sum += std::exp(score - classes[best]);
  return {static_cast<TaskClass>(best), 1 / sum};
}

bool RuleStands(const RuleMatch& rule, const Choice& choice) {
  if (!rule.yields) return true;
  const bool about_a_text = choice.task == TaskClass::kTranslation ||
                            choice.task == TaskClass::kSummarisation ||
                            choice.task == TaskClass::kExtraction;
  return !about_a_text || choice.probability < kModelStands;
}

}  // namespace

Classification ClassifyWith(const LinearModel& model, std::string_view prompt,
                            const PromptHints& hints) {
  ModelScores scores = ScoreText(model, prompt);
  Classification result{.reason = "model"};
  const Choice alone = Choose(scores);
  if (prompt.size() <= kFollowUpBytes) {
    const float unsure = 1 - alone.probability;
    if (!hints.previous_user_text.empty()) {
      const ModelScores before = ScoreText(model, hints.previous_user_text);
      for (int c = 0; c < kModelColumns; ++c) {
        scores[c] += kContextShare * unsure * before[c];
      }
    }
    if (hints.has_code) scores[static_cast<size_t>(TaskClass::kCodeGeneration)] += kCodeBefore;
  }
  if (hints.wants_json) scores[static_cast<size_t>(TaskClass::kExtraction)] += kJsonWanted;
  if (hints.has_tools) scores[kComplexColumn] += kToolsOffered;

  const Choice choice = Choose(scores);
  if (choice.task != alone.task) result.reason = "context";
  result.task = choice.task;
  result.confidence = choice.probability;
  if (const std::optional<RuleMatch> rule = MatchRule(prompt); rule && RuleStands(*rule, choice)) {
    result.task = rule->task;
    result.confidence = kRuleConfidence;
    result.reason = rule->name;
  }
  result.complexity = 1 / (1 + std::exp(-scores[kComplexColumn]));
  result.complex_reasoning = result.complexity >= 0.5F;
  return result;
}

Classification Classify(std::string_view prompt, const PromptHints& hints) {
  return ClassifyWith(EmbeddedModel(), prompt, hints);
}

}  // namespace tandem::gateway
