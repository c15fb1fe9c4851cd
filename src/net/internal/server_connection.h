// One accepted connection of HttpServer: reads requests, runs one exchange at a time, writes what
// the exchange's HttpResponse queued. Private to net/: it shows Asio.
//
// Callbacks on readiness instead of coroutines: a connection must read while a response is being
// produced (to see the client leave), and waiting for readiness lets an idle one hold no buffer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "net/http_server.h"
#include "net/internal/io_loop.h"
#include "net/internal/request_parser.h"

namespace tandem::net::internal {

class ServerConnection;

// What all connections of one server share.
struct ServerShared {
  HttpServerOptions options;
  HttpHandler handler;
  const Clock* clock = nullptr;
  std::atomic<int> n_connections{0};  // accepted and not closed
  std::atomic<bool> draining{false};
  std::atomic<bool> stopped{false};
  std::mutex mutex;
  std::condition_variable none_left;  // n_connections fell to 0

  HttpServerOptions::ErrorBody RenderError(int status, const Error& error) const;
  void ConnectionClosed();
};

// One server's connections on one loop. Everything here belongs to the loop's thread.
struct ServerShard {
  ServerShard(std::shared_ptr<ServerShared> shared, std::shared_ptr<IoLoop> io_loop)
      : server(std::move(shared)), loop(std::move(io_loop)), sweep(loop->context) {}

  const std::shared_ptr<ServerShared> server;
  const std::shared_ptr<IoLoop> loop;
  std::list<std::shared_ptr<ServerConnection>> connections;
  boost::asio::steady_timer sweep;  // looks at the timeouts of all connections
  bool sweeping = false;
};

class ServerConnection : public std::enable_shared_from_this<ServerConnection> {
 public:
  ServerConnection(std::shared_ptr<ServerShard> shard, boost::asio::ip::tcp::socket socket);

  // Loop thread.
  void Start();
  void RefuseAndClose(int status, const Error& error);  // instead of Start
  void CheckTimeouts(SteadyTime now);
  void CloseIfIdle();
  void Close();

  // What HttpResponse does, for the exchange with that id; calls for an exchange that is over do
  // nothing. Any thread.
  bool SendFull(uint64_t exchange, int status, Headers headers, std::string body);
  bool StartStream(uint64_t exchange, int status, Headers headers);
  WriteResult Write(uint64_t exchange, std::string_view bytes);
  bool Finish(uint64_t exchange);
  void Abort(uint64_t exchange);
  void Abandon(uint64_t exchange);  // the handler let go of the response
  void OnClosed(uint64_t exchange, std::move_only_function<void()> callback);
  void OnWritable(uint64_t exchange, std::move_only_function<void()> callback);
  bool closed() const;

  std::list<std::shared_ptr<ServerConnection>>::iterator in_shard;

 private:
  enum class Phase {
    kIdle,       // no exchange
    kWaiting,    // the handler has the request; nothing of the final response is queued
    kStreaming,  // headers queued, body not complete
    kComplete,   // all of the response is queued, not all of it is sent
  };
  enum class Framing { kChunked, kLength, kUntilClose, kNoBody };

  // Reading.
  void ContinueReading();
  void OnReadable();
  void OnEndOfInput();
  void WatchForReset();
  std::unique_ptr<BodySink> OpenBody(const HttpRequest& head);
  void Pause();
  void Resume();
  void Consume(std::string_view data);
  size_t Parse(std::string_view data);
  void Dispatch();
  void RespondError(int status, const Error& error);

  // Writing.
  bool MayRespond(uint64_t exchange) const;  // mutex_ held
  void AppendHead(int status, const Headers& headers, std::optional<uint64_t> content_length);
  void DropCallbacks(std::unique_lock<std::mutex>& lock);  // unlocks
  void ScheduleFlush();                                    // mutex_ held
  void Flush();
  bool TakeQueued();  // moves what is queued to out_; false: nothing to send
  void SendOut();
  void FinishExchange();
  void NotifyIfWritable();
  void CloseGently();

  // Belongs to the loop's thread.
  const std::shared_ptr<ServerShard> shard_;
  boost::asio::ip::tcp::socket socket_;
  std::string remote_address_;
  std::string in_;  // received, not parsed; at most about kMaxAheadBytes or one header
  std::optional<RequestParser> parser_;
  SteadyTime read_deadline_ = SteadyTime::max();
  SteadyTime write_deadline_ = SteadyTime::max();
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
  bool watching_ = false;
  bool end_of_input_ = false;
  bool lingering_ = false;  // all sent, our side shut; waiting for the client to close
  bool sent_continue_ = false;
  bool paused_ = false;  // the body's sink has enough
  bool is_closed_ = false;
  struct {
    std::string head;       // status line and headers, interim responses, chunk size
    std::string data;       // body
    std::string_view tail;  // chunk end
    size_t sent = 0;        // of the three together
    size_t size() const { return head.size() + data.size() + tail.size(); }
  } out_;

  // Shared with the threads that answer.
  mutable std::mutex mutex_;
  uint64_t exchange_ = 0;
  Phase phase_ = Phase::kIdle;
  Framing framing_ = Framing::kChunked;
  bool gone_ = false;        // closed
  bool head_only_ = false;   // HEAD
  bool http_1_0_ = false;    // of this request
  bool keep_alive_ = false;  // after this exchange
  bool flush_scheduled_ = false;
  bool end_queued_ = false;      // kChunked: the last chunk goes out after queued_data_
  bool cut_after_send_ = false;  // Abort: the connection ends without an end of the stream
  uint64_t length_left_ = 0;     // kLength: bytes that are still to come
  std::string queued_head_;      // goes out before queued_data_
  std::string queued_data_;      // body bytes without chunk framing
  size_t in_flight_bytes_ = 0;   // of out_, not yet sent
  std::move_only_function<void()> on_closed_;
  std::move_only_function<void()> on_writable_;
};

}  // namespace tandem::net::internal
