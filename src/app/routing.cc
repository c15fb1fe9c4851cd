#include "app/routing.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "app/configuration_upstreams.h"
#include "app/usage_records.h"
#include "os/file.h"

namespace tandem::app {
namespace {

using gateway::dispatch::TargetRun;

constexpr size_t kMaxCalibrationBytes = size_t{64} << 10;

Result<std::shared_ptr<const gateway::dispatch::Calibrator>> LoadCalibration(
    const std::filesystem::path& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(file, kMaxCalibrationBytes));
  auto calibrator = gateway::dispatch::Calibrator::Parse(text);
  if (!calibrator) return Wrap(std::move(calibrator).error(), file.string());
  return std::make_shared<const gateway::dispatch::Calibrator>(*std::move(calibrator));
}

TargetRun::Continuation ToRunContinuation(Continuation continuation) {
  switch (continuation) {
    case Continuation::kNone:
      return TargetRun::Continuation::kNone;
    case Continuation::kPrompted:
      return TargetRun::Continuation::kPrompted;
    case Continuation::kAuto:
      break;
  }
  return TargetRun::Continuation::kAuto;
}

TargetRun RunOf(const TargetSettings& settings, const Configuration& configuration) {
  return {.first_token_timeout = settings.first_token_timeout,
          .between_tokens_timeout = settings.between_tokens_timeout,
          .total_timeout = settings.total_timeout,
          .hold_tokens = settings.hold_tokens,
          .hold = settings.hold,
          .hedge_after = settings.hedge_after,
          .max_retries = settings.max_retries.value_or(configuration.retry.max_retries),
          .continuation = ToRunContinuation(settings.continuation),
          .slow_after = settings.slow_after};
}

}  // namespace

engine::EngineOptions MakeEngineOptions(const Configuration& configuration) {
  const ServerSettings& server = configuration.server;
  return {.n_threads = server.threads,
          .context_tokens = server.context_tokens,
          .memory_limit_bytes = server.memory_limit_bytes,
          .kv_precision = server.kv_precision,
          .speculation = server.speculation,
          .huge_pages = server.huge_pages};
}

Result<ServedModelsOptions> MakeServedModelsOptions(const Configuration& configuration) {
  ServedModelsOptions options;
  for (const AliasSettings& alias : configuration.aliases) {
    options.aliases.push_back({alias.name, alias.model});
  }
  TANDEM_ASSIGN_OR_RETURN(auto upstreams, ResolveUpstreams(configuration));
  for (ResolvedUpstream& upstream : upstreams) {
    if (upstream.disabled_reason.empty()) {
      options.upstreams.push_back(std::move(upstream.options));
    } else {
      options.disabled[upstream.options.model] = std::move(upstream.disabled_reason);
    }
  }
  for (const StrategySettings& strategy : configuration.strategies) {
    for (const TargetSettings& target : strategy.targets) {
      const bool cloud = target.target.tier == gateway::Tier::kCloud;
      const std::string& name = cloud ? target.UpstreamName() : target.PackageName();
      if (name != target.target.model) options.bound[target.target.model] = name;
    }
  }
  return options;
}

Result<gateway::usage::PriceTable> LoadPrices(const Configuration& configuration) {
  const std::string& file = configuration.usage.prices_file;
  return LoadPrices(file.empty() ? std::filesystem::path() : configuration.directory / file);
}

Result<gateway::dispatch::RoutingTable> MakeRoutingTable(const Configuration& configuration,
                                                         std::string digest,
                                                         const gateway::usage::PriceTable& prices,
                                                         int64_t now_ms) {
  gateway::dispatch::RoutingTable table{.digest = std::move(digest)};
  for (const StrategySettings& settings : configuration.strategies) {
    gateway::dispatch::RunnableStrategy runnable{
        .strategy = RoutingStrategy(configuration, settings),
        .runs = {},
        .deadline = settings.deadline,
        .hand_off = settings.hand_off,
        .shadow_share = settings.shadow_share};
    for (const TargetSettings& target : settings.targets) {
      runnable.runs[target.target.id] = RunOf(target, configuration);
      const auto priced =
          std::ranges::find(runnable.strategy.targets, target.target.id, &gateway::Target::id);
      const gateway::usage::Price* price =
          prices.Find(target.target.model, target.target.tier, now_ms);
      if (priced == runnable.strategy.targets.end() || price == nullptr) continue;
      priced->input_usd_per_million = static_cast<double>(price->input) / 1e9;
      priced->output_usd_per_million = static_cast<double>(price->output) / 1e9;
    }
    table.strategies.push_back(std::move(runnable));
  }
  table.breaker = configuration.breaker;
  table.privacy = configuration.privacy.standard;
  table.redacted_names = configuration.privacy.names;
  if (const CascadeSettings& cascade = configuration.cascade; cascade.enabled) {
    table.cascade = gateway::dispatch::Cascade{.tokens = cascade.hold_tokens,
                                               .time = cascade.hold,
                                               .min_probability = cascade.min_probability,
                                               .min_mean_logprob = cascade.min_mean_logprob,
                                               .by_task = cascade.by_task};
    if (!cascade.calibration_file.empty()) {
      TANDEM_ASSIGN_OR_RETURN(table.cascade->calibrator,
                              LoadCalibration(configuration.directory / cascade.calibration_file));
    }
  }
  table.retry_budget = {.share = configuration.retry.budget_share,
                        .burst = configuration.retry.budget_burst,
                        .per_second = configuration.retry.budget_per_second};
  if (configuration.canary) {
    table.canary = {.options = configuration.canary->options,
                    .target = configuration.canary->target,
                    .baseline = configuration.canary->baseline,
                    .strategy = configuration.canary->strategy};
  }
  return table;
}

}  // namespace tandem::app
