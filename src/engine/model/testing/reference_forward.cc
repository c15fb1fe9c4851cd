// The transformer in double precision, written to be read beside the papers. Slow on purpose.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "engine/model/testing/tiny_model.h"

namespace tandem::model {
namespace {

using Row = std::vector<double>;

// y = W x, rows [first, first + n_rows) of a matrix with x.size() columns.
Row Multiply(const Row& w, size_t first, size_t n_rows, const Row& x) {
  Row y(n_rows, 0.0);
  for (size_t r = 0; r < n_rows; ++r) {
    for (size_t c = 0; c < x.size(); ++c) y[r] += w[(first + r) * x.size() + c] * x[c];
  }
  return y;
}

Row Norm(const Row& x, const Row& weight) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double root = std::sqrt(squares / static_cast<double>(x.size()) + double{1e-5F});
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] / root * weight[i];
  return y;
}

class Reference {
 public:
  Reference(const TinyModel& model, bool long_factors) : model_(model), o_(model.options()) {
    if (o_.long_rope) {
      factors_ =
          model.Decoded(long_factors ? "rope_factors_long.weight" : "rope_factors_short.weight");
    }
  }

  std::vector<double> Logits(const std::vector<int32_t>& token_ids) {
    return Head(Hidden(token_ids), "output_norm.weight");
  }

  // DeepSeek-V3's multi-token prediction (arXiv:2412.19437, section 2.2) with one layer, which here
  // stands at the position of the token that it takes in.
  std::vector<double> MtpLogits(const std::vector<int32_t>& token_ids) {
    const std::vector<Row> hidden = Hidden(token_ids);
    const std::vector<Row> embedded = Embed(token_ids);
    block_ = "blk." + std::to_string(o_.n_layers) + ".";
    std::vector<Row> x;
    for (size_t t = 0; t < token_ids.size(); ++t) {
      Row both = Norm(embedded[t], Tensor("nextn.enorm.weight"));
      const Row before = t == 0 ? Row(o_.d_model, 0.0) : hidden[t - 1];
      const Row normed = Norm(before, Tensor("nextn.hnorm.weight"));
      both.insert(both.end(), normed.begin(), normed.end());
      x.push_back(Multiply(Tensor("nextn.eh_proj.weight"), 0, o_.d_model, both));
    }
    Attention(&x);
    FeedForward(&x);
    return Head(x, block_ + "nextn.shared_head_norm.weight");
  }

 private:
  std::vector<Row> Embed(const std::vector<int32_t>& token_ids) const {
    std::vector<Row> x;
    const Row embedding = model_.Decoded("token_embd.weight");
    for (const int32_t id : token_ids) {
      x.emplace_back(embedding.begin() + id * o_.d_model,
                     embedding.begin() + (id + 1) * o_.d_model);
    }
    return x;
  }

  // What the last layer gives.
  std::vector<Row> Hidden(const std::vector<int32_t>& token_ids) {
    std::vector<Row> x = Embed(token_ids);
    for (int layer = 0; layer < o_.n_layers; ++layer) {
      block_ = "blk." + std::to_string(layer) + ".";
      Attention(&x);
      FeedForward(&x);
    }
    return x;
  }

  std::vector<double> Head(const std::vector<Row>& x, const std::string& norm_name) const {
    const Row norm = model_.Decoded(norm_name);
    const Row head =
        model_.Decoded(model_.Has("output.weight") ? "output.weight" : "token_embd.weight");
    std::vector<double> logits;
    for (const Row& row : x) {
      const Row y = Multiply(head, 0, o_.vocab_size, Norm(row, norm));
      logits.insert(logits.end(), y.begin(), y.end());
    }
    return logits;
  }

  // Of the current block; decoded once.
  const Row& Tensor(const std::string& name) {
    const auto [found, is_new] = decoded_.try_emplace(block_ + name);
    if (is_new) found->second = model_.Decoded(block_ + name);
    return found->second;
  }

