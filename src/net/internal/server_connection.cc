#include "net/internal/server_connection.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <exception>
#include <utility>

#include <boost/asio/post.hpp>

#include "base/log.h"

namespace tandem::net::internal {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

// Requests that a pipelining client sends ahead of its answers wait here; beyond this in the
// kernel.
constexpr size_t kMaxAheadBytes = 64 << 10;

// Buffers that grew beyond this are given back when they are empty.
constexpr size_t kKeptCapacityBytes = 16 << 10;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

// RFC 9110 5.6.7, for example "Sun, 06 Nov 1994 08:49:37 GMT".
void AppendDate(SystemTime now, std::string* out) {
  thread_local int64_t cached_second = -1;
  thread_local std::string cached;
  const int64_t second = UnixSeconds(now);
  if (second != cached_second) {
    std::tm tm{};
    const std::time_t time = second;
    gmtime_r(&time, &tm);
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    cached = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[tm.tm_wday], tm.tm_mday,
                         kMonths[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
    cached_second = second;
  }
  *out += cached;
}

bool IsToken(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

void AppendField(std::string_view name, std::string_view value, std::string* out) {
  out->append(name).append(": ");
  for (char c : value) {
    // A value with a line break in it would be a header, or a response, of its own.
    const auto byte = static_cast<unsigned char>(c);
    out->push_back((byte < 0x20 && c != '\t') || byte == 0x7F ? ' ' : c);
  }
  out->append("\r\n");
}

void AppendNumber(uint64_t value, int base, std::string* out) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, base).ptr;
  out->append(digits, end);
}

bool HasNoBody(int status) { return status < 200 || status == 204 || status == 304; }

std::string FormatEndpoint(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

// The handle that a handler holds: one exchange of a connection.
class ExchangeResponse final : public HttpResponse {
 public:
  ExchangeResponse(std::shared_ptr<ServerConnection> connection, uint64_t exchange)
      : connection_(std::move(connection)), exchange_(exchange) {}
  ~ExchangeResponse() override { connection_->Abandon(exchange_); }

  bool SendFull(int status, Headers headers, std::string body) override {
    return connection_->SendFull(exchange_, status, std::move(headers), std::move(body));
  }
  bool StartStream(int status, Headers headers) override {
    return connection_->StartStream(exchange_, status, std::move(headers));
  }
  WriteResult Write(std::string_view bytes) override {
    return connection_->Write(exchange_, bytes);
  }
  bool Finish() override { return connection_->Finish(exchange_); }
  void Abort() override { connection_->Abort(exchange_); }
  void OnClosed(std::move_only_function<void()> callback) override {
    connection_->OnClosed(exchange_, std::move(callback));
  }
  void OnWritable(std::move_only_function<void()> callback) override {
    connection_->OnWritable(exchange_, std::move(callback));
  }
  bool closed() const override { return connection_->closed(); }

 private:
  const std::shared_ptr<ServerConnection> connection_;
  const uint64_t exchange_;
};

}  // namespace

HttpServerOptions::ErrorBody ServerShared::RenderError(int status, const Error& error) const {
  if (options.render_error) return options.render_error(status, error);
  return {"text/plain; charset=utf-8", error.message + "\n"};
}

void ServerShared::ConnectionClosed() {
  if (--n_connections > 0) return;
  std::lock_guard lock(mutex);
  none_left.notify_all();
}

ServerConnection::ServerConnection(std::shared_ptr<ServerShard> shard, tcp::socket socket)
    : shard_(std::move(shard)), socket_(std::move(socket)) {}

void ServerConnection::Start() {
  error_code ec;
  ec = socket_.set_option(tcp::no_delay(true), ec);
  // Finds peers that vanished without a word.
  ec = socket_.set_option(boost::asio::socket_base::keep_alive(true), ec);
  const tcp::endpoint peer = socket_.remote_endpoint(ec);
  if (ec) return Close();  // gone already
  remote_address_ = FormatEndpoint(peer);
  read_deadline_ = shard_->server->clock->Now() + shard_->server->options.idle_timeout;
  ContinueReading();
}

void ServerConnection::RefuseAndClose(int status, const Error& error) {
  RespondError(status, error);
  ContinueReading();
}

// ---- Reading ---------------------------------------------------------------------------------

void ServerConnection::ContinueReading() {
  if (is_closed_ || waiting_readable_) return;
  if (end_of_input_ || paused_ || (in_.size() >= kMaxAheadBytes && !parser_))
    return WatchForReset();
  waiting_readable_ = true;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code& ec) {
    self->waiting_readable_ = false;
    if (self->is_closed_) return;
    if (ec) return self->Close();
    self->OnReadable();
  });
}

