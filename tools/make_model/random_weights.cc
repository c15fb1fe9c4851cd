#include "make_model/random_weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/half.h"

namespace tandem::make_model {
namespace {

using quant::Type;

constexpr size_t kTableSize = 65536;

// The outermost level of a symmetric type stands for so many deviations: what the largest of 32
// normal numbers has on average (rms), so what a quantiser would choose.
constexpr float kReach = 2.4F;

// Levels from 0 to n - 1 of a type whose level `center` decodes to zero.
struct LevelGrid {
  int n = 0;
  float center = 0;
  float per_deviation() const { return static_cast<float>(n) / 2 / kReach; }
};

LevelGrid GridOf(Type type) {
  switch (type) {
    case Type::kQ4_0:
      return {16, 8};
    case Type::kQ4_1:
    case Type::kQ4_K:
      return {16, 7.5F};
    case Type::kQ5_0:
      return {32, 16};
    case Type::kQ5_K:
      return {32, 15.5F};
    case Type::kQ6_K:
      return {64, 32};
    case Type::kQ8_0:
      return {256, 128};
    default:
      return {};
  }
}

uint8_t NearestIq4Nl(float value) {
  const auto nearest = std::ranges::min_element(
      quant::kIq4NlLevels, {}, [&](int8_t level) { return std::fabs(value - level); });
  return static_cast<uint8_t>(nearest - quant::kIq4NlLevels.begin());
}

// Factors of the mean scale from block to block, of rms kSpreadRms.
constexpr std::array<float, 16> kScaleSpread = {0.75F, 0.78F, 0.82F, 0.85F, 0.88F, 0.92F,
                                                0.95F, 0.98F, 1.02F, 1.05F, 1.08F, 1.12F,
                                                1.15F, 1.18F, 1.22F, 1.25F};
constexpr float kSpreadRms = 1.0118F;

// Six-bit scales of sub-blocks: 33 to 63, whose rms is 48.4.
constexpr float kScaleRms6 = 48.4F;
// Eight-bit ones of Q6_K: 68 to 124 in steps of 8, of either sign, whose rms is 97.7.
constexpr float kScaleRms8 = 97.7F;

// What goes into one block.
struct Draw {
  const uint8_t* q = nullptr;  // [elements] levels as stored
  uint64_t bits = 0;           // for the scales of sub-blocks
  uint16_t scale = 0;          // of a block of 32
  uint16_t d = 0;              // of a block of 256
  uint16_t dmin = 0;
};

// Low four bits of 2 * n levels: one half in the low, the other in the high half of n bytes.
void PackNibbles(const uint8_t* low, const uint8_t* high, size_t n, uint8_t* out) {
  for (size_t j = 0; j < n; ++j) {
    out[j] = static_cast<uint8_t>((low[j] & 15) | ((high[j] & 15) << 4));
  }
}

void Pack(const Draw& draw, quant::BlockQ4_0* block) {
  block->d = draw.scale;
  PackNibbles(draw.q, draw.q + 16, 16, block->qs);
}

void Pack(const Draw& draw, quant::BlockQ4_1* block) {
  block->d = draw.scale;
  block->m = quant::FloatToHalf(-7.5F * quant::HalfToFloat(draw.scale));
  PackNibbles(draw.q, draw.q + 16, 16, block->qs);
}

void Pack(const Draw& draw, quant::BlockQ5_0* block) {
  block->d = draw.scale;
  PackNibbles(draw.q, draw.q + 16, 16, block->qs);
  uint32_t high = 0;
  for (size_t j = 0; j < 32; ++j) high |= static_cast<uint32_t>(draw.q[j] >> 4) << j;
  std::memcpy(block->qh, &high, sizeof(high));
}

void Pack(const Draw& draw, quant::BlockQ8_0* block) {
  block->d = draw.scale;
  for (size_t j = 0; j < 32; ++j) block->qs[j] = static_cast<int8_t>(draw.q[j] - 128);
}

void Pack(const Draw& draw, quant::BlockIQ4_NL* block) {
  block->d = draw.scale;
  PackNibbles(draw.q, draw.q + 16, 16, block->qs);
}

// Scale and min of a sub-block are the same number: dmin is `center` times d.
void PackScales(uint64_t bits, uint8_t* scales) {
  std::array<uint8_t, 8> sc;
  for (size_t s = 0; s < 8; ++s) sc[s] = static_cast<uint8_t>(33 + ((bits >> (8 * s)) & 31) % 31);
  for (size_t s = 0; s < 4; ++s) {
    scales[s] = static_cast<uint8_t>(sc[s] | ((sc[s + 4] >> 4) << 6));
    scales[s + 4] = scales[s];
    scales[s + 8] = static_cast<uint8_t>((sc[s + 4] & 15) * 17);
  }
}

void Pack(const Draw& draw, quant::BlockQ4_K* block) {
  block->d = draw.d;
  block->dmin = draw.dmin;
  PackScales(draw.bits, block->scales);
  for (size_t g = 0; g < 4; ++g) {
    PackNibbles(draw.q + 64 * g, draw.q + 64 * g + 32, 32, block->qs + 32 * g);
  }
}

void Pack(const Draw& draw, quant::BlockQ5_K* block) {
  block->d = draw.d;
  block->dmin = draw.dmin;
  PackScales(draw.bits, block->scales);
  for (size_t g = 0; g < 4; ++g) {
    PackNibbles(draw.q + 64 * g, draw.q + 64 * g + 32, 32, block->qs + 32 * g);
  }
  for (size_t l = 0; l < 32; ++l) {
    int high = 0;
    for (size_t s = 0; s < 8; ++s) high |= (draw.q[32 * s + l] >> 4) << s;
    block->qh[l] = static_cast<uint8_t>(high);
  }
}

void Pack(const Draw& draw, quant::BlockQ6_K* block) {
  block->d = draw.d;
  // Four bits of each sub-block's scale are random: its sign, and one of eight magnitudes.
  for (size_t s = 0; s < 16; ++s) {
    const auto nibble = static_cast<int>((draw.bits >> (4 * s)) & 15);
    const int magnitude = 68 + 8 * (nibble & 7);
    block->scales[s] = static_cast<int8_t>((nibble & 8) != 0 ? -magnitude : magnitude);
  }
  for (size_t n = 0; n < 2; ++n) {
    const uint8_t* half = draw.q + 128 * n;
    PackNibbles(half, half + 64, 64, block->ql + 64 * n);
    for (size_t l = 0; l < 32; ++l) {
      block->qh[32 * n + l] =
          static_cast<uint8_t>((half[l] >> 4) | ((half[l + 32] >> 4) << 2) |
                               ((half[l + 64] >> 4) << 4) | ((half[l + 96] >> 4) << 6));
    }
  }
}

}  // namespace

const std::vector<float>& NormalTable() {
  static const std::vector<float> table = [] {
    std::vector<float> quantiles(kTableSize);
    for (size_t i = kTableSize / 2; i < kTableSize; ++i) {
      const double upper = 1 - (static_cast<double>(i) + 0.5) / kTableSize;
      double low = 0;
      double high = 6;
      for (int step = 0; step < 40; ++step) {
        const double middle = (low + high) / 2;
        (std::erfc(middle / std::sqrt(2.0)) / 2 > upper ? low : high) = middle;
      }
      quantiles[i] = static_cast<float>(low);
      quantiles[kTableSize - 1 - i] = static_cast<float>(-low);
    }
    return quantiles;
  }();
  return table;
}

BlockMaker::BlockMaker(Type type, float deviation, uint64_t seed) : type_(type), random_(seed) {
  const std::vector<float>& normal = NormalTable();
  if (quant::GetType(type).block_elements == 1) {
    words_.resize(kTableSize);
    for (size_t i = 0; i < kTableSize; ++i) {
      const float value = normal[i] * deviation;
      words_[i] = type == Type::kF16    ? quant::FloatToHalf(value)
                  : type == Type::kBF16 ? quant::FloatToBFloat16(value)
                                        : std::bit_cast<uint32_t>(value);
    }
    return;
  }

  levels_.resize(kTableSize);
  float step;  // what one level is worth
  if (type == Type::kIQ4_NL) {
    const float per_deviation = 127 / kReach;
    for (size_t i = 0; i < kTableSize; ++i) levels_[i] = NearestIq4Nl(normal[i] * per_deviation);
    step = deviation / per_deviation;
  } else {
    const LevelGrid grid = GridOf(type);
    for (size_t i = 0; i < kTableSize; ++i) {
      const float level = std::round(normal[i] * grid.per_deviation() + grid.center);
      levels_[i] = static_cast<uint8_t>(std::clamp(level, 0.0F, static_cast<float>(grid.n - 1)));
    }
    step = deviation / grid.per_deviation();
    // The K types' minimum moves level `center` to zero when it is the scale times that.
    d_ = quant::FloatToHalf(step / (type == Type::kQ6_K ? kScaleRms8 : kScaleRms6));
    dmin_ = quant::FloatToHalf(quant::HalfToFloat(d_) * grid.center);
  }
  for (const float spread : kScaleSpread)
    scales_.push_back(quant::FloatToHalf(step * spread / kSpreadRms));
}

template <typename Word>
void BlockMaker::FillWords(std::span<std::byte> out) {
  for (size_t at = 0; at < out.size();) {
    uint64_t bits = random_.Next();
    for (int k = 0; k < 4 && at < out.size(); ++k, bits >>= 16, at += sizeof(Word)) {
      const auto word = static_cast<Word>(words_[bits & 0xFFFF]);
      std::memcpy(out.data() + at, &word, sizeof(Word));
    }
  }
}

template <typename Block>
void BlockMaker::FillBlocks(std::span<std::byte> out) {
  std::array<uint8_t, Block::kElements> levels;
  for (size_t at = 0; at < out.size(); at += sizeof(Block)) {
    for (size_t i = 0; i < levels.size(); i += 4) {
      const uint64_t bits = random_.Next();
      levels[i] = levels_[bits & 0xFFFF];
      levels[i + 1] = levels_[(bits >> 16) & 0xFFFF];
      levels[i + 2] = levels_[(bits >> 32) & 0xFFFF];
      levels[i + 3] = levels_[bits >> 48];
    }
    const uint64_t bits = random_.Next();
    Block block = {};
    Pack({.q = levels.data(), .bits = bits, .scale = scales_[bits & 15], .d = d_, .dmin = dmin_},
         &block);
    std::memcpy(out.data() + at, &block, sizeof(block));
  }
}

void BlockMaker::Fill(std::span<std::byte> out) {
  TANDEM_CHECK(out.size() % static_cast<size_t>(quant::GetType(type_).block_bytes) == 0);
  switch (type_) {
    case Type::kF32:
      return FillWords<uint32_t>(out);
    case Type::kF16:
    case Type::kBF16:
      return FillWords<uint16_t>(out);
    case Type::kQ4_0:
      return FillBlocks<quant::BlockQ4_0>(out);
    case Type::kQ4_1:
      return FillBlocks<quant::BlockQ4_1>(out);
    case Type::kQ5_0:
      return FillBlocks<quant::BlockQ5_0>(out);
    case Type::kQ8_0:
      return FillBlocks<quant::BlockQ8_0>(out);
    case Type::kQ4_K:
      return FillBlocks<quant::BlockQ4_K>(out);
    case Type::kQ5_K:
      return FillBlocks<quant::BlockQ5_K>(out);
    case Type::kQ6_K:
      return FillBlocks<quant::BlockQ6_K>(out);
    case Type::kIQ4_NL:
      return FillBlocks<quant::BlockIQ4_NL>(out);
  }
}

}  // namespace tandem::make_model
