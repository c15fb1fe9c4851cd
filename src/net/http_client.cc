#include "net/http_client.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>

#include "base/check.h"
#include "net/internal/client_call.h"

namespace tandem::net {

using internal::ClientCall;
using internal::ClientShard;
using internal::ClientShared;

struct HttpClient::Impl {
  std::shared_ptr<IoThreads> io;
  std::shared_ptr<ClientShared> shared;
  std::vector<std::shared_ptr<ClientShard>> shards;  // one for each loop
};

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<HttpClient>> HttpClient::Create(HttpClientOptions options) {
  static const RealClock real_clock;
  auto impl = std::make_unique<Impl>();
  impl->io = std::exchange(options.io, nullptr);  // the threads must not own themselves
  if (impl->io == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(impl->io, IoThreads::Start(1));
  }
  impl->shared = std::make_shared<ClientShared>();
  impl->shared->clock = options.clock != nullptr ? options.clock : &real_clock;
  if (options.environment == nullptr) {
    options.environment = [](const std::string& name) -> std::optional<std::string> {
      const char* value = std::getenv(name.c_str());
      if (value == nullptr) return std::nullopt;
      return value;
    };
  }
  impl->shared->options = std::move(options);
  // A file that was named is looked at now, while somebody can be told.
  if (!impl->shared->options.ca_file.empty()) {
    TANDEM_ASSIGN_OR_RETURN([[maybe_unused]] const auto tls, impl->shared->Tls());
  }
  for (int i = 0; i < impl->io->size(); ++i) {
    impl->shards.push_back(std::make_shared<ClientShard>(impl->shared, impl->io->loop(i)));
  }
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(impl)));
}

HttpClient::~HttpClient() {
  TANDEM_CHECK(!impl_->io->OnOneOfTheseThreads());
  impl_->shared->stopped = true;
  impl_->io->RunOnEveryLoop(
      [this](int index) { impl_->shards[static_cast<size_t>(index)]->Stop(); });
  // Calls that were on their way to their thread end there by themselves.
  std::unique_lock lock(impl_->shared->mutex);
  impl_->shared->none_left.wait(lock, [&] { return impl_->shared->n_calls == 0; });
}

std::shared_ptr<HttpCall> HttpClient::Send(ClientRequest request,
                                           std::unique_ptr<ResponseHandler> handler) {
  const auto& loop = impl_->io->CurrentOrNextLoop();
  std::shared_ptr<ClientShard> shard;
  for (const auto& candidate : impl_->shards) {
    if (candidate->loop == loop) shard = candidate;
  }
  {
    std::lock_guard lock(impl_->shared->mutex);
    ++impl_->shared->n_calls;
  }
  auto call =
      std::make_shared<ClientCall>(std::move(shard), std::move(request), std::move(handler));
  boost::asio::post(loop->context, [call] { call->Start(); });
  return call;
}

}  // namespace tandem::net
