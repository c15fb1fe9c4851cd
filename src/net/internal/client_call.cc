#include "net/internal/client_call.h"

#include <algorithm>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tandem::net::internal {
namespace {

using boost::asio::awaitable;
using boost::asio::redirect_error;
using boost::asio::use_awaitable;
using boost::asio::ip::tcp;
using boost::system::error_code;

// Reads of one connection before the others of its thread have their turn.
constexpr int kMaxReadsInARow = 8;

// 1xx responses before the final one; more is an attempt to keep us busy.
constexpr int kMaxInterim = 16;

bool IsFieldText(std::string_view value) {
  return std::none_of(value.begin(), value.end(),
                      [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7F; });
}

bool IsName(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c > 0x20 && c < 0x7F &&
           std::string_view("\"(),/:;<=>?@[\\]{}").find(static_cast<char>(c)) ==
               std::string_view::npos;
  });
}

}  // namespace

Result<std::shared_ptr<TlsContext>> ClientShared::Tls() {
  std::lock_guard lock(tls_mutex_);
  if (tls_ == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(tls_, TlsContext::Create(options.ca_file));
  }
  return tls_;
}

// ---- ClientConnection ------------------------------------------------------------------------

ClientConnection::ClientConnection(std::shared_ptr<ClientShard> client_shard, std::string pool_key)
    : shard(std::move(client_shard)), key(std::move(pool_key)), socket(shard->loop->context) {}

void ClientConnection::WaitReadable() {
  if (waiting_readable_ || closed) return;
  waiting_readable_ = true;
  socket.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code&) {
    self->waiting_readable_ = false;
    if (self->closed) return;
    if (self->call == nullptr) return self->OnIdleReadable();
    const auto call = self->call->shared_from_this();
    call->OnReadable();
  });
}

void ClientConnection::WaitWritable() {
  if (waiting_writable_ || closed) return;
  waiting_writable_ = true;
  socket.async_wait(tcp::socket::wait_write, [self = shared_from_this()](const error_code&) {
    self->waiting_writable_ = false;
    if (self->closed || self->call == nullptr) return;
    const auto call = self->call->shared_from_this();
    call->OnWritable();
  });
}

// Nothing is due on an idle connection but TLS's own messages.
void ClientConnection::OnIdleReadable() {
  size_t n = 0;
  if (transport->Read(shard->loop->scratch, &n) == IoState::kWantRead) return WaitReadable();
  shard->DropIdle(this);
  Close();
}

void ClientConnection::Close() {
  if (closed) return;
  closed = true;
  call = nullptr;
  transport.reset();
  error_code ignored;
  ignored = socket.close(ignored);
}

// ---- ClientShard -----------------------------------------------------------------------------

std::shared_ptr<ClientConnection> ClientShard::TakeIdle(const std::string& key) {
  const auto found = idle.find(key);
  if (found == idle.end()) return nullptr;
  auto connection = std::move(found->second.back());  // the one used last is the likeliest to live
  found->second.pop_back();
  if (found->second.empty()) idle.erase(found);
  connection->pool_deadline = SteadyTime::max();
  return connection;
}

void ClientShard::PutIdle(std::shared_ptr<ClientConnection> connection) {
  auto& same = idle[connection->key];
  if (same.size() >= shared->options.max_idle_per_origin || shared->stopped) {
    connection->Close();
    if (same.empty()) idle.erase(connection->key);
    return;
  }
  connection->call = nullptr;
  connection->pool_deadline = shared->clock->Now() + shared->options.pool_timeout;
  connection->WaitReadable();
  same.push_back(std::move(connection));
}

void ClientShard::DropIdle(const ClientConnection* connection) {
  const auto found = idle.find(connection->key);
  if (found == idle.end()) return;
  std::erase_if(found->second, [&](const auto& other) { return other.get() == connection; });
  if (found->second.empty()) idle.erase(found);
}

void ClientShard::Sweep(const std::shared_ptr<ClientShard>& shard) {
  if (shard->calls.empty() && shard->idle.empty()) {
    shard->sweeping = false;
    return;
  }
  shard->sweeping = true;
  shard->sweep.expires_after(shard->shared->options.timeout_resolution);
  shard->sweep.async_wait([shard](const error_code& ec) {
    if (ec) return;
    const SteadyTime now = shard->shared->clock->Now();
    for (auto it = shard->calls.begin(); it != shard->calls.end();) {
      const std::shared_ptr<ClientCall> call = *it++;
      call->CheckTimeouts(now);
    }
    for (auto it = shard->idle.begin(); it != shard->idle.end();) {
      std::erase_if(it->second, [&](const auto& connection) {
        if (now < connection->pool_deadline) return false;
        connection->Close();
        return true;
      });
      it = it->second.empty() ? shard->idle.erase(it) : std::next(it);
    }
    Sweep(shard);
  });
}

