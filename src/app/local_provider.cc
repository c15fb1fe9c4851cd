#include "app/local_provider.h"

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "crypto/random.h"

namespace tandem::app {
namespace {

gateway::Failure ToFailure(Error error) {
  // Which resource it was decides what a client should do.
  const bool memory = error.code == ErrorCode::kResourceExhausted && error.param == "memory";
  const bool context = error.code == ErrorCode::kInvalidArgument && error.param == "context";
  if (memory || context) {
    return {
        memory ? gateway::FailureCode::kOutOfMemory : gateway::FailureCode::kContextLengthExceeded,
        std::move(error.message), memory ? "" : "messages"};
  }
  return gateway::FailureFromError(std::move(error));
}

gateway::FinishReason ToFinishReason(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return gateway::FinishReason::kStop;
    case engine::FinishReason::kLength:
      return gateway::FinishReason::kLength;
    case engine::FinishReason::kCancelled:
      return gateway::FinishReason::kCancelled;
    case engine::FinishReason::kDegenerate:
      return gateway::FinishReason::kDegenerate;
  }
  return gateway::FinishReason::kStop;
}

gateway::TextDelta ToDelta(engine::TextDelta delta) {
  gateway::TextDelta out{.text = std::move(delta.text), .logprobs = {}};
  out.logprobs.reserve(delta.logprobs.size());
  for (engine::TokenLogprobs& token : delta.logprobs) {
    gateway::TokenLogprob& to = out.logprobs.emplace_back();
    to.token = std::move(token.chosen.bytes);
    to.logprob = token.chosen.logprob;
    for (engine::Alternative& alternative : token.top) {
      to.top.push_back({std::move(alternative.bytes), alternative.logprob});
    }
  }
  return out;
}

gateway::GenerateEvent ToEvent(engine::Event event) {
  if (auto* delta = std::get_if<engine::TextDelta>(&event)) return ToDelta(std::move(*delta));
  if (auto* finished = std::get_if<engine::Finished>(&event)) {
    return gateway::Finished{
        .reason = ToFinishReason(finished->reason),
        .usage = {.prompt_tokens = finished->usage.prompt_tokens,
                  .completion_tokens = finished->usage.completion_tokens,
                  .cached_tokens = finished->usage.cached_tokens},
        .ttft_ms = finished->timings.ttft_ms,
        .e2e_ms = finished->timings.e2e_ms,
        .detail = std::move(finished->detail),
    };
  }
  return gateway::Failed{ToFailure(std::move(std::get<engine::Failed>(event).error))};
}

engine::Request ToRequest(gateway::GenerateRequest request) {
  engine::ChatPrompt prompt;
  for (gateway::Message& message : request.messages) {
    engine::ChatMessage& to = prompt.messages.emplace_back();
    // "developer" is OpenAI's newer name for the same role; no chat template knows it.
    to.role = message.role == "developer" ? "system" : std::move(message.role);
    to.content = std::move(message.content);
    to.name = std::move(message.name);
    to.tool_call_id = std::move(message.tool_call_id);
    for (gateway::ToolCall& call : message.tool_calls) {
      to.tool_calls.push_back(
          {std::move(call.id), std::move(call.name), std::move(call.arguments)});
    }
  }
  prompt.tools_json = std::move(request.tools_json);
  prompt.answer_prefix = std::move(request.assistant_prefix);

  engine::Request out{.prompt = std::move(prompt)};
  const gateway::SamplingParameters& from = request.sampling;
  engine::SamplingOptions& to = out.sampling;
  to.temperature = from.temperature.value_or(to.temperature);
  to.top_p = from.top_p.value_or(to.top_p);
  to.min_p = from.min_p.value_or(to.min_p);
  to.top_k = from.top_k.value_or(to.top_k);
  to.repetition_penalty = from.repetition_penalty.value_or(to.repetition_penalty);
  to.presence_penalty = from.presence_penalty.value_or(to.presence_penalty);
  to.frequency_penalty = from.frequency_penalty.value_or(to.frequency_penalty);
  to.logit_bias = from.logit_bias;
  to.seed = from.seed ? static_cast<uint64_t>(*from.seed) : crypto::RandomUint64();
  out.max_tokens = request.max_tokens.value_or(0);
  out.stop = std::move(request.stop);
  out.top_logprobs = request.top_logprobs;
  // Always on: whether a degenerate answer is an error or the end of one, the gateway decides.
  out.detect_degeneration = true;
  return out;
}

// One answer. Shared by the handle that the gateway holds and by what runs in the engine; the
// engine's scheduler thread may be the last to let go of it.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(gateway::GenerateRequest request, gateway::EventSink sink)
      : request_(ToRequest(std::move(request))), sink_(std::move(sink)) {}

  void OnEngine(Result<EnginePool::Lease> lease) {
    if (!lease) {
      std::exchange(sink_, nullptr)(gateway::Failed{ToFailure(std::move(lease).error())});
      return;
    }
    std::unique_lock lock(mutex_);
    if (cancelled_) {
      lock.unlock();
      std::exchange(sink_, nullptr)(gateway::Finished{.reason = gateway::FinishReason::kCancelled});
      return;
    }
    lease_ = std::move(*lease);
    engine::Engine& engine = *lease_;
    lock.unlock();
    // Without the lock: events, and a Cancel() from inside the sink, may come before it returns.
    auto id = engine.Submit(std::move(request_), [self = shared_from_this()](engine::Event event) {
      self->OnEvent(std::move(event));
    });
    if (!id) {
      std::exchange(sink_, nullptr)(gateway::Failed{ToFailure(std::move(id).error())});
      return;
    }
    lock.lock();
    if (ended_) return;
    id_ = *id;
    if (cancelled_) engine.Cancel(*id);
  }

  void Cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (id_) lease_->Cancel(*id_);
  }

 private:
  void OnEvent(engine::Event event) {
    if (std::holds_alternative<engine::TextDelta>(event)) {
      sink_(ToEvent(std::move(event)));
    } else {
      {
        // The handle may live on longer than the engine does.
        std::lock_guard lock(mutex_);
        ended_ = true;
        id_.reset();
      }
      // The contract: a sink is destroyed after its last call, however long the handle lives.
      std::exchange(sink_, nullptr)(ToEvent(std::move(event)));
    }
  }

  engine::Request request_;
  gateway::EventSink sink_;
  std::mutex mutex_;  // guards what follows
  bool cancelled_ = false;
  bool ended_ = false;
  std::optional<engine::SubmissionId> id_;
  EnginePool::Lease lease_;
};

class LocalGeneration final : public gateway::Generation {
 public:
  explicit LocalGeneration(std::shared_ptr<Answer> answer) : answer_(std::move(answer)) {}
  ~LocalGeneration() override { answer_->Cancel(); }
  void Cancel() override { answer_->Cancel(); }

 private:
  std::shared_ptr<Answer> answer_;
};

}  // namespace

std::unique_ptr<gateway::Generation> LocalProvider::Start(gateway::GenerateRequest request,
                                                          gateway::EventSink sink) {
  auto answer = std::make_shared<Answer>(std::move(request), std::move(sink));
  pool_->Acquire(path_,
                 [answer](Result<EnginePool::Lease> lease) { answer->OnEngine(std::move(lease)); });
  return std::make_unique<LocalGeneration>(std::move(answer));
}

}  // namespace tandem::app
