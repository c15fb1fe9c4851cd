#include "engine/kernels/layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

constexpr SchemeInfo Describe(Scheme scheme, std::string_view name, int bits, int group) {
  return {.scheme = scheme,
          .name = name,
          .bits = bits,
          .group = group,
          .tile_bytes = kStripRows * kTileCols * bits / 8,
          .tile_scale_bytes = kTileCols / group * kStripRows * 2,
          .min_code = bits == 4 ? -8 : -128,
          .max_code = bits == 4 ? 7 : 127};
}

constexpr std::array kInfos = {
    Describe(Scheme::kInt4G128, "int4g128", 4, 128), Describe(Scheme::kInt4G32, "int4g32", 4, 32),
    Describe(Scheme::kInt8G128, "int8g128", 8, 128), Describe(Scheme::kInt8G32, "int8g32", 8, 32)};

constexpr int kZeroNibble = 8;  // what is added to a 4-bit code

// The byte of the tile's codes that holds (row, column of the tile).
int CodeByte(const SchemeInfo& info, int row, int column) {
  const int chunk = column / 4;
  const int vector = info.bits == 4 ? chunk / 2 : chunk;
  return 64 * vector + 4 * row + column % 4;
}

// Whether the column stands in the high four bits of that byte. int4 only.
bool IsHighNibble(int column) { return (column / 4) % 2 == 1; }

int ReadCode(const SchemeInfo& info, const uint8_t* tile, int row, int column) {
  const uint8_t byte = tile[CodeByte(info, row, column)];
  if (info.bits == 8) return static_cast<int8_t>(byte);
  return (IsHighNibble(column) ? byte >> 4 : byte & 15) - kZeroNibble;
}

// Tile 0 of a strip.
const uint8_t* Tiles(const SchemeInfo& info, const std::byte* strip, int64_t n_cols) {
  return reinterpret_cast<const uint8_t*>(strip) + StripScaleBytes(info.scheme, n_cols);
}

uint16_t ReadScale(const std::byte* strip, int64_t group, int row) {
  uint16_t scale;
  std::memcpy(&scale, strip + (group * kStripRows + row) * 2, sizeof scale);
  return scale;
}

// A strip of zeros: scales 0, codes 0.
void ClearStrip(const SchemeInfo& info, int64_t n_cols, std::byte* strip) {
  const int64_t scale_bytes = StripScaleBytes(info.scheme, n_cols);
  std::memset(strip, 0, scale_bytes);
  std::memset(strip + scale_bytes, info.bits == 4 ? kZeroNibble * 17 : 0,
              TileCount(n_cols) * info.tile_bytes);
}

// One row of a strip that ClearStrip has been through.
void WriteRow(const SchemeInfo& info, const int8_t* codes, const uint16_t* scales, int row,
              int64_t n_cols, std::byte* strip) {
  const int64_t n_groups = (n_cols + info.group - 1) / info.group;
  for (int64_t g = 0; g < n_groups; ++g) {
    std::memcpy(strip + (g * kStripRows + row) * 2, scales + g, sizeof *scales);
  }
  auto* tile = reinterpret_cast<uint8_t*>(strip) + StripScaleBytes(info.scheme, n_cols);
  for (int64_t begin = 0; begin < n_cols; begin += kTileCols, tile += info.tile_bytes) {
    const int n = static_cast<int>(std::min<int64_t>(kTileCols, n_cols - begin));
    for (int c = 0; c < n; ++c) {
      const int code = codes[begin + c];
      TANDEM_CHECK(code >= info.min_code && code <= info.max_code);
      uint8_t& byte = tile[CodeByte(info, row, c)];
      if (info.bits == 8) {
        byte = static_cast<uint8_t>(code);
      } else if (IsHighNibble(c)) {
        byte = static_cast<uint8_t>((byte & 15) | (code + kZeroNibble) << 4);
      } else {
        byte = static_cast<uint8_t>((byte & 0xF0) | (code + kZeroNibble));
      }
    }
  }
}

// A row of blocks as codes and scales.
template <typename Block>
void DecodeRow(const std::byte* row, int64_t n_blocks, int8_t* codes, uint16_t* scales) {
  for (int64_t b = 0; b < n_blocks; ++b, codes += Block::kElements) {
    Block block;
    std::memcpy(&block, row + b * static_cast<int64_t>(sizeof block), sizeof block);
    scales[b] = block.d;
    for (int j = 0; j < Block::kElements; ++j) {
      if constexpr (std::is_same_v<Block, quant::BlockQ8_0>) {
        codes[j] = block.qs[j];
      } else {
        const int nibble = j < 16 ? block.qs[j] & 15 : block.qs[j - 16] >> 4;
        codes[j] = static_cast<int8_t>(nibble - kZeroNibble);
      }
    }
  }
}

}  // namespace

const SchemeInfo* FindScheme(uint32_t number) {
  for (const SchemeInfo& info : kInfos) {
    if (static_cast<uint32_t>(info.scheme) == number) return &info;
  }
  return nullptr;
}

const SchemeInfo& GetScheme(Scheme scheme) {
  const SchemeInfo* info = FindScheme(static_cast<uint32_t>(scheme));
  TANDEM_CHECK(info != nullptr);
  return *info;
}

