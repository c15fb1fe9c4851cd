// One call of HttpClient and the connections that it uses. Private to net/: it shows Asio.
//
// Connecting (name, TCP, proxy, TLS) is a coroutine, as it is one thing after another and rare; the
// exchange itself runs on readiness callbacks, which on the hot path cost one system call each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "net/http_client.h"
#include "net/internal/io_loop.h"
#include "net/internal/origin.h"
#include "net/internal/response_parser.h"
#include "net/internal/transport.h"

namespace tandem::net::internal {

class ClientCall;
class ClientConnection;
struct ClientShard;

// What all calls of one client share.
struct ClientShared {
  HttpClientOptions options;
  const Clock* clock = nullptr;
  std::atomic<bool> stopped{false};
  std::mutex mutex;
  std::condition_variable none_left;
  int n_calls = 0;  // sent, and OnDone not called yet

  // Made when it is first needed: to read the system's certificates takes tens of milliseconds.
  Result<std::shared_ptr<TlsContext>> Tls();

 private:
  std::mutex tls_mutex_;
  std::shared_ptr<TlsContext> tls_;
};

// A connection of the pool or of a call. Loop thread.
class ClientConnection : public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(std::shared_ptr<ClientShard> client_shard, std::string pool_key);

  void WaitReadable();
  void WaitWritable();
  void Close();

  const std::shared_ptr<ClientShard> shard;
  const std::string key;  // which calls may use it
  boost::asio::ip::tcp::socket socket;
  std::unique_ptr<Transport> transport;  // null until connected
  ClientCall* call = nullptr;            // null in the pool
  SteadyTime pool_deadline = SteadyTime::max();
  bool closed = false;

 private:
  void OnIdleReadable();
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
};

// One client's calls and idle connections on one loop. Loop thread.
struct ClientShard {
  ClientShard(std::shared_ptr<ClientShared> client, std::shared_ptr<IoLoop> io_loop)
      : shared(std::move(client)), loop(std::move(io_loop)), sweep(loop->context) {}

  std::shared_ptr<ClientConnection> TakeIdle(const std::string& key);
  void PutIdle(std::shared_ptr<ClientConnection> connection);
  void DropIdle(const ClientConnection* connection);
  static void Sweep(const std::shared_ptr<ClientShard>& shard);
  void Stop();

  const std::shared_ptr<ClientShared> shared;
  const std::shared_ptr<IoLoop> loop;
  std::list<std::shared_ptr<ClientCall>> calls;
  std::unordered_map<std::string, std::vector<std::shared_ptr<ClientConnection>>> idle;
  boost::asio::steady_timer sweep;
  bool sweeping = false;
};

class ClientCall final : public HttpCall,
                         private ResponseParser::Sink,
                         public std::enable_shared_from_this<ClientCall> {
 public:
  ClientCall(std::shared_ptr<ClientShard> shard, ClientRequest request,
             std::unique_ptr<ResponseHandler> handler);

  void Cancel() override;
  void Pause() override;
  void Resume() override;

  // Loop thread.
  void Start();
  void OnReadable();
  void OnWritable();
  void CheckTimeouts(SteadyTime now);
  void Fail(ErrorCode code, std::string message);

 private:
  using Outcome = ResponseParser::Outcome;

  Status Prepare();
  void BeginOnNewConnection();
  boost::asio::awaitable<void> Establish();
  boost::asio::awaitable<bool> ConnectSocket(const std::string& host, uint16_t port);
  boost::asio::awaitable<bool> OpenTunnel();
  boost::asio::awaitable<bool> StartTls();
  boost::asio::awaitable<bool> WaitFor(IoState state);

  void BeginExchange();
  void SendMore();
  void Consume(std::string_view data);
  void OnPeerGone(const Error& error);
  void Complete(bool nothing_left);
  void Finish(Status status);
  SteadyTime After(std::chrono::milliseconds timeout) const;

  void OnParsedHead(ClientResponseHead head) override;
  void OnParsedBody(std::string_view bytes) override;

  const std::shared_ptr<ClientShard> shard_;
  ClientRequest request_;
  std::unique_ptr<ResponseHandler> handler_;
  std::list<std::shared_ptr<ClientCall>>::iterator in_shard_;

  Url url_;
  std::optional<Proxy> proxy_;
  std::string key_;
  std::string out_;  // the whole request
  size_t sent_ = 0;
  bool send_failed_ = false;  // the response may still come
  bool write_wants_read_ = false;

  std::optional<boost::asio::ip::tcp::resolver> resolver_;
  std::shared_ptr<ClientConnection> connection_;
  std::string in_;  // received, not parsed
  std::optional<ResponseParser> parser_;
  int n_interim_ = 0;

  CallStage stage_ = CallStage::kConnect;
  bool reused_ = false;
  bool got_bytes_ = false;
  bool progressed_ = false;  // ResponseHandler::MadeProgress
  bool done_ = false;
  std::atomic<bool> paused_{false};
  SteadyTime deadline_ = SteadyTime::max();          // of the stage
  SteadyTime attempt_deadline_ = SteadyTime::max();  // of one address among several
  SteadyTime total_deadline_ = SteadyTime::max();
};

}  // namespace tandem::net::internal
