#include "fleet/device/probe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <system_error>

#include "os/file.h"
#include "os/power.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSysFileBytes = 4096;
constexpr size_t kMaxProcFileBytes = size_t{1} << 20;
constexpr size_t kMaxEntries = 4096;  // of a directory

// The file's text without the line end; empty where it cannot be read.
std::string Line(const fs::path& path) {
  auto text = os::ReadFile(path, kMaxSysFileBytes);
  if (!text) return {};
  return text->substr(0, text->find('\n'));
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// The names in a directory that begin with `prefix`, sorted.
std::vector<std::string> Entries(const fs::path& directory, std::string_view prefix) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename();
    if (name.starts_with(prefix)) names.push_back(std::move(name));
    if (names.size() == kMaxEntries) break;
  }
  std::ranges::sort(names);
  return names;
}

// The driver that the kernel bound to a device of a class: the last part of its `driver` link.
std::string BoundDriver(const fs::path& device) {
  std::error_code error;
  const fs::path target = fs::read_symlink(device / "driver", error);
  return error ? std::string() : target.filename().string();
}

std::string PciVendor(const fs::path& device) {
  const std::string id = Line(device / "vendor");
  if (id == "0x10de") return "NVIDIA";
  if (id == "0x1002") return "AMD";
  if (id == "0x8086") return "Intel";
  if (id == "0x1af4") return "virtio";
  return {};
}

// "535.129.03" in "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu ...".
std::string NvidiaDriver(const fs::path& root) {
  const std::string line = Line(root / "proc/driver/nvidia/version");
  std::string version;
  size_t at = 0;
  while (at < line.size()) {
    const size_t end = std::min(line.find(' ', at), line.size());
    const std::string_view word = std::string_view(line).substr(at, end - at);
    const bool is_version = word.contains('.') && std::ranges::all_of(word, [](char c) {
                              return (c >= '0' && c <= '9') || c == '.';
                            });
    if (is_version) return "nvidia " + std::string(word);
    at = end + 1;
  }
  return Exists(root / "proc/driver/nvidia") ? "nvidia" : "";
}

struct Node {
  std::string_view path;
  std::string_view kind;
  std::string_view name;
};
// Nodes of which the name alone tells what stands behind them. Sources: the kernels' drivers
// (fastrpc, kgsl, mali, apusys, gxp/edgetpu of Pixel kernels, amdkfd), from memory.
constexpr std::array kNodes = {
    Node{"dev/kfd", "gpu", "AMD GPU (ROCm)"},
    Node{"dev/kgsl-3d0", "gpu", "Adreno GPU"},
    Node{"dev/mali0", "gpu", "Mali GPU"},
    Node{"dev/dxg", "gpu", "GPU of the Windows host"},
    Node{"dev/adsprpc-smd", "npu", "Hexagon (FastRPC)"},
    Node{"dev/fastrpc-cdsp", "npu", "Hexagon (FastRPC)"},
    Node{"dev/fastrpc-cdsp-secure", "npu", "Hexagon (FastRPC)"},
    Node{"dev/apusys", "npu", "MediaTek APU"},
    Node{"dev/edgetpu-soc", "npu", "Tensor TPU"},
    Node{"dev/davinci0", "npu", "Ascend NPU"},
};

std::vector<FoundAccelerator> FindAccelerators(const fs::path& root) {
  std::vector<FoundAccelerator> found;
  for (const std::string& name : Entries(root / "dev/dri", "renderD")) {
    const fs::path device = root / "sys/class/drm" / name / "device";
    const std::string vendor = PciVendor(device);
    found.push_back({.kind = "gpu",
                     .name = vendor.empty() ? "GPU" : vendor + " GPU",
                     .node = "/dev/dri/" + name,
                     .driver = BoundDriver(device)});
  }
  for (const std::string& name : Entries(root / "dev", "nvidia")) {
    const std::string_view digits = std::string_view(name).substr(6);
    if (digits.empty() || !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; }))
      continue;  // nvidiactl, nvidia-uvm
    found.push_back({.kind = "gpu",
                     .name = "NVIDIA GPU",
                     .node = "/dev/" + name,
                     .driver = NvidiaDriver(root)});
  }
  for (const std::string& name : Entries(root / "dev/accel", "accel")) {
    const fs::path device = root / "sys/class/accel" / name / "device";
    const std::string vendor = PciVendor(device);
    found.push_back({.kind = "npu",
                     .name = vendor.empty() ? "NPU" : vendor + " NPU",
                     .node = "/dev/accel/" + name,
                     .driver = BoundDriver(device)});
  }
  for (const Node& node : kNodes) {
    if (!Exists(root / node.path)) continue;
    found.push_back({.kind = std::string(node.kind),
                     .name = std::string(node.name),
                     .node = "/" + std::string(node.path),
                     .driver = {}});
  }
  return found;
}

