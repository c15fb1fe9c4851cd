// One HTTP exchange through libcurl: GET or HEAD, redirects followed by our rules, body streamed
// into a sink. For hub calls and downloads, where redirects, proxies and odd servers matter and a
// few microseconds do not. Retries live above (net/download.h, net/retry.h).
//
// Redirect rules: a bearer token goes to the origin (scheme, host, port) of the first URL only, and
// never again once a redirect has left it; https never goes down to http; http and https are the
// only schemes. Proxies are taken from the usual environment variables (https_proxy, no_proxy,
// ...).
#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "net/http_message.h"

namespace tandem::net {

struct TransferRequest {
  enum class Method { kGet, kHead };
  enum class Redirects {
    kSameOrigin,  // a redirect that leaves the origin is returned as the reply
    kAll,
  };

  std::string url;  // http or https; user:password@ is refused, so that no log can show it
  Method method = Method::kGet;
  Headers headers = {};           // sent on every hop; never put a credential here
  std::string bearer_token = {};  // empty: none
  Redirects redirects = Redirects::kAll;
  int max_redirects = 10;
  std::chrono::milliseconds connect_timeout{20'000};
  // A transfer that brings fewer than stall_bytes in any stall_window is given up. The window is
  // measured on the caller's clock.
  std::chrono::milliseconds stall_window{30'000};
  uint64_t stall_bytes = 4096;
  // The sink gets no more than about so many bytes at a time; 0: as many as come. For a sink that
  // keeps to a rate.
  uint64_t max_bytes_at_once = 0;
};

struct ReplyHead {
  int status = 0;
  Headers headers;           // of the last hop
  std::string url;           // of the last hop
  bool left_origin = false;  // a redirect led away from the first URL's origin
};

// Receives the reply that no redirect replaces. An error ends the transfer and is returned as is.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual Status OnHead(const ReplyHead& head) = 0;
  virtual Status OnBody(std::string_view bytes) = 0;
  // For how long this sink has kept the transfer waiting so far, on the caller's clock, to keep to
  // a limit: that is no stall of the server.
  virtual std::chrono::nanoseconds held_up() const { return {}; }
};

// Runs one exchange and returns its head once the body has ended; any HTTP status is a reply, not
// an error.
// Errors: kUnavailable (no connection, name not resolved, cut in the middle) and kDeadlineExceeded
//   (stalled) may pass on another attempt; kCancelled when `stop` was requested; kInvalidArgument
//   for a URL that is not ours to open; kFailedPrecondition for a certificate that is not trusted
//   or a redirect that the rules above forbid; kCorrupt for a reply that is not HTTP; what the sink
//   returned. Messages name the URL without its query, which may hold a signature.
// Thread: any; blocks the caller. Notices `stop` at once.
Result<ReplyHead> RunTransfer(const TransferRequest& request, const Clock& clock,
                              const std::stop_token& stop, ReplySink& sink);

struct TextReply {
  ReplyHead head;
  std::string body;
};

// RunTransfer into memory. Errors: also kResourceExhausted for a body above max_body_bytes.
Result<TextReply> FetchText(const TransferRequest& request, const Clock& clock,
                            const std::stop_token& stop, size_t max_body_bytes);

// Where a redirect leads, by the rules above.
struct Hop {
  std::string url;
  bool same_origin = false;  // as `from`
};
// `location` may be relative to `from`. Errors: kFailedPrecondition for https to http, for another
// scheme and for a URL with credentials in it; kCorrupt for what is not a URL.
Result<Hop> ResolveRedirect(const std::string& from, const std::string& location);

// `url` without query and fragment, for messages.
std::string_view UrlForMessages(std::string_view url);

// Percent-encodes everything but unreserved characters (RFC 3986, 2.3).
std::string UrlEncode(std::string_view text);

}  // namespace tandem::net
