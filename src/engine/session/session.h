// One submission on its way: its tokens, its sampler, its text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"
#include "engine/sampling/logprobs.h"
#include "engine/sampling/sampler.h"
#include "engine/session/degeneration.h"
#include "engine/session/speculation.h"
#include "engine/session/submission.h"
#include "engine/tokenizer/stop_detector.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::session {

// What all sessions of a model share.
struct SessionModel {
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const sampling::TokenMask> mask;
  int32_t vocab_size = 0;      // rows of logits
  int32_t context_tokens = 0;  // of prompt and answer together
};

// A timeline: the tokens of prompt and answer, and a slot that holds the keys and values of a first
// part of them. What the slot lacks is pending; the session is in prefill while that is more than
// the token that was sampled last. It emits text as tokens are accepted, and one terminal event.
// Thread: the scheduler's, after Create().
class Session {
 public:
  // Errors: kInvalidArgument with Error::param for an empty prompt, an id outside the vocabulary, a
  // prompt that leaves no room for an answer in the context, or an option out of range.
  // Thread: any. The sink is taken only where there is no error.
  static Result<std::unique_ptr<Session>> Create(SubmissionId id, Submission submission,
                                                 const SessionModel& model, EventSink* sink,
                                                 SteadyTime now);

  // How a session ended, for Finish().
  struct Outcome {
    FinishReason reason;
    std::string detail = {};
  };

  SubmissionId id() const { return id_; }
  bool reuse_prefix() const { return submission_.reuse_prefix; }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> prompt() const { return std::span(tokens_).first(n_prompt_); }

  // The slot comes with the first n_cached tokens already in it.
  void Start(std::unique_ptr<executor::Slot> slot, SteadyTime now);
  executor::Slot* slot() { return slot_.get(); }
  const executor::Slot* slot() const { return slot_.get(); }
  std::unique_ptr<executor::Slot> ReleaseSlot() { return std::move(slot_); }

  // Tokens that have yet to run. Never empty while the session lives.
  std::span<const int32_t> pending() const;

  // What Advance() needs of the logits after the last of them.
  executor::LogitsWanted wanted() const;

  // Samples the next token from the logits after the last one and emits what text it completes.
  //   logits [vocab_size]
  // An outcome says that the session is over.
  // Errors: kInternal where the logits are not finite.
  Result<std::optional<Outcome>> Advance(std::span<const float> logits,
                                         sampling::SamplerScratch* scratch, SteadyTime now);

  // ---- guesses (speculation.h)

  SessionDrafts& drafts() { return drafts_; }
  // Tokens that could be accepted in a step beside the one that it gives anyway.
  int MaxDrafts() const;
  // Draws the next token but one, as a guess: from a drafter's logits, as Advance() will from the
  // model's. Errors: those of Sampler::Sample().
  Result<int32_t> SampleDraft(std::span<const float> logits,
                              sampling::SamplerScratch* scratch) const {
    return sampler_.Sample(logits, scratch);
  }
  // What is pending with the drafts behind it. Lives until the next call or Advance().
  std::span<const int32_t> PendingAndDrafts();

  // The terminal event; exactly one of these is called, last.
  void Finish(Outcome outcome, SteadyTime now);
  void Fail(Error error);

 private:
  // A token whose text has not been shown.
  struct HeldToken {
    int32_t id;
    size_t text_begin;  // in the decoded text
    std::optional<TokenLogprobs> logprobs;
  };

  Session(SubmissionId id, Submission submission, const SessionModel& model,
          sampling::Sampler sampler, EventSink sink, SteadyTime now);
  static Status Validate(const Submission& submission, const SessionModel& model);

  std::optional<Outcome> Accept(int32_t token, std::optional<TokenLogprobs> logprobs);
  TokenLogprobs Describe(const sampling::Logprobs& logprobs) const;
  // Tokens of the answer beyond forced_text.
  size_t n_answer() const { return tokens_.size() - n_prompt_ - n_forced_; }
  // Samples among the tokens that spell out what is left of forced_.
  Result<int32_t> SampleForced(std::span<const float> logits,
                               sampling::SamplerScratch* scratch) const;
  // Emits shown text with the tokens that begin in it; with `all`, every token that is held.
  void Show(std::string text, bool all);
  // The end of the text: what was held back is shown, unless a stop string was found.
  void ShowRest();

  const SubmissionId id_;
  const Submission submission_;
  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  const std::shared_ptr<const sampling::TokenMask> mask_;
  const int32_t context_tokens_;
  EventSink sink_;  // null after the terminal event

  std::vector<int32_t> tokens_;  // prompt, then answer
  const size_t n_prompt_;
  std::string forced_;   // that the next tokens must spell out
  size_t n_forced_ = 0;  // tokens behind the prompt that were nothing else
  size_t n_cached_ = 0;
  std::unique_ptr<executor::Slot> slot_;
  SessionDrafts drafts_;
  std::vector<int32_t> step_tokens_;  // of PendingAndDrafts()

  sampling::Sampler sampler_;
  tokenizer::StreamDecoder decoder_;
  tokenizer::StopDetector stop_detector_;
  std::unique_ptr<DegenerationDetector> degeneration_;  // null: not asked for
  std::vector<HeldToken> held_;
  size_t n_decoded_bytes_ = 0;
  size_t n_shown_bytes_ = 0;

  const SteadyTime submitted_at_;
  std::optional<SteadyTime> started_at_;
  SteadyTime first_token_at_;
  SteadyTime last_token_at_;
};

}  // namespace tandem::session
