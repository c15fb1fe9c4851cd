// Writes packages: the same bytes for the same calls, in bounded memory, and nobody ever sees half
// a file.
//
//   package::Writer writer(std::move(model_gguf_bytes));
//   writer.Add({.name = "blk.0.ffn_down.weight", ...}, fill, Place::kNewBlock);
//   TANDEM_RETURN_IF_ERROR(writer.Finish(path, {}));
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/package/file.h"
#include "engine/package/quantize.h"

namespace tandem::package {

enum class Place {
  kBehind,    // at the next page behind the tensor before it
  kNewBlock,  // at the next multiple of 2 MiB: the start of a layer, whose tensors are read in turn
};

// Thread: one at a time.
class Writer {
 public:
  // Makes units [first, first + n) of a tensor: strips of kStrips, rows of the others. Called for
  // consecutive ranges from 0 to the end, on the thread that finishes; may use others inside.
  // Returns the error that these units have.
  //   out  exactly their bytes, aligned to kernels::kStripAlignment
  using Fill = std::move_only_function<Result<QuantizationError>(int64_t first, int64_t n,
                                                                 std::span<std::byte> out)>;

  struct Options {
    // Gets the bytes written so far and their total, after every few MiB.
    std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
    std::stop_token stop;
  };

  // `model` is a GGUF file: the keys and vectors of the model.
  explicit Writer(std::vector<std::byte> model) : model_(std::move(model)) {}

  // What File::tokenizer() will give back; not called, or empty: nothing.
  void SetTokenizer(std::vector<std::byte> tokenizer) { tokenizer_ = std::move(tokenizer); }

  // Names, shapes, types and `source` count; the other members are the writer's to find out.
  // Checked by Finish.
  void Add(Tensor tensor, Fill fill, Place place);

  // Bytes of the file but for the manifest. Errors: kInvalidArgument for a shape or name.
  Result<uint64_t> PlanBytes();

  // Writes to a temporary file beside `path`, flushes it and renames it. A Writer can be finished
  // once.
  // Errors: kInvalidArgument for a name, shape or model that a package cannot have;
  // kResourceExhausted where the disk has too little room; kCancelled; a source's own; those of
  // os::OutputFile. No file is left behind then.
  Status Finish(const std::filesystem::path& path, const Options& options);
  // The same into memory, for small models.
  Result<std::vector<std::byte>> FinishInMemory();

  // After Finish: what was written.
  const std::vector<Tensor>& tensors() const { return tensors_; }

 private:
  using WriteAt = std::function<Status(uint64_t offset, std::span<const std::byte> bytes)>;

  Status PlaceTensors();
  Status WriteTo(const WriteAt& write, const Options& options);
  Status WriteTensor(size_t i, uint64_t total_bytes, const WriteAt& write, const Options& options);

  const std::vector<std::byte> model_;
  std::vector<std::byte> tokenizer_;
  std::vector<Tensor> tensors_;
  std::vector<Fill> fills_;    // of tensors_
  std::vector<Place> places_;  // of tensors_
  uint64_t tensors_end_ = 0;
};

}  // namespace tandem::package
