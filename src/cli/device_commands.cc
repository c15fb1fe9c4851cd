// tandem plan, tandem doctor.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/device_advice.h"
#include "app/doctor.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct PlanFlags {
  app::PlanQuestion question;
  double ram_gb = -1;
  double bandwidth_gb_s = -1;
  std::string memory_limit;
  bool as_json = false;
  DataDirOption data_dir;
};

struct DoctorFlags {
  app::DoctorOptions options;
  bool as_json = false;
  DataDirOption data_dir;
};

Status PrintJson(const json::value& value) { return Print(json::serialize(value) + "\n"); }

json::array ToJson(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

std::string Text(const std::vector<std::pair<std::string, std::string>>& rows) {
  std::string text;
  for (const auto& [label, value] : rows) text += fmt::format("{:<13} {}\n", label, value);
  return text;
}

// ---- plan

json::object ToJson(const fleet::VariantVerdict& verdict) {
  json::object object = {{"variant", verdict.variant->name},
                         {"quantization", verdict.variant->quantization},
                         {"accelerator", fleet::AcceleratorName(verdict.variant->accelerator)},
                         {"fits", verdict.fits},
                         {"deployable", verdict.fits && verdict.not_deployable.empty()},
                         {"deployment_note", verdict.not_deployable},
                         {"unmet", ToJson(verdict.unmet)},
                         {"notes", ToJson(verdict.notes)}};
  if (const auto& needs = verdict.needs) {
    object["memory"] = {
        {"package_bytes", needs->package_bytes},   {"weights_bytes", needs->weights_bytes},
        {"kv_cache_bytes", needs->kv_cache_bytes}, {"scratch_bytes", needs->scratch_bytes},
        {"reserve_bytes", needs->reserve_bytes},   {"total_bytes", needs->total_bytes()},
        {"min_ram_gb", needs->min_ram_gb()},       {"context_tokens", needs->context_tokens}};
  }
  if (const auto& rate = verdict.rate) {
    object["tokens_per_second"] = {
        {"expected", rate->expected}, {"low", rate->low}, {"high", rate->high}, {"how", rate->how}};
  } else {
    object["tokens_per_second"] = nullptr;
  }
  return object;
}

json::object ToJson(const app::Plan& plan) {
  const fleet::DeviceFacts& device = plan.device;
  json::array variants;
  for (const auto& verdict : plan.verdict.variants) variants.push_back(ToJson(verdict));
  json::object object = {{"model", plan.verdict.model->name},
                         {"compatible", plan.verdict.compatible()},
                         {"variant", nullptr},
                         {"context_tokens", plan.verdict.context_tokens},
                         {"unmet", ToJson(plan.verdict.unmet)},
                         {"device", {{"soc", nullptr}, {"platform", device.platform}}},
                         {"variants", std::move(variants)}};
  if (const auto* choice = plan.verdict.choice(); choice != nullptr && choice->fits) {
    object["variant"] = choice->variant->name;
  }
  if (device.soc != nullptr) {
    object["device"].as_object()["soc"] = {{"name", device.soc->name}, {"part", device.soc->part}};
  }
  return object;
}

std::string DescribeDevice(const fleet::DeviceFacts& device) {
  std::string text = device.soc == nullptr
                         ? "SoC unknown"
                         : fmt::format("{} ({})", device.soc->name, device.soc->part);
  text += fmt::format(", {}", device.platform.empty() ? "platform unknown" : device.platform);
  text += device.free_ram_gb ? fmt::format(", {:.1f} GB free", *device.free_ram_gb)
                             : ", free memory unknown";
  return text;
}

std::string Describe(const fleet::VariantVerdict& verdict, bool chosen) {
  std::string text = fmt::format("{} ({}): {}\n", verdict.variant->name,
                                 fleet::AcceleratorName(verdict.variant->accelerator),
                                 !verdict.fits ? "rejected"
                                 : chosen      ? "fits, chosen"
                                               : "fits");
  for (const std::string& unmet : verdict.unmet) text += fmt::format("  - {}\n", unmet);
  if (const auto& needs = verdict.needs) {
    text += fmt::format(
        "  memory   {}: weights {}, KV cache of {} tokens {}, step {}, reserve {}\n",
        app::FormatByteSize(needs->total_bytes()), app::FormatByteSize(needs->weights_bytes),
        needs->context_tokens, app::FormatByteSize(needs->kv_cache_bytes),
        app::FormatByteSize(needs->scratch_bytes), app::FormatByteSize(needs->reserve_bytes));
    text += fmt::format("  download {}\n", app::FormatByteSize(needs->package_bytes));
  }
  if (const auto& rate = verdict.rate) {
    text += fmt::format("  rate     {:.1f} tokens/s ({:.1f} to {:.1f}): {}\n", rate->expected,
                        rate->low, rate->high, rate->how);
  }
  for (const std::string& note : verdict.notes) text += fmt::format("  note     {}\n", note);
  if (!verdict.not_deployable.empty()) {
    text += fmt::format("  note     {}\n", verdict.not_deployable);
  }
  return text;
}

Status RunPlan(PlanFlags flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  if (flags.ram_gb >= 0) flags.question.free_ram_gb = flags.ram_gb;
  if (flags.bandwidth_gb_s > 0) flags.question.bandwidth_gb_s = flags.bandwidth_gb_s;
  if (!flags.memory_limit.empty()) {
    TANDEM_ASSIGN_OR_RETURN(flags.question.memory_limit_bytes,
                            app::ParseByteSize(flags.memory_limit));
  }
  TANDEM_ASSIGN_OR_RETURN(const app::Plan plan, app::MakePlan(data_dir, flags.question));
  if (flags.as_json) return PrintJson(ToJson(plan));
  std::string text =
      Text({{"model", fmt::format("{}, {}", plan.verdict.model->name, plan.verdict.model->title)},
            {"device", DescribeDevice(plan.device)}});
  const fleet::VariantVerdict* choice = plan.verdict.choice();
  if (plan.verdict.compatible()) {
    text += Text({{"verdict", fmt::format("compatible: {}", choice->variant->name)}});
  } else {
    text += Text({{"verdict", "not compatible"}});
    for (const std::string& unmet : plan.verdict.unmet) text += fmt::format("  - {}\n", unmet);
  }
  for (const auto& verdict : plan.verdict.variants) {
    text += "\n" + Describe(verdict, &verdict == choice && plan.verdict.compatible());
  }
  return Print(text);
}

// ---- doctor

json::array Features(const os::CpuFeatures& cpu) {
  json::array names;
  const std::pair<const char*, bool> all[] = {{"avx2", cpu.avx2},
                                              {"fma", cpu.fma},
                                              {"f16c", cpu.f16c},
                                              {"avx512f", cpu.avx512f},
                                              {"avx512bw", cpu.avx512bw},
                                              {"avx512vl", cpu.avx512vl},
                                              {"avx512vnni", cpu.avx512vnni},
                                              {"neon_dotprod", cpu.neon_dotprod},
                                              {"neon_i8mm", cpu.neon_i8mm}};
  for (const auto& [name, present] : all) {
    if (present) names.emplace_back(name);
  }
  return names;
}

json::object ToJson(const app::DoctorReport& report) {
  const fleet::DeviceProbe& probe = report.probe;
  json::object object = {{"platform", probe.platform},
                         {"cpu",
                          {{"name", probe.cpu},
                           {"usable_cores", report.usable_cores},
                           {"features", Features(report.cpu)},
                           {"instruction_set", report.instruction_set}}},
                         {"soc", nullptr},
                         {"memory", nullptr},
                         {"read_bandwidth_bytes_per_s", nullptr},
                         {"free_disk_bytes", nullptr},
                         {"battery", nullptr},
                         {"hot", probe.hot},
                         {"vulkan_loader", probe.vulkan_loader},
                         {"vulkan_drivers", ToJson(probe.vulkan_drivers)},
                         {"findings", ToJson(report.findings)}};
  if (probe.soc != nullptr) {
    object["soc"] = {{"name", probe.soc->name}, {"part", probe.soc->part}};
  }
  if (probe.memory) {
    object["memory"] = {{"total_bytes", probe.memory->total_bytes},
                        {"limit_bytes", probe.memory->limit_bytes},
                        {"available_bytes", probe.memory->available_bytes}};
  }
  if (report.bandwidth_bytes_per_s) {
    object["read_bandwidth_bytes_per_s"] = *report.bandwidth_bytes_per_s;
  }
  if (report.free_disk_bytes) object["free_disk_bytes"] = *report.free_disk_bytes;
  if (probe.battery) {
    object["battery"] = {{"share", probe.battery->share},
                         {"discharging", probe.battery->discharging}};
  }
  json::array accelerators;
  for (const auto& found : probe.accelerators) {
    accelerators.push_back(json::object{{"kind", found.kind},
                                        {"name", found.name},
                                        {"node", found.node},
                                        {"driver", found.driver}});
  }
  object["accelerators"] = std::move(accelerators);
  json::array zones;
  for (const auto& zone : probe.thermal_zones) {
    zones.push_back(json::object{{"name", zone.name}, {"celsius", zone.celsius}});
  }
  object["thermal_zones"] = std::move(zones);
  json::array models;
  for (const auto& model : report.models) {
    models.push_back(json::object{{"name", model.name},
                                  {"size_bytes", model.size_bytes},
                                  {"certified", model.certified},
                                  {"certificate", model.certificate}});
  }
  object["models"] = std::move(models);
  return object;
}

std::string Describe(const app::DoctorReport& report) {
  const fleet::DeviceProbe& probe = report.probe;
  std::vector<std::pair<std::string, std::string>> rows = {
      {"platform", probe.platform},
      {"processor", probe.cpu.empty() ? "unknown" : probe.cpu},
      {"cores", fmt::format("{} usable", report.usable_cores)},
      {"kernels", report.instruction_set.empty() ? "none" : report.instruction_set}};
  if (probe.soc != nullptr) {
    rows.emplace_back("SoC", fmt::format("{} ({})", probe.soc->name, probe.soc->part));
  }
  if (probe.memory) {
    rows.emplace_back("memory", fmt::format("{} free of {}, limit {}",
                                            app::FormatByteSize(probe.memory->available_bytes),
                                            app::FormatByteSize(probe.memory->total_bytes),
                                            app::FormatByteSize(probe.memory->limit_bytes)));
  }
  if (report.bandwidth_bytes_per_s) {
    rows.emplace_back("bandwidth",
                      fmt::format("{:.1f} GB/s of reading, {} threads",
                                  *report.bandwidth_bytes_per_s / 1e9, report.usable_cores));
  }
  if (report.free_disk_bytes) {
    rows.emplace_back("disk", app::FormatByteSize(*report.free_disk_bytes) + " free");
  }
  if (probe.accelerators.empty()) rows.emplace_back("accelerators", "none found");
  for (const auto& found : probe.accelerators) {
    rows.emplace_back("accelerator",
                      fmt::format("{}: {}, {}, driver {}", found.kind, found.name, found.node,
                                  found.driver.empty() ? "unknown" : found.driver));
  }
  rows.emplace_back("Vulkan", probe.vulkan_loader.empty()
                                  ? "no loader"
                                  : fmt::format("{}, {} drivers", probe.vulkan_loader,
                                                probe.vulkan_drivers.size()));
  for (const auto& zone : probe.thermal_zones) {
    rows.emplace_back("temperature", fmt::format("{:.1f} C, {}", zone.celsius, zone.name));
  }
  if (probe.battery) {
    rows.emplace_back("battery", fmt::format("{:.0f} %{}", 100 * probe.battery->share,
                                             probe.battery->discharging ? ", discharging" : ""));
  }
  for (const auto& model : report.models) {
    rows.emplace_back("model",
                      fmt::format("{}, {}, certificate {}", model.name,
                                  app::FormatByteSize(model.size_bytes), model.certificate));
  }
  for (const std::string& finding : report.findings) rows.emplace_back("!", finding);
  return Text(rows);
}

Status RunDoctor(DoctorFlags flags) {
  TANDEM_ASSIGN_OR_RETURN(flags.options.data_dir, flags.data_dir.Get());
  const RealClock clock;
  const app::DoctorReport report = app::Examine(flags.options, clock);
  return flags.as_json ? PrintJson(ToJson(report)) : Print(Describe(report));
}

}  // namespace

void AddPlanCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command =
      app->add_subcommand("plan", "Which variant of a model fits a device, and why the others not");
  command->add_option("--model", flags->question.model, "A model of 'tandem catalogue list'")
      ->required();
  command->add_option("--device", flags->question.device,
                      "An SoC such as \"Snapdragon 8 Gen 3\" or sm8650 (default: this machine)");
  command->add_option("--platform", flags->question.platform, "android_arm64, linux_x86_64, ...");
  command->add_option("--ram", flags->ram_gb, "GB (10^9 bytes) that are free for the model")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--context", flags->question.context_tokens, "Tokens of a conversation's window")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--npu-driver", flags->question.npu_driver, "For example v2.23.0");
  command
      ->add_option("--bandwidth", flags->bandwidth_gb_s,
                   "GB/s of memory bandwidth, as measured ('tandem doctor --bandwidth')")
      ->check(CLI::PositiveNumber);
  command->add_option("--memory-limit", flags->memory_limit,
                      "What the model may take, such as 2.1GB or 2GiB");
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunPlan(*flags); }; });
}

void AddDoctorCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* command =
      app->add_subcommand("doctor", "What this device is, what is on it, and what is in the way");
  command->add_flag("--bandwidth", flags->options.measure_bandwidth,
                    "Measure how fast memory is read (512 MiB, some seconds at most)");
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunDoctor(*flags); }; });
}

}  // namespace tandem::cli
