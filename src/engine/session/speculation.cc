#include "engine/session/speculation.h"

#include <algorithm>
#include <cmath>

#include "engine/session/session.h"

namespace tandem::session {
namespace {

constexpr std::pair<std::string_view, SpeculationMode> kModes[] = {
    {"auto", SpeculationMode::kAuto},
    {"off", SpeculationMode::kOff},
    {"mtp", SpeculationMode::kMtp},
    {"ngram", SpeculationMode::kNgram},
};

// Below this a guess is not worth its uncertainty.
constexpr double kMinGain = 0.03;
// Steps without a draft after which one is tried all the same: texts change, and so do machines.
constexpr int kProbeAfter = 64;
// Weight of the newest observation.
constexpr double kCostWeight = 0.1;
constexpr double kSharedCostWeight = 0.05;
constexpr double kAcceptanceWeight = 0.08;
// What a row is thought to add to a step before it was measured: engine.md has 5 % for three.
constexpr double kAssumedRowCost = 0.03;

size_t Index(Drafter drafter) { return static_cast<size_t>(drafter); }

}  // namespace

Result<SpeculationMode> ParseSpeculationMode(std::string_view name) {
  std::string known;
  for (const auto& [text, mode] : kModes) {
    if (text == name) return mode;
    known += fmt::format(" {}", text);
  }
  return std::unexpected(Error{
      .code = ErrorCode::kInvalidArgument,
      .message = fmt::format("no speculation '{}'; choose one of{}", name.substr(0, 64), known),
      .param = "speculation"});
}

std::string_view SpeculationModeName(SpeculationMode mode) {
  return std::ranges::find(kModes, mode, [](const auto& entry) { return entry.second; })->first;
}

std::string_view DrafterName(Drafter drafter) { return drafter == Drafter::kMtp ? "mtp" : "ngram"; }

void StepCosts::Observe(int n_rows, double ms) {
  if (n_rows < 1 || n_rows > kRows || !(ms > 0)) return;
  double& known = ms_[static_cast<size_t>(n_rows)];
  if (known == 0) {
    known = ms;
    return;
  }
  // One step that the machine interrupted must not pass for what a step takes.
  const double change = std::min(ms / known, 3.0) - 1;
  for (double& other : ms_) other *= 1 + kSharedCostWeight * change;
  known *= (1 + kCostWeight * change) / (1 + kSharedCostWeight * change);
}

double StepCosts::Estimate(int n_rows) const {
  n_rows = std::clamp(n_rows, 1, kRows);
  int below = n_rows;
  while (below > 0 && ms_[static_cast<size_t>(below)] == 0) --below;
  int above = n_rows;
  while (above <= kRows && ms_[static_cast<size_t>(above)] == 0) ++above;
  if (below == n_rows) return ms_[static_cast<size_t>(n_rows)];
  if (below == 0 && above > kRows) return 0;
  if (below == 0) return ms_[static_cast<size_t>(above)];
  const double low = ms_[static_cast<size_t>(below)];
  if (above > kRows) return low * (1 + kAssumedRowCost * (n_rows - below));
  const double share = static_cast<double>(n_rows - below) / (above - below);
  return low + share * (ms_[static_cast<size_t>(above)] - low);
}

void Acceptance::Observe(int n_drafted, int n_accepted) {
  for (int i = 0; i < n_accepted; ++i) rate_ += kAcceptanceWeight * (1 - rate_);
  if (n_accepted < n_drafted) rate_ -= kAcceptanceWeight * rate_;
}

double Acceptance::ExpectedTokens(int n_drafted) const {
  double sum = 1;
  double all_right = 1;
  for (int i = 0; i < n_drafted; ++i) sum += all_right *= rate_;
  return sum;
}

Speculation::Speculation(SpeculationMode mode, int max_rows, executor::Executor* executor,
                         const Clock* clock)
    : mode_(mode == SpeculationMode::kMtp && !executor->drafts() ? SpeculationMode::kOff : mode),
      max_rows_(max_rows),
      executor_(executor),
      clock_(clock) {}

void Speculation::Propose(std::span<Session* const> decoding, int n_other_rows,
                          std::span<float> logits, sampling::SamplerScratch* scratch) {
  draft_ms_ = 0;
  plain_ms_per_token_ = 0;
  by_mtp_.clear();
  const auto n_decoding = static_cast<int>(decoding.size());
  for (Session* session : decoding) session->drafts().proposal.clear();
  if (mode_ == SpeculationMode::kOff || decoding.empty()) return;
  int n_rows = n_decoding;
  const int max_rows = max_rows_ - n_other_rows;
  const size_t first = turn_++ % decoding.size();
  for (size_t i = 0; i < decoding.size() && n_rows < max_rows; ++i) {
    Session* session = decoding[(first + i) % decoding.size()];
    SessionDrafts& drafts = session->drafts();
    if (!drafts.started) {
      drafts.started = true;
      drafts.acceptance = acceptance_;
    }
    // What is left, shared among those that have had none.
    const int left = static_cast<int>(decoding.size() - i);
    const int share = std::max(1, (max_rows - n_rows) / left);
    const Choice choice = Choose(session, n_rows, std::min(share, session->MaxDrafts()));
    drafts.drafter = choice.drafter;
    if (choice.n_drafts == 0) {
      ++drafts.n_plain_steps;
      continue;
    }
    if (choice.drafter == Drafter::kMtp) {
      by_mtp_.push_back(session);
    } else {
      drafts.proposal.assign(lookup_.begin(), lookup_.begin() + choice.n_drafts);
    }
    n_rows += choice.n_drafts;
  }
  if (!by_mtp_.empty()) DraftByMtp(logits, scratch);
}

// The drafts that promise the most tokens in the least time. Of kNgram they are in lookup_.
Speculation::Choice Speculation::Choose(Session* session, int n_rows, int max_drafts) {
  if (max_drafts < 1) return {};
  SessionDrafts& drafts = session->drafts();
  const double plain_ms = costs_.Estimate(n_rows);
  const bool always = mode_ != SpeculationMode::kAuto;
  // A first step without drafts tells what a step takes.
  if (plain_ms == 0 && (!always || drafts.n_plain_steps == 0)) return {};
  lookup_.clear();
  if (mode_ != SpeculationMode::kMtp) {
    drafts.ngram.Draft(session->tokens(), static_cast<size_t>(max_drafts), &lookup_);
  }
  Choice best;
  double best_gain = always ? -1 : kMinGain;
  const auto consider = [&](Drafter drafter, int n_drafts, double extra_ms) {
    const double ms = costs_.Estimate(n_rows + n_drafts) + extra_ms;
    const double gain =
        ms > 0 ? drafts.acceptance[Index(drafter)].ExpectedTokens(n_drafts) * plain_ms / ms - 1 : 0;
    if (gain <= best_gain) return;
    best_gain = gain;
    best = {drafter, n_drafts};
  };
  const bool has_mtp = mode_ != SpeculationMode::kNgram && executor_->drafts();
  if (has_mtp) consider(Drafter::kMtp, 1, mtp_ms_);
  for (int n = 1; n <= static_cast<int>(lookup_.size()); ++n) consider(Drafter::kNgram, n, 0);
  if (best.n_drafts == 0 && drafts.n_plain_steps >= kProbeAfter) {
    if (!lookup_.empty()) {
      best = {Drafter::kNgram, 1};
    } else if (has_mtp) {
      best = {Drafter::kMtp, 1};
    }
  }
  // Where even right drafts cost too much, another one in a row would only cost that again.
  const double right_ms =
      costs_.Estimate(n_rows + 1) + (best.drafter == Drafter::kMtp ? mtp_ms_ : 0);
  drafts.right_pays = 2 * plain_ms > (1 + kMinGain) * right_ms;
  return best;
}

void Speculation::DraftByMtp(std::span<float> logits, sampling::SamplerScratch* scratch) {
  draft_steps_.clear();
  for (Session* session : by_mtp_) {
    draft_steps_.push_back({.slot = session->slot(), .token_id = session->pending().front()});
  }
  const auto vocab_size = static_cast<size_t>(executor_->vocab_size());
  const SteadyTime started = clock_->Now();
  const Status drafted = executor_->Draft(draft_steps_, logits.first(by_mtp_.size() * vocab_size));
  // Without drafts the step goes on as it would have.
  if (!drafted) return;
  for (size_t i = 0; i < by_mtp_.size(); ++i) {
    const auto row = std::span<const float>(logits).subspan(i * vocab_size, vocab_size);
    const auto token = by_mtp_[i]->SampleDraft(row, scratch);
    if (token) by_mtp_[i]->drafts().proposal.push_back(*token);
  }
  draft_ms_ = MillisecondsBetween(started, clock_->Now());
  mtp_ms_ = mtp_ms_ == 0 ? draft_ms_ : mtp_ms_ + kCostWeight * (draft_ms_ - mtp_ms_);
}

void Speculation::ObserveStep(std::span<Session* const> decoding, double ms, bool with_prefill) {
  if (with_prefill || decoding.empty()) return;
  int n_rows = 0;
  for (Session* session : decoding) {
    n_rows += 1 + static_cast<int>(session->drafts().proposal.size());
  }
  costs_.Observe(n_rows, ms);
  const auto n_decoding = static_cast<int>(decoding.size());
  if (n_rows == n_decoding) return;
  plain_ms_per_token_ = costs_.Estimate(n_decoding) / n_decoding;
  const std::lock_guard lock(mutex_);
  ++figures_.steps;
  figures_.spent_ms += ms + draft_ms_;
  // The tokens that are sure to come; Learn() adds those of drafts.
  figures_.tokens += decoding.size();
  figures_.plain_ms += plain_ms_per_token_ * n_decoding;
}

void Speculation::Learn(SessionDrafts* drafts, int n_checked, int n_accepted) {
  const size_t n_drafted = drafts->proposal.size();
  if (n_drafted == 0) return;
  const size_t drafter = Index(drafts->drafter);
  drafts->acceptance[drafter].Observe(n_checked, n_accepted);
  acceptance_[drafter].Observe(n_checked, n_accepted);
  // A probe is followed by another one while it is right.
  drafts->n_plain_steps = n_accepted > 0 && drafts->right_pays ? kProbeAfter : 0;
  const std::lock_guard lock(mutex_);
  figures_.drafters[drafter].drafted_tokens += n_drafted;
  figures_.drafters[drafter].accepted_tokens += static_cast<uint64_t>(n_accepted);
  if (plain_ms_per_token_ == 0) return;
  figures_.tokens += static_cast<uint64_t>(n_accepted);
  figures_.plain_ms += n_accepted * plain_ms_per_token_;
}

SpeculationFigures Speculation::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace tandem::session
