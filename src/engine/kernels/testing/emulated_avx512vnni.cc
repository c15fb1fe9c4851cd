// tiles_avx512vnni.cc over emulated instructions, as kTilesEmulatedAvx512Vnni.
#define TANDEM_EMULATE_AVX512VNNI
#define kTilesAvx512Vnni kTilesEmulatedAvx512Vnni

#include "engine/kernels/testing/emulated_avx512vnni.h"
#include "engine/kernels/tiles_avx512vnni.cc"  // NOLINT(bugprone-suspicious-include)
