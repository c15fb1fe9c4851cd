// Any bytes as a safetensors file: an error, or a file whose every tensor lies inside it and which
// together fill its data exactly.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/safetensors/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, so that a read beyond it shows.
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> input(bytes, bytes + size);
  const auto file = tandem::safetensors::File::Parse(input, "fuzz");
  if (!file) return 0;
  size_t n_bytes = 0;
  unsigned sum = 0;
  for (const tandem::safetensors::Tensor& tensor : file->tensors()) {
    n_bytes += tensor.n_bytes;
    for (const std::byte byte : std::span(tensor.data, tensor.n_bytes)) {
      sum += std::to_integer<unsigned>(byte);
    }
    TANDEM_CHECK(file->Find(tensor.name) != nullptr && !tensor.ShapeText().empty());
  }
  TANDEM_CHECK(n_bytes <= size && sum <= 255 * n_bytes);
  return 0;
}
