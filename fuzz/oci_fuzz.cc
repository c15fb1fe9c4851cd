// Any bytes as a document of the depot: an error, or what survives being written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "fleet/catalogue/oci.h"
#include "fleet/depot/blob_response.h"
#include "fleet/depot/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::fleet;  // NOLINT(google-build-using-namespace)
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto manifest = oci::ParseManifest(text)) {
    const std::string again = oci::FormatManifest(*manifest);
    TANDEM_CHECK(oci::FormatManifest(oci::ParseManifest(again).value()) == again);
  }
  if (const auto index = oci::ParseIndex(text)) {
    TANDEM_CHECK(oci::ParseIndex(oci::FormatIndex(*index)).has_value());
  }
  if (const auto list = oci::ParseChunkList(text)) {
    TANDEM_CHECK(oci::ParseChunkList(oci::FormatChunkList(*list)).has_value());
  }
  if (const auto model = ParseOciManifest("m", text)) TANDEM_CHECK(!model->files.empty());
  if (const auto pull = ParsePull(text)) TANDEM_CHECK(ParsePull(FormatPull(*pull)).has_value());
  (void)ParseReference(text);
  if (const auto range = ParseRange(text, 1000); range && *range) {
    TANDEM_CHECK((*range)->n_bytes > 0 && (*range)->first + (*range)->n_bytes <= 1000);
  }
  const oci::Address address = oci::AddressOf(text);
  if (oci::IsRepository(address.repository) && oci::IsTag(address.tag)) {
    TANDEM_CHECK(oci::AddressOf(oci::NameOf(address)).tag == address.tag);
  }
  return 0;
}
