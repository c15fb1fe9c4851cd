#include "engine/session/session.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "engine/tokenizer/continuation.h"

namespace tandem::session {
namespace {

// More than the OpenAI API has; each costs work on every token.
constexpr size_t kMaxStopStrings = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr int32_t kMaxTopLogprobs = 20;

template <typename... Args>
std::unexpected<Error> Invalid(std::string param, fmt::format_string<Args...> format,
                               Args&&... args) {
  return std::unexpected(Error{.code = ErrorCode::kInvalidArgument,
                               .message = fmt::format(format, std::forward<Args>(args)...),
                               .param = std::move(param)});
}

}  // namespace

Status Session::Validate(const Submission& submission, const SessionModel& model) {
  const auto n_prompt = static_cast<int64_t>(submission.prompt_ids.size());
  if (n_prompt == 0) return Invalid("prompt", "the prompt is empty; it needs at least one token");
  if (n_prompt >= model.context_tokens) {
    return Invalid(
        "context",
        "the prompt has {} tokens and the context {}, which leaves no room for an answer: "
        "shorten the prompt or load the model with a longer context",
        n_prompt, model.context_tokens);
  }
  if (submission.n_answer_ids > submission.prompt_ids.size()) {
    return Invalid("prompt", "{} tokens of an answer are not in a prompt of {}",
                   submission.n_answer_ids, n_prompt);
  }
  for (int32_t token : submission.prompt_ids) {
    if (token < 0 || token >= model.vocab_size) {
      return Invalid("prompt", "token {} is not in the vocabulary of {} tokens", token,
                     model.vocab_size);
    }
  }
  if (submission.max_tokens < 0) {
    return Invalid("max_tokens", "max_tokens is {}; it must be 0 (no limit) or more",
                   submission.max_tokens);
  }
  if (submission.stop.size() > kMaxStopStrings) {
    return Invalid("stop", "{} stop strings were given; at most {} are possible",
                   submission.stop.size(), kMaxStopStrings);
  }
  for (const std::string& stop : submission.stop) {
    if (stop.size() > kMaxStopBytes) {
      return Invalid("stop", "a stop string has {} bytes; at most {} are possible", stop.size(),
                     kMaxStopBytes);
    }
  }
  if (submission.top_logprobs &&
      (*submission.top_logprobs < 0 || *submission.top_logprobs > kMaxTopLogprobs)) {
    return Invalid("top_logprobs", "top_logprobs is {}; it must be between 0 and {}",
                   *submission.top_logprobs, kMaxTopLogprobs);
  }
  return {};
}

Result<std::unique_ptr<Session>> Session::Create(SubmissionId id, Submission submission,
                                                 const SessionModel& model, EventSink* sink,
                                                 SteadyTime now) {
  TANDEM_RETURN_IF_ERROR(Validate(submission, model));
  const std::span<const int32_t> prompt = submission.prompt_ids;
  TANDEM_ASSIGN_OR_RETURN(
      sampling::Sampler sampler,
      sampling::Sampler::Create(submission.sampling, model.mask,
                                prompt.first(prompt.size() - submission.n_answer_ids)));
  for (int32_t token : prompt.last(submission.n_answer_ids)) sampler.Accept(token);
  return std::unique_ptr<Session>(
      new Session(id, std::move(submission), model, std::move(sampler), std::move(*sink), now));
}

Session::Session(SubmissionId id, Submission submission, const SessionModel& model,
                 sampling::Sampler sampler, EventSink sink, SteadyTime now)
    : id_(id),
      submission_(std::move(submission)),
      tokenizer_(model.tokenizer),
      mask_(model.mask),
      context_tokens_(model.context_tokens),
      sink_(std::move(sink)),
      tokens_(submission_.prompt_ids),
      n_prompt_(tokens_.size()),
      forced_(submission_.forced_text),
      sampler_(std::move(sampler)),
      decoder_(*tokenizer_),
      stop_detector_(submission_.stop),
      submitted_at_(now) {
  if (submission_.detect_degeneration) degeneration_ = std::make_unique<TailPeriodDetector>();
}

void Session::Start(std::unique_ptr<executor::Slot> slot, SteadyTime now) {
  slot_ = std::move(slot);
  n_cached_ = static_cast<size_t>(slot_->length());
  TANDEM_CHECK(n_cached_ < tokens_.size());
  started_at_ = now;
}

std::span<const int32_t> Session::pending() const {
  return std::span(tokens_).subspan(static_cast<size_t>(slot_->length()));
}

executor::LogitsWanted Session::wanted() const {
  const int top = sampler_.n_deciding();
  // Log probabilities are about all tokens, and a forced one may be anywhere.
  if (submission_.top_logprobs || !forced_.empty() || top > executor::LogitsWanted::kMaxTop) {
    return {};
  }
  return {.top = top, .excluded = mask_->unused(), .n_ids = mask_->n_tokens()};
}

int Session::MaxDrafts() const {
  // What must be spelt out is drawn from other tokens than the model's best.
  if (!forced_.empty()) return 0;
  int64_t room = context_tokens_ - static_cast<int64_t>(tokens_.size()) - 1;
  if (submission_.max_tokens > 0) {
    room = std::min(room, submission_.max_tokens - static_cast<int64_t>(n_answer()) - 1);
  }
  return static_cast<int>(std::max<int64_t>(room, 0));
}

std::span<const int32_t> Session::PendingAndDrafts() {
  if (drafts_.proposal.empty()) return pending();
  const std::span<const int32_t> first = pending();
  step_tokens_.assign(first.begin(), first.end());
  step_tokens_.insert(step_tokens_.end(), drafts_.proposal.begin(), drafts_.proposal.end());
  return step_tokens_;
}

Result<std::optional<Session::Outcome>> Session::Advance(std::span<const float> logits,
                                                         sampling::SamplerScratch* scratch,
                                                         SteadyTime now) {
  TANDEM_ASSIGN_OR_RETURN(int32_t token, sampler_.Sample(logits, scratch));
  // What the model would write anyway goes first, so that the draw is that of an answer in one go.
  if (!forced_.empty() && !tokenizer::FitsContinuation(*tokenizer_, token, forced_)) {
    TANDEM_ASSIGN_OR_RETURN(token, SampleForced(logits, scratch));
  }
  std::optional<TokenLogprobs> logprobs;
  if (submission_.top_logprobs) {
    TANDEM_ASSIGN_OR_RETURN(
        const sampling::Logprobs computed,
        sampling::ComputeLogprobs(logits, *mask_, token, *submission_.top_logprobs));
    logprobs = Describe(computed);
  }
  if (n_answer() == 0) first_token_at_ = now;
  last_token_at_ = now;
  return Accept(token, std::move(logprobs));
}

Result<int32_t> Session::SampleForced(std::span<const float> logits,
                                      sampling::SamplerScratch* scratch) const {
  std::vector<int32_t> fitting;
  for (int32_t id = 0; id < mask_->n_tokens(); ++id) {
    if (tokenizer::FitsContinuation(*tokenizer_, id, forced_) && mask_->Allows(id)) {
      fitting.push_back(id);
    }
  }
  if (fitting.empty()) {
    return Err(ErrorCode::kUnsupported,
               "this model has no token for a part of the text that it is to go on from");
  }
  return sampler_.SampleAmong(logits, fitting, scratch);
}

std::optional<Session::Outcome> Session::Accept(int32_t token,
                                                std::optional<TokenLogprobs> logprobs) {
  sampler_.Accept(token);
  tokens_.push_back(token);
  if (tokenizer_->IsEndOfGeneration(token)) {
    ShowRest();
    // Text that was held back unfinished may still complete a stop string.
    return Outcome{FinishReason::kStop, stop_detector_.stop()};
  }

  std::string text;
  if (forced_.empty()) {
    text = decoder_.Push(token);
  } else {
    const std::string_view bytes = tokenizer_->TokenBytes(token);
    const size_t n_known = std::min(bytes.size(), forced_.size());
    forced_.erase(0, n_known);
    if (n_known == bytes.size()) {
      ++n_forced_;
      if (tokens_.size() < static_cast<size_t>(context_tokens_)) return std::nullopt;
      return Outcome{FinishReason::kLength};
    }
    text = decoder_.PushBytes(bytes.substr(n_known));
  }
  held_.push_back({token, n_decoded_bytes_, std::move(logprobs)});
  n_decoded_bytes_ += text.size();
  std::string shown = stop_detector_.Push(text);
  if (!shown.empty()) Show(std::move(shown), /*all=*/false);
  if (stop_detector_.stopped()) return Outcome{FinishReason::kStop, stop_detector_.stop()};

  if (degeneration_) {
    if (auto found = degeneration_->Push(token)) {
      ShowRest();
      return Outcome{FinishReason::kDegenerate, found->check + ": " + found->figure};
    }
  }
  if (tokens_.size() >= static_cast<size_t>(context_tokens_) ||
      (submission_.max_tokens > 0 && n_answer() >= static_cast<size_t>(submission_.max_tokens))) {
    ShowRest();
    if (stop_detector_.stopped()) return Outcome{FinishReason::kStop, stop_detector_.stop()};
    return Outcome{FinishReason::kLength};
  }
  return std::nullopt;
}

TokenLogprobs Session::Describe(const sampling::Logprobs& logprobs) const {
  const auto describe = [this](const sampling::TokenLogprob& entry) {
    return Alternative{.id = entry.id,
                       .bytes = std::string(tokenizer_->TokenBytes(entry.id)),
                       .logprob = entry.logprob};
  };
  TokenLogprobs result{.chosen = describe(logprobs.chosen), .top = {}};
  std::ranges::transform(logprobs.top, std::back_inserter(result.top), describe);
  return result;
}

void Session::Show(std::string text, bool all) {
  n_shown_bytes_ += text.size();
  TextDelta delta{.text = std::move(text), .token_ids = {}, .logprobs = {}};
  size_t n_tokens = 0;
  while (n_tokens < held_.size() && (all || held_[n_tokens].text_begin < n_shown_bytes_)) {
    HeldToken& token = held_[n_tokens++];
    delta.token_ids.push_back(token.id);
    if (token.logprobs) delta.logprobs.push_back(std::move(*token.logprobs));
  }
  held_.erase(held_.begin(), held_.begin() + static_cast<ptrdiff_t>(n_tokens));
  sink_(Event(std::move(delta)));
}

void Session::ShowRest() {
  std::string text = stop_detector_.Push(decoder_.Flush());
  text += stop_detector_.Flush();
  const bool all = !stop_detector_.stopped();
  if (!text.empty() || (all && !held_.empty())) Show(std::move(text), all);
}

void Session::Finish(Outcome outcome, SteadyTime now) {
  Finished finished{.reason = outcome.reason,
                    .usage = {.prompt_tokens = static_cast<int32_t>(n_prompt_ + n_forced_),
                              .completion_tokens = static_cast<int32_t>(n_answer()),
                              .cached_tokens = static_cast<int32_t>(n_cached_)},
                    .timings = {},
                    .detail = std::move(outcome.detail)};
  finished.timings.queued_ms = MillisecondsBetween(submitted_at_, started_at_.value_or(now));
  finished.timings.e2e_ms = MillisecondsBetween(submitted_at_, now);
  if (n_answer() > 0) {
    finished.timings.ttft_ms = MillisecondsBetween(submitted_at_, first_token_at_);
  }
  const double decode_ms = MillisecondsBetween(first_token_at_, last_token_at_);
  if (n_answer() > 1 && decode_ms > 0) {
    finished.timings.decode_tokens_per_second =
        static_cast<double>(n_answer() - 1) * 1000.0 / decode_ms;
  }
  EventSink sink = std::exchange(sink_, nullptr);
  sink(Event(std::move(finished)));
}

void Session::Fail(Error error) {
  EventSink sink = std::exchange(sink_, nullptr);
  sink(Event(Failed{std::move(error)}));
}

}  // namespace tandem::session