// The value behind "name :" in /proc/cpuinfo.
std::string CpuInfo(const fs::path& root, std::string_view name) {
  const auto text = os::ReadFile(root / "proc/cpuinfo", kMaxProcFileBytes);
  if (!text) return {};
  size_t at = 0;
  while (at < text->size()) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string_view line = std::string_view(*text).substr(at, end - at);
    at = end + 1;
    const size_t colon = line.find(':');
    if (!line.starts_with(name) || colon == line.npos) continue;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    return std::string(value);
  }
  return {};
}

std::vector<std::string> FindSocNames(const fs::path& root) {
  std::vector<std::string> names;
  const auto add = [&names](std::string name) {
    if (!name.empty()) names.push_back(std::move(name));
  };
  add(Line(root / "sys/devices/soc0/machine"));
  // Strings, each ended by NUL, the board first and the SoC last.
  if (const auto tree = os::ReadFile(root / "proc/device-tree/compatible", kMaxSysFileBytes)) {
    std::vector<std::string> strings;
    size_t at = 0;
    while (at < tree->size()) {
      const size_t end = std::min(tree->find('\0', at), tree->size());
      strings.push_back(tree->substr(at, end - at));
      at = end + 1;
    }
    for (auto it = strings.rbegin(); it != strings.rend(); ++it) add(*it);
  }
  add(CpuInfo(root, "Hardware"));
  return names;
}

std::vector<ThermalZone> ReadThermalZones(const fs::path& root) {
  std::vector<ThermalZone> zones;
  const fs::path directory = root / "sys/class/thermal";
  for (const std::string& name : Entries(directory, "thermal_zone")) {
    const std::string text = Line(directory / name / "temp");
    int64_t milli = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), milli);
    if (error != std::errc() || end != text.data() + text.size()) continue;
    std::string type = Line(directory / name / "type");
    zones.push_back({.name = type.empty() ? name : std::move(type),
                     .celsius = static_cast<double>(milli) / 1000});
  }
  return zones;
}

std::optional<Battery> ReadBattery(const fs::path& root) {
  const fs::path directory = root / "sys/class/power_supply";
  for (const std::string& name : Entries(directory, "")) {
    const fs::path supply = directory / name;
    // Those of a mouse or a pen have the scope Device.
    if (Line(supply / "type") != "Battery" || Line(supply / "scope") == "Device") continue;
    const std::string text = Line(supply / "capacity");
    int percent = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
    if (error != std::errc() || end == text.data() || percent < 0 || percent > 100) continue;
    return Battery{.share = percent / 100.0,
                   .discharging = Line(supply / "status") == "Discharging"};
  }
  return std::nullopt;
}

}  // namespace

std::string HostPlatform() {
#if defined(__ANDROID__)
  const std::string system = "android";
#elif defined(__APPLE__)
  const std::string system = "macos";
#else
  const std::string system = "linux";
#endif
#if defined(__aarch64__)
  return system + "_arm64";
#elif defined(__x86_64__)
  return system + "_x86_64";
#else
  return system + "_other";
#endif
}

DeviceProbe ProbeDevice(const fs::path& root) {
  DeviceProbe probe{.platform = HostPlatform(),
                    .cpu = CpuInfo(root, "model name"),
                    .soc_names = FindSocNames(root),
                    .memory = os::ReadMemoryStatus(root),
                    .accelerators = FindAccelerators(root),
                    .thermal_zones = ReadThermalZones(root),
                    .hot = os::ReadPowerStatus(root).hot,
                    .battery = ReadBattery(root)};
  for (const std::string& name : probe.soc_names) {
    if (probe.soc == nullptr) probe.soc = DeviceDatabase::BuiltIn().Find(name).soc;
  }
  for (const char* path :
       {"usr/lib/x86_64-linux-gnu/libvulkan.so.1", "usr/lib/aarch64-linux-gnu/libvulkan.so.1",
        "usr/lib64/libvulkan.so.1", "usr/lib/libvulkan.so.1", "system/lib64/libvulkan.so"}) {
    if (!Exists(root / path)) continue;
    probe.vulkan_loader = "/" + std::string(path);
    break;
  }
  for (const char* directory : {"etc/vulkan/icd.d", "usr/share/vulkan/icd.d"}) {
    for (const std::string& name : Entries(root / directory, "")) {
      probe.vulkan_drivers.push_back(fmt::format("/{}/{}", directory, name));
    }
  }
  return probe;
}

}  // namespace tandem::fleet
