#include "app/serve.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "app/accelerators.h"
#include "app/configuration_door.h"
#include "app/deployer.h"
#include "app/deployment_desk.h"
#include "app/depot_door.h"
#include "app/device_advice.h"
#include "app/engine_pool.h"
#include "app/keys.h"
#include "app/models.h"
#include "app/packages.h"
#include "app/receipts.h"
#include "app/routing.h"
#include "app/routing_state.h"
#include "app/served_models.h"
#include "app/version.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/random.h"
#include "gateway/gateway.h"
#include "gateway/privacy/conversations.h"
#include "gateway/privacy/receipt.h"
#include "gateway/relay/timers.h"
#include "gateway/usage/sql_usage_store.h"
#include "gateway/usage/usage_reader.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/io_threads.h"

namespace tandem::app {
namespace {

// Blocks the signals that the server acts on in this thread and all that it starts from now on.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set_, number);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // The next one, by number.
  int Wait() const {
    int number = 0;
    while (sigwait(&set_, &number) != 0) {
    }
    return number;
  }
  // The next one that ends the server.
  void WaitForStop() const {
    while (Wait() == SIGHUP) {
    }
  }

 private:
  sigset_t set_;
};

Status CheckAnyKey(Keys& keys, const ListenAddress& listen, const std::filesystem::path& data_dir,
                   const Clock& clock) {
  TANDEM_ASSIGN_OR_RETURN(const auto known, keys.ring().List());
  const bool any =
      std::ranges::any_of(known, [now = UnixSeconds(clock.SystemNow())](const auto& key) {
        return gateway::auth::InForce(key, now);
      });
  if (any) return {};
  if (!IsLoopback(listen.host)) {
    return Err(ErrorCode::kFailedPrecondition,
               "{} can be reached from other machines and there is no key yet; make one with "
               "'tandem keys create NAME --data-dir {}'",
               FormatAddress(listen), data_dir.string());
  }
  log::Warning("there is no key yet, so every call gets 401; 'tandem keys create NAME' makes one");
  return {};
}

int64_t UnixMilliseconds(const Clock& clock) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock.SystemNow().time_since_epoch())
      .count();
}

// In [0, 1), from every thread a generator of its own.
double Random() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return static_cast<double>(generator() >> 11) * 0x1.0p-53;
}

std::vector<gateway::auth::Spend> ToSpends(const std::vector<gateway::usage::AccountSpend>& spent) {
  std::vector<gateway::auth::Spend> spends;
  for (const auto& spend : spent) spends.push_back({spend.account, spend.month, spend.cost});
  return spends;
}

// Where the chain of receipts goes on: the one with the highest number. Requests end in another
// order than they began, by less than so many of them. In a database that nodes share, each has a
// chain of its own, by the key that signs it.
Result<std::string> LastReceipt(gateway::usage::UsageReader& usage, bool shared,
                                const std::filesystem::path& key_file) {
  constexpr int kLooked = 1000;
  std::string key_id;
  if (shared) {
    const auto key = gateway::privacy::ReadReceiptKey(key_file);
    if (!key && key.error().code == ErrorCode::kNotFound) return std::string();  // none yet
    TANDEM_RETURN_IF_ERROR(key);
    key_id = key->Id();
  }
  TANDEM_ASSIGN_OR_RETURN(const auto receipts, usage.RecentReceipts(kLooked, key_id));
  uint64_t highest = 0;
  std::string last;
  for (const std::string& receipt : receipts) {
    const uint64_t number = gateway::privacy::ReceiptSequence(receipt);
    if (number <= highest) continue;
    highest = number;
    last = receipt;
  }
  return last;
}

// A figure for each target's breaker. Targets that a later configuration adds get theirs at the
// next start.
void ShowBreakers(gateway::dispatch::Dispatcher* dispatcher,
                  gateway::usage::UsageMetrics* metrics) {
  for (const auto& report : dispatcher->Targets()) {
    const std::string name = report.strategy + "/" + report.target;
    metrics->AddBreaker(name, [dispatcher, name]() -> std::string_view {
      for (const auto& target : dispatcher->Targets()) {
        if (target.strategy + "/" + target.target == name) {
          return gateway::admin::BreakerName(target.breaker);
        }
      }
      return "gone";
    });
  }
}

