// Any bytes as a package: an error, or a file whose every view is safe to use, whose tokenizer's
// tables are safe to encode with, and whose weights make a model or a clear error.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "crypto/digest.h"
#include "engine/model/model.h"
#include "engine/package/manifest.h"
#include "engine/package/testing/small_package.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem {
namespace {

// Makes the header's digest and lengths right, as an attacker would: without that no change of the
// manifest would ever be looked at.
void Forge(std::span<std::byte> bytes) {
  uint64_t offset = 0;
  if (bytes.size() < package::kFirstOffset) return;
  std::memcpy(&offset, bytes.data() + 24, sizeof offset);
  if (offset < package::kFirstOffset || offset > bytes.size()) return;
  const auto manifest = bytes.subspan(offset);
  const std::string header = package::FormatHeader(
      {.file_bytes = bytes.size(),
       .manifest_offset = offset,
       .manifest_bytes = manifest.size(),
       .manifest_sha256 =
           crypto::Sha256Of({reinterpret_cast<const char*>(manifest.data()), manifest.size()})});
  std::memcpy(bytes.data(), header.data(), header.size());
}

void Use(const package::File& file) {
  const auto tokenizer = tokenizer::Tokenizer::Open(file.tokenizer(), nullptr);
  if (!tokenizer) return;
  const auto ids =
      (*tokenizer)->Encode("Hello, <|user|> w\xC3\xB6rld", tokenizer::SpecialTokens::kParse);
  TANDEM_CHECK((*tokenizer)->Decode(ids, tokenizer::ControlTokens::kShow).has_value());
}

void Try(std::span<const std::byte> input, bool forge) {
  const package::AlignedBytes bytes(input);
  if (forge) Forge(bytes.bytes());
  const auto file = package::File::Parse(bytes.bytes(), "fuzz");
  if (!file) return;
  package::Exercise(**file, bytes.bytes());
  (void)(*file)->Verify({}, {});
  Use(**file);
  (void)model::Model::Load(*file);
}

}  // namespace
}  // namespace tandem

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  tandem::Try(input, false);
  tandem::Try(input, true);
  // The tokenizer's tables alone, for they rarely survive as a part of a package.
  const tandem::package::AlignedBytes tables(input);
  (void)tandem::tokenizer::Tokenizer::Open(tables.bytes(), nullptr);
  return 0;
}
