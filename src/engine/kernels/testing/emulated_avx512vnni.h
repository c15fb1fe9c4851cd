// The AVX-512 VNNI tile kernels over emulated instructions (avx512_emulation.h), for tests on
// machines that have none.
#pragma once

#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {

extern const TileSet kTilesEmulatedAvx512Vnni;
// Likewise the product of attention.
extern const decltype(IntegerAttention::multiply) kMultiplyEmulatedAvx512Vnni;

}  // namespace tandem::kernels