void ServerConnection::OnReadable() {
  auto& scratch = shard_->loop->scratch;
  const ssize_t n = ::recv(socket_.native_handle(), scratch.data(), scratch.size(), MSG_DONTWAIT);
  if (n > 0) {
    if (lingering_) return ContinueReading();  // and forget the bytes
    return Consume({scratch.data(), static_cast<size_t>(n)});
  }
  if (n == 0) return OnEndOfInput();
  if (errno == EAGAIN || errno == EINTR) return ContinueReading();
  Close();  // reset
}

void ServerConnection::OnEndOfInput() {
  end_of_input_ = true;
  std::unique_lock lock(mutex_);
  // Nothing is owed where there is no request, or one that will never be complete.
  const bool owed = phase_ != Phase::kIdle && !lingering_;
  if (phase_ == Phase::kWaiting && !http_1_0_) {
    // The probe of http_server.h: if the client is gone altogether, this brings its reset back.
    queued_head_ += kContinue;
    ScheduleFlush();
  }
  lock.unlock();
  return owed ? WatchForReset() : Close();
}

void ServerConnection::WatchForReset() {
  if (watching_) return;
  watching_ = true;
  socket_.async_wait(tcp::socket::wait_error, [self = shared_from_this()](const error_code& ec) {
    self->watching_ = false;
    // Other than by an error this wakes for out-of-band data only, which HTTP has no use for.
    if (!ec && !self->is_closed_) self->Close();
  });
}

// Bytes that a full sink does not want yet stay in the kernel, which then slows the client down.
void ServerConnection::Pause() {
  paused_ = true;
  read_deadline_ = SteadyTime::max();
}

void ServerConnection::Resume() {
  if (is_closed_ || !std::exchange(paused_, false)) return;
  if (parser_) read_deadline_ = shard_->server->clock->Now() + shard_->server->options.body_timeout;
  ContinueReading();
}

std::unique_ptr<BodySink> ServerConnection::OpenBody(const HttpRequest& head) {
  return shard_->server->options.open_body(head, [weak = weak_from_this(), loop = shard_->loop] {
    boost::asio::post(loop->context, [weak] {
      if (const auto self = weak.lock()) self->Resume();
    });
  });
}

void ServerConnection::Consume(std::string_view data) {
  const bool waited = !in_.empty();
  if (waited) {
    in_.append(data);
    data = in_;
  }
  const size_t used = Parse(data);
  if (is_closed_) return;
  if (waited) {
    in_.erase(0, used);
  } else {
    in_.assign(data.substr(used));
  }
  if (in_.empty() && in_.capacity() > kKeptCapacityBytes) in_ = std::string();
  ContinueReading();
}

