#include "app/serve.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "app/engine_pool.h"
#include "app/keys.h"
#include "app/models.h"
#include "app/version.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "os/file.h"
#include "os/paths.h"

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

Result<ListenAddress> ParseListenAddress(std::string_view text) {
  const auto invalid = [&] {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is no address to listen on; write HOST:PORT, for example 127.0.0.1:7070",
               text);
  };
  ListenAddress address{.host = "127.0.0.1"};
  std::string_view port = text;
  if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    std::string_view host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (host.starts_with('[') && host.ends_with(']')) {
      host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
      return invalid();  // an IPv6 address without brackets: its last group is not a port
    }
    address.host = host.empty() ? "::" : std::string(host);
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) return invalid();
  return address;
}

std::string FormatAddress(const ListenAddress& address) {
  const bool ipv6 = address.host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", address.host, address.port)
              : fmt::format("{}:{}", address.host, address.port);
}

bool IsLoopback(std::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr ipv4{};
  if (inet_pton(AF_INET, text.c_str(), &ipv4) == 1) return (ntohl(ipv4.s_addr) >> 24) == 127;
  in6_addr ipv6{};
  return inet_pton(AF_INET6, text.c_str(), &ipv6) == 1 && IN6_IS_ADDR_LOOPBACK(&ipv6);
}

Result<gateway::upstream::UpstreamOptions> ParseUpstream(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return Err(ErrorCode::kInvalidArgument, "--upstream {}: write MODEL=BASE_URL", text);
  }
  gateway::upstream::UpstreamOptions upstream;
  upstream.model = text.substr(0, equals);
  upstream.base_url = text.substr(equals + 1);
  std::string suffix;
  for (const char c : upstream.model) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    suffix += !plain ? '_' : c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  for (const std::string& name :
       {"TANDEM_UPSTREAM_KEY_" + suffix, std::string("TANDEM_UPSTREAM_KEY")}) {
    if (auto key = os::GetEnv(name.c_str())) {
      upstream.api_key = *std::move(key);
      break;
    }
    if (const auto file = os::GetEnv((name + "_FILE").c_str())) {
      auto content = os::ReadFile(*file, 4096);
      if (!content) return Wrap(std::move(content).error(), name + "_FILE");
      upstream.api_key = content->substr(0, content->find_first_of("\r\n"));
      break;
    }
  }
  return upstream;
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
  TANDEM_ASSIGN_OR_RETURN(auto client, net::HttpClient::Create({}));
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
           .io_threads = options.io_threads,
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
