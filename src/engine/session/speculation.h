// Whether and how far to guess ahead. A drafter guesses tokens, the model reads them in the same
// step as the token that it would have read anyway, and those that it would have said itself are
// kept: a step costs little more with a few rows than with one, and gives several tokens.
//
// What comes out is the same, token for token, as without: a draft is kept only where it is the
// token that the sampler draws from the model's own logits, with the random number of that
// position. (So also what is sampled keeps its distribution; the chance that a draft is kept is the
// probability that the model gives it, as with rejection sampling of a certain draft.) MTP drafts
// are drawn with the same random number, so that they agree more often than two separate draws.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"
#include "engine/sampling/sampler.h"
#include "engine/session/ngram_drafter.h"

namespace tandem::session {

class Session;

enum class SpeculationMode {
  kAuto,  // whichever drafter promises more, and none while neither pays
  kOff,
  kMtp,    // always the model's multi-token prediction layer, where it has one
  kNgram,  // always NgramDrafter
};
// "auto", "off", "mtp", "ngram". Errors: kInvalidArgument, naming the choices.
Result<SpeculationMode> ParseSpeculationMode(std::string_view name);
std::string_view SpeculationModeName(SpeculationMode mode);

enum class Drafter { kMtp, kNgram };
inline constexpr int kDrafters = 2;
std::string_view DrafterName(Drafter drafter);  // "mtp", "ngram"

// Rows of decoding sessions, drafts included, that a step has at most where there are drafts: more
// no longer come at the price of one.
inline constexpr int kMaxVerifyRows = 8;

// What speculation did so far.
struct SpeculationFigures {
  struct PerDrafter {
    uint64_t drafted_tokens = 0;
    uint64_t accepted_tokens = 0;
  };
  std::array<PerDrafter, kDrafters> drafters = {};  // by Drafter
  uint64_t steps = 0;                               // that had drafts in them
  uint64_t tokens = 0;                              // that those steps gave, of all their sessions
  // Their time, and what the same tokens would have taken one by one.
  double spent_ms = 0;
  double plain_ms = 0;

  // 0.3: a third faster than without. 0 where nothing was drafted.
  double gain() const { return spent_ms > 0 ? plain_ms / spent_ms - 1 : 0; }
};

// Measured times of decode steps by their number of rows.
class StepCosts {
 public:
  // What makes a step of one size slower (a longer context, a busy machine) is taken to be about
  // as bad for the others, which may not be seen for a while.
  void Observe(int n_rows, double ms);
  // Of a number that was not seen: on the line between its neighbours, or beyond them by a few per
  // cent a row, for it has to be tried to be known. 0: nothing was seen yet.
  double Estimate(int n_rows) const;

 private:
  static constexpr int kRows = 64;
  std::array<double, kRows + 1> ms_ = {};  // by rows; 0: not seen
};

// How often a draft is right, given that those before it were.
class Acceptance {
 public:
  // Drafts of one step, the first n_accepted of which were right.
  void Observe(int n_drafted, int n_accepted);
  double rate() const { return rate_; }
  // Tokens that a step with so many drafts gives: the right ones and the one behind them.
  double ExpectedTokens(int n_drafted) const;

 private:
  double rate_ = 0.7;  // optimistic: a wrong guess costs a few steps
};

// A session's side of it.
struct SessionDrafts {
  std::vector<int32_t> proposal;  // drafts for the next step
  Drafter drafter = Drafter::kMtp;
  NgramDrafter ngram;
  std::array<Acceptance, kDrafters> acceptance = {};  // by Drafter
  int n_plain_steps = 0;                              // since the last draft
  bool right_pays = true;                             // a right draft is worth its cost
  bool started = false;
};

// Drafts for the sessions of one scheduler.
// Thread: the scheduler's; figures(): any.
class Speculation {
 public:
  // kMtp without such a layer drafts nothing. Steps get at most max_rows rows of decoding sessions
  // where they have drafts.
  Speculation(SpeculationMode mode, int max_rows, executor::Executor* executor, const Clock* clock);

  // Gives each of the decoding sessions its drafts for the next step, possibly none. Other sessions
  // of the step may need n_other_rows rows of logits.
  //   logits  room for a row of logits for each of max_rows; used up
  void Propose(std::span<Session* const> decoding, int n_other_rows, std::span<float> logits,
               sampling::SamplerScratch* scratch);

  // A step that took this long is over; `decoding` are those of Propose(), before they advance.
  // With rows of prefill in it, it says nothing about decoding.
  void ObserveStep(std::span<Session* const> decoding, double ms, bool with_prefill);
  // Of a session's drafts in that step, n_checked were compared with what it said, up to the first
  // wrong one or its end, and the first n_accepted were right.
  void Learn(SessionDrafts* drafts, int n_checked, int n_accepted);

  SpeculationFigures figures() const;

 private:
  struct Choice {
    Drafter drafter = Drafter::kMtp;
    int n_drafts = 0;
  };
  Choice Choose(Session* session, int n_rows, int max_drafts);
  void DraftByMtp(std::span<float> logits, sampling::SamplerScratch* scratch);

  const SpeculationMode mode_;
  const int max_rows_;
  executor::Executor* const executor_;
  const Clock* const clock_;
  StepCosts costs_;
  double mtp_ms_ = 0;                                  // of one call of Executor::Draft()
  std::array<Acceptance, kDrafters> acceptance_ = {};  // what new sessions start from
  size_t turn_ = 0;  // whose drafts come first when there are not enough rows for all
  // Of the step under way.
  double draft_ms_ = 0;
  double plain_ms_per_token_ = 0;  // 0: the step's time is not known
  std::vector<Session*> by_mtp_;
  std::vector<executor::DraftStep> draft_steps_;  // [by_mtp_.size()]
  std::vector<int32_t> lookup_;

  mutable std::mutex mutex_;
  SpeculationFigures figures_;
};

}  // namespace tandem::session
