#include <string>

#include "base/log.h"
#include "engine/kernels/kernels.h"
#include "os/paths.h"

namespace tandem::kernels {
namespace {

// Null where this build does not have the set.
const KernelSet* FindSet(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return &ScalarKernels();
    case Isa::kAvx2:
#if defined(TANDEM_KERNELS_AVX2)
      return &Avx2Kernels();
#else
      return nullptr;
#endif
  }
  return nullptr;
}

bool CpuHas(Isa isa, const os::CpuFeatures& cpu) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return cpu.avx2 && cpu.fma && cpu.f16c;
  }
  return false;
}

constexpr Isa kFastestFirst[] = {Isa::kAvx2, Isa::kScalar};

Result<const KernelSet*> Decide() {
  const std::string forced = os::GetEnv("TANDEM_ISA").value_or("");
  TANDEM_ASSIGN_OR_RETURN(const KernelSet* set, Select(forced, os::HostCpu()));
  TANDEM_RETURN_IF_ERROR(SelfTest(*set));
  log::Info("kernels: {}{}, self-test passed", IsaName(set->isa),
            forced.empty() ? "" : " (forced by TANDEM_ISA)");
  return set;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
  }
  return "unknown";
}

Result<const KernelSet*> Select(std::string_view forced, const os::CpuFeatures& cpu) {
  for (const Isa isa : kFastestFirst) {
    if (!forced.empty() && forced != IsaName(isa)) continue;
    const KernelSet* set = FindSet(isa);
    if (set != nullptr && CpuHas(isa, cpu)) return set;
    if (forced.empty()) continue;
    return Err(ErrorCode::kUnsupported, "TANDEM_ISA={}: {}; unset it to let Tandem choose", forced,
               set == nullptr ? "this build does not contain these kernels"
                              : "this CPU lacks the instructions (avx2, fma and f16c are needed)");
  }
  return Err(ErrorCode::kInvalidArgument, "TANDEM_ISA={}: unknown; use scalar or avx2, or unset it",
             forced);
}

std::vector<const KernelSet*> UsableSets(const os::CpuFeatures& cpu) {
  std::vector<const KernelSet*> sets;
  for (const Isa isa : kFastestFirst) {
    const KernelSet* set = FindSet(isa);
    if (set != nullptr && CpuHas(isa, cpu)) sets.push_back(set);
  }
  return sets;
}

Result<const KernelSet*> Active() {
  static const Result<const KernelSet*> active = Decide();
  return active;
}

}  // namespace tandem::kernels