void ClientShard::Stop() {
  while (!calls.empty()) {
    const std::shared_ptr<ClientCall> call = calls.front();
    call->Fail(ErrorCode::kCancelled, "the client is shutting down");
  }
  for (auto& [key, connections] : idle) {
    for (const auto& connection : connections) connection->Close();
  }
  idle.clear();
  sweep.cancel();
}

// ---- ClientCall: start and end ---------------------------------------------------------------

ClientCall::ClientCall(std::shared_ptr<ClientShard> shard, ClientRequest request,
                       std::unique_ptr<ResponseHandler> handler)
    : shard_(std::move(shard)), request_(std::move(request)), handler_(std::move(handler)) {}

void ClientCall::Cancel() {
  boost::asio::post(shard_->loop->context, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Fail(ErrorCode::kCancelled, "the call was cancelled");
  });
}

void ClientCall::Pause() { paused_ = true; }

void ClientCall::Resume() {
  if (!paused_.exchange(false)) return;
  boost::asio::post(shard_->loop->context, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->done_ || self->stage_ == CallStage::kConnect) return;
    if (self->stage_ == CallStage::kBody) {
      self->deadline_ = self->After(self->progressed_ ? self->request_.idle_timeout
                                                      : self->request_.first_byte_timeout);
    }
    self->OnReadable();
  });
}

SteadyTime ClientCall::After(std::chrono::milliseconds timeout) const {
  return timeout.count() > 0 ? shard_->shared->clock->Now() + timeout : SteadyTime::max();
}

void ClientCall::Start() {
  shard_->calls.push_front(shared_from_this());
  in_shard_ = shard_->calls.begin();
  if (!shard_->sweeping) ClientShard::Sweep(shard_);
  if (shard_->shared->stopped) return Fail(ErrorCode::kCancelled, "the client is shutting down");
  if (Status status = Prepare(); !status) return Finish(std::move(status));
  total_deadline_ = After(request_.total_timeout);
  connection_ = shard_->TakeIdle(key_);
  if (connection_ == nullptr) return BeginOnNewConnection();
  reused_ = true;
  connection_->call = this;
  BeginExchange();
}

Status ClientCall::Prepare() {
  TANDEM_ASSIGN_OR_RETURN(url_, ParseUrl(request_.url));
  TANDEM_ASSIGN_OR_RETURN(proxy_, ChooseProxy(url_, shard_->shared->options.environment));
  if (!IsName(request_.method)) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is no HTTP method", request_.method);
  }
  for (const auto& [name, value] : request_.headers) {
    if (!IsName(name) || !IsFieldText(value)) {
      return Err(ErrorCode::kInvalidArgument,
                 "the request's header '{}' holds a character that no header may", name);
    }
  }
  const std::string authority = url_.Authority();
  const bool in_proxy_form = proxy_ && !url_.tls;
  out_.reserve(512 + request_.body.size());
  out_.append(request_.method).append(" ");
  if (in_proxy_form) out_.append("http://").append(authority);
  out_.append(url_.target).append(" HTTP/1.1\r\n");
  if (request_.headers.Count("Host") == 0) out_.append("Host: ").append(authority).append("\r\n");
  for (const auto& [name, value] : request_.headers) {
    if (EqualsIgnoreCase(name, "Content-Length") || EqualsIgnoreCase(name, "Transfer-Encoding")) {
      continue;
    }
    out_.append(name).append(": ").append(value).append("\r\n");
  }
  if (in_proxy_form && !proxy_->authorization.empty()) {
    out_.append("Proxy-Authorization: ").append(proxy_->authorization).append("\r\n");
  }
  if (!request_.body.empty() || request_.method == "POST" || request_.method == "PUT" ||
      request_.method == "PATCH") {
    out_.append("Content-Length: ").append(std::to_string(request_.body.size())).append("\r\n");
  }
  out_.append("\r\n").append(request_.body);
  request_.body = std::string();
  key_ = (url_.tls ? "https://" : "http://") + url_.Authority(/*always_port=*/true);
  if (proxy_) key_ += fmt::format(" {}:{} {}", proxy_->host, proxy_->port, proxy_->authorization);
  return {};
}

