#include "engine/ops/matmul.h"

#include <algorithm>

#include "base/check.h"

namespace tandem::ops {
namespace {

// Rows that are handed out together: a multiple of the kernels' tile of 4.
constexpr int64_t kStripRows = 16;
// A dequantised panel should stay in a core's second-level cache beside the activations.
constexpr int64_t kPanelFloats = 48 * 1024;
// Multiplications of a chunk: about 10 us, a hundred times the cost of handing it out.
constexpr int64_t kChunkProducts = 128 * 1024;

int64_t PanelRows(int64_t n_cols) {
  return std::clamp(kPanelFloats / n_cols / 4 * 4, int64_t{4}, kStripRows);
}

int64_t Strips(const Matrix& matrix) { return (matrix.n_rows + kStripRows - 1) / kStripRows; }

// Rows [begin, end) of a matrix times all tokens; y points at the matrix's first column.
void MultiplyRows(const kernels::KernelSet& kernels, const Matrix& matrix, int64_t begin,
                  int64_t end, const float* x, int64_t n_tokens, float* y, int64_t y_stride,
                  float* panel) {
  const kernels::TypeKernels& type = kernels.ForType(matrix.type);
  const std::byte* rows = matrix.data + begin * matrix.row_bytes;
  if (n_tokens == 1) {
    type.gemv(rows, matrix.row_bytes, end - begin, matrix.n_cols, x, y + begin);
    return;
  }
  if (matrix.type == quant::Type::kF32) {
    kernels.gemm(reinterpret_cast<const float*>(rows), matrix.n_cols, end - begin, matrix.n_cols, x,
                 matrix.n_cols, n_tokens, y + begin, y_stride);
    return;
  }
  const int64_t panel_rows = PanelRows(matrix.n_cols);
  for (int64_t row = begin; row < end; row += panel_rows) {
    const int64_t n_rows = std::min(panel_rows, end - row);
    for (int64_t r = 0; r < n_rows; ++r) {
      type.unpack(matrix.data + (row + r) * matrix.row_bytes, matrix.n_cols,
                  panel + r * matrix.n_cols);
    }
    kernels.gemm(panel, matrix.n_cols, n_rows, matrix.n_cols, x, matrix.n_cols, n_tokens, y + row,
                 y_stride);
  }
}

}  // namespace

int64_t PanelFloats(int64_t n_cols) { return PanelRows(n_cols) * n_cols; }

void MatMul(const kernels::KernelSet& kernels, ThreadPool& pool, std::span<const Matrix> parts,
            const float* x, int64_t n_tokens, float* y, std::span<float> panels) {
  if (parts.empty() || n_tokens == 0) return;
  const int64_t n_cols = parts[0].n_cols;
  const int64_t panel_floats = PanelFloats(n_cols);
  TANDEM_CHECK(static_cast<int64_t>(panels.size()) >= pool.n_threads() * panel_floats);
  int64_t n_strips = 0;
  int64_t y_stride = 0;
  for (const Matrix& part : parts) {
    TANDEM_CHECK(part.n_cols == n_cols);
    n_strips += Strips(part);
    y_stride += part.n_rows;
  }
  const int64_t chunk =
      std::max<int64_t>(1, kChunkProducts / std::max<int64_t>(1, kStripRows * n_cols * n_tokens));
  pool.ParallelFor(n_strips, chunk, [&](int worker, int64_t begin, int64_t end) {
    float* panel = panels.data() + worker * panel_floats;
    int64_t column = 0;       // of y, where the part starts
    int64_t first_strip = 0;  // of the part
    for (const Matrix& part : parts) {
      const int64_t part_strips = Strips(part);
      const int64_t from = std::max(begin - first_strip, int64_t{0});
      const int64_t to = std::min(end - first_strip, part_strips);
      if (from < to) {
        MultiplyRows(kernels, part, from * kStripRows, std::min(to * kStripRows, part.n_rows), x,
                     n_tokens, y + column, y_stride, panel);
      }
      column += part.n_rows;
      first_strip += part_strips;
    }
  });
}

}  // namespace tandem::ops