// Returns how much of `data` is used up. Stops after one request: the next is parsed when the
// response to this one is out.
size_t ServerConnection::Parse(std::string_view data) {
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kIdle) return 0;
  }
  const HttpServerOptions& options = shard_->server->options;
  if (data.empty() || lingering_) return 0;
  if (!parser_) {
    RequestParser::OpenBody open_body;
    if (options.open_body) open_body = [this](const HttpRequest& head) { return OpenBody(head); };
    parser_.emplace(RequestParser::Limits{options.max_header_bytes, options.max_body_bytes},
                    std::move(open_body));
    read_deadline_ = shard_->server->clock->Now() + options.header_timeout;
  }
  size_t used = 0;
  switch (parser_->Feed(data, &used)) {
    case RequestParser::Outcome::kComplete:
      Dispatch();
      break;
    case RequestParser::Outcome::kError:
      RespondError(parser_->error_status(), parser_->error());
      break;
    case RequestParser::Outcome::kNeedMore:
      if (!parser_->header_complete()) break;
      read_deadline_ = shard_->server->clock->Now() + options.body_timeout;
      if (parser_->TakeSinkIsFull()) Pause();
      if (parser_->expects_continue() && !sent_continue_ && used == data.size() &&
          !parser_->body_started()) {
        sent_continue_ = true;
        std::lock_guard lock(mutex_);
        queued_head_ += kContinue;
        ScheduleFlush();
      }
      break;
  }
  return used;
}

void ServerConnection::Dispatch() {
  HttpRequest request = parser_->TakeRequest();
  request.remote_address = remote_address_;
  uint64_t exchange = 0;
  {
    std::lock_guard lock(mutex_);
    exchange = ++exchange_;
    phase_ = Phase::kWaiting;
    head_only_ = request.method == "HEAD";
    http_1_0_ = parser_->is_http_1_0();
    keep_alive_ = parser_->wants_keep_alive();
  }
  parser_.reset();
  sent_continue_ = false;
  read_deadline_ = SteadyTime::max();
  auto response = std::make_shared<ExchangeResponse>(shared_from_this(), exchange);
  try {
    shard_->server->handler(std::move(request), std::move(response));
  } catch (const std::exception& e) {
    // Its response is abandoned while the stack unwinds, which answers 500.
    log::Error("a request handler threw: {}", e.what());
  }
}

void ServerConnection::RespondError(int status, const Error& error) {
  HttpServerOptions::ErrorBody body = shard_->server->RenderError(status, error);
  parser_.reset();
  in_.clear();
  read_deadline_ = SteadyTime::max();
  uint64_t exchange = 0;
  {
    std::lock_guard lock(mutex_);
    exchange = ++exchange_;
    phase_ = Phase::kWaiting;
    head_only_ = false;
    keep_alive_ = false;  // where the next request would start is unknown
  }
  SendFull(exchange, status, {{"Content-Type", std::move(body.content_type)}},
           std::move(body.body));
}

void ServerConnection::CheckTimeouts(SteadyTime now) {
  if (now >= write_deadline_) return Close();
  if (now < read_deadline_) return;
  if (lingering_ || !parser_ || !parser_->started()) return Close();
  RespondError(408,
               Error{ErrorCode::kDeadlineExceeded,
                     parser_->header_complete() ? "the request's body stopped coming"
                                                : "the request's headers took too long to come",
                     {}});
}

void ServerConnection::CloseIfIdle() {
  std::unique_lock lock(mutex_);
  const bool idle = phase_ == Phase::kIdle && !(parser_ && parser_->started()) && in_.empty();
  lock.unlock();
  if (idle || lingering_) Close();
}

void ServerConnection::Close() {
  if (is_closed_) return;
  is_closed_ = true;
  error_code ignored;
  ignored = socket_.close(ignored);
  std::move_only_function<void()> on_closed;
  std::move_only_function<void()> on_writable;
  std::string queued;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    if (phase_ == Phase::kWaiting || phase_ == Phase::kStreaming) on_closed = std::move(on_closed_);
    on_closed_ = nullptr;
    on_writable = std::move(on_writable_);
    on_writable_ = nullptr;
    queued.swap(queued_data_);
  }
  const auto self = shared_from_this();  // the shard's may be the last
  shard_->connections.erase(in_shard);
  if (on_closed) on_closed();
  shard_->server->ConnectionClosed();
}

// ---- Answering (any thread) ------------------------------------------------------------------

bool ServerConnection::MayRespond(uint64_t exchange) const {
  return !gone_ && exchange == exchange_ && phase_ == Phase::kWaiting;
}