void ClientCall::CheckTimeouts(SteadyTime now) {
  if (now >= total_deadline_) {
    return Fail(ErrorCode::kDeadlineExceeded,
                fmt::format("the call took longer than {} ms", request_.total_timeout.count()));
  }
  if (now >= deadline_) {
    switch (stage_) {
      case CallStage::kConnect:
        return Fail(ErrorCode::kDeadlineExceeded,
                    fmt::format("no connection to {} within {} ms", url_.Authority(true),
                                request_.connect_timeout.count()));
      case CallStage::kResponse:
        return Fail(ErrorCode::kDeadlineExceeded,
                    fmt::format("no response from {} within {} ms", url_.Authority(true),
                                request_.first_byte_timeout.count()));
      case CallStage::kBody:
      case CallStage::kComplete:
        // While the caller wants nothing, nothing is late; Resume starts the time anew.
        if (paused_) return;
        if (!progressed_) {
          return Fail(ErrorCode::kDeadlineExceeded,
                      fmt::format("no answer from {} within {} ms, only signs of life",
                                  url_.Authority(true), request_.first_byte_timeout.count()));
        }
        return Fail(ErrorCode::kDeadlineExceeded,
                    fmt::format("the response from {} stalled for {} ms", url_.Authority(true),
                                request_.idle_timeout.count()));
    }
  }
  if (now >= attempt_deadline_) {
    attempt_deadline_ = SteadyTime::max();
    error_code ignored;
    ignored = connection_->socket.close(ignored);  // on to the next address
  }
}

void ClientCall::Fail(ErrorCode code, std::string message) {
  if (!done_) Finish(std::unexpected(Error{code, std::move(message), {}}));
}

void ClientCall::Finish(Status status) {
  done_ = true;
  const auto self = shared_from_this();
  shard_->calls.erase(in_shard_);
  if (resolver_) resolver_->cancel();
  if (connection_ != nullptr) std::exchange(connection_, nullptr)->Close();
  handler_->OnDone({std::move(status), stage_, reused_});
  handler_.reset();
  ClientShared& shared = *shard_->shared;
  std::lock_guard lock(shared.mutex);
  if (--shared.n_calls == 0) shared.none_left.notify_all();
}

// ---- ClientCall: connecting ------------------------------------------------------------------

void ClientCall::BeginOnNewConnection() {
  stage_ = CallStage::kConnect;
  reused_ = false;
  deadline_ = After(request_.connect_timeout);
  connection_ = std::make_shared<ClientConnection>(shard_, key_);
  boost::asio::co_spawn(
      shard_->loop->context,
      [self = shared_from_this()]() -> awaitable<void> { co_await self->Establish(); },
      boost::asio::detached);
}

// Each step answers whether to go on; where not, the call is over already.
awaitable<void> ClientCall::Establish() {
  const std::string& host = proxy_ ? proxy_->host : url_.host;
  const uint16_t port = proxy_ ? proxy_->port : url_.port;
  if (!co_await ConnectSocket(host, port)) co_return;
  connection_->transport = MakePlainTransport(connection_->socket.native_handle());
  if (url_.tls && proxy_ && !co_await OpenTunnel()) co_return;
  if (url_.tls && !co_await StartTls()) co_return;
  connection_->call = this;
  BeginExchange();
}

awaitable<bool> ClientCall::ConnectSocket(const std::string& host, uint16_t port) {
  std::vector<tcp::endpoint> endpoints;
  error_code ec;
  const auto address = boost::asio::ip::make_address(host, ec);
  if (!ec) {
    endpoints.emplace_back(address, port);
  } else {
    resolver_.emplace(shard_->loop->context);
    const auto found = co_await resolver_->async_resolve(host, std::to_string(port),
                                                         redirect_error(use_awaitable, ec));
    if (done_) co_return false;
    if (ec) {
      Fail(ErrorCode::kUnavailable, fmt::format("cannot resolve '{}': {}", host, ec.message()));
      co_return false;
    }
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  }
  tcp::socket& socket = connection_->socket;
  for (size_t i = 0; i < endpoints.size(); ++i) {
    const size_t n_left = endpoints.size() - i;
    if (n_left > 1 && deadline_ != SteadyTime::max()) {
      const SteadyTime now = shard_->shared->clock->Now();
      attempt_deadline_ = now + (deadline_ - now) / static_cast<int>(n_left);
    }
    ec = socket.close(ec);
    co_await socket.async_connect(endpoints[i], redirect_error(use_awaitable, ec));
    attempt_deadline_ = SteadyTime::max();
    if (done_) co_return false;
    if (!ec) {
      error_code ignored;
      ignored = socket.set_option(tcp::no_delay(true), ignored);
      co_return true;
    }
  }
  Fail(ErrorCode::kUnavailable,
       fmt::format("cannot connect to {}:{}: {}", host, port, ec.message()));
  co_return false;
}

