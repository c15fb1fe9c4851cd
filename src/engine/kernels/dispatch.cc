#include <string>

#include "base/log.h"
#include "engine/kernels/integer_attention_internal.h"
#include "engine/kernels/kernels.h"
#include "os/paths.h"

namespace tandem::kernels {
namespace {

struct IsaInfo {
  Isa isa;
  std::string_view name;
  std::string_view needs;  // for messages
};

constexpr IsaInfo kFastestFirst[] = {
    {Isa::kAvx512Vnni, "avx512vnni", "avx512f, avx512bw, avx512vl and avx512vnni"},
    {Isa::kAvx2, "avx2", "avx2, fma and f16c"},
    {Isa::kNeonI8mm, "neon_i8mm", "i8mm and dotprod"},
    {Isa::kNeonDotprod, "neon_dotprod", "dotprod"},
    {Isa::kScalar, "scalar", "nothing"},
};

// What a set has of its own; what computes in floats has no faster form in it yet.
struct OwnKernels {
  Isa isa;
  const TileSet* tiles;
  decltype(IntegerAttention::multiply) multiply;
};

// A set that takes the rest from another.
struct DerivedSet {
  [[maybe_unused]] DerivedSet(const KernelSet& base, const OwnKernels& own)
      : attention(*base.attention_int8), set(base) {
    attention.multiply = own.multiply;
    set.isa = own.isa;
    set.tiles = own.tiles;
    set.attention_int8 = &attention;
  }
  DerivedSet(const DerivedSet&) = delete;
  DerivedSet& operator=(const DerivedSet&) = delete;

  IntegerAttention attention;
  KernelSet set;
};

// Null where this build does not have the set.
const KernelSet* FindSet(Isa isa) {
#if defined(TANDEM_KERNELS_X86)
  static const DerivedSet avx512vnni(
      Avx2Kernels(), {Isa::kAvx512Vnni, &kTilesAvx512Vnni, multiply_s32_s16_s8_4x64_avx512vnni});
  if (isa == Isa::kAvx512Vnni) return &avx512vnni.set;
  if (isa == Isa::kAvx2) return &Avx2Kernels();
#elif defined(TANDEM_KERNELS_NEON)
  static const DerivedSet dotprod(
      ScalarKernels(), {Isa::kNeonDotprod, &kTilesNeonDotprod, multiply_s32_s16_s8_4x8_neon});
  static const DerivedSet i8mm(ScalarKernels(),
                               {Isa::kNeonI8mm, &kTilesNeonI8mm, multiply_s32_s16_s8_4x8_neon});
  if (isa == Isa::kNeonDotprod) return &dotprod.set;
  if (isa == Isa::kNeonI8mm) return &i8mm.set;
#endif
  return isa == Isa::kScalar ? &ScalarKernels() : nullptr;
}

bool CpuHas(Isa isa, const os::CpuFeatures& cpu) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return cpu.avx2 && cpu.fma && cpu.f16c;
    case Isa::kAvx512Vnni:
      return CpuHas(Isa::kAvx2, cpu) && cpu.avx512f && cpu.avx512bw && cpu.avx512vl &&
             cpu.avx512vnni;
    case Isa::kNeonDotprod:
      return cpu.neon_dotprod;
    case Isa::kNeonI8mm:
      return cpu.neon_dotprod && cpu.neon_i8mm;
  }
  return false;
}

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
  for (const IsaInfo& info : kFastestFirst) {
    if (info.isa == isa) return info.name;
  }
  return "unknown";
}

Result<const KernelSet*> Select(std::string_view forced, const os::CpuFeatures& cpu) {
  for (const IsaInfo& info : kFastestFirst) {
    if (!forced.empty() && forced != info.name) continue;
    const KernelSet* set = FindSet(info.isa);
    if (set != nullptr && CpuHas(info.isa, cpu)) return set;
    if (forced.empty()) continue;
    if (set == nullptr) {
      return Err(ErrorCode::kUnsupported,
                 "TANDEM_ISA={}: this build does not contain these kernels; unset it to let Tandem "
                 "choose",
                 forced);
    }
    return Err(ErrorCode::kUnsupported,
               "TANDEM_ISA={}: this CPU lacks the instructions ({} are needed); unset it to let "
               "Tandem choose",
               forced, info.needs);
  }
  return Err(ErrorCode::kInvalidArgument,
             "TANDEM_ISA={}: unknown; use scalar, avx2, avx512vnni, neon_dotprod or neon_i8mm, or "
             "unset it",
             forced);
}

std::vector<const KernelSet*> UsableSets(const os::CpuFeatures& cpu) {
  std::vector<const KernelSet*> sets;
  for (const IsaInfo& info : kFastestFirst) {
    const KernelSet* set = FindSet(info.isa);
    if (set != nullptr && CpuHas(info.isa, cpu)) sets.push_back(set);
  }
  return sets;
}

Result<const KernelSet*> Active() {
  static const Result<const KernelSet*> active = Decide();
  return active;
}

}  // namespace tandem::kernels