void ServerConnection::AppendHead(int status, const Headers& headers,
                                  std::optional<uint64_t> content_length) {
  for (const auto& [name, value] : headers) {
    if (EqualsIgnoreCase(name, "Connection") && EqualsIgnoreCase(value, "close")) {
      keep_alive_ = false;
    }
  }
  if (framing_ == Framing::kUntilClose || shard_->server->draining) keep_alive_ = false;

  std::string& out = queued_head_;
  out += "HTTP/1.1 ";
  AppendNumber(static_cast<uint64_t>(status), 10, &out);
  out.append(" ").append(ReasonPhrase(status)).append("\r\nDate: ");
  AppendDate(shard_->server->clock->SystemNow(), &out);
  out += "\r\n";
  for (const auto& [name, value] : headers) {
    if (!IsToken(name) || EqualsIgnoreCase(name, "Connection") || EqualsIgnoreCase(name, "Date") ||
        EqualsIgnoreCase(name, "Content-Length") || EqualsIgnoreCase(name, "Transfer-Encoding")) {
      continue;
    }
    AppendField(name, value, &out);
  }
  if (content_length) {
    out += "Content-Length: ";
    AppendNumber(*content_length, 10, &out);
    out += "\r\n";
  } else if (framing_ == Framing::kChunked) {
    out += "Transfer-Encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    out += "Connection: close\r\n";
  } else if (http_1_0_) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
}

void ServerConnection::ScheduleFlush() {
  if (flush_scheduled_) return;
  flush_scheduled_ = true;
  // Weak: a handler that waits in a loop that no longer runs must not keep the loop alive.
  boost::asio::post(shard_->loop->context, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Flush();
  });
}

// What the callbacks hold is let go of outside the lock: it may be this response.
void ServerConnection::DropCallbacks(std::unique_lock<std::mutex>& lock) {
  auto on_closed = std::exchange(on_closed_, nullptr);
  auto on_writable = std::exchange(on_writable_, nullptr);
  lock.unlock();
}

bool ServerConnection::SendFull(uint64_t exchange, int status, Headers headers, std::string body) {
  std::unique_lock lock(mutex_);
  if (!MayRespond(exchange)) return false;
  std::optional<uint64_t> length = body.size();
  if (HasNoBody(status)) {
    length.reset();
    body.clear();
  } else if (head_only_) {
    // A handler that knows the length need not make the body.
    if (const auto given = headers.Find("Content-Length"); given && body.empty()) {
      uint64_t value = 0;
      if (std::from_chars(given->data(), given->data() + given->size(), value).ec == std::errc()) {
        length = value;
      }
    }
    body.clear();
  }
  framing_ = Framing::kLength;
  AppendHead(status, headers, length);
  queued_data_ = std::move(body);
  phase_ = Phase::kComplete;
  ScheduleFlush();
  DropCallbacks(lock);
  return true;
}

bool ServerConnection::StartStream(uint64_t exchange, int status, Headers headers) {
  std::lock_guard lock(mutex_);
  if (!MayRespond(exchange)) return false;
  std::optional<uint64_t> length;
  if (const auto given = headers.Find("Content-Length")) {
    uint64_t value = 0;
    const auto [end, ec] = std::from_chars(given->data(), given->data() + given->size(), value);
    if (ec == std::errc() && end == given->data() + given->size()) length = value;
  }
  if (HasNoBody(status)) {
    framing_ = Framing::kNoBody;
    length.reset();
  } else if (length) {
    framing_ = Framing::kLength;
    length_left_ = *length;
  } else {
    framing_ = http_1_0_ ? Framing::kUntilClose : Framing::kChunked;
  }
  AppendHead(status, headers, length);
  if (head_only_) framing_ = Framing::kNoBody;
  phase_ = Phase::kStreaming;
  ScheduleFlush();
  return true;
}