awaitable<bool> ClientCall::WaitFor(IoState state) {
  error_code ec;
  co_await connection_->socket.async_wait(
      state == IoState::kWantWrite ? tcp::socket::wait_write : tcp::socket::wait_read,
      redirect_error(use_awaitable, ec));
  if (done_) co_return false;
  if (ec) Fail(ErrorCode::kUnavailable, fmt::format("the connection failed: {}", ec.message()));
  co_return !done_;
}

awaitable<bool> ClientCall::OpenTunnel() {
  const std::string authority = url_.Authority(/*always_port=*/true);
  std::string request = "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n";
  if (!proxy_->authorization.empty()) {
    request += "Proxy-Authorization: " + proxy_->authorization + "\r\n";
  }
  request += "\r\n";
  Transport& transport = *connection_->transport;
  for (size_t sent = 0; sent < request.size();) {
    size_t n = 0;
    const IoState state = transport.Write(std::string_view(request).substr(sent), &n);
    if (state == IoState::kOk) {
      sent += n;
    } else if (state == IoState::kFailed || state == IoState::kEnd) {
      Fail(ErrorCode::kUnavailable,
           fmt::format("proxy {}: {}", proxy_->host, transport.error().message));
      co_return false;
    } else if (!co_await WaitFor(state)) {
      co_return false;
    }
  }
  struct Answer final : ResponseParser::Sink {
    int status = 0;
    void OnParsedHead(ClientResponseHead head) override { status = head.status; }
    void OnParsedBody(std::string_view) override {}
  } answer;
  ResponseParser parser(&answer, shard_->shared->options.max_header_bytes, /*head_only=*/true);
  std::string received;
  for (;;) {
    char bytes[4096];
    size_t n = 0;
    const IoState state = transport.Read(bytes, &n);
    if (state == IoState::kWantRead || state == IoState::kWantWrite) {
      if (!co_await WaitFor(state)) co_return false;
      continue;
    }
    if (state != IoState::kOk) {
      Fail(ErrorCode::kUnavailable,
           fmt::format("proxy {} closed the connection instead of opening a tunnel", proxy_->host));
      co_return false;
    }
    received.append(bytes, n);
    size_t used = 0;
    const Outcome outcome = parser.Feed(received, &used);
    received.erase(0, used);
    if (outcome == Outcome::kNeedMore) continue;
    if (outcome == Outcome::kComplete && answer.status / 100 == 2 && received.empty()) {
      co_return true;
    }
    Fail(ErrorCode::kUnavailable,
         fmt::format("proxy {} answered {} to a tunnel to {}; check the proxy settings",
                     proxy_->host,
                     outcome == Outcome::kComplete ? std::to_string(answer.status) : "nonsense",
                     authority));
    co_return false;
  }
}

awaitable<bool> ClientCall::StartTls() {
  auto tls = [&]() -> Result<std::unique_ptr<Transport>> {
    TANDEM_ASSIGN_OR_RETURN(const auto context, shard_->shared->Tls());
    return context->MakeTransport(connection_->socket.native_handle(), url_.host);
  }();
  if (!tls) {
    Finish(std::unexpected(std::move(tls).error()));
    co_return false;
  }
  connection_->transport = std::move(*tls);
  for (;;) {
    const IoState state = connection_->transport->Handshake();
    if (state == IoState::kOk) co_return true;
    if (state == IoState::kFailed || state == IoState::kEnd) {
      Error error = connection_->transport->error();
      if (state == IoState::kEnd) {
        error = {
            ErrorCode::kUnavailable, "the peer closed the connection in the TLS handshake", {}};
      }
      Finish(std::unexpected(std::move(error)));
      co_return false;
    }
    if (!co_await WaitFor(state)) co_return false;
  }
}

// ---- ClientCall: the exchange ----------------------------------------------------------------

void ClientCall::BeginExchange() {
  stage_ = CallStage::kResponse;
  sent_ = 0;
  send_failed_ = false;
  write_wants_read_ = false;
  deadline_ = After(request_.first_byte_timeout);
  SendMore();
  if (!done_ && connection_ != nullptr && connection_->call == this) connection_->WaitReadable();
}

