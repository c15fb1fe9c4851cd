// A package of a few kilobytes with a part of every kind, for tests and fuzzing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/gguf/writer.h"
#include "engine/package/writer.h"

namespace tandem::package {

// Bytes aligned as a package must be, and of exactly their size, so that asan sees a read past
// them.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::span<const std::byte> bytes)
      : data_(static_cast<std::byte*>(
            ::operator new[](bytes.size(), std::align_val_t(kernels::kStripAlignment)))),
        size_(bytes.size()) {
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  ~AlignedBytes() { ::operator delete[](data_, std::align_val_t(kernels::kStripAlignment)); }

  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_;
  size_t size_;
};

// Fills a tensor with bytes that depend on where they stand, and calls that an error of 1 %.
inline Writer::Fill FillWith(uint8_t seed) {
  return [seed](int64_t first, int64_t, std::span<std::byte> out) -> Result<QuantizationError> {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<std::byte>(seed + (i + static_cast<size_t>(first) * 31) * 7);
    }
    return QuantizationError{.squares = 0.0001, .source_squares = 1};
  };
}

inline Tensor StripsTensor(std::string name, kernels::Scheme scheme, int64_t n_rows,
                           int64_t n_cols) {
  return {.name = std::move(name),
          .layout = Layout::kStrips,
          .scheme = scheme,
          .n_rows = n_rows,
          .n_cols = n_cols,
          .source = "F16"};
}

inline Tensor FineTensor(std::string name, int bits, int64_t n_rows, int64_t n_cols) {
  return {.name = std::move(name),
          .layout = Layout::kFine,
          .fine_bits = bits,
          .n_rows = n_rows,
          .n_cols = n_cols,
          .source = "F16"};
}

inline Tensor RowsTensor(std::string name, quant::Type type, int64_t n_rows, int64_t n_cols) {
  return {.name = std::move(name),
          .layout = Layout::kRows,
          .type = type,
          .n_rows = n_rows,
          .n_cols = n_cols,
          .source = std::string(quant::GetType(type).name)};
}

inline std::vector<std::byte> SmallModel() {
  gguf::Writer writer;
  writer.SetString("general.architecture", "phi3");
  static constexpr float kNorm[] = {1, 2, 3};
  const int64_t dims[] = {3};
  writer.AddTensor("output_norm.weight", quant::Type::kF32, dims, std::as_bytes(std::span(kNorm)));
  auto bytes = writer.FinishInMemory();
  TANDEM_CHECK(bytes.has_value());
  return *std::move(bytes);
}

// Ready to be finished.
inline Writer SmallWriter() {
  Writer writer(SmallModel());
  writer.SetTokenizer(std::vector<std::byte>(100, std::byte{42}));
  writer.Add(RowsTensor("token_embd.weight", quant::Type::kQ8_0, 10, 64), FillWith(1),
             Place::kNewBlock);
  writer.Add(StripsTensor("blk.0.down", kernels::Scheme::kInt4G128, 20, 130), FillWith(2),
             Place::kNewBlock);
  writer.Add(StripsTensor("blk.0.up", kernels::Scheme::kInt8G32, 16, 32), FillWith(3),
             Place::kBehind);
  writer.Add(FineTensor("blk.0.down.fine", 3, 21, 130), FillWith(4), Place::kBehind);
  return writer;
}

inline std::vector<std::byte> SmallPackage() {
  auto bytes = SmallWriter().FinishInMemory();
  TANDEM_CHECK(bytes.has_value());
  return *std::move(bytes);
}

// Reads everything that an open package offers; aborts where a view leaves `bytes`, the package's.
inline uint64_t Exercise(const File& file, std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  const auto read = [&](std::span<const std::byte> part) {
    TANDEM_CHECK(part.empty() || (part.data() >= bytes.data() &&
                                  part.data() + part.size() <= bytes.data() + bytes.size()));
    for (const std::byte byte : part) sum += static_cast<uint64_t>(byte);
  };
  for (const Tensor& tensor : file.tensors()) {
    TANDEM_CHECK(file.Find(tensor.name) == &tensor);
    TANDEM_CHECK(reinterpret_cast<uintptr_t>(tensor.data) % kernels::kStripAlignment == 0);
    sum += tensor.type_name().size();
    read(tensor.bytes());
    std::vector<float> row(static_cast<size_t>(tensor.n_cols));
    if (tensor.layout == Layout::kStrips && row.size() < 4096) {
      kernels::UnpackRow(tensor.scheme, tensor.data, tensor.n_rows - 1, tensor.n_cols, row.data());
    }
  }
  read(file.tokenizer());
  for (const gguf::Tensor& tensor : file.model()->tensors()) read(tensor.bytes());
  return sum;
}

}  // namespace tandem::package
