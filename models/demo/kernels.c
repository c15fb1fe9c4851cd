// The parts of a training step that PyTorch's eager mode does slowly on a CPU: normalisation,
// rotary embedding, causal attention, SwiGLU and cross entropy, forward and backward. Between the
// matrix products they would otherwise be dozens of small tensor operations, each a pass through
// memory. train.py compiles this file with the system's C compiler and calls it through ctypes;
// `train.py --check` compares every gradient with PyTorch's own.
//
// All arrays are row-major float32. Single-threaded: train.py runs one process per core.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// cblas_sgemm of whatever BLAS PyTorch itself uses, handed over at start so that nothing is linked
// here.
typedef void (*Sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                      const float* a, int lda, const float* b, int ldb, float beta, float* c,
                      int ldc);
static Sgemm sgemm;
enum { kRowMajor = 101, kNoTrans = 111, kTrans = 112 };

void kernels_init(void* sgemm_address) { sgemm = (Sgemm)sgemm_address; }

// y[n,d] = x * inv * w, inv[n] = 1 / sqrt(mean(x^2) + eps)
void rmsnorm_forward(const float* restrict x, const float* restrict w, float* restrict y,
                     float* restrict inv, int n, int d, float eps) {
  for (int i = 0; i < n; ++i, x += d, y += d) {
    float sum = 0;
    for (int j = 0; j < d; ++j) sum += x[j] * x[j];
    const float r = inv[i] = 1.0f / sqrtf(sum / d + eps);
    for (int j = 0; j < d; ++j) y[j] = x[j] * r * w[j];
  }
}

// dx[n,d] += gradient through x; dw[d] += gradient of the weight
void rmsnorm_backward(const float* restrict dy, const float* restrict x, const float* restrict w,
                      const float* restrict inv, float* restrict dx, float* restrict dw, int n,
                      int d) {
  for (int i = 0; i < n; ++i, x += d, dy += d, dx += d) {
    const float r = inv[i];
    float dot = 0;
    for (int j = 0; j < d; ++j) dot += dy[j] * w[j] * x[j];
    const float c = dot * r * r / d;
    for (int j = 0; j < d; ++j) {
      dw[j] += dy[j] * x[j] * r;
      dx[j] += r * (dy[j] * w[j] - c * x[j]);
    }
  }
}

// gate_up[n,2f] -> h[n,f] = silu(gate) * up
void swiglu_forward(const float* restrict gate_up, float* restrict h, int n, int f) {
  for (int i = 0; i < n; ++i, gate_up += 2 * f, h += f) {
    for (int j = 0; j < f; ++j) h[j] = gate_up[j] / (1.0f + expf(-gate_up[j])) * gate_up[f + j];
  }
}

void swiglu_backward(const float* restrict dh, const float* restrict gate_up,
                     float* restrict dgate_up, int n, int f) {
  for (int i = 0; i < n; ++i, gate_up += 2 * f, dgate_up += 2 * f, dh += f) {
    for (int j = 0; j < f; ++j) {
      const float g = gate_up[j], s = 1.0f / (1.0f + expf(-g));
      dgate_up[j] = dh[j] * gate_up[f + j] * s * (1.0f + g * (1.0f - s));
      dgate_up[f + j] = dh[j] * g * s;
    }
  }
}

// Rotates the first 2*half dims of `heads` heads at the start of every row, pairs (i, i+half);
// direction -1 undoes it.
static void rotate(float* rows, int batch, int t, int stride, int heads, int head_dim, int half,
                   const float* cosine, const float* sine, float direction) {
  for (int b = 0; b < batch; ++b) {
    for (int p = 0; p < t; ++p, rows += stride) {
      const float *c = cosine + p * half, *s = sine + p * half;
      for (int h = 0; h < heads; ++h) {
        float *lo = rows + h * head_dim, *hi = lo + half;
        for (int i = 0; i < half; ++i) {
          const float a = lo[i], z = hi[i], w = direction * s[i];
          lo[i] = a * c[i] - z * w;
          hi[i] = z * c[i] + a * w;
        }
      }
    }
  }
}

enum {
  kBlock = 64
};  // query rows handled at once: what lies right of the diagonal block is never computed