// A pause that the end of the server cuts short.
class Interruptible {
 public:
  // False: it was cut.
  bool Wait(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !cut_.wait_for(lock, time, [&] { return over_; });
  }
  void Cut() {
    {
      std::lock_guard lock(mutex_);
      over_ = true;
    }
    cut_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable cut_;
  bool over_ = false;  // guarded by mutex_
};

// Deletes records that are older than the configuration keeps them, once an hour.
class Retention {
 public:
  Retention(const LiveConfiguration* configuration, gateway::usage::UsageReader* usage,
            const Clock* clock)
      : thread_([=, this](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (!stop.stop_requested()) {
            DeleteOld(*configuration, *usage, *clock);
            wake_.wait_for(lock, stop, std::chrono::hours(1), [] { return false; });
          }
        }) {}

 private:
  static void DeleteOld(const LiveConfiguration& configuration, gateway::usage::UsageReader& usage,
                        const Clock& clock) {
    const int days = configuration.Current().value->usage.retention_days;
    if (days == 0) return;
    const int64_t before =
        UnixMilliseconds(clock) -
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::days(days)).count();
    const auto deleted = usage.DeleteBefore(before);
    if (!deleted) log::Error("old usage records: {}", deleted.error().message);
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses both
};

// Lets this node take its part in what nodes share: the roll-out, what has to stay on the device,
// and the money of budgets.
class SharedRounds {
 public:
  SharedRounds(gateway::dispatch::CanaryControl* canary,
               gateway::privacy::Conversations* conversations, gateway::auth::BudgetLedger* budgets)
      : thread_([=, this](const std::stop_token& stop) {
          constexpr int kGiveBackEvery = 20;  // rounds: ten seconds
          std::unique_lock lock(mutex_);
          for (int round = 1; !stop.stop_requested(); ++round) {
            // What is lost is logged there, once.
            (void)canary->Sync();
            (void)conversations->Follow();
            if (round % kGiveBackEvery == 0) (void)budgets->GiveBack();
            wake_.wait_for(lock, stop, gateway::dispatch::CanaryControl::kSyncInterval,
                           [] { return false; });
          }
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses both
};

// What this process is called among those that share its database: another one at every start.
std::string NewNodeName() {
  std::array<uint8_t, 8> bytes;
  crypto::RandomBytes(bytes);
  return crypto::Hex(bytes);
}

}  // namespace

Status Serve(LiveConfiguration* configuration, const std::filesystem::path& data_dir,
             const std::function<void(const ListenAddress&)>& listening) {
  const Signals signals;
  const RealClock clock;
  const ConfigurationVersion first = configuration->Current();
  const ServerSettings& settings = first.value->server;

  // What is kept.
  TANDEM_ASSIGN_OR_RETURN(const auto keys, Keys::Open(PlaceOf(*first.value, data_dir), &clock));
  TANDEM_RETURN_IF_ERROR(CheckAnyKey(*keys, settings.listen, data_dir, clock));
  store::Database& database = keys->database();
  TANDEM_ASSIGN_OR_RETURN(const auto usage_store, gateway::usage::SqlUsageStore::Open(&database));
  gateway::usage::UsageReader usage(&database);
  TANDEM_ASSIGN_OR_RETURN(const auto conversations,
                          gateway::privacy::Conversations::Open(&database, &clock));
  TANDEM_ASSIGN_OR_RETURN(const std::string last_receipt,
                          LastReceipt(usage, database.shared(), data_dir / "receipt-key.pem"));
  TANDEM_ASSIGN_OR_RETURN(const auto signer, gateway::privacy::ReceiptSigner::Open(
                                                 data_dir / "receipt-key.pem", last_receipt));
  TANDEM_ASSIGN_OR_RETURN(const auto spent, usage.Spent());
  gateway::auth::SqlBudgetPool budget_pool(&database);
  gateway::auth::BudgetLedger budgets(&clock, ToSpends(spent),
                                      database.shared() ? &budget_pool : nullptr);
  metrics::Registry registry;
  gateway::usage::UsageMetrics usage_metrics(&registry);
  gateway::usage::UsageWriter writer(usage_store.get(), &registry, {},
                                     gateway::SignReceipts(signer.get()));
  TANDEM_ASSIGN_OR_RETURN(auto prices, LoadPrices(*first.value));
  gateway::Bookkeeper books({.prices = prices,
                             .reference_model = first.value->usage.reference_model,
                             .writer = &writer,
                             .metrics = &usage_metrics,
                             .receipts = first.value->privacy.receipts,
                             .log_egress = first.value->privacy.log_egress,
                             .clock = &clock});

  // Who answers.
  TANDEM_ASSIGN_OR_RETURN(const auto fleet, OpenFleet(data_dir));
  const engine::EngineOptions engine = MakeEngineOptions(*first.value);
  const Packages packages(data_dir);
  TANDEM_ASSIGN_OR_RETURN(
      const auto accelerators,
      Accelerators::Open(
          {.data_dir = data_dir, .drivers = {settings.drivers.begin(), settings.drivers.end()}},
          &clock));
  TANDEM_ASSIGN_OR_RETURN(const auto deployments,
                          fleet::Deployments::Open(data_dir / "deployments.json"));
  auto pool = std::make_unique<EnginePool>(
      EnginePoolOptions{.engine = engine, .keep_alive = settings.keep_alive, .clock = &clock},
      DeploymentLoader(&packages, deployments.get(), accelerators.get()));
  // One set for both ends: a piece of an answer comes and goes on one thread.
  TANDEM_ASSIGN_OR_RETURN(const auto io, net::IoThreads::Start(settings.io_threads));
  TANDEM_ASSIGN_OR_RETURN(auto client, net::HttpClient::Create({.io = io}));
  TANDEM_ASSIGN_OR_RETURN(const ServedModelsOptions model_options,
                          MakeServedModelsOptions(*first.value));
  TANDEM_ASSIGN_OR_RETURN(const auto models,
                          ServedModels::Create(fleet.get(), pool.get(), client.get(), &clock,
                                               model_options, engine, deployments.get()));
  gateway::relay::ThreadTimers timers;
  TANDEM_RETURN_IF_ERROR(MigrateRoutingState(&database));
  SqlCanaryStore canary_store(&database);
  SqlStrategyArchive strategies(&database, &clock);
  TANDEM_ASSIGN_OR_RETURN(auto first_table, MakeRoutingTable(*first.value, first.sha256, prices,
                                                             UnixMilliseconds(clock)));
  TANDEM_ASSIGN_OR_RETURN(const auto dispatcher,
                          gateway::dispatch::Dispatcher::Create(
                              {.clock = &clock,
                               .timers = &timers,
                               .targets = models.get(),
                               .conversations = conversations.get(),
                               .records = &books,
                               .random = Random,
                               .audit = gateway::admin::Admin::AuditOf(&keys->audit()),
                               .canary_store = &canary_store,
                               .node = NewNodeName(),
                               .strategies = &strategies},
                              std::move(first_table)));
  ShowBreakers(dispatcher.get(), &usage_metrics);

  // Another configuration reaches all of it or nothing.
  configuration->Subscribe(
      [&](const ConfigurationVersion& next) -> Result<LiveConfiguration::Commit> {
        TANDEM_ASSIGN_OR_RETURN(auto next_prices, LoadPrices(*next.value));
        TANDEM_ASSIGN_OR_RETURN(const auto next_options, MakeServedModelsOptions(*next.value));
        TANDEM_ASSIGN_OR_RETURN(auto prepared, models->Prepare(next_options));
        TANDEM_ASSIGN_OR_RETURN(auto table, MakeRoutingTable(*next.value, next.sha256, next_prices,
                                                             UnixMilliseconds(clock)));
        TANDEM_RETURN_IF_ERROR(gateway::dispatch::Dispatcher::Check(table));
        return [&, prepared = std::move(prepared), table = std::move(table),
                next_prices = std::move(next_prices)]() mutable {
          models->Adopt(std::move(prepared));
          books.SetPrices(std::move(next_prices));
          if (const Status applied = dispatcher->Apply(std::move(table)); !applied) {
            log::Error("configuration: {}", applied.error().message);
          }
        };
      });

  Interruptible pause;
  Deployer deployer({.fleet = fleet.get(),
                     .packages = &packages,
                     .accelerators = accelerators.get(),
                     .deployments = deployments.get(),
                     .clock = &clock,
                     .random = Random,
                     .wait = [&](std::chrono::milliseconds time) { return pause.Wait(time); },
                     .changed = [&] { models->Recheck(); }},
                    data_dir, engine);
  DeploymentDesk desk(&deployer);

  // The doors.
  ConfigurationDoor configuration_door(configuration);
  gateway::admin::Admin admin({.dispatcher = dispatcher.get(),
                               .configuration = &configuration_door,
                               .usage = &usage,
                               .audit = &keys->audit(),
                               .clock = &clock,
                               .flush = [&books] { books.Flush(std::chrono::seconds(2)); }});
  DeviceAdvice devices(data_dir, &clock);
  TANDEM_ASSIGN_OR_RETURN(const auto depot,
                          DepotDoor::Open(data_dir, fleet.get(), &keys->ring(), &clock,
                                          {.anonymous_read = settings.anonymous_pull}));
  gateway::Gateway gateway({.version = std::string(Version()),
                            .max_in_flight = settings.max_in_flight,
                            .cors_allow_origin = settings.cors_allow_origin},
                           {.models = models.get(),
                            .dispatcher = dispatcher.get(),
                            .keys = &keys->ring(),
                            .clock = &clock,
                            .books = &books,
                            .budgets = &budgets,
                            .usage = &usage,
                            .admin = &admin,
                            .deployments = &desk,
                            .metrics = &registry,
                            .timers = &timers,
                            .devices = &devices,
                            .packages = depot.get()});
  TANDEM_ASSIGN_OR_RETURN(
      const auto server,
      net::HttpServer::Start(
          {.host = settings.listen.host,
           .port = settings.listen.port,
           .io = io,
           .render_error = gateway::RenderHttpError,
           .open_body =
               [&](const net::HttpRequest& head, std::function<void()> resume) {
                 return depot->OpenBody(head, std::move(resume));
               }},
          [&](net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
            if (DepotDoor::Handles(request.path)) {
              return depot->Handle(std::move(request), std::move(response));
            }
            gateway.Handle(std::move(request), std::move(response));
          }));
  const Retention retention(configuration, &usage, &clock);
  const SharedRounds rounds(&dispatcher->canary(), conversations.get(), &budgets);
  // Waits for a second signal once the drain has begun, or for one of our own when it is over.
  // Started before it is needed, while there still is a way to report that there are no more
  // threads.
  std::promise<void> draining;
  std::thread impatience([&, begun = draining.get_future()] {
    begun.wait();
    signals.WaitForStop();
    server->Stop();
  });
  listening({settings.listen.host, server->port()});

  while (signals.Wait() == SIGHUP) {
    // What is wrong with it is in the log; the version in force stays.
    if (configuration->Reload()) log::Info("configuration {}", configuration->Current().sha256);
  }
  log::Info("stopping; {} answers still run", gateway.n_in_flight());
  gateway.Drain();
  pause.Cut();
  draining.set_value();
  const bool finished = server->Drain(settings.drain_timeout);
  if (!finished) log::Warning("some answers were cut: they ran longer than the drain timeout");
  pthread_kill(impatience.native_handle(), SIGINT);
  impatience.join();
  // Ends what still generates while everything that its last events touch is there.
  client.reset();
  pool.reset();
  if (const Status given = budgets.GiveBack(); !given) {
    log::Warning("what was left of budgets stays taken: {}", given.error().message);
  }
  return {};
}

}  // namespace tandem::app
