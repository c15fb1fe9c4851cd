// What a row of logits is for, and so how much of it has to be exact.
#pragma once

#include <cstdint>
#include <span>

namespace tandem::model {

struct LogitsWanted {
  // 0: all of them, as distributions, log probabilities and exams need them. Otherwise the so many
  // largest, at most kMaxTop: they are then those of a row of which all were wanted, bit for bit,
  // and every other one is smaller than they are and finite, but may be an approximation. A head in
  // two planes (ops/two_planes.h) reads half as much for that.
  int top = 0;
  // Which ids do not count among the largest: these, and those from n_ids on where that is not 0.
  // Their logits may become -infinity. Where all are wanted this means nothing.
  std::span<const int32_t> excluded = {};
  int32_t n_ids = 0;

  static constexpr int kMaxTop = 64;
};

}  // namespace tandem::model
