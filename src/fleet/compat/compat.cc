#include "fleet/compat/compat.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "fleet/compat/npu.h"

namespace tandem::fleet {
namespace {

constexpr double kGigabyte = 1e9;
constexpr double kMebibyte = 1 << 20;
constexpr int32_t kLeastContext = 512;
constexpr size_t kMaxShown = 40;

std::string_view Shown(std::string_view text) { return text.substr(0, kMaxShown); }

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / kGigabyte; }

// The largest context, halved from the asked one, with which the model fits; 0: none.
template <typename Fits>
int32_t FittingContext(const CatalogueEntry& model, const Variant& variant, int32_t context,
                       const Fits& fits) {
  for (context /= 2; context >= kLeastContext; context /= 2) {
    const auto needs = NeedsOf(model, variant, context);
    if (needs && fits(*needs)) return context;
  }
  return 0;
}

std::string ContextHint(int32_t context) {
  return context > 0 ? fmt::format("; with a context of {} tokens it would fit", context)
                     : std::string();
}

void CheckPlatform(const CatalogueEntry& model, const DeviceFacts& device,
                   VariantVerdict* verdict) {
  const Variant& variant = *verdict->variant;
  if (device.platform.empty()) {
    verdict->notes.emplace_back("the device's platform is unknown");
  } else if (!variant.RunsOn(device.platform)) {
    verdict->unmet.push_back(fmt::format("{} of {} runs on {}, not on '{}'", variant.name,
                                         model.name, fmt::join(variant.platforms, ", "),
                                         Shown(device.platform)));
  }
}

void CheckMemory(const CatalogueEntry& model, const DeviceFacts& device, int32_t context,
                 VariantVerdict* verdict) {
  const Variant& variant = *verdict->variant;
  const auto needs = NeedsOf(model, variant, context);
  if (!needs) {
    verdict->notes.push_back(needs.error().message);
    return;
  }
  verdict->needs = *needs;
  if (device.free_ram_gb) {
    const auto fits = [&](const MemoryNeeds& n) { return n.min_ram_gb() <= *device.free_ram_gb; };
    if (!fits(*needs)) {
      verdict->unmet.push_back(
          fmt::format("{} GB of memory have to be free (weights {:.2f}, KV cache of {} tokens "
                      "{:.2f}, step {:.2f}, "
                      "reserve {:.2f}) and there are {:.1f}{}",
                      needs->min_ram_gb(), Gigabytes(needs->weights_bytes), needs->context_tokens,
                      Gigabytes(needs->kv_cache_bytes), Gigabytes(needs->scratch_bytes),
                      Gigabytes(needs->reserve_bytes), *device.free_ram_gb,
                      ContextHint(FittingContext(model, variant, context, fits))));
    }
  } else {
    verdict->notes.push_back(
        fmt::format("the device's free memory is unknown; {} GB are needed", needs->min_ram_gb()));
  }
  if (device.memory_limit_bytes) {
    const auto own_bytes = [](const MemoryNeeds& n) { return n.total_bytes() - n.reserve_bytes; };
    const auto fits = [&](const MemoryNeeds& n) {
      return own_bytes(n) <= *device.memory_limit_bytes;
    };
    if (!fits(*needs)) {
      verdict->unmet.push_back(fmt::format(
          "the model takes {:.0f} MB with a context of {} tokens and its limit is {:.0f} MB{}",
          static_cast<double>(own_bytes(*needs)) / kMebibyte, needs->context_tokens,
          static_cast<double>(*device.memory_limit_bytes) / kMebibyte,
          ContextHint(FittingContext(model, variant, context, fits))));
    }
  }
  if (device.free_disk_bytes && needs->package_bytes > *device.free_disk_bytes) {
    verdict->unmet.push_back(fmt::format("the package takes {:.2f} GB of disk and {:.2f} are free",
                                         Gigabytes(needs->package_bytes),
                                         Gigabytes(*device.free_disk_bytes)));
  }
}

void CheckAccelerator(const DeviceFacts& device, VariantVerdict* verdict) {
  const Variant& variant = *verdict->variant;
  if (variant.accelerator == Accelerator::kCpu) {
    // A CPU variant runs whoever made the chip; only its speed is then unknown.
    if (!device.soc_problem.empty()) verdict->notes.push_back(device.soc_problem);
    return;
  }
  if (variant.accelerator == Accelerator::kGpu) return;
  if (device.soc == nullptr) {
    verdict->unmet.push_back(device.soc_problem.empty()
                                 ? "it needs a neural processor, and the device names none"
                                 : device.soc_problem);
    return;
  }
  CheckNpu(*device.soc, device.npu_driver, verdict->needs ? verdict->needs->weights_bytes : 0,
           &verdict->unmet, &verdict->notes);
  verdict->notes.emplace_back("it needs the vendor's plug-in driver on the device");
}

void EstimateRate(const DeviceFacts& device, VariantVerdict* verdict) {
  const Variant& variant = *verdict->variant;
  if (device.soc != nullptr && variant.certificate) {
    if (const SpeedFigure* speed = variant.certificate->FindSpeed(
            device.soc->part, AcceleratorName(variant.accelerator))) {
      verdict->rate = RateFromCertificate(*speed, *variant.certificate);
      return;
    }
  }
  std::optional<Bandwidth> bandwidth = device.bandwidth;
  if (!bandwidth && device.soc != nullptr && device.soc->bandwidth_gb_s) {
    bandwidth = Bandwidth{*device.soc->bandwidth_gb_s, device.soc->bandwidth_basis};
  }
  if (!verdict->needs || !bandwidth) {
    verdict->notes.push_back(
        device.soc == nullptr && !bandwidth
            ? "the rate is unknown, because the SoC is"
            : fmt::format(
                  "the rate is unknown, because {} is",
                  bandwidth ? "the model's shape" : "the memory bandwidth of " + device.soc->name));
    return;
  }
  verdict->rate = RateFromBandwidth(*verdict->needs, *bandwidth);
}

VariantVerdict CheckVariant(const CatalogueEntry& model, const Variant& variant,
                            const DeviceFacts& device, int32_t context) {
  VariantVerdict verdict{.variant = &variant, .not_deployable = WhyNotDeployable(model, variant)};
  CheckPlatform(model, device, &verdict);
  CheckMemory(model, device, context, &verdict);
  CheckAccelerator(device, &verdict);
  EstimateRate(device, &verdict);
  verdict.fits = verdict.unmet.empty();
  return verdict;
}

// Lower is better.
std::pair<int, size_t> Rank(const VariantVerdict& verdict) {
  if (verdict.fits) return {verdict.not_deployable.empty() ? 0 : 1, 0};
  return {2, verdict.unmet.size()};
}

}  // namespace

