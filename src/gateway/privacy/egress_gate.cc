#include "gateway/privacy/egress_gate.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "gateway/privacy/streaming_restorer.h"
#include "gateway/router/egress_policy.h"

namespace tandem::gateway::privacy {
namespace {

// Of a request that was refused before anything was started.
class NoGeneration final : public Generation {
 public:
  void Cancel() override {}
};

// Puts the secrets back into what the inner provider sends.
class RestoringSink {
 public:
  RestoringSink(Redaction* redaction, EventSink sink)
      : restorer_(redaction->map),
        withheld_(std::move(redaction->withheld_prefix)),
        sink_(std::move(sink)) {}

  void operator()(GenerateEvent event) {
    if (ended_) return;
    if (auto* delta = std::get_if<TextDelta>(&event)) {
      Send(restorer_.Push(delta->text));
      return;
    }
    // A broken answer ends before a placeholder that it had begun: whoever goes on writes it whole.
    if (auto* finished = std::get_if<Finished>(&event);
        finished != nullptr && finished->reason != FinishReason::kCancelled) {
      Send(restorer_.Finish());
      if (!ended_ && !withheld_.empty()) return GiveUp();
    }
    if (ended_) return;
    ended_ = true;
    sink_(std::move(event));
  }

 private:
  void Send(std::string text) {
    const size_t n = std::min(text.size(), withheld_.size());
    if (std::string_view(text).substr(0, n) != std::string_view(withheld_).substr(0, n)) {
      return GiveUp();
    }
    withheld_.erase(0, n);
    text.erase(0, n);
    if (!text.empty()) sink_(TextDelta{std::move(text), {}});
  }

  // Whoever holds the Generation lets it go on a terminal event, and that cancels the rest.
  void GiveUp() {
    ended_ = true;
    sink_(Failed{{FailureCode::kUnsupported,
                  "the provider did not go on where the answer stopped within a replaced secret"}});
  }

  StreamingRestorer restorer_;
  std::string withheld_;  // what the answer still has to begin with
  EventSink sink_;
  bool ended_ = false;
};

std::unique_ptr<Generation> Refuse(Failure failure, EventSink sink) {
  sink(Failed{std::move(failure)});
  return std::make_unique<NoGeneration>();
}

}  // namespace

std::unique_ptr<Generation> EgressGate::Start(GenerateRequest request, EventSink sink) {
  request.egress.reset();
  const Mode mode = request.local_only ? Mode::kOnlyOnDevice : Mode::kPreferInCloud;
  const Privacy privacy = request.privacy = std::max(request.privacy, at_least_);
  if (privacy == Privacy::kOnDevice || request.local_only) {
    return Refuse(
        {FailureCode::kPrivacyRefused,
         fmt::format("this conversation stays on the device, and '{}' is answered outside; "
                     "install a model with 'tandem pull', a smaller one where memory is "
                     "short, or free memory for the one that is there",
                     model())},
        std::move(sink));
  }
  if (privacy == Privacy::kAny) {
    auto permit = EgressPolicy::Permit(request, privacy, mode);
    if (!permit) return Refuse(std::move(permit).error(), std::move(sink));
    request.egress = *std::move(permit);
    return inner_->Start(std::move(request), std::move(sink));
  }
  auto redaction = redactor_->Redact(std::move(request));
  if (!redaction) return Refuse(std::move(redaction).error(), std::move(sink));
  auto permitted = EgressPolicy::Permit(std::move(redaction->request), privacy, mode);
  if (!permitted) return Refuse(std::move(permitted).error(), std::move(sink));
  return inner_->Start(*std::move(permitted), RestoringSink(&*redaction, std::move(sink)));
}

}  // namespace tandem::gateway::privacy
