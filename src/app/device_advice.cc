#include "app/device_advice.h"

#include <utility>

#include "base/log.h"

namespace tandem::app {
namespace {

constexpr std::string_view kAppleSystem = "ios";

gateway::DeviceAdvisor::Compatibility ToCompatibility(const fleet::Compatibility& verdict) {
  gateway::DeviceAdvisor::Compatibility out{.compatible = verdict.compatible(),
                                            .model = verdict.model->name,
                                            .variant = {},
                                            .unmet = verdict.unmet,
                                            .context_tokens = verdict.context_tokens};
  const fleet::VariantVerdict* choice = verdict.choice();
  if (choice == nullptr) return out;
  out.variant = choice->variant->name;
  out.quantization = choice->variant->quantization;
  out.accelerator = fleet::AcceleratorName(choice->variant->accelerator);
  out.platforms = choice->variant->platforms;
  out.notes = choice->notes;
  out.not_deployable = choice->not_deployable;
  if (choice->needs) {
    out.min_ram_gb = choice->needs->min_ram_gb();
    out.memory_bytes = choice->needs->total_bytes();
    out.package_bytes = choice->needs->package_bytes;
    out.context_tokens = choice->needs->context_tokens;
  }
  if (choice->rate) {
    out.rate = gateway::DeviceAdvisor::Rate{choice->rate->expected, choice->rate->low,
                                            choice->rate->high, choice->rate->how};
  }
  return out;
}

}  // namespace

std::shared_ptr<const fleet::Catalogue> DeviceAdvice::catalogue() {
  const std::scoped_lock lock(mutex_);
  if (catalogue_ != nullptr && clock_->Now() - checked_ < kRecheck) return catalogue_;
  auto loaded = store_.Load(fleet::Catalogue::BuiltIn());
  if (!loaded) log::Error("the catalogue of the data directory: {}", loaded.error().message);
  catalogue_ = std::make_shared<const fleet::Catalogue>(
      loaded ? *std::move(loaded) : fleet::Catalogue(fleet::Catalogue::BuiltIn()));
  checked_ = clock_->Now();
  return catalogue_;
}

Result<DeviceAdvice::Compatibility> DeviceAdvice::CheckCompatibility(
    const CompatibilityQuestion& question) {
  const auto known = catalogue();
  TANDEM_ASSIGN_OR_RETURN(const fleet::CatalogueEntry* model,
                          fleet::FindModel(*known, question.model));
  fleet::DeviceFacts device = fleet::FactsOf(question.npu_model, question.device_platform);
  device.free_ram_gb = question.ram_gb;
  return ToCompatibility(fleet::CheckCompatibility(
      *model, device, question.context_tokens.value_or(fleet::kDefaultContextTokens)));
}

Result<DeviceAdvice::NpuCompatibility> DeviceAdvice::CheckNpu(const NpuQuestion& question) {
  const auto known = catalogue();
  TANDEM_ASSIGN_OR_RETURN(const fleet::CatalogueEntry* model,
                          fleet::FindModel(*known, question.model));
  auto driver = fleet::DriverVersion::Parse(question.npu_driver_version);
  if (!driver) {
    driver.error().param = "npu_driver_version";
    return std::unexpected(std::move(driver).error());
  }
  fleet::NpuVerdict verdict = fleet::CheckNpuCompatibility(
      *model, fleet::DeviceDatabase::BuiltIn().Find(question.soc_model), question.soc_model,
      question.npu_vendor, *driver);
  return NpuCompatibility{.compatible = verdict.compatible,
                          .model = model->name,
                          .reason = std::move(verdict.reason),
                          .fallback = std::move(verdict.fallback)};
}

Result<Plan> MakePlan(const std::filesystem::path& data_dir, const PlanQuestion& question) {
  TANDEM_ASSIGN_OR_RETURN(auto loaded,
                          fleet::OpenCatalogueStore(data_dir).Load(fleet::Catalogue::BuiltIn()));
  Plan plan{.catalogue = std::make_shared<const fleet::Catalogue>(std::move(loaded)),
            .device = {},
            .verdict = {}};
  TANDEM_ASSIGN_OR_RETURN(const fleet::CatalogueEntry* model,
                          fleet::FindModel(*plan.catalogue, question.model));
  if (question.device.empty()) {
    plan.device = fleet::FactsOf(fleet::ProbeDevice());
  } else {
    plan.device = fleet::FactsOf(question.device, "");
    if (!plan.device.soc_problem.empty()) {
      return Err(ErrorCode::kInvalidArgument, "--device: {}", plan.device.soc_problem);
    }
    const bool apple = plan.device.soc != nullptr && plan.device.soc->vendor == "apple";
    plan.device.platform = apple ? kAppleSystem : "android";
  }
  if (!question.platform.empty()) plan.device.platform = question.platform;
  if (question.free_ram_gb) plan.device.free_ram_gb = question.free_ram_gb;
  if (question.bandwidth_gb_s) {
    plan.device.bandwidth = fleet::Bandwidth{*question.bandwidth_gb_s, fleet::Basis::kMeasured};
  }
  plan.device.memory_limit_bytes = question.memory_limit_bytes;
  if (!question.npu_driver.empty()) {
    auto driver = fleet::DriverVersion::Parse(question.npu_driver);
    if (!driver) return Wrap(std::move(driver).error(), "--npu-driver");
    plan.device.npu_driver = *std::move(driver);
  }
  plan.verdict = fleet::CheckCompatibility(*model, plan.device, question.context_tokens);
  return plan;
}

}  // namespace tandem::app
