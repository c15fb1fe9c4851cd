#include "engine/kernels/fine_plane.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

// Where a column of a row stands: three bits are two and one, apart.
struct Place {
  int64_t byte;
  int shift;
};
Place LowPlace(int bits, int64_t column) {
  const int64_t tile = column / kTileCols * (kTileCols / 8) * bits;
  const auto c = static_cast<int>(column % kTileCols);
  if (bits == 4) return {tile + c / 64 * 32 + c % 32, c % 64 / 32 * 4};
  return {tile + c % 32, c / 32 * 2};
}
Place HighPlace(int64_t column) {
  const int64_t tile = column / kTileCols * (kTileCols / 8) * 3;
  const auto c = static_cast<int>(column % kTileCols);
  return {tile + 32 + c / 8, c % 8};
}

int ReadFine(int bits, const uint8_t* row, int64_t column) {
  const Place low = LowPlace(bits, column);
  if (bits == 4) return (row[low.byte] >> low.shift & 15) - 8;
  const Place high = HighPlace(column);
  return (row[low.byte] >> low.shift & 3) + (row[high.byte] >> high.shift & 1) * 4 - 4;
}

}  // namespace

Result<int64_t> FinePlaneBytes(int bits, int64_t n_rows, int64_t n_cols) {
  if (bits < kMinFineBits || bits > kMaxFineBits) {
    return Err(ErrorCode::kInvalidArgument, "a fine plane has {} or {} bits, not {}", kMinFineBits,
               kMaxFineBits, bits);
  }
  if (n_rows < 1 || n_rows > kMaxDimension || n_cols < 1 || n_cols > kMaxDimension) {
    return Err(ErrorCode::kInvalidArgument,
               "a matrix of {} x {} has no fine plane: each dimension must be in 1..{}", n_rows,
               n_cols, kMaxDimension);
  }
  return n_rows * FineRowBytes(bits, n_cols);
}

void PackFineRow(int bits, std::span<const int8_t> codes, std::byte* row) {
  TANDEM_CHECK(bits >= kMinFineBits && bits <= kMaxFineBits);
  const auto n_cols = static_cast<int64_t>(codes.size());
  const int zero = 1 << (bits - 1);
  auto* bytes = reinterpret_cast<uint8_t*>(row);
  std::memset(bytes, 0, FineRowBytes(bits, n_cols));
  for (int64_t c = 0; c < TileCount(n_cols) * kTileCols; ++c) {
    const int code = (c < n_cols ? codes[c] : 0) + zero;
    TANDEM_CHECK(code >= 0 && code < 2 * zero);
    const Place low = LowPlace(bits, c);
    const int low_code = bits == 4 ? code : code & 3;
    bytes[low.byte] = static_cast<uint8_t>(bytes[low.byte] | low_code << low.shift);
    if (bits == 4) continue;
    const Place high = HighPlace(c);
    bytes[high.byte] = static_cast<uint8_t>(bytes[high.byte] | (code >> 2) << high.shift);
  }
}

void UnpackFineRow(int bits, const std::byte* row, std::span<int8_t> codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row);
  for (size_t c = 0; c < codes.size(); ++c) {
    codes[c] = static_cast<int8_t>(ReadFine(bits, bytes, static_cast<int64_t>(c)));
  }
}

void UnpackRowInPlanes(Scheme scheme, const std::byte* matrix, int bits, const std::byte* fine,
                       int64_t row, int64_t n_cols, float* dst) {
  TANDEM_CHECK(GetScheme(scheme).bits == 4);
  UnpackRow(scheme, matrix, row, n_cols, dst);
  // code * scale is exact: 4 bits times 11. So is the sum of both planes' codes times scale, and it
  // is rounded no more than once.
  const auto* codes = reinterpret_cast<const uint8_t*>(fine + row * FineRowBytes(bits, n_cols));
  const int group = GetScheme(scheme).group;
  const std::byte* scales =
      matrix + row / kStripRows * StripBytes(scheme, n_cols) + row % kStripRows * 2;
  const float step = std::ldexp(1.0F, -bits);
  for (int64_t c = 0; c < n_cols; ++c) {
    uint16_t half;
    std::memcpy(&half, scales + c / group * kStripRows * 2, sizeof half);
    dst[c] += quant::HalfToFloat(half) * step * static_cast<float>(ReadFine(bits, codes, c));
  }
}

}  // namespace tandem::kernels