void ClientCall::SendMore() {
  while (sent_ < out_.size() && !send_failed_) {
    size_t n = 0;
    switch (connection_->transport->Write(std::string_view(out_).substr(sent_), &n)) {
      case IoState::kOk:
        sent_ += n;
        break;
      case IoState::kWantWrite:
        return connection_->WaitWritable();
      case IoState::kWantRead:
        write_wants_read_ = true;
        return;
      case IoState::kEnd:
      case IoState::kFailed:
        // A server that refuses a large body may answer and close: what it said is read first.
        send_failed_ = true;
        break;
    }
  }
  if (!send_failed_ && stage_ == CallStage::kResponse) {
    deadline_ = After(request_.first_byte_timeout);
  }
}

void ClientCall::OnWritable() {
  if (!done_) SendMore();
}

void ClientCall::OnReadable() {
  if (done_ || connection_ == nullptr) return;
  if (std::exchange(write_wants_read_, false)) SendMore();
  for (int i = 0; i < kMaxReadsInARow; ++i) {
    if (paused_) return;  // Resume comes back here
    const std::shared_ptr<ClientConnection> connection = connection_;
    auto& scratch = shard_->loop->scratch;
    size_t n = 0;
    switch (connection->transport->Read(scratch, &n)) {
      case IoState::kOk:
        got_bytes_ = true;
        Consume({scratch.data(), n});
        // Done, or begun anew on another connection, whose own events lead here.
        if (done_ || connection_ != connection) return;
        if (stage_ == CallStage::kBody && handler_->MadeProgress()) {
          progressed_ = true;
          deadline_ = After(request_.idle_timeout);
        }
        // A stream that comes piece by piece: asking once more would cost a system call for each.
        if (n < scratch.size() && !connection->transport->HoldsMore() && !paused_) {
          return connection->WaitReadable();
        }
        break;
      case IoState::kWantRead:
        return connection->WaitReadable();
      case IoState::kWantWrite:
        return connection->WaitWritable();
      case IoState::kEnd: {
        if (!parser_)
          return OnPeerGone(
              {ErrorCode::kUnavailable, "the peer closed the connection unanswered", {}});
        if (parser_->FeedEnd() == Outcome::kComplete) return Complete(false);
        return OnPeerGone(parser_->error());
      }
      case IoState::kFailed:
        return OnPeerGone(connection->transport->error());
    }
  }
  // More may wait inside TLS, where no readiness shows it.
  boost::asio::post(shard_->loop->context, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnReadable();
  });
}

void ClientCall::Consume(std::string_view data) {
  if (!in_.empty()) {
    in_.append(data);
    data = in_;
  }
  for (;;) {
    if (!parser_) {
      parser_.emplace(static_cast<ResponseParser::Sink*>(this),
                      shard_->shared->options.max_header_bytes, request_.method == "HEAD");
    }
    size_t used = 0;
    const Outcome outcome = parser_->Feed(data, &used);
    data.remove_prefix(used);
    switch (outcome) {
      case Outcome::kNeedMore:
        in_ = std::string(data);
        return;
      case Outcome::kInterim:
        if (++n_interim_ > kMaxInterim) {
          return Fail(ErrorCode::kCorrupt, "the peer sends interim responses without end");
        }
        parser_.reset();
        break;
      case Outcome::kComplete:
        return Complete(data.empty());
      case Outcome::kError:
        return Finish(std::unexpected(parser_->error()));
    }
  }
}

void ClientCall::OnParsedHead(ClientResponseHead head) {
  stage_ = CallStage::kBody;
  handler_->OnHead(std::move(head));
}

void ClientCall::OnParsedBody(std::string_view bytes) { handler_->OnBody(bytes); }

// The connection is of no more use.
void ClientCall::OnPeerGone(const Error& error) {
  if (!reused_ || got_bytes_) return Finish(std::unexpected(error));
  // The peer closed it while it was idle, most likely before it saw this request.
  connection_->Close();
  parser_.reset();
  BeginOnNewConnection();
}

void ClientCall::Complete(bool nothing_left) {
  stage_ = CallStage::kComplete;
  if (nothing_left && parser_->may_keep_alive() && sent_ == out_.size() && !send_failed_) {
    shard_->PutIdle(std::exchange(connection_, nullptr));
  }
  Finish({});
}

}  // namespace tandem::net::internal
