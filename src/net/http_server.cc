#include "net/http_server.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/log.h"
#include "net/internal/io_loop.h"
#include "net/internal/server_connection.h"

namespace tandem::net {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using internal::ServerConnection;
using internal::ServerShard;
using internal::ServerShared;

// When the process has no descriptor left, a connection must close before the next can be accepted.
constexpr std::chrono::milliseconds kAcceptRetry{100};

Result<tcp::endpoint> ResolveListenAddress(const std::string& host, uint16_t port) {
  error_code ec;
  const auto address = boost::asio::ip::make_address(host, ec);
  if (!ec) return tcp::endpoint(address, port);
  boost::asio::io_context context;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, "", tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    return Err(ErrorCode::kInvalidArgument,
               "cannot listen on '{}': not an address and not a name that resolves to one ({})",
               host, ec.message());
  }
  return tcp::endpoint(found.begin()->endpoint().address(), port);
}

std::unexpected<Error> ListenError(const HttpServerOptions& options, const error_code& ec) {
  const std::string where = options.host.find(':') == std::string::npos
                                ? fmt::format("{}:{}", options.host, options.port)
                                : fmt::format("[{}]:{}", options.host, options.port);
  if (ec == boost::asio::error::address_in_use) {
    return Err(ErrorCode::kAlreadyExists,
               "cannot listen on {}: another process has that port; stop it or choose another port",
               where);
  }
  if (ec == boost::asio::error::access_denied) {
    return Err(
        ErrorCode::kPermissionDenied,
        "cannot listen on {}: not allowed; ports below 1024 need a privilege, choose a higher "
        "one",
        where);
  }
  if (ec == boost::system::errc::address_not_available) {
    return Err(ErrorCode::kInvalidArgument,
               "cannot listen on {}: this machine does not have that address", where);
  }
  return Err(ErrorCode::kIo, "cannot listen on {}: {}", where, ec.message());
}

// Looks at every connection's deadlines, for as long as there are connections: cheaper than a timer
// for each, which every request would set several times.
void Sweep(const std::shared_ptr<ServerShard>& shard) {
  if (shard->connections.empty()) {
    shard->sweeping = false;
    return;
  }
  shard->sweeping = true;
  shard->sweep.expires_after(shard->server->options.timeout_resolution);
  shard->sweep.async_wait([shard](const error_code& ec) {
    if (ec) return;
    const SteadyTime now = shard->server->clock->Now();
    for (auto it = shard->connections.begin(); it != shard->connections.end();) {
      const std::shared_ptr<ServerConnection> connection = *it++;
      connection->CheckTimeouts(now);
    }
    Sweep(shard);
  });
}

// Loop thread of the shard.
void Adopt(const std::shared_ptr<ServerShard>& shard, tcp::socket socket, bool too_many) {
  ServerShared& server = *shard->server;
  if (server.stopped || server.draining) return server.ConnectionClosed();
  auto connection = std::make_shared<ServerConnection>(shard, std::move(socket));
  shard->connections.push_front(connection);
  connection->in_shard = shard->connections.begin();
  if (!shard->sweeping) Sweep(shard);
  if (!too_many) return connection->Start();
  connection->RefuseAndClose(
      503, Error{ErrorCode::kResourceExhausted,
                 fmt::format("the server has {} connections, its limit; try again later",
                             server.options.max_connections),
                 {}});
}

}  // namespace

// Accepts for one server, on loop 0, and hands the connections out in turn.
class HttpServer::Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(std::shared_ptr<ServerShared> shared, std::vector<std::shared_ptr<ServerShard>> shards)
      : shared_(std::move(shared)),
        shards_(std::move(shards)),
        acceptor_(shards_[0]->loop->context),
        retry_(shards_[0]->loop->context) {}

  Status Listen(const tcp::endpoint& endpoint);
  uint16_t port() const { return port_; }

  // Loop 0's thread.
  void Accept();
  void Close() {
    error_code ignored;
    ignored = acceptor_.close(ignored);
    retry_.cancel();
  }

 private:
  void OnAccept(size_t shard_index, const error_code& ec, tcp::socket socket);

  const std::shared_ptr<ServerShared> shared_;
  const std::vector<std::shared_ptr<ServerShard>> shards_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  size_t next_shard_ = 0;
  uint16_t port_ = 0;
};

Status HttpServer::Listener::Listen(const tcp::endpoint& endpoint) {
  const auto check = [&](const error_code& ec) -> Status {
    if (ec) return ListenError(shared_->options, ec);
    return {};
  };
  error_code ec;
  TANDEM_RETURN_IF_ERROR(check(acceptor_.open(endpoint.protocol(), ec)));
  // Restarts need not wait for the last connections of the process before to time out.
  TANDEM_RETURN_IF_ERROR(
      check(acceptor_.set_option(boost::asio::socket_base::reuse_address(true), ec)));
  if (endpoint.address().is_v6()) {
    TANDEM_RETURN_IF_ERROR(check(
        acceptor_.set_option(boost::asio::ip::v6_only(!endpoint.address().is_unspecified()), ec)));
  }
  TANDEM_RETURN_IF_ERROR(check(acceptor_.bind(endpoint, ec)));
  TANDEM_RETURN_IF_ERROR(
      check(acceptor_.listen(boost::asio::socket_base::max_listen_connections, ec)));
  port_ = acceptor_.local_endpoint(ec).port();
  return check(ec);
}

