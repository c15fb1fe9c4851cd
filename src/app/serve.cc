#include "app/serve.h"

#include <algorithm>
#include <csignal>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "app/configuration_upstreams.h"
#include "app/engine_pool.h"
#include "app/keys.h"
#include "app/models.h"
#include "app/version.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "net/http_client.h"
#include "net/http_server.h"

namespace tandem::app {
namespace {

// Blocks the signals that end the server in this thread and all that it starts from now on.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // The next one, by number.
  int Wait() const {
    int number = 0;
    while (sigwait(&set_, &number) != 0) {
    }
    return number;
  }

 private:
  sigset_t set_;
};

}  // namespace

Result<ServeOptions> MakeServeOptions(const Configuration& configuration,
                                      std::filesystem::path data_dir) {
  const ServerSettings& server = configuration.server;
  ServeOptions options{.listen = server.listen,
                       .data_dir = std::move(data_dir),
                       .models = {},
                       .engine = {.n_threads = server.threads,
                                  .context_tokens = server.context_tokens,
                                  .memory_limit_bytes = server.memory_limit_bytes},
                       .io_threads = server.io_threads,
                       .max_in_flight = server.max_in_flight,
                       .cors_allow_origin = server.cors_allow_origin,
                       .drain_timeout = server.drain_timeout};
  for (const AliasSettings& alias : configuration.aliases) {
    options.models.aliases.push_back({alias.name, alias.model});
  }
  TANDEM_ASSIGN_OR_RETURN(auto upstreams, ResolveUpstreams(configuration));
  for (ResolvedUpstream& upstream : upstreams) {
    if (upstream.disabled_reason.empty()) {
      options.models.upstreams.push_back(std::move(upstream.options));
    } else {
      log::Info("upstream {} is not enabled: {}", upstream.options.model, upstream.disabled_reason);
    }
  }
  return options;
}

Status Serve(const ServeOptions& options,
             const std::function<void(const ListenAddress&)>& listening) {
  const StopSignals signals;
  const RealClock clock;

  TANDEM_ASSIGN_OR_RETURN(const auto keys, Keys::Open(options.data_dir, &clock));
  TANDEM_ASSIGN_OR_RETURN(const auto known_keys, keys->ring().List());
  const bool any_key =
      std::ranges::any_of(known_keys, [now = UnixSeconds(clock.SystemNow())](const auto& key) {
        return gateway::auth::InForce(key, now);
      });
  if (!any_key && !IsLoopback(options.listen.host)) {
    return Err(ErrorCode::kFailedPrecondition,
               "{} can be reached from other machines and there is no key yet; make one with "
               "'tandem keys create NAME --data-dir {}'",
               FormatAddress(options.listen), options.data_dir.string());
  }
  if (!any_key) {
    log::Warning(
        "there is no key yet, so every call gets 401; 'tandem keys create NAME' makes one");
  }

  TANDEM_ASSIGN_OR_RETURN(const auto fleet, OpenFleet(options.data_dir));
  auto pool = std::make_unique<EnginePool>(EnginePoolOptions{.engine = options.engine});
  // One set for both ends: a piece of an answer comes and goes on one thread.
  TANDEM_ASSIGN_OR_RETURN(const auto io, net::IoThreads::Start(options.io_threads));
  TANDEM_ASSIGN_OR_RETURN(auto client, net::HttpClient::Create({.io = io}));
  TANDEM_ASSIGN_OR_RETURN(
      const auto models,
      ServedModels::Create(fleet.get(), pool.get(), client.get(), &clock, options.models));
  gateway::Gateway gateway({.version = std::string(Version()),
                            .max_in_flight = options.max_in_flight,
                            .cors_allow_origin = options.cors_allow_origin},
                           models.get(), &keys->ring(), &clock);
  TANDEM_ASSIGN_OR_RETURN(
      const auto server,
      net::HttpServer::Start(
          {.host = options.listen.host,
           .port = options.listen.port,
           .io = io,
           .render_error = gateway::RenderHttpError},
          [&](net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
            gateway.Handle(std::move(request), std::move(response));
          }));
  // Waits for a second signal once the drain has begun, or for one of our own when it is over.
  // Started before it is needed, while there still is a way to report that there are no more
  // threads.
  std::promise<void> draining;
  std::thread impatience([&, begun = draining.get_future()] {
    begun.wait();
    signals.Wait();
    server->Stop();
  });
  listening({options.listen.host, server->port()});

  signals.Wait();
  log::Info("stopping; {} answers still run", gateway.n_in_flight());
  gateway.Drain();
  draining.set_value();
  const bool finished = server->Drain(options.drain_timeout);
  if (!finished) log::Warning("some answers were cut: they ran longer than the drain timeout");
  pthread_kill(impatience.native_handle(), SIGINT);
  impatience.join();
  // Ends what still generates while everything that its last events touch is there.
  client.reset();
  pool.reset();
  return {};
}

}  // namespace tandem::app