// qkv[b,t,(heads+2*kv_heads)*head_dim] is rotated in place. probs[b,heads,t,t] is kept for the
// backward pass.
void attention_forward(float* qkv, const float* cosine, const float* sine, float* probs, float* out,
                       int batch, int t, int heads, int kv_heads, int head_dim, int half) {
  const int stride = (heads + 2 * kv_heads) * head_dim, width = heads * head_dim;
  const float scale = 1.0f / sqrtf((float)head_dim);
  rotate(qkv, batch, t, stride, heads + kv_heads, head_dim, half, cosine, sine, 1.0f);
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < heads; ++h) {
      const float* q = qkv + (size_t)b * t * stride + h * head_dim;
      const float* k = qkv + (size_t)b * t * stride + (heads + h / (heads / kv_heads)) * head_dim;
      const float* v = k + kv_heads * head_dim;
      float* p = probs + ((size_t)b * heads + h) * t * t;
      for (int i0 = 0; i0 < t; i0 += kBlock) {
        const int i1 = i0 + kBlock < t ? i0 + kBlock : t;
        sgemm(kRowMajor, kNoTrans, kTrans, i1 - i0, i1, head_dim, scale, q + (size_t)i0 * stride,
              stride, k, stride, 0.0f, p + (size_t)i0 * t, t);
        for (int i = i0; i < i1; ++i) {
          float* row = p + (size_t)i * t;
          float top = row[0], sum = 0;
          for (int j = 1; j <= i; ++j) top = row[j] > top ? row[j] : top;
          for (int j = 0; j <= i; ++j) row[j] = expf(row[j] - top);
          for (int j = 0; j <= i; ++j) sum += row[j];
          const float r = 1.0f / sum;
          for (int j = 0; j <= i; ++j) row[j] *= r;
          for (int j = i + 1; j < i1; ++j) row[j] = 0;
        }
        sgemm(kRowMajor, kNoTrans, kNoTrans, i1 - i0, head_dim, i1, 1.0f, p + (size_t)i0 * t, t, v,
              stride, 0.0f, out + ((size_t)b * t + i0) * width + h * head_dim, width);
      }
    }
  }
}

// dqkv receives the gradient with respect to the values before rotation. scratch: kBlock * t
// floats.
void attention_backward(const float* dout, const float* out, const float* qkv, const float* cosine,
                        const float* sine, const float* probs, float* dqkv, float* scratch,
                        int batch, int t, int heads, int kv_heads, int head_dim, int half) {
  const int stride = (heads + 2 * kv_heads) * head_dim, width = heads * head_dim;
  const float scale = 1.0f / sqrtf((float)head_dim);
  memset(dqkv, 0, sizeof(float) * batch * t * stride);
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < heads; ++h) {
      const size_t base = (size_t)b * t * stride, kv = (heads + h / (heads / kv_heads)) * head_dim;
      const float *q = qkv + base + h * head_dim, *k = qkv + base + kv,
                  *v = k + kv_heads * head_dim;
      float *dq = dqkv + base + h * head_dim, *dk = dqkv + base + kv,
            *dv = dk + kv_heads * head_dim;
      const float* p = probs + ((size_t)b * heads + h) * t * t;
      for (int i0 = 0; i0 < t; i0 += kBlock) {
        const int i1 = i0 + kBlock < t ? i0 + kBlock : t, rows = i1 - i0;
        const float* go = dout + ((size_t)b * t + i0) * width + h * head_dim;
        const float* o = out + ((size_t)b * t + i0) * width + h * head_dim;
        const float* pb = p + (size_t)i0 * t;
        sgemm(kRowMajor, kTrans, kNoTrans, i1, head_dim, rows, 1.0f, pb, t, go, width, 1.0f, dv,
              stride);
        sgemm(kRowMajor, kNoTrans, kTrans, rows, i1, head_dim, 1.0f, go, width, v, stride, 0.0f,
              scratch, i1);
        for (int i = 0; i < rows; ++i) {
          float dot = 0;
          for (int j = 0; j < head_dim; ++j)
            dot += go[(size_t)i * width + j] * o[(size_t)i * width + j];
          float* row = scratch + (size_t)i * i1;
          const float* pr = pb + (size_t)i * t;
          for (int j = 0; j < i1; ++j) row[j] = pr[j] * (row[j] - dot);
        }
        sgemm(kRowMajor, kNoTrans, kNoTrans, rows, head_dim, i1, scale, scratch, i1, k, stride,
              0.0f, dq + (size_t)i0 * stride, stride);
        sgemm(kRowMajor, kTrans, kNoTrans, i1, head_dim, rows, scale, scratch, i1,
              q + (size_t)i0 * stride, stride, 1.0f, dk, stride);
      }
    }
  }
  rotate(dqkv, batch, t, stride, heads + kv_heads, head_dim, half, cosine, sine, -1.0f);
}

// logits[n,v] become the gradient of the summed loss; returns that loss. correct: rows whose best
// logit is the target.
double cross_entropy(float* logits, const int64_t* target, int n, int v, int64_t* correct) {
  double loss = 0;
  for (int i = 0; i < n; ++i, logits += v) {
    float top = logits[0], sum = 0;
    for (int j = 1; j < v; ++j) top = logits[j] > top ? logits[j] : top;
    const float at_target = logits[target[i]];
    *correct += at_target >= top;
    for (int j = 0; j < v; ++j) logits[j] = expf(logits[j] - top);
    for (int j = 0; j < v; ++j) sum += logits[j];
    loss += logf(sum) - (at_target - top);
    const float r = 1.0f / sum;
    for (int j = 0; j < v; ++j) logits[j] *= r;
    logits[target[i]] -= 1.0f;
  }
  return loss;
}
