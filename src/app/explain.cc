#include "app/explain.h"

#include <chrono>
#include <memory>
#include <utility>

#include "app/engine_pool.h"
#include "app/models.h"
#include "app/routing.h"
#include "app/served_models.h"
#include "gateway/dispatch/dispatcher.h"
#include "gateway/relay/timers.h"
#include "net/http_client.h"

namespace tandem::app {

Result<gateway::DecisionRecord> ExplainRoute(const Configuration& configuration,
                                             const std::filesystem::path& data_dir,
                                             const ExplainQuestion& question) {
  gateway::dispatch::Incoming incoming;
  if (!question.mode.empty()) {
    TANDEM_ASSIGN_OR_RETURN(incoming.mode, gateway::ParseMode(question.mode));
  }
  TANDEM_ASSIGN_OR_RETURN(incoming.request.privacy, gateway::ParsePrivacy(question.privacy));
  incoming.request.request_id = "explain";
  incoming.request.messages = {{.role = "user", .content = question.prompt}};
  incoming.request.require_high_quality = question.require_high_quality;
  incoming.model = question.model;
  incoming.key_id = "explain";

  const RealClock clock;
  TANDEM_ASSIGN_OR_RETURN(const auto fleet, OpenFleet(data_dir));
  const engine::EngineOptions engine = MakeEngineOptions(configuration);
  EnginePool pool(EnginePoolOptions{.engine = engine});
  TANDEM_ASSIGN_OR_RETURN(const auto client, net::HttpClient::Create({}));
  TANDEM_ASSIGN_OR_RETURN(const ServedModelsOptions options,
                          MakeServedModelsOptions(configuration));
  TANDEM_ASSIGN_OR_RETURN(const auto models, ServedModels::Create(fleet.get(), &pool, client.get(),
                                                                  &clock, options, engine));
  TANDEM_ASSIGN_OR_RETURN(const auto prices, LoadPrices(configuration));
  gateway::relay::ThreadTimers timers;
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(clock.SystemNow().time_since_epoch())
          .count();
  TANDEM_ASSIGN_OR_RETURN(
      auto table,
      MakeRoutingTable(configuration, ConfigurationDigest(configuration), prices, now_ms));
  TANDEM_ASSIGN_OR_RETURN(const auto dispatcher,
                          gateway::dispatch::Dispatcher::Create({.clock = &clock,
                                                                 .timers = &timers,
                                                                 .targets = models.get(),
                                                                 .random = [] { return 0.5; }},
                                                                std::move(table)));
  auto record = dispatcher->Explain(incoming);
  if (!record) return Err(ErrorCode::kNotFound, "{}", record.error().message);
  return *std::move(record);
}

}  // namespace tandem::app
