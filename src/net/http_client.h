// An HTTP/1.1 client for upstream calls on the hot path: pooled keep-alive connections, responses
// streamed as they come, no redirects. (Downloads, with redirects and odd servers: net/download.h.)
//
// Threads: a call lives on one I/O thread: the calling one where Send is called on an I/O thread of
// `io`, so that a relay stays on the thread of its downstream connection; otherwise the next in
// turn. Handlers are called there and must not block.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "net/http_message.h"
#include "net/io_threads.h"

namespace tandem::net {

struct ClientRequest {
  std::string method = "GET";
  std::string url;  // http or https; user:password@ is refused
  // Host, Content-Length and, for a proxy, Proxy-Authorization are added.
  Headers headers = {};
  std::string body = {};

  // Zero: no limit. Each is kDeadlineExceeded, with the stage it hit.
  std::chrono::milliseconds connect_timeout{10'000};  // name, TCP, proxy and TLS together
  std::chrono::milliseconds first_byte_timeout{
      60'000};  // request sent to response headers complete
  // Between two pieces of the body that are progress (ResponseHandler::MadeProgress).
  std::chrono::milliseconds idle_timeout{60'000};
  std::chrono::milliseconds total_timeout{0};
};

struct ClientResponseHead {
  int status = 0;
  Headers headers;
};

// How far a call was when it ended.
enum class CallStage {
  kConnect,   // nothing was sent
  kResponse,  // sent in part or whole; the response's headers were not complete
  kBody,      // the head was given to the handler
  kComplete,
};

struct CallOutcome {
  // kUnavailable      no connection, or the peer cut it
  // kDeadlineExceeded
  // kCorrupt          the response is not HTTP
  // kFailedPrecondition  the peer's certificate is not to be trusted
  // kResourceExhausted   the response's headers are too large
  // kInvalidArgument  the request cannot be sent as it is: URL, headers
  // kUnsupported      the proxy setting is of a kind that is not spoken
  // kCancelled
  Status status;
  CallStage stage = CallStage::kConnect;
  bool reused_connection = false;
};

// Receives one response. Called on the call's thread; never again after OnDone, which comes exactly
// once whatever happens.
class ResponseHandler {
 public:
  virtual ~ResponseHandler() = default;
  // Any final status is a response, not an error. Interim ones (1xx) are skipped.
  virtual void OnHead(ClientResponseHead head) = 0;
  // The next bytes of the body, without chunked coding; valid until it returns.
  virtual void OnBody(std::string_view bytes) = 0;
  // Whether what came since this was last asked is what the caller waits for. Where it is not, as
  // with the comments by which a server keeps a connection alive, the timeout that runs goes on:
  // first_byte_timeout until there was progress, idle_timeout from then on. Asked after each read.
  virtual bool MadeProgress() { return true; }
  virtual void OnDone(CallOutcome outcome) = 0;
};

// A call under way. Thread: any. Letting go of it does not end the call.
class HttpCall {
 public:
  virtual ~HttpCall() = default;
  // Closes the connection soon, so that the peer knows; OnDone with kCancelled, unless it is over.
  virtual void Cancel() = 0;
  // Stops reading, so that the peer's sending stalls; at most 64 KB that had arrived may still be
  // given. Timeouts between pieces do not run meanwhile.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
};

struct HttpClientOptions {
  std::shared_ptr<IoThreads> io =
      nullptr;                      // to share threads with a server; default: one of its own
  size_t max_idle_per_origin = 64;  // kept open between calls, for each thread
  std::chrono::milliseconds pool_timeout{50'000};  // an idle connection is closed after this
  size_t max_header_bytes = 64 << 10;
  std::string ca_file = {};  // PEM; default: the system's certificates
  // http_proxy, https_proxy, all_proxy and no_proxy are read through this at every call.
  // Default: the process's environment; returning nothing turns proxies off.
  std::function<std::optional<std::string>(const std::string& name)> environment = nullptr;
  std::chrono::milliseconds timeout_resolution{25};  // how often timeouts are looked at
  const Clock* clock = nullptr;  // for timeouts; must outlive the client. Default: the real one
};

class HttpClient {
 public:
  // Errors: kNotFound or kCorrupt for ca_file; kIo.
  static Result<std::unique_ptr<HttpClient>> Create(HttpClientOptions options);
  // Cancels what runs and waits until every handler has had its OnDone. Not on an I/O thread.
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Starts a call; a request that cannot be sent is reported through OnDone too.
  // A pooled connection that the peer had closed before any byte of the response came is replaced
  // by a new one, once; nothing else is ever sent twice. Thread: any.
  std::shared_ptr<HttpCall> Send(ClientRequest request, std::unique_ptr<ResponseHandler> handler);

 private:
  struct Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::net
