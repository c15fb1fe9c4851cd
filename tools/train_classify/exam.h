// How well a classifier does on labelled prompts, as figures and as text.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "train_classify/dataset.h"

namespace tandem::train_classify {

using gateway::kTaskClassCount;

// Rows are what is right, columns what was said.
using Confusion = std::array<std::array<int, kTaskClassCount>, kTaskClassCount>;

// Mean over the classes that occur of 2PR / (P + R).
double MacroF1(const Confusion& confusion);
double ClassF1(const Confusion& confusion, TaskClass task);

struct Share {
  int right = 0;
  int total = 0;
};

struct ExamResult {
  Confusion all = {};
  std::map<std::string, Confusion> by_language;
  Share adversarial;
  std::map<std::string, Share> by_reason;  // rule or model
  std::array<Share, 10> by_confidence;     // tenths
  // How complex_reasoning does: 0 where nothing is complex, as for the keyword baseline.
  int complex_right = 0;  // said and so
  int complex_said = 0;
  int complex_total = 0;
  double complex_auc = 0;  // chance that a complex prompt is placed above one that is not
  std::vector<std::pair<const Example*, TaskClass>> mistakes;
};

using ClassifyFunction = std::function<gateway::Classification(const Example&)>;
ExamResult Examine(std::span<const Example> examples, const ClassifyFunction& classify);

ClassifyFunction UseModel(const gateway::LinearModel& model);

// A table of both, class by class and language by language.
std::string Report(const ExamResult& result, const ExamResult& baseline);

}  // namespace tandem::train_classify