WriteResult ServerConnection::Write(uint64_t exchange, std::string_view bytes) {
  std::unique_lock lock(mutex_);
  if (gone_ || exchange != exchange_ || phase_ != Phase::kStreaming) return WriteResult::kClosed;
  if (bytes.empty() || framing_ == Framing::kNoBody) return WriteResult::kOk;
  if (framing_ == Framing::kLength && bytes.size() > length_left_) {
    lock.unlock();
    Abort(exchange);
    return WriteResult::kClosed;
  }
  const size_t waiting = queued_data_.size() + in_flight_bytes_;
  if (waiting > 0 && waiting + bytes.size() > shard_->server->options.max_buffered_bytes) {
    return WriteResult::kFull;
  }
  if (framing_ == Framing::kLength) length_left_ -= bytes.size();
  queued_data_.append(bytes);
  ScheduleFlush();
  return WriteResult::kOk;
}

bool ServerConnection::Finish(uint64_t exchange) {
  std::unique_lock lock(mutex_);
  if (gone_ || exchange != exchange_ || phase_ != Phase::kStreaming) return false;
  if (framing_ == Framing::kLength && length_left_ > 0) {
    lock.unlock();
    Abort(exchange);
    return false;
  }
  end_queued_ = framing_ == Framing::kChunked;
  phase_ = Phase::kComplete;
  ScheduleFlush();
  DropCallbacks(lock);
  return true;
}

void ServerConnection::Abort(uint64_t exchange) {
  std::unique_lock lock(mutex_);
  if (gone_ || exchange != exchange_) return;
  if (phase_ != Phase::kWaiting && phase_ != Phase::kStreaming) return;
  phase_ = Phase::kComplete;
  cut_after_send_ = true;
  keep_alive_ = false;
  ScheduleFlush();
  DropCallbacks(lock);
}

void ServerConnection::Abandon(uint64_t exchange) {
  {
    std::lock_guard lock(mutex_);
    if (gone_ || exchange != exchange_) return;
    if (phase_ != Phase::kWaiting && phase_ != Phase::kStreaming) return;
  }
  const Error error{ErrorCode::kInternal, "the request was dropped without an answer", {}};
  HttpServerOptions::ErrorBody body = shard_->server->RenderError(500, error);
  if (!SendFull(exchange, 500, {{"Content-Type", std::move(body.content_type)}},
                std::move(body.body))) {
    Abort(exchange);
  }
}

void ServerConnection::OnClosed(uint64_t exchange, std::move_only_function<void()> callback) {
  std::unique_lock lock(mutex_);
  if (exchange != exchange_ || (phase_ != Phase::kWaiting && phase_ != Phase::kStreaming)) {
    lock.unlock();  // before the callback is destroyed
    return;
  }
  if (!gone_) {
    std::swap(on_closed_, callback);
    lock.unlock();
    return;
  }
  lock.unlock();
  callback();
}

void ServerConnection::OnWritable(uint64_t exchange, std::move_only_function<void()> callback) {
  std::unique_lock lock(mutex_);
  if (!gone_ && exchange == exchange_ && phase_ == Phase::kStreaming) {
    std::swap(on_writable_, callback);
    ScheduleFlush();  // which calls it if there is room already
  }
  lock.unlock();
}

bool ServerConnection::closed() const {
  std::lock_guard lock(mutex_);
  return gone_;
}

// ---- Writing (loop thread) -------------------------------------------------------------------

void ServerConnection::Flush() {
  {
    std::lock_guard lock(mutex_);
    flush_scheduled_ = false;
  }
  if (is_closed_) return;
  if (out_.size() > 0) return NotifyIfWritable();  // SendOut comes back here
  if (TakeQueued()) return SendOut();
  NotifyIfWritable();
  bool complete = false;
  {
    std::lock_guard lock(mutex_);
    complete = phase_ == Phase::kComplete && !flush_scheduled_;
  }
  if (complete) FinishExchange();
}

bool ServerConnection::TakeQueued() {
  std::lock_guard lock(mutex_);
  out_.head.swap(queued_head_);
  out_.data.swap(queued_data_);
  out_.tail = {};
  if (phase_ >= Phase::kStreaming && framing_ == Framing::kChunked) {
    if (!out_.data.empty()) {
      AppendNumber(out_.data.size(), 16, &out_.head);
      out_.head += "\r\n";
      out_.tail = end_queued_ ? "\r\n0\r\n\r\n" : "\r\n";
    } else if (end_queued_) {
      out_.tail = "0\r\n\r\n";
    }
    end_queued_ = false;
  }
  in_flight_bytes_ = out_.size();
  return in_flight_bytes_ > 0;
}

