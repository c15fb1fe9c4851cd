// Charter of kernels/: micro-kernels over raw pointers, one file per instruction set, chosen once
// at start and proved against the scalar reference. It may include base, os and quant. Deliberately
// absent: threads, shapes of models, memory.
//
// Every dot product here, whatever the weight type, the instruction set's file or the number of
// tokens, is summed in one order: element k goes to lane k mod 8 by a fused multiply-add (scalar:
// multiply, then add), lanes are then added as ((0+4)+(2+6)) + ((1+5)+(3+7)). So within one
// instruction set a result depends on its row and its token alone, bit for bit: one token or many,
// one thread or many. Weights are dequantised by exactly the arithmetic of quant::DequantizeRow.
//
// Names: <op>_<dst>_<lhs>_<rhs>_<tile>_<isa>; lhs are activations, rhs weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "engine/quant/types.h"
#include "os/cpu.h"

namespace tandem::kernels {

enum class Isa { kScalar, kAvx2 };

// "scalar", "avx2".
std::string_view IsaName(Isa isa);

// One bound for every loop over KV positions: attention goes through the cache in tiles of this
// many positions, in order.
inline constexpr int kTilePositions = 64;
// Query heads that a call of an attention kernel takes together.
inline constexpr int kMaxQueries = 4;

// Kernels of one weight type. Rows are GGUF blocks as mapped: row r starts at weights + r *
// row_bytes, with no alignment promised.
struct TypeKernels {
  // y[r] = dot(row r, x).
  //   weights [n_rows, k] blocks;  x [k] f32;  y (out) [n_rows] f32
  void (*gemv)(const std::byte* weights, size_t row_bytes, int64_t n_rows, int64_t k,
               const float* x, float* y) = nullptr;
  // One row's values, exactly as quant::DequantizeRow.
  //   weights [k] blocks;  dst (out) [k] f32
  void (*unpack)(const std::byte* weights, int64_t k, float* dst) = nullptr;
};

// One cache element type's attention kernels.
//   n_queries in [1, kMaxQueries], n_positions in [1, kTilePositions], head_dim a multiple of 8
struct AttentionKernels {
  // scores[q * kTilePositions + p] = scale * dot(query q, key p).
  //   queries [n_queries, head_dim] f32;  keys [n_positions, head_dim]
  void (*qk)(const float* queries, int n_queries, const std::byte* keys, int n_positions,
             int head_dim, float scale, float* scores) = nullptr;
  // out[q, d] += sum over p, in order, of weights[q * kTilePositions + p] * values[p, d].
  //   values [n_positions, head_dim];  out (in, out) [n_queries, head_dim] f32
  void (*av)(const float* weights, int n_queries, const std::byte* values, int n_positions,
             int head_dim, float* out) = nullptr;
};

struct KernelSet {
  Isa isa = Isa::kScalar;
  // By quant::Type; entries of unsupported types are null.
  TypeKernels types[31];
  AttentionKernels attention_f32;
  AttentionKernels attention_f16;
  // y[t * y_stride + r] = dot(panel row r, token t); the same bits as gemv on the packed row.
  //   panel [n_rows, panel_stride] f32;  x [n_tokens, x_stride] f32;  y (out) f32
  void (*gemm)(const float* panel, int64_t panel_stride, int64_t n_rows, int64_t k, const float* x,
               int64_t x_stride, int64_t n_tokens, float* y, int64_t y_stride) = nullptr;
  float (*dot)(const float* a, const float* b, int64_t n) = nullptr;
  // x[i] = exp(x[i] - max); returns the sum, in the order of a dot product. Inputs above max are
  // our bug; far below it gives zero.
  float (*exp_sum)(float* x, int64_t n, float max) = nullptr;
  // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out) = nullptr;
  // IEEE half precision, rounded to nearest even.
  void (*half_from_float)(const float* src, int64_t n, uint16_t* dst) = nullptr;

  const TypeKernels& ForType(quant::Type type) const { return types[static_cast<int>(type)]; }
};

// The set of an instruction set, null where this build does not have it.
const KernelSet* FindKernels(Isa isa);

// Chooses the fastest set that the CPU has, or the one that `forced` names ("" leaves the choice).
// Errors: kInvalidArgument for an unknown name, kUnsupported for a set that the CPU or the build
// lacks.
Result<const KernelSet*> Select(std::string_view forced, const os::CpuFeatures& cpu);

// Compares every kernel of the set with the scalar reference on odd shapes.
// Errors: kInternal, with the kernel's name and the first difference.
// Cost: about a millisecond.
Status SelfTest(const KernelSet& set);

// What this process computes with: Select() by TANDEM_ISA and this machine, proved by SelfTest(),
// decided and logged at the first call.
// Thread: any.
Result<const KernelSet*> Active();

}  // namespace tandem::kernels