Compatibility CheckCompatibility(const CatalogueEntry& model, const DeviceFacts& device,
                                 int32_t context_tokens) {
  Compatibility verdict{.model = &model, .context_tokens = context_tokens};
  if (model.cloud) {
    verdict.unmet.push_back(
        fmt::format("{} is answered in the cloud and runs on no device", model.name));
    return verdict;
  }
  if (model.variants.empty()) {
    verdict.unmet.push_back(fmt::format(
        "no variant of {} is known; 'tandem catalogue add' takes a manifest of one", model.name));
    return verdict;
  }
  if (model.shape && context_tokens > model.shape->context_length) {
    verdict.unmet.push_back(fmt::format("a context of {} tokens is asked, and {} was made for {}",
                                        context_tokens, model.name, model.shape->context_length));
  }
  for (const Variant& variant : model.variants) {
    verdict.variants.push_back(CheckVariant(model, variant, device, context_tokens));
  }
  size_t best = 0;
  for (size_t i = 1; i < verdict.variants.size(); ++i) {
    if (Rank(verdict.variants[i]) < Rank(verdict.variants[best])) best = i;
  }
  verdict.chosen = best;
  const auto& unmet = verdict.variants[best].unmet;
  verdict.unmet.insert(verdict.unmet.end(), unmet.begin(), unmet.end());
  return verdict;
}

}  // namespace tandem::fleet
