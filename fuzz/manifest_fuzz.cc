// Any bytes as a manifest, a trust store, a statement of rotation, a table of models, a driver's
// version and an SoC's name: an error, or a value that is written and read back the same, and that
// every question may be asked about.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/catalogue/package_manifest.h"
#include "fleet/catalogue/trust_store.h"
#include "fleet/compat/compat.h"
#include "fleet/compat/npu.h"
#include "fleet/device/device_database.h"

namespace tandem::fleet {
namespace {

void AskAll(const Catalogue& catalogue, const DeviceFacts& device) {
  for (const CatalogueEntry& entry : catalogue.entries()) {
    CheckCompatibility(entry, device);
    CheckNpuCompatibility(entry, {.soc = device.soc}, "sm8650", "qualcomm", *device.npu_driver);
    for (const Variant& variant : entry.variants) WhyNotDeployable(entry, variant);
  }
}

void Exercise(std::string_view text) {
  DeviceFacts device{.soc = DeviceDatabase::BuiltIn().Find("sm8650").soc,
                     .platform = "android",
                     .free_ram_gb = 4,
                     .npu_driver = *DriverVersion::Parse("2.23")};
  if (const auto manifest = SignedManifest::Parse(text)) {
    const auto again = SignedManifest::Parse(manifest->Format());
    TANDEM_CHECK(again.has_value());
    TANDEM_CHECK(again->canonical() == manifest->canonical());
    TANDEM_CHECK(again->Format() == manifest->Format());
    const auto known = SignedManifest::Unsigned(manifest->manifest());
    TANDEM_CHECK(known.has_value());
    const auto merged = Catalogue::BuiltIn().With({manifest->manifest()});
    if (merged) AskAll(*merged, device);
    TANDEM_CHECK(!TrustStore().Check(*manifest, 0));
  }
  if (const auto store = TrustStore::Parse(text)) {
    const auto again = TrustStore::Parse(store->Format());
    TANDEM_CHECK(again.has_value());
    TANDEM_CHECK(again->Format() == store->Format());
  }
  TrustStore empty;
  TANDEM_CHECK(!empty.AcceptRotation(text, 0));
  if (const auto catalogue = Catalogue::Parse(text)) AskAll(*catalogue, device);
  (void)DeviceDatabase::Parse(text);
  if (const auto version = DriverVersion::Parse(text)) {
    const auto again = DriverVersion::Parse(version->ToString());
    TANDEM_CHECK(again.has_value() && *again == *version);
  }
  const SocMatch match = DeviceDatabase::BuiltIn().Find(text);
  (void)match.Explain(text);
}

}  // namespace
}  // namespace tandem::fleet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::fleet::Exercise({reinterpret_cast<const char*>(data), size});
  return 0;
}