void ServerConnection::SendOut() {
  for (;;) {
    iovec parts[3];
    size_t n_parts = 0;
    size_t skip = out_.sent;
    for (const std::string_view part :
         {std::string_view(out_.head), std::string_view(out_.data), out_.tail}) {
      const size_t skipped = std::min(skip, part.size());
      skip -= skipped;
      if (skipped == part.size()) continue;
      parts[n_parts++] = {const_cast<char*>(part.data()) + skipped, part.size() - skipped};
    }
    if (n_parts == 0) break;
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = n_parts;
    const ssize_t n = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return Close();
      const auto& server = *shard_->server;
      write_deadline_ = server.clock->Now() + server.options.write_timeout;
      waiting_writable_ = true;
      socket_.async_wait(tcp::socket::wait_write,
                         [self = shared_from_this()](const error_code& ec) {
                           self->waiting_writable_ = false;
                           if (self->is_closed_) return;
                           if (ec) return self->Close();
                           self->SendOut();
                         });
      return NotifyIfWritable();
    }
    out_.sent += static_cast<size_t>(n);
    std::lock_guard lock(mutex_);
    in_flight_bytes_ = out_.size() - out_.sent;
  }
  write_deadline_ = SteadyTime::max();
  out_.head.clear();
  out_.data.clear();
  if (out_.data.capacity() > kKeptCapacityBytes) out_.data = std::string();
  out_.tail = {};
  out_.sent = 0;
  {
    // Not at once: other connections of this thread have a turn first, and more may be queued then.
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kComplete || !queued_data_.empty() || end_queued_) {
      if (!queued_head_.empty() || !queued_data_.empty() || end_queued_ || on_writable_) {
        ScheduleFlush();
      }
      return;
    }
  }
  FinishExchange();
}

void ServerConnection::NotifyIfWritable() {
  std::unique_lock lock(mutex_);
  if (!on_writable_) return;
  const size_t waiting = queued_data_.size() + in_flight_bytes_;
  if (waiting > shard_->server->options.max_buffered_bytes / 2) return;
  auto callback = std::exchange(on_writable_, nullptr);
  lock.unlock();
  callback();
}

// All of the response is sent: on to the next request, or the end.
void ServerConnection::FinishExchange() {
  bool keep = false;
  bool cut = false;
  Framing framing = Framing::kLength;
  {
    std::lock_guard lock(mutex_);
    phase_ = Phase::kIdle;
    keep = keep_alive_ && !shard_->server->draining;
    cut = std::exchange(cut_after_send_, false);
    framing = framing_;
  }
  if (cut && framing == Framing::kUntilClose) {
    // Only a reset tells this client that the stream did not end here.
    error_code ignored;
    ignored = socket_.set_option(boost::asio::socket_base::linger(true, 0), ignored);
    return Close();
  }
  if (!keep) return CloseGently();
  read_deadline_ = shard_->server->clock->Now() + shard_->server->options.idle_timeout;
  Consume({});
  if (is_closed_ || !end_of_input_) return;
  std::unique_lock lock(mutex_);
  const bool idle = phase_ == Phase::kIdle;
  lock.unlock();
  if (idle) Close();
}

// A plain close while bytes from the client wait unread resets the connection, and the client may
// lose the end of our answer. So: say that we are done, and read until the client is.
void ServerConnection::CloseGently() {
  error_code ec;
  ec = socket_.shutdown(tcp::socket::shutdown_send, ec);
  if (ec || end_of_input_ || shard_->server->draining) return Close();
  lingering_ = true;
  in_ = std::string();
  read_deadline_ = shard_->server->clock->Now() + shard_->server->options.linger_timeout;
  ContinueReading();
}

}  // namespace tandem::net::internal
