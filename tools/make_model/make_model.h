// Writes a model file with random weights: the shapes, names, types and keys of a real one, for
// measuring memory and speed, and for tests, where the real one is not at hand. It answers
// nonsense.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/error.h"
#include "make_model/shapes.h"

namespace tandem::make_model {

struct Options {
  Shape shape;
  Mix mix;
  std::optional<std::filesystem::path> tokenizer_json;
  uint64_t seed = 1;
  // Called now and then with the bytes of tensors written and in all.
  std::function<void(uint64_t done, uint64_t total)> progress = {};
};

// Writes `out`; the same options give the same bytes.
// Errors: those of gguf::Writer::Finish and of the tokenizer; kResourceExhausted where the disk has
// no room.
// Memory: a few MB besides the tokenizer.
// Cost:   3 s of computing for the 2.3 GB of Phi-4-mini in Q4_0, and the time to write them.
Status MakeModel(const Options& options, const std::filesystem::path& out);

}  // namespace tandem::make_model
