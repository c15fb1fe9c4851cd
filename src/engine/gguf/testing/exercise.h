// Uses an open file in every way that its interface offers, for tests and fuzzing: whatever the
// reader has let through must be safe to use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/gguf/file.h"
#include "engine/quant/codec.h"

namespace tandem::gguf {

// Reads every value and every byte of every tensor; aborts where a view leaves `bytes`, the file's.
// The result depends on everything read, so that no read can be optimised away.
inline uint64_t Exercise(const File& file, std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  const auto inside = [&](const std::byte* data, size_t size) {
    const size_t offset = static_cast<size_t>(data - bytes.data());
    return data >= bytes.data() && offset <= bytes.size() && size <= bytes.size() - offset;
  };
  for (const KeyValue& entry : file.metadata()) {
    TANDEM_CHECK(file.FindKey(entry.key) == &entry);
    TANDEM_CHECK(inside(entry.bytes.data(), entry.bytes.size()));
    sum += entry.Text().size() + entry.Text(0).size();
    sum += entry.GetUint().value_or(1) + static_cast<uint64_t>(entry.GetInt().value_or(1));
    sum += entry.GetBool().value_or(false) ? 1 : 0;
    sum += entry.GetFloat().value_or(0) > 0 ? 1 : 0;
    sum += entry.GetString().value_or("").size();
    if (const auto strings = entry.GetStringArray()) {
      for (const std::string_view text : *strings) {
        TANDEM_CHECK(inside(reinterpret_cast<const std::byte*>(text.data()), text.size()));
        sum += text.size();
      }
    }
    if (const auto ints = entry.GetIntArray()) {
      for (size_t i = 0; i < ints->size(); ++i) sum += static_cast<uint64_t>((*ints)[i]);
    }
    if (const auto floats = entry.GetFloatArray()) {
      for (size_t i = 0; i < floats->size(); ++i) sum += (*floats)[i] > 0 ? 1 : 0;
    }
  }
  for (const Tensor& tensor : file.tensors()) {
    TANDEM_CHECK(file.Find(tensor.name) == &tensor);
    TANDEM_CHECK(inside(tensor.data, tensor.n_bytes));
    for (const std::byte byte : tensor.bytes()) sum += static_cast<uint64_t>(byte);
    const int64_t n = std::min<int64_t>(tensor.dims[0], 1024);
    std::vector<float> row(static_cast<size_t>(n));
    quant::DequantizeRow(tensor.type, tensor.data, row.data(), n);
    sum += row.back() > 0 ? 1 : 0;
  }
  return sum;
}

}  // namespace tandem::gguf
