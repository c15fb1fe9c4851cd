#include "gateway/dispatch/checked_provider.h"

#include <iterator>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/dispatch/answer_check.h"

namespace tandem::gateway::dispatch {
namespace {

// Owned by the inner provider's sink: events come one at a time.
struct Collected {
  explicit Collected(EventSink s, bool tools) : sink(std::move(s)), has_tools(tools) {}

  void Push(TextDelta delta) {
    if (passing) return sink(std::move(delta));
    text += delta.text;
    std::ranges::move(delta.logprobs, std::back_inserter(logprobs));
    if (text.size() > CheckedProvider::kMaxBytes) Release();
  }

  void Release() {
    passing = true;
    sink(TextDelta{std::move(text), std::move(logprobs)});
  }

  void End(Finished finished) {
    const bool complete =
        finished.reason == FinishReason::kStop || finished.reason == FinishReason::kLength;
    const bool call = has_tools && text.find("tool_call") != std::string::npos;
    if (!passing && complete && !call) {
      if (const auto found = FindDegeneration(text)) {
        return sink(Failed{
            {FailureCode::kOutputValidationFailed, "the generated text failed a check: " + *found},
            finished.usage,
            std::move(finished.egress)});
      }
    }
    if (!passing && !text.empty()) Release();
    sink(std::move(finished));
  }

  EventSink sink;
  const bool has_tools;
  bool passing = false;
  std::string text;
  std::vector<TokenLogprob> logprobs;
};

}  // namespace

std::unique_ptr<Generation> CheckedProvider::Start(GenerateRequest request, EventSink sink) {
  const bool has_tools = !request.tools_json.empty();
  return inner_->Start(std::move(request),
                       [inner = inner_, collected = Collected(std::move(sink), has_tools)](
                           GenerateEvent event) mutable {
                         if (auto* delta = std::get_if<TextDelta>(&event)) {
                           collected.Push(std::move(*delta));
                         } else if (auto* finished = std::get_if<Finished>(&event)) {
                           collected.End(std::move(*finished));
                         } else {
                           collected.sink(std::move(event));
                         }
                       });
}

}  // namespace tandem::gateway::dispatch
