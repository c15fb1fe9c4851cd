// Any bytes as a GGUF file: an error, or a file whose every value and tensor is safe to use and
// that survives being written and read again.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/gguf/file.h"
#include "engine/gguf/testing/exercise.h"
#include "engine/gguf/writer.h"

namespace tandem::gguf {
namespace {

void Rewrite(const File& file, uint64_t sum) {
  // Padding to a large alignment is the writer's job, but not worth the fuzzer's memory.
  if (file.alignment() > 4096 || file.alignment() < 4) return;
  Writer writer;
  for (const KeyValue& entry : file.metadata()) writer.Copy(entry);
  for (const Tensor& tensor : file.tensors()) {
    writer.AddTensor(tensor.name, tensor.type,
                     std::span(tensor.dims).first(static_cast<size_t>(tensor.n_dims)),
                     tensor.bytes());
  }
  const auto bytes = writer.FinishInMemory();
  TANDEM_CHECK(bytes.has_value());
  const auto again = File::Parse(*bytes, "rewritten");
  TANDEM_CHECK(again.has_value());
  TANDEM_CHECK(Exercise(**again, *bytes) == sum);
}

}  // namespace
}  // namespace tandem::gguf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, aligned as a mapping is.
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> input(bytes, bytes + size);
  const auto file = tandem::gguf::File::Parse(input, "fuzz");
  if (file) tandem::gguf::Rewrite(**file, tandem::gguf::Exercise(**file, input));
  return 0;
}
