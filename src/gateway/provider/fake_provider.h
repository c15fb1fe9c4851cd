// A Provider whose answer is a script, for tests. It keeps the contract of provider.h: nothing
// after a terminal event, and a cancelled script ends with Finished{kCancelled}.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/check.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway {

// Thread: any; events of one generation must be emitted by one thread at a time.
class FakeProvider final : public Provider {
 public:
  // One call of Start() as the test sees it.
  class Call {
   public:
    explicit Call(GenerateRequest request, EventSink sink)
        : request_(std::move(request)), sink_(std::move(sink)) {}

    const GenerateRequest& request() const { return request_; }

    // Delivers an event; ignored after a terminal one, as a provider would never send it.
    void Emit(GenerateEvent event) {
      if (done_) return;
      done_ = !std::holds_alternative<TextDelta>(event);
      sink_(std::move(event));
      if (done_) sink_ = nullptr;
    }
    void EmitText(std::string text) { Emit(TextDelta{std::move(text), {}}); }
    bool done() const { return done_; }

    int cancels() const {
      std::lock_guard lock(mutex_);
      return cancels_;
    }
    // The Generation was destroyed, with or without Cancel().
    bool released() const {
      std::lock_guard lock(mutex_);
      return released_;
    }

   private:
    friend class FakeProvider;
    GenerateRequest request_;
    EventSink sink_;
    bool done_ = false;
    mutable std::mutex mutex_;
    int cancels_ = 0;        // guarded by mutex_
    bool released_ = false;  // guarded by mutex_
  };

  explicit FakeProvider(std::string model, Tier tier = Tier::kDeviceSmall)
      : model_(std::move(model)), tier_(tier) {}

  // Every later Start() emits these before it returns. Empty (the default): the test emits by hand.
  void SetScript(std::vector<GenerateEvent> script) { script_ = std::move(script); }

  std::vector<std::shared_ptr<Call>> calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  std::shared_ptr<Call> last_call() const {
    std::lock_guard lock(mutex_);
    TANDEM_CHECK(!calls_.empty());
    return calls_.back();
  }

  // Ends every call that still runs, as a provider does that shuts down. A sink may hold what holds
  // this provider, so a test that leaves calls running must call it.
  void FinishAll() {
    for (const std::shared_ptr<Call>& call : calls()) {
      call->Emit(Finished{.reason = FinishReason::kCancelled});
    }
  }

  std::string_view model() const override { return model_; }
  Tier tier() const override { return tier_; }

  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override {
    auto call = std::make_shared<Call>(std::move(request), std::move(sink));
    {
      std::lock_guard lock(mutex_);
      calls_.push_back(call);
    }
    auto generation = std::make_unique<Handle>(call);
    for (const GenerateEvent& event : script_) {
      if (call->cancels() > 0) {
        call->Emit(Finished{.reason = FinishReason::kCancelled});
        break;
      }
      call->Emit(event);
    }
    return generation;
  }

 private:
  class Handle final : public Generation {
   public:
    explicit Handle(std::shared_ptr<Call> call) : call_(std::move(call)) {}
    ~Handle() override {
      std::lock_guard lock(call_->mutex_);
      call_->released_ = true;
    }
    void Cancel() override {
      std::lock_guard lock(call_->mutex_);
      ++call_->cancels_;
    }

   private:
    std::shared_ptr<Call> call_;
  };

  const std::string model_;
  const Tier tier_;
  std::vector<GenerateEvent> script_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Call>> calls_;  // guarded by mutex_
};

}  // namespace tandem::gateway
