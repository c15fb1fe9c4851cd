// The labelled prompts of data/classify.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "gateway/classify/classifier.h"

namespace tandem::train_classify {

using gateway::TaskClass;

struct Example {
  std::string text;
  std::string context;  // the user's message before, for follow-ups; mostly empty
  TaskClass task = TaskClass::kGeneralConversation;
  std::string language;  // "en"
  std::string family;    // the template it is made from; never in both files
  bool complex_reasoning = false;
  bool adversarial = false;  // made so that single words mislead
};

struct Dataset {
  std::vector<Example> examples;
  uint64_t digest = 0;  // FNV-1a of the file
};

// Errors: kNotFound or kIo for the file; kCorrupt naming the line and what is wrong with it.
Result<Dataset> ReadDataset(const std::string& path);
Result<Dataset> ParseDataset(std::string_view jsonl, std::string_view name);

// Adds the word lists of a file as prompts for training: a few words of one class and language at a
// time, every word `rounds` times, as people type into a search box. Their family is "words".
// Errors: as ReadDataset's.
Status AddWords(const std::string& path, int rounds, Dataset* dataset);
Status AddParsedWords(std::string_view jsonl, std::string_view name, int rounds, Dataset* dataset);

// "vocabulary/..." and "words": made to show words, so the exam has none of them.
bool ListsWords(const Example& example);

}  // namespace tandem::train_classify
