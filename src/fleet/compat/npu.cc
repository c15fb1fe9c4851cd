#include "fleet/compat/npu.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tandem::fleet {
namespace {

constexpr double kGigabyte = 1e9;
constexpr size_t kMaxShown = 40;

// The vendor's name in the database for what clients write.
std::string VendorOf(std::string_view text) {
  std::string lower(text.substr(0, kMaxShown));
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (lower == "qcom") return "qualcomm";
  if (lower == "mtk") return "mediatek";
  if (lower == "hisilicon") return "huawei";
  return lower;
}

void CheckWeights(const Soc& soc, std::vector<std::string>* unmet,
                  std::vector<std::string>* notes) {
  if (!soc.npu.int4_weights) {
    unmet->push_back(fmt::format(
        "whether the {} of {} takes weights of 4 bits is unknown; measure it on the device, or use "
        "the CPU",
        soc.npu.name, soc.name));
    return;
  }
  switch (*soc.npu.int4_weights) {
    case Int4Weights::kNone:
      unmet->push_back(
          fmt::format("the {} of {} takes no weights of 4 bits", soc.npu.name, soc.name));
      break;
    case Int4Weights::kChannels:
      unmet->push_back(
          fmt::format("the {} of {} takes weights of 4 bits with one scale a row only, and the "
                      "package has one for each group",
                      soc.npu.name, soc.name));
      break;
    case Int4Weights::kSome:
      notes->push_back(fmt::format(
          "the {} of {} takes weights of 4 bits; whether with a scale for each group is unknown",
          soc.npu.name, soc.name));
      break;
    case Int4Weights::kGroups:
      break;
  }
}

void CheckDriver(const Soc& soc, const std::optional<DriverVersion>& driver,
                 std::vector<std::string>* unmet, std::vector<std::string>* notes) {
  if (!soc.min_driver) {
    notes->push_back(fmt::format("which version of its driver {} needs is unknown", soc.name));
    return;
  }
  if (!driver) {
    notes->push_back(fmt::format("{} needs {} {} or later; the device's version is not known",
                                 soc.name, soc.driver_name, soc.min_driver->ToString()));
    return;
  }
  if (*driver < *soc.min_driver) {
    unmet->push_back(
        fmt::format("driver {} is older than {} {}, the first that knows {}; update it",
                    driver->ToString(), soc.driver_name, soc.min_driver->ToString(), soc.name));
  }
}

std::string Fallback(const CatalogueEntry& model) {
  for (const auto accelerator : {Accelerator::kGpu, Accelerator::kCpu}) {
    if (std::ranges::find(model.variants, accelerator, &Variant::accelerator) !=
        model.variants.end()) {
      return std::string(AcceleratorName(accelerator));
    }
  }
  return "cloud";
}

}  // namespace

void CheckNpu(const Soc& soc, const std::optional<DriverVersion>& driver, uint64_t weights_bytes,
              std::vector<std::string>* unmet, std::vector<std::string>* notes) {
  if (!soc.npu.third_party) {
    unmet->push_back(
        fmt::format("no way for others than {} to run a language model on the {} of {} is known",
                    soc.vendor, soc.npu.name, soc.name));
  } else if (!*soc.npu.third_party) {
    unmet->push_back(fmt::format("{} lets nobody else run models on the {} of {}", soc.vendor,
                                 soc.npu.name, soc.name));
  }
  CheckWeights(soc, unmet, notes);
  CheckDriver(soc, driver, unmet, notes);
  if (soc.npu.session_gb && weights_bytes > 0) {
    const double sessions =
        std::ceil(static_cast<double>(weights_bytes) / (*soc.npu.session_gb * kGigabyte));
    if (sessions > 1) {
      notes->push_back(
          fmt::format("one session of the {} maps {:.1f} GB, so the model takes {:.0f}",
                      soc.npu.name, *soc.npu.session_gb, sessions));
    }
  }
}

NpuVerdict CheckNpuCompatibility(const CatalogueEntry& model, const SocMatch& match,
                                 std::string_view soc_name, std::string_view vendor,
                                 const DriverVersion& driver) {
  NpuVerdict verdict{.fallback = Fallback(model)};
  std::vector<std::string> unmet;
  std::vector<std::string> notes;
  const auto variant = std::ranges::find(model.variants, Accelerator::kNpu, &Variant::accelerator);
  if (model.cloud) {
    unmet.push_back(fmt::format("{} is answered in the cloud and runs on no device", model.name));
  } else if (variant == model.variants.end()) {
    unmet.push_back(fmt::format("there is no variant of {} for a neural processor", model.name));
  } else if (match.soc == nullptr) {
    unmet.push_back(match.Explain(soc_name));
  } else {
    const Soc& soc = *match.soc;
    if (VendorOf(vendor) != soc.vendor) {
      unmet.push_back(fmt::format("{} is made by {}, not by '{}': one of the two is mistaken",
                                  soc.part, soc.vendor, vendor.substr(0, kMaxShown)));
    } else {
      const auto needs = NeedsOf(model, *variant);
      CheckNpu(soc, driver, needs ? needs->weights_bytes : 0, &unmet, &notes);
      if (unmet.empty()) {
        verdict.compatible = true;
        verdict.reason = fmt::format(
            "the {} of {} takes the weights of {} and the driver is new enough to be tried; "
            "Tandem needs the vendor's plug-in driver on the device",
            soc.npu.name, soc.name, variant->name);
        if (!soc.min_driver) {
          verdict.reason = fmt::format(
              "the {} of {} takes the weights of {}; Tandem needs the vendor's plug-in driver on "
              "the device",
              soc.npu.name, soc.name, variant->name);
        }
      }
    }
  }
  unmet.insert(unmet.end(), notes.begin(), notes.end());
  if (!verdict.compatible) {
    verdict.reason = fmt::format("{}", fmt::join(unmet, "; "));
  } else if (!notes.empty()) {
    verdict.reason += fmt::format("; {}", fmt::join(notes, "; "));
  }
  return verdict;
}

}  // namespace tandem::fleet
