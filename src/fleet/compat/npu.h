// Whether a device's neural processor can run a model's variant for one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fleet/catalogue/catalogue.h"
#include "fleet/device/device_database.h"

namespace tandem::fleet {

// What a neural processor lacks for weights in 4 bits with a scale for each group. Appends
// sentences.
//   driver  empty: nobody said which one the device has
void CheckNpu(const Soc& soc, const std::optional<DriverVersion>& driver, uint64_t weights_bytes,
              std::vector<std::string>* unmet, std::vector<std::string>* notes);

struct NpuVerdict {
  bool compatible = false;
  std::string reason;    // why, or why not
  std::string fallback;  // who computes where the NPU does not: "gpu", "cpu", "cloud"
};

// `match` is what `soc_name` means. `vendor` as clients write it: "qualcomm", "qcom", "mediatek".
NpuVerdict CheckNpuCompatibility(const CatalogueEntry& model, const SocMatch& match,
                                 std::string_view soc_name, std::string_view vendor,
                                 const DriverVersion& driver);

}  // namespace tandem::fleet