void HttpServer::Listener::Accept() {
  const size_t index = next_shard_++ % shards_.size();
  acceptor_.async_accept(
      shards_[index]->loop->context,
      [self = shared_from_this(), index](const error_code& ec, tcp::socket socket) {
        self->OnAccept(index, ec, std::move(socket));
      });
}

void HttpServer::Listener::OnAccept(size_t shard_index, const error_code& ec, tcp::socket socket) {
  if (!acceptor_.is_open()) return;
  if (ec && ec != boost::asio::error::connection_aborted) {
    log::Warning("cannot accept a connection: {}", ec.message());
    retry_.expires_after(kAcceptRetry);
    retry_.async_wait([self = shared_from_this()](const error_code& cancelled) {
      if (!cancelled && self->acceptor_.is_open()) self->Accept();
    });
    return;
  }
  if (!ec) {
    const bool too_many = ++shared_->n_connections > shared_->options.max_connections;
    boost::asio::post(shards_[shard_index]->loop->context,
                      [shard = shards_[shard_index], socket = std::move(socket),
                       too_many]() mutable { Adopt(shard, std::move(socket), too_many); });
  }
  Accept();
}

struct HttpServer::Impl {
  // On every shard's thread, and returns when all have run.
  void OnEveryShard(const std::function<void(ServerShard&)>& action) {
    io->RunOnEveryLoop([&](int index) { action(*shards[static_cast<size_t>(index)]); });
  }
  void CloseListener() {
    io->RunOnEveryLoop([this](int index) {
      if (index == 0) listener->Close();
    });
  }

  std::shared_ptr<IoThreads> io;
  std::shared_ptr<ServerShared> shared;
  std::vector<std::shared_ptr<ServerShard>> shards;  // one for each loop
  std::shared_ptr<Listener> listener;
  std::mutex stopping;  // held by Stop
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                      HttpHandler handler) {
  TANDEM_ASSIGN_OR_RETURN(const tcp::endpoint endpoint,
                          ResolveListenAddress(options.host, options.port));
  std::shared_ptr<IoThreads> io = options.io;
  if (io == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(io, IoThreads::Start(options.io_threads));
  }
  static const RealClock real_clock;
  auto impl = std::make_unique<Impl>();
  impl->io = std::move(io);
  impl->shared = std::make_shared<ServerShared>();
  impl->shared->options = std::move(options);
  impl->shared->options.io = nullptr;  // the threads must not own themselves through a connection
  impl->shared->handler = std::move(handler);
  impl->shared->clock =
      impl->shared->options.clock != nullptr ? impl->shared->options.clock : &real_clock;
  for (int i = 0; i < impl->io->size(); ++i) {
    impl->shards.push_back(std::make_shared<ServerShard>(impl->shared, impl->io->loop(i)));
  }
  impl->listener = std::make_shared<Listener>(impl->shared, impl->shards);
  TANDEM_RETURN_IF_ERROR(impl->listener->Listen(endpoint));
  boost::asio::post(impl->shards[0]->loop->context,
                    [listener = impl->listener] { listener->Accept(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::~HttpServer() { Stop(); }

uint16_t HttpServer::port() const { return impl_->listener->port(); }

int HttpServer::n_connections() const { return impl_->shared->n_connections; }

bool HttpServer::Drain(std::chrono::milliseconds timeout) {
  ServerShared& shared = *impl_->shared;
  shared.draining = true;
  impl_->CloseListener();
  impl_->OnEveryShard([](ServerShard& shard) {
    for (auto it = shard.connections.begin(); it != shard.connections.end();) {
      const std::shared_ptr<ServerConnection> connection = *it++;
      connection->CloseIfIdle();
    }
  });
  bool finished = false;
  {
    std::unique_lock lock(shared.mutex);
    finished =
        shared.none_left.wait_for(lock, timeout, [&] { return shared.n_connections.load() == 0; });
  }
  Stop();
  return finished;
}

void HttpServer::Stop() {
  std::lock_guard lock(impl_->stopping);
  if (impl_->shared->stopped.exchange(true)) return;
  impl_->CloseListener();
  impl_->OnEveryShard([](ServerShard& shard) {
    while (!shard.connections.empty()) {
      const std::shared_ptr<ServerConnection> connection = shard.connections.front();
      connection->Close();
    }
    shard.sweep.cancel();
  });
}

}  // namespace tandem::net
