#include "app/doctor.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "app/byte_size.h"
#include "app/models.h"
#include "crypto/digest.h"
#include "engine/engine.h"
#include "os/file.h"

namespace tandem::app {
namespace {

// A bundled model's file is hashed for its certificate; the digest of a larger one is taken from
// its manifest or not at all.
constexpr size_t kMaxHashedBytes = size_t{64} << 20;
constexpr double kLowBattery = 0.15;
constexpr uint64_t kLittleDisk = 1000000000;

std::string DigestOf(const fleet::ModelInfo& model) {
  if (model.files.empty()) return {};
  if (!model.files.front().sha256.empty()) return model.files.front().sha256;
  if (model.size_bytes > kMaxHashedBytes) return {};
  const auto bytes = os::ReadFile(model.path, kMaxHashedBytes);
  return bytes ? crypto::Sha256Hex(*bytes) : std::string();
}

DoctorReport::InstalledModel Certified(const fleet::Catalogue& catalogue,
                                       const fleet::ModelInfo& model) {
  DoctorReport::InstalledModel out{.name = model.name,
                                   .size_bytes = model.size_bytes,
                                   .certificate = "none: it is not of the catalogue"};
  const fleet::CatalogueEntry* entry = catalogue.Find(model.name);
  if (entry == nullptr) return out;
  const std::string digest = DigestOf(model);
  out.certificate = "none for these bytes";
  for (const fleet::Variant& variant : entry->variants) {
    if (!variant.certificate || variant.certificate->package_sha256 != digest) continue;
    out.certificate = fleet::WhyNotDeployable(*entry, variant);
    out.certified = out.certificate.empty();
    if (out.certified) {
      out.certificate =
          fmt::format("{}: kept {:.1f} % of the reference's right answers, by {}", variant.name,
                      variant.certificate->kept_accuracy_ppm().value_or(0) / 1e4,
                      variant.certificate->issued_by);
    }
    return out;
  }
  return out;
}

void ListModels(const std::filesystem::path& data_dir, DoctorReport* report) {
  const auto catalogue = fleet::OpenCatalogueStore(data_dir).Load(fleet::Catalogue::BuiltIn());
  const auto models = OpenFleet(data_dir);
  const auto list = models ? (*models)->List() : std::unexpected(models.error());
  if (!catalogue || !list) {
    report->findings.push_back(!list ? list.error().message : catalogue.error().message);
    return;
  }
  for (const fleet::ModelInfo& model : *list) {
    if (!model.complete) {
      report->findings.push_back(fmt::format(
          "the download of {} is not complete; 'tandem pull {}' goes on", model.name, model.name));
      continue;
    }
    report->models.push_back(Certified(*catalogue, model));
  }
}

void FindTrouble(DoctorReport* report) {
  const fleet::DeviceProbe& probe = report->probe;
  if (!probe.memory) {
    report->findings.push_back(
        fmt::format("the memory is unknown: {}", probe.memory.error().message));
  } else if (probe.memory->limit_bytes < probe.memory->total_bytes) {
    report->findings.push_back(fmt::format("a cgroup allows {} of the machine's {}",
                                           FormatByteSize(probe.memory->limit_bytes),
                                           FormatByteSize(probe.memory->total_bytes)));
  }
  if (probe.hot) {
    report->findings.emplace_back(
        "a thermal zone is above where it slows down: rates are lower until it has cooled");
  }
  if (probe.battery && probe.battery->discharging && probe.battery->share <= kLowBattery) {
    report->findings.push_back(
        fmt::format("the battery is at {:.0f} %", 100 * probe.battery->share));
  }
  const bool gpu = std::ranges::any_of(probe.accelerators,
                                       [](const auto& found) { return found.kind == "gpu"; });
  if (gpu && probe.vulkan_loader.empty()) {
    report->findings.emplace_back(
        "there is a GPU and no Vulkan loader (Debian: libvulkan1), which drivers for it need");
  }
  if (report->free_disk_bytes && *report->free_disk_bytes < kLittleDisk) {
    report->findings.push_back(fmt::format("only {} of disk are free for models",
                                           FormatByteSize(*report->free_disk_bytes)));
  }
}

}  // namespace

DoctorReport Examine(const DoctorOptions& options, const Clock& clock) {
  DoctorReport report{.probe = fleet::ProbeDevice(options.root),
                      .cpu = os::HostCpu(),
                      .usable_cores = os::UsableCpuCount()};
  if (const auto isa = engine::ActiveInstructionSet()) {
    report.instruction_set = *isa;
  } else {
    report.findings.push_back(fmt::format("no kernels can be used: {}", isa.error().message));
  }
  if (const auto disk = os::FreeDiskBytes(options.data_dir)) {
    report.free_disk_bytes = *disk;
  } else {
    report.findings.push_back(disk.error().message);
  }
  ListModels(options.data_dir, &report);
  if (options.measure_bandwidth) {
    const auto measured = fleet::MeasureReadBandwidth({.n_threads = report.usable_cores}, clock);
    if (measured) {
      report.bandwidth_bytes_per_s = *measured;
    } else {
      report.findings.push_back(
          fmt::format("the bandwidth could not be measured: {}", measured.error().message));
    }
  }
  FindTrouble(&report);
  return report;
}

}  // namespace tandem::app
