#include "gateway/relay/relay.h"

#include <utility>

#include "base/check.h"
#include "gateway/relay/run.h"

namespace tandem::gateway::relay {
namespace {

class RelayedGeneration final : public Generation {
 public:
  explicit RelayedGeneration(std::shared_ptr<Run> run) : run_(std::move(run)) {}
  ~RelayedGeneration() override { run_->Cancel(); }
  void Cancel() override { run_->Cancel(); }

 private:
  const std::shared_ptr<Run> run_;
};

}  // namespace

Relay::Relay(std::vector<Candidate> candidates, Options options, std::shared_ptr<Observer> observer)
    : plan_(
          std::make_shared<Plan>(std::move(candidates), std::move(options), std::move(observer))) {
  TANDEM_CHECK(!plan_->candidates.empty());
  TANDEM_CHECK(plan_->options.clock != nullptr && plan_->options.timers != nullptr);
}

Relay::~Relay() = default;

std::string_view Relay::model() const { return plan_->candidates[plan_->shown].provider->model(); }

Tier Relay::tier() const {
  const Candidate& shown = plan_->candidates[plan_->shown];
  return shown.tier.value_or(shown.provider->tier());
}

std::unique_ptr<Generation> Relay::Start(GenerateRequest request, EventSink sink) {
  auto run = std::make_shared<Run>(plan_, std::move(request), std::move(sink));
  run->Start();
  return std::make_unique<RelayedGeneration>(std::move(run));
}

}  // namespace tandem::gateway::relay
