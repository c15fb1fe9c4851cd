// An HTTP/1.1 server for many slow streams: requests in, full or streamed responses out.
//
// Threads: each connection lives on one I/O thread. The handler is called there and must not block;
// it may answer at once or keep the HttpResponse and answer later from any thread.
//
// A client that leaves, what can be seen of it on Linux:
//   - a reset (RST; also what an aborting client causes once we send to it): at once;
//   - the end of its stream (FIN) alone is a half-close: such a client may well still read, and is
//     served to the end. A client that closed its socket altogether looks the same until we send
//     something: the next Write brings the RST back, one or two chunks later. While no response has
//     been started there is nothing to send, so the server sends "100 Continue" as a probe (any
//     HTTP/1.1 client must accept it), at most once a request and only after a FIN.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "net/http_message.h"
#include "net/io_threads.h"

namespace tandem::net {

enum class WriteResult {
  kOk,
  kFull,    // nothing was taken: the client reads too slowly. Wait for OnWritable, or give it up
  kClosed,  // nothing was taken and nothing will be: the client is gone or the response is complete
};

// One request's response, held by shared_ptr. Exactly one SendFull, or one StartStream with any
// number of Writes and one Finish. Letting go of the last reference before that answers 500 where
// nothing was sent yet, and otherwise cuts the connection, so that no cut stream looks complete.
// Thread: any, and it may outlive the server. No call waits, and none writes to the socket itself.
class HttpResponse {
 public:
  virtual ~HttpResponse() = default;

  // Status, headers and body in one write. Content-Length, Date and Connection are added. Line
  // breaks in header values become spaces. False: the client is gone, or a response was started
  // before.
  virtual bool SendFull(int status, Headers headers, std::string body) = 0;

  // Sends status and headers at once; the body follows by Write, chunked (HTTP/1.0: until the
  // connection closes), or as it is where `headers` give a Content-Length, which then must come
  // true: a stream that is longer or shorter is cut. Same result as SendFull.
  virtual bool StartStream(int status, Headers headers) = 0;

  // Queues bytes of the body; all that is queued when the connection's thread comes round goes out
  // as one chunk in one write. kFull: more than max_buffered_bytes would wait (a single Write into
  // an empty buffer is always taken).
  virtual WriteResult Write(std::string_view bytes) = 0;

  // Ends a stream properly. False: the client is gone, or there is no stream.
  virtual bool Finish() = 0;

  // Sends what was written and cuts the connection without ending the stream: the client sees a
  // truncated answer.
  virtual void Abort() = 0;

  // Calls once, on the connection's thread, if the client goes away (or the server stops, or the
  // client reads nothing for write_timeout) before SendFull, Finish or Abort. Dropped after those.
  // Where the client is gone already: at once, on the calling thread. The callback must not own
  // this response.
  virtual void OnClosed(std::move_only_function<void()> callback) = 0;

  // Calls once, on the connection's thread, when at most half of max_buffered_bytes still waits.
  // For use after kFull. Not called if the client goes away; OnClosed is.
  virtual void OnWritable(std::move_only_function<void()> callback) = 0;

  // True once the client is known to be gone.
  virtual bool closed() const = 0;
};

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an IPv4 or IPv6 address, or a name; "::" also takes IPv4
  uint16_t port = 0;               // 0: any free one, see HttpServer::port()

  int io_threads = 1;                       // where `io` is not given
  std::shared_ptr<IoThreads> io = nullptr;  // to share threads with a client

  size_t max_header_bytes = 32 << 10;                // request line and headers; beyond: 431
  size_t max_body_bytes = 16 << 20;                  // beyond: 413
  size_t max_buffered_bytes = 256 << 10;             // unsent bytes of one response; beyond: kFull
  int max_connections = 10000;                       // beyond: 503
  std::chrono::milliseconds header_timeout{15'000};  // a request's first byte to the headers' end
  std::chrono::milliseconds body_timeout{60'000};    // between two reads of a request's body
  std::chrono::milliseconds idle_timeout{120'000};   // no request on an open connection
  std::chrono::milliseconds write_timeout{60'000};  // the client takes nothing of what waits for it
  std::chrono::milliseconds linger_timeout{2'000};  // for the client to close its end after us
  std::chrono::milliseconds timeout_resolution{250};  // how often these are looked at

  // The body of an error that the server itself answers (400, 408, 413, 431, 500, 503, 505), so
  // that whoever owns the wire format owns these too. Called on I/O threads, possibly at the same
  // time.
  struct ErrorBody {
    std::string content_type;
    std::string body;
  };
  std::function<ErrorBody(int status, const Error& error)> render_error = nullptr;  // default: text

  // Called with a request's head when a body is about to come: what takes that body in place of
  // HttpRequest::body, without limit; null: max_body_bytes holds as usual. `resume` may be called
  // from any thread and at any time. Called on I/O threads; must not block.
  std::function<std::unique_ptr<BodySink>(const HttpRequest& head, std::function<void()> resume)>
      open_body = nullptr;

  const Clock* clock = nullptr;  // for the timeouts; must outlive the server. Default: the real one
};

// Called on I/O threads, with several of them at the same time.
using HttpHandler = std::move_only_function<void(HttpRequest, std::shared_ptr<HttpResponse>)>;

class HttpServer {
 public:
  // Binds, listens and starts serving.
  // Errors: kAlreadyExists address in use, kPermissionDenied, kInvalidArgument not an address of
  // this machine or not an address at all, kIo.
  static Result<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, HttpHandler handler);
  ~HttpServer();  // Stop()

  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port that it listens on.
  uint16_t port() const;

  // Open connections, for health figures. Thread: any.
  int n_connections() const;

  // Stops accepting, closes idle connections, lets running requests finish, then stops. True: all
  // of them finished; false: `timeout` (real time) passed first, and the rest was cut. Thread: any
  // but the I/O threads. May be called while Stop is, and more than once.
  bool Drain(std::chrono::milliseconds timeout);

  // Closes everything now; the handler is not called after it returns. Thread: as Drain.
  void Stop();

 private:
  class Listener;
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::net