Result<Scheme> ParseScheme(std::string_view name) {
  for (const SchemeInfo& info : kInfos) {
    if (info.name == name) return info.scheme;
  }
  return Err(ErrorCode::kInvalidArgument,
             "no weight scheme '{}'; known: int4g128 int4g32 int8g128 int8g32", name);
}

int64_t StripScaleBytes(Scheme scheme, int64_t n_cols) {
  const int64_t bytes = TileCount(n_cols) * GetScheme(scheme).tile_scale_bytes;
  return (bytes + kStripAlignment - 1) / kStripAlignment * kStripAlignment;
}

int64_t StripBytes(Scheme scheme, int64_t n_cols) {
  return StripScaleBytes(scheme, n_cols) + TileCount(n_cols) * GetScheme(scheme).tile_bytes;
}

Result<int64_t> PackedBytes(Scheme scheme, int64_t n_rows, int64_t n_cols) {
  if (n_rows < 1 || n_rows > kMaxDimension || n_cols < 1 || n_cols > kMaxDimension) {
    return Err(ErrorCode::kInvalidArgument,
               "a matrix of {} x {} cannot be packed: each dimension must be in 1..{}", n_rows,
               n_cols, kMaxDimension);
  }
  return StripCount(n_rows) * StripBytes(scheme, n_cols);
}

void PackStrip(Scheme scheme, const int8_t* codes, const uint16_t* scales, int n_rows,
               int64_t n_cols, std::byte* strip) {
  const SchemeInfo& info = GetScheme(scheme);
  TANDEM_CHECK(n_rows >= 1 && n_rows <= kStripRows);
  ClearStrip(info, n_cols, strip);
  const int64_t n_groups = (n_cols + info.group - 1) / info.group;
  for (int r = 0; r < n_rows; ++r) {
    WriteRow(info, codes + r * n_cols, scales + r * n_groups, r, n_cols, strip);
  }
}

Result<Scheme> ExactScheme(quant::Type type) {
  if (type == quant::Type::kQ4_0) return Scheme::kInt4G32;
  if (type == quant::Type::kQ8_0) return Scheme::kInt8G32;
  return Err(ErrorCode::kUnsupported,
             "{} has no exact counterpart among the weight schemes: quantise its values instead",
             quant::GetType(type).name);
}

Status PackStripExactly(quant::Type type, const std::byte* rows, size_t row_bytes, int n_rows,
                        int64_t n_cols, std::byte* strip) {
  TANDEM_ASSIGN_OR_RETURN(const Scheme scheme, ExactScheme(type));
  const SchemeInfo& info = GetScheme(scheme);
  TANDEM_CHECK(n_rows >= 1 && n_rows <= kStripRows && n_cols % info.group == 0);
  const int64_t n_blocks = n_cols / info.group;
  std::vector<int8_t> codes(n_cols);
  std::vector<uint16_t> scales(n_blocks);
  ClearStrip(info, n_cols, strip);
  for (int r = 0; r < n_rows; ++r) {
    const std::byte* row = rows + r * row_bytes;
    if (type == quant::Type::kQ4_0) {
      DecodeRow<quant::BlockQ4_0>(row, n_blocks, codes.data(), scales.data());
    } else {
      DecodeRow<quant::BlockQ8_0>(row, n_blocks, codes.data(), scales.data());
    }
    WriteRow(info, codes.data(), scales.data(), r, n_cols, strip);
  }
  return {};
}

void UnpackStrip(Scheme scheme, const std::byte* strip, int n_rows, int64_t n_cols, int8_t* codes,
                 uint16_t* scales) {
  const SchemeInfo& info = GetScheme(scheme);
  const int64_t n_groups = (n_cols + info.group - 1) / info.group;
  const uint8_t* tiles = Tiles(info, strip, n_cols);
  for (int r = 0; r < n_rows; ++r) {
    for (int64_t g = 0; g < n_groups; ++g) scales[r * n_groups + g] = ReadScale(strip, g, r);
    for (int64_t c = 0; c < n_cols; ++c) {
      const uint8_t* tile = tiles + c / kTileCols * info.tile_bytes;
      codes[r * n_cols + c] =
          static_cast<int8_t>(ReadCode(info, tile, r, static_cast<int>(c % kTileCols)));
    }
  }
}

void UnpackRow(Scheme scheme, const std::byte* matrix, int64_t row, int64_t n_cols, float* dst) {
  const SchemeInfo& info = GetScheme(scheme);
  const std::byte* strip = matrix + row / kStripRows * StripBytes(scheme, n_cols);
  const int r = static_cast<int>(row % kStripRows);
  const uint8_t* tile = Tiles(info, strip, n_cols);
  for (int64_t begin = 0; begin < n_cols; begin += info.group) {
    const float scale = quant::HalfToFloat(ReadScale(strip, begin / info.group, r));
    const int64_t end = std::min<int64_t>(begin + info.group, n_cols);
    for (int64_t c = begin; c < end; ++c) {
      const int code = ReadCode(info, tile + c / kTileCols * info.tile_bytes, r,
                                static_cast<int>(c % kTileCols));
      dst[c] = scale * static_cast<float>(code);
    }
  }
}

}  // namespace tandem::kernels
