// Who runs the model. Charter of executor/: the interface between a scheduler and whatever computes
// a batch step (today the CPU), and the slots that hold a sequence's keys and values there. It may
// include base, os and model. Deliberately absent: scheduling, sampling, memory limits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"
#include "engine/model/logits_wanted.h"

namespace tandem::executor {

using model::LogitsWanted;

// How exactly keys and values are kept. kF32 is exact to float rounding, kF16 halves its memory,
// kInt8 halves that again.
enum class KvPrecision { kInt8, kF16, kF32 };

// Owner of one sequence's keys and values, in the executor's memory. Destroying it frees them.
// Thread: the executor's.
class Slot {
 public:
  virtual ~Slot() = default;
  virtual int32_t length() const = 0;          // tokens held
  virtual int32_t context_tokens() const = 0;  // tokens that fit
  virtual uint64_t bytes() const = 0;          // reserved, whether filled or not
  // Forgets everything after the first n_tokens, 0 <= n_tokens <= length().
  virtual void Truncate(int32_t n_tokens) = 0;
};

// One sequence's share of a batch step: tokens that follow what its slot holds.
struct SlotStep {
  Slot* slot = nullptr;
  std::span<const int32_t> token_ids;  // at least one
  // Logits are wanted after the last so many of token_ids.
  int32_t n_logit_rows = 0;
  // How much of each of these rows has to be exact; an executor may always give more.
  LogitsWanted wanted = {};
};

// A sequence of which the model's own drafter is asked: the token that follows what its slot holds.
struct DraftStep {
  Slot* slot = nullptr;
  int32_t token_id = 0;
};

// Of one batch step, all slots together.
struct StepLimits {
  int32_t max_tokens = 0;
  int32_t max_logit_rows = 0;
};

// Thread: one at a time, with its slots.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual int32_t vocab_size() const = 0;
  virtual int32_t context_tokens() const = 0;  // of every slot
  virtual StepLimits limits() const = 0;
  virtual uint64_t weights_bytes() const = 0;
  virtual uint64_t scratch_bytes() const = 0;
  virtual uint64_t SlotBytes(KvPrecision precision) const = 0;

  // An empty slot. Errors: kResourceExhausted.
  virtual Result<std::unique_ptr<Slot>> NewSlot(KvPrecision precision) = 0;
  // Makes `to` hold the first n_tokens of `from`, as if it had computed them itself. Both are of
  // this executor and of the same precision; n_tokens <= from.length().
  // Cost: the two share memory; who goes on in the middle of a page copies that page.
  virtual void CopyPrefix(Slot& from, int32_t n_tokens, Slot& to) = 0;

  // Appends every entry's tokens to its slot and writes the wanted rows of logits, by entry, then
  // by position. A token's logits depend only on its own sequence, bit for bit: not on the other
  // entries, nor on how the sequence was cut into steps.
  //   logits (out) [sum of n_logit_rows, vocab_size] f32
  // Errors: kInvalidArgument, kResourceExhausted for a batch that breaks the rules, with nothing
  // changed; after any other error the slots of this batch must not be used again.
  virtual Status Step(std::span<const SlotStep> batch, std::span<float> logits) = 0;

  // Whether Draft() works.
  virtual bool drafts() const { return false; }
  // What comes after each entry's token, as the model's own drafter (a layer of multi-token
  // prediction) sees it: guesses, of which nothing that Step() gives depends. The token is not
  // appended to the slot.
  //   logits (out) [batch.size(), vocab_size] f32
  // Errors: as Step(), with nothing changed; kUnsupported where drafts() is false.
  virtual Status Draft(std::span<const DraftStep> batch, std::span<float> logits) {
    static_cast<void>(batch);
    static_cast<void>(logits);
    return Err(ErrorCode::kUnsupported, "this executor has nothing to draft with");
  }
};

}  // namespace tandem::executor
