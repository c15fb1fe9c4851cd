#include "gateway/dispatch/confident_provider.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

namespace tandem::gateway::dispatch {
namespace {

// Shared by the inner provider's sink and the handle: the sink gives the call up through it.
class Held : public std::enable_shared_from_this<Held> {
 public:
  // `wanted`: alternatives that the client asked for; absent: not even the log probabilities.
  Held(EventSink sink, const Clock* clock, ConfidenceNeed need, std::optional<int32_t> wanted)
      : sink_(std::move(sink)), clock_(clock), need_(std::move(need)), wanted_(wanted) {}

  // From the inner provider, one at a time.
  void OnEvent(GenerateEvent event) {
    if (auto* delta = std::get_if<TextDelta>(&event)) return OnDelta(std::move(*delta));
    auto* finished = std::get_if<Finished>(&event);
    if (given_up_) {
      Failed failed{*given_up_};
      if (finished != nullptr) {
        failed.usage = finished->usage;
        failed.egress = std::move(finished->egress);
      } else {
        auto& inner = std::get<Failed>(event);
        failed.usage = inner.usage;
        failed.egress = std::move(inner.egress);
      }
      return std::exchange(sink_, nullptr)(std::move(failed));
    }
    const bool complete = finished != nullptr && (finished->reason == FinishReason::kStop ||
                                                  finished->reason == FinishReason::kLength);
    if (!passing_ && complete && !Judge()) {
      return std::exchange(
          sink_, nullptr)(Failed{*given_up_, finished->usage, std::move(finished->egress)});
    }
    if (!passing_) Release();
    std::exchange(sink_, nullptr)(std::move(event));
  }

  void Attach(std::shared_ptr<Generation> inner) {
    bool cancel = false;
    {
      std::lock_guard lock(mutex_);
      inner_ = std::move(inner);
      cancel = cancelled_;
    }
    if (cancel) Cancel();
  }

  void Cancel() {
    std::shared_ptr<Generation> inner;
    {
      std::lock_guard lock(mutex_);
      cancelled_ = true;
      inner = inner_;
    }
    if (inner != nullptr) inner->Cancel();
  }

  // The handle is gone: so is the inner one.
  void Detach() {
    std::shared_ptr<Generation> inner;
    std::lock_guard lock(mutex_);
    inner = std::exchange(inner_, nullptr);
  }

 private:
  void OnDelta(TextDelta delta) {
    if (given_up_) return;
    if (passing_) return Pass(std::move(delta));
    if (!first_) first_ = clock_->Now();
    for (const TokenLogprob& token : delta.logprobs) {
      sum_ += token.logprob;
      ++n_tokens_;
      if (const auto read = ReadConfidence(token)) tokens_.push_back(*read);
    }
    held_.push_back(std::move(delta));
    const bool enough = n_tokens_ >= need_.tokens || clock_->Now() - *first_ >= need_.time;
    if (!enough) return;
    if (Judge()) return Release();
    Cancel();  // its terminal event carries the usage
  }

  bool Judge() {
    if (n_tokens_ == 0) return true;
    std::string doubt;
    if (need_.min_probability && !tokens_.empty()) {
      const Calibrator& calibrator =
          need_.calibrator != nullptr ? *need_.calibrator : Calibrator::Builtin();
      const double probability = calibrator.Probability(Summarise(tokens_), need_.task);
      if (probability >= *need_.min_probability) return true;
      doubt = fmt::format(
          "by its first {} tokens the answer is right with a probability of {:.2f}, "
          "below {:.2f}",
          tokens_.size(), probability, *need_.min_probability);
    } else {
      const double mean = sum_ / n_tokens_;
      if (mean >= need_.min_mean_logprob) return true;
      doubt = fmt::format("the mean log probability of the first {} tokens is {:.2f}, below {:.2f}",
                          n_tokens_, mean, need_.min_mean_logprob);
    }
    given_up_ = Failure{FailureCode::kOutputValidationFailed, "confidence: " + doubt};
    held_.clear();
    return false;
  }

  void Release() {
    passing_ = true;
    for (TextDelta& delta : held_) Pass(std::move(delta));
    held_.clear();
  }

  void Pass(TextDelta delta) {
    if (!wanted_) delta.logprobs.clear();
    for (TokenLogprob& token : delta.logprobs) {
      if (std::ssize(token.top) > *wanted_) token.top.resize(static_cast<size_t>(*wanted_));
    }
    sink_(std::move(delta));
  }

  EventSink sink_;
  const Clock* const clock_;
  const ConfidenceNeed need_;
  const std::optional<int32_t> wanted_;
  // The inner provider's thread only.
  bool passing_ = false;
  std::optional<Failure> given_up_;
  std::optional<SteadyTime> first_;
  double sum_ = 0;
  int n_tokens_ = 0;
  std::vector<TokenConfidence> tokens_;  // of those that came with alternatives
  std::vector<TextDelta> held_;          // at most need_.tokens pieces with tokens, and empty ones

  std::mutex mutex_;
  std::shared_ptr<Generation> inner_;  // guarded by mutex_
  bool cancelled_ = false;             // guarded by mutex_
};

class Handle final : public Generation {
 public:
  explicit Handle(std::shared_ptr<Held> held) : held_(std::move(held)) {}
  ~Handle() override { held_->Detach(); }
  void Cancel() override { held_->Cancel(); }

 private:
  const std::shared_ptr<Held> held_;
};

}  // namespace

std::unique_ptr<Generation> ConfidentProvider::Start(GenerateRequest request, EventSink sink) {
  const std::optional<int32_t> wanted = request.top_logprobs;
  const int32_t needed = need_.min_probability ? TokenConfidence::kAlternatives : 0;
  request.top_logprobs = std::max(wanted.value_or(0), needed);
  auto held = std::make_shared<Held>(std::move(sink), clock_, need_, wanted);
  held->Attach(inner_->Start(std::move(request), [held, inner = inner_](GenerateEvent event) {
    held->OnEvent(std::move(event));
  }));
  return std::make_unique<Handle>(std::move(held));
}

}  // namespace tandem::gateway::dispatch
