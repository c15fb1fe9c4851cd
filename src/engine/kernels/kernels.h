// Charter of kernels/: micro-kernels over raw pointers, one file per instruction set, chosen once
// at start and proved against the scalar reference. It may include base, os and quant. Deliberately
// absent: threads, shapes of models, memory.
//
// Every dot product here, whatever the weight type or the number of tokens, is summed in one order:
// element k goes to lane k mod 8 by a fused multiply-add (scalar: multiply, then add), and the
// lanes are added as ((0+4)+(2+6)) + ((1+5)+(3+7)). So within one instruction set a result depends
// on its row and its token alone, bit for bit: one token or many, one thread or many. Weights are
// dequantised by exactly the arithmetic of quant::DequantizeRow. The price is one multiplication
// per weight, where an integer kernel has one per block.
//
// Names: <op>_<dst>_<lhs>_<rhs>_<tile>_<isa>; lhs are activations, rhs weights, the tile is rows x
// tokens or rows x elements.
#pragma once

#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/kernels/kernel_set.h"
#include "os/cpu.h"

namespace tandem::kernels {

// "scalar", "avx2", "avx512vnni", "neon_dotprod", "neon_i8mm".
std::string_view IsaName(Isa isa);

// Chooses the fastest set that the CPU has, or the one that `forced` names ("" leaves the choice).
// Errors: kInvalidArgument for an unknown name, kUnsupported for a set that the CPU or the build
// lacks.
Result<const KernelSet*> Select(std::string_view forced, const os::CpuFeatures& cpu);

// Every set of this build that the CPU has, the fastest first; the scalar one is always among them.
std::vector<const KernelSet*> UsableSets(const os::CpuFeatures& cpu);

// Compares every kernel of the set with the scalar reference on odd shapes.
// Errors: kInternal, with the kernel's name and the first difference.
// Cost: a few milliseconds.
Status SelfTest(const KernelSet& set);

// What this process computes with: Select() by TANDEM_ISA and this machine, proved by SelfTest(),
// decided and logged at the first call.
// Thread: any.
Result<const KernelSet*> Active();

}  // namespace tandem::kernels
