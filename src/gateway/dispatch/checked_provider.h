// Looks at an answer before anybody sees it.
#pragma once

#include <memory>

#include "gateway/provider/provider.h"

namespace tandem::gateway::dispatch {

// For requests with `quality_check` whose answer is sent whole: collects the inner provider's
// answer and passes it on only where FindDegeneration has nothing against it; else it ends with
// Failed{kOutputValidationFailed}, the check and its figure, so that a relay asks the next
// candidate. Answers of more than kMaxBytes are passed on as they come from there: they are no
// short answers gone wrong. Function calls are not looked into.
// Thread: any, like every Provider.
class CheckedProvider final : public Provider {
 public:
  explicit CheckedProvider(std::shared_ptr<Provider> inner) : inner_(std::move(inner)) {}

  std::string_view model() const override { return inner_->model(); }
  Tier tier() const override { return inner_->tier(); }
  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override;

  static constexpr size_t kMaxBytes = size_t{1} << 20;

 private:
  const std::shared_ptr<Provider> inner_;
};

}  // namespace tandem::gateway::dispatch