  // q, k or v of a normalised row, by part 0, 1, 2.
  Row Project(const Row& x, int part) {
    const size_t q_dim = o_.n_heads * o_.head_dim;
    const size_t kv_dim = o_.n_kv_heads * o_.head_dim;
    const size_t n_rows = part == 0 ? q_dim : kv_dim;
    const std::string name = std::string("attn_") + "qkv"[part];
    Row y;
    if (model_.Has(block_ + "attn_qkv.weight")) {
      const size_t first = part == 0 ? 0 : q_dim + (part - 1) * kv_dim;
      y = Multiply(Tensor("attn_qkv.weight"), first, n_rows, x);
    } else {
      y = Multiply(Tensor(name + ".weight"), 0, n_rows, x);
    }
    if (model_.Has(block_ + name + ".bias")) {
      const Row& bias = Tensor(name + ".bias");
      for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i];
    }
    return y;
  }

  // Every head of a row turned by its position.
  void Rotate(Row* heads, size_t position) const {
    const int half = o_.rotary_dim / 2;
    const double scale = o_.long_rope ? double{o_.attention_factor} : 1.0;
    for (size_t head = 0; head < heads->size() / o_.head_dim; ++head) {
      double* h = heads->data() + head * o_.head_dim;
      for (int i = 0; i < half; ++i) {
        const double factor = factors_.empty() ? 1.0 : factors_[i];
        const double angle =
            static_cast<double>(position) / (factor * std::pow(10000.0, 2.0 * i / o_.rotary_dim));
        const double a = h[i];
        const double b = h[i + half];
        h[i] = scale * (a * std::cos(angle) - b * std::sin(angle));
        h[i + half] = scale * (b * std::cos(angle) + a * std::sin(angle));
      }
    }
  }

  void Attention(std::vector<Row>* x) {
    const Row& norm = Tensor("attn_norm.weight");
    const Row& output = Tensor("attn_output.weight");
    std::vector<Row> q;
    std::vector<Row> k;
    std::vector<Row> v;
    for (size_t t = 0; t < x->size(); ++t) {
      const Row normed = Norm((*x)[t], norm);
      q.push_back(Project(normed, 0));
      k.push_back(Project(normed, 1));
      v.push_back(Project(normed, 2));
      Rotate(&q[t], t);
      Rotate(&k[t], t);
    }
    const int dim = o_.head_dim;
    for (size_t t = 0; t < x->size(); ++t) {
      Row joined(q[t].size(), 0.0);
      for (int head = 0; head < o_.n_heads; ++head) {
        const int kv_head = head / (o_.n_heads / o_.n_kv_heads);
        Row weight(t + 1);
        double sum = 0;
        for (size_t p = 0; p <= t; ++p) {
          double score = 0;
          for (int d = 0; d < dim; ++d) score += q[t][head * dim + d] * k[p][kv_head * dim + d];
          weight[p] = std::exp(score / std::sqrt(static_cast<double>(dim)));
          sum += weight[p];
        }
        for (size_t p = 0; p <= t; ++p) {
          for (int d = 0; d < dim; ++d) {
            joined[head * dim + d] += weight[p] / sum * v[p][kv_head * dim + d];
          }
        }
      }
      const Row y = Multiply(output, 0, o_.d_model, joined);
      for (int i = 0; i < o_.d_model; ++i) (*x)[t][i] += y[i];
    }
  }

  void FeedForward(std::vector<Row>* x) {
    const Row& norm = Tensor("ffn_norm.weight");
    const bool fused = !model_.Has(block_ + "ffn_gate.weight");
    const Row& gate_weight = Tensor(fused ? "ffn_up.weight" : "ffn_gate.weight");
    const Row& up_weight = Tensor("ffn_up.weight");
    const Row& down = Tensor("ffn_down.weight");
    for (Row& row : *x) {
      const Row normed = Norm(row, norm);
      const Row gate = Multiply(gate_weight, 0, o_.d_ff, normed);
      Row hidden = Multiply(up_weight, fused ? o_.d_ff : 0, o_.d_ff, normed);
      for (int i = 0; i < o_.d_ff; ++i) hidden[i] *= gate[i] / (1 + std::exp(-gate[i]));
      const Row y = Multiply(down, 0, o_.d_model, hidden);
      for (int i = 0; i < o_.d_model; ++i) row[i] += y[i];
    }
  }

  const TinyModel& model_;
  const TinyOptions& o_;
  Row factors_;
  std::string block_;
  std::map<std::string, Row> decoded_;
};

}  // namespace

std::vector<double> ReferenceLogits(const TinyModel& model, const std::vector<int32_t>& token_ids,
                                    bool long_factors) {
  return Reference(model, long_factors).Logits(token_ids);
}

std::vector<double> ReferenceMtpLogits(const TinyModel& model,
                                       const std::vector<int32_t>& token_ids) {
  return Reference(model, /*long_factors=*/false).MtpLogits(token_ids);
}

}  // namespace tandem::model
