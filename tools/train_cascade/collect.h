// Asks a model the questions of an exam and keeps how sure it was, and whether it was right.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/error.h"
#include "train_cascade/dataset.h"

namespace tandem::train_cascade {

struct CollectOptions {
  std::filesystem::path model;  // GGUF file or package
  std::filesystem::path exam;   // a line of JSON for each: messages, answer
  double temperature = 0;
  uint64_t seed = 1;
  int tokens = 28;  // of the beginning that are looked at
};

// An answer is right where it is the reference, word for word. The beginning is cut as the
// cascade cuts it. Errors: those of the files and the engine.
Status Collect(const CollectOptions& options, const std::function<void(const Example&)>& callback);

}  // namespace tandem::train_cascade
