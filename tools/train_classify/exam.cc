#include "train_classify/exam.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace tandem::train_classify {
namespace {

// The area under the ROC curve, by the ranks of the complex ones; ties count half.
double Auc(std::vector<std::pair<float, bool>> scored) {
  std::ranges::sort(scored);
  double rank_sum = 0;
  double n_complex = 0;
  for (size_t i = 0; i < scored.size();) {
    size_t end = i;
    while (end < scored.size() && scored[end].first == scored[i].first) ++end;
    const double rank = static_cast<double>(i + end + 1) / 2;  // ranks count from 1
    for (; i < end; ++i) {
      rank_sum += scored[i].second ? rank : 0;
      n_complex += scored[i].second ? 1 : 0;
    }
  }
  const double n_other = static_cast<double>(scored.size()) - n_complex;
  if (n_complex == 0 || n_other == 0) return 0;
  return (rank_sum - n_complex * (n_complex + 1) / 2) / (n_complex * n_other);
}

double Percent(int part, int whole) { return whole == 0 ? 0 : 100.0 * part / whole; }

}  // namespace

double ClassF1(const Confusion& confusion, TaskClass task) {
  const auto t = static_cast<size_t>(task);
  int right = confusion[t][t];
  int said = 0;
  int total = 0;
  for (size_t i = 0; i < kTaskClassCount; ++i) {
    said += confusion[i][t];
    total += confusion[t][i];
  }
  return said + total == 0 ? 0 : 2.0 * right / (said + total);
}

double MacroF1(const Confusion& confusion) {
  double sum = 0;
  int classes = 0;
  for (int t = 0; t < kTaskClassCount; ++t) {
    if (std::ranges::all_of(confusion[t], [](int n) { return n == 0; })) continue;
    sum += ClassF1(confusion, static_cast<TaskClass>(t));
    ++classes;
  }
  return classes == 0 ? 0 : sum / classes;
}

ExamResult Examine(std::span<const Example> examples, const ClassifyFunction& classify) {
  ExamResult result;
  std::vector<std::pair<float, bool>> complexities;
  for (const Example& example : examples) {
    const gateway::Classification said = classify(example);
    const bool right = said.task == example.task;
    const auto count = [&](Share* share) {
      ++share->total;
      share->right += right ? 1 : 0;
    };
    const auto row = static_cast<size_t>(example.task);
    const auto column = static_cast<size_t>(said.task);
    ++result.all[row][column];
    ++result.by_language[example.language][row][column];
    if (example.adversarial) count(&result.adversarial);
    count(&result.by_reason[std::string(said.reason)]);
    count(&result.by_confidence[std::min<size_t>(static_cast<size_t>(said.confidence * 10), 9)]);
    if (!right) result.mistakes.emplace_back(&example, said.task);
    result.complex_said += said.complex_reasoning ? 1 : 0;
    result.complex_total += example.complex_reasoning ? 1 : 0;
    result.complex_right += said.complex_reasoning && example.complex_reasoning ? 1 : 0;
    complexities.emplace_back(said.complexity, example.complex_reasoning);
  }
  result.complex_auc = Auc(std::move(complexities));
  return result;
}

ClassifyFunction UseModel(const gateway::LinearModel& model) {
  return [&model](const Example& example) {
    return gateway::ClassifyWith(model, example.text, {.previous_user_text = example.context});
  };
}

std::string Report(const ExamResult& result, const ExamResult& baseline) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{:22} {:>10} {:>10}\n", "F1, %", "classifier", "keywords");
  for (int t = 0; t < kTaskClassCount; ++t) {
    const auto task = static_cast<TaskClass>(t);
    fmt::format_to(out, "{:22} {:10.1f} {:10.1f}\n", gateway::TaskClassName(task),
                   100 * ClassF1(result.all, task), 100 * ClassF1(baseline.all, task));
  }
  for (const auto& [language, confusion] : result.by_language) {
    fmt::format_to(out, "{:22} {:10.1f} {:10.1f}\n", "macro-F1, " + language,
                   100 * MacroF1(confusion), 100 * MacroF1(baseline.by_language.at(language)));
  }
  fmt::format_to(out, "{:22} {:10.1f} {:10.1f}\n", "macro-F1", 100 * MacroF1(result.all),
                 100 * MacroF1(baseline.all));
  fmt::format_to(out, "{:22} {:10.1f} {:10.1f}   accuracy, of {}\n", "adversarial prompts",
                 Percent(result.adversarial.right, result.adversarial.total),
                 Percent(baseline.adversarial.right, baseline.adversarial.total),
                 result.adversarial.total);
  fmt::format_to(out,
                 "\ncomplex_reasoning: precision {:.1f} %, recall {:.1f} %, AUC {:.3f}, of {}\n",
                 Percent(result.complex_right, result.complex_said),
                 Percent(result.complex_right, result.complex_total), result.complex_auc,
                 result.complex_total);
  for (const auto& [reason, share] : result.by_reason) {
    fmt::format_to(out, "decided by {:12} {:6}  right {:5.1f} %\n", reason, share.total,
                   Percent(share.right, share.total));
  }
  for (size_t i = 0; i < result.by_confidence.size(); ++i) {
    const Share& share = result.by_confidence[i];
    if (share.total == 0) continue;
    fmt::format_to(out, "confidence {:.1f}-{:.1f} {:8}  right {:5.1f} %\n", 0.1 * i, 0.1 * (i + 1),
                   share.total, Percent(share.right, share.total));
  }
  return text;
}

}  // namespace tandem::train_classify
