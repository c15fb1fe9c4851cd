#include "net/transfer.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <curl/curl.h>

namespace tandem::net {
namespace {

// Larger than libcurl's default of 16 KiB: fewer wake-ups, writes and digest calls per gigabyte.
constexpr long kReceiveBufferBytes = 256L * 1024;
constexpr long kMinReceiveBufferBytes = 1024;  // libcurl's own
// How often the loop looks at the clock when nothing arrives.
constexpr int kPollMs = 200;
// A reply with more header bytes than this is not one that we want to read.
constexpr size_t kMaxHeaderBytes = 128UL * 1024;

// libcurl's CURL and CURLM are both void, so each owner names its own way to let go.
struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct MultiDeleter {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using EasyHandle = std::unique_ptr<CURL, EasyDeleter>;
using MultiHandle = std::unique_ptr<CURLM, MultiDeleter>;
using HeaderList = std::unique_ptr<curl_slist, ListDeleter>;
using UrlHandle = std::unique_ptr<CURLU, UrlDeleter>;

// Once per process, before the first handle.
void InitialiseCurl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)code;  // a failure shows as a handle that cannot be made
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

std::string UrlPart(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string value = text;
  curl_free(text);
  return value;
}

// Scheme, host and port, in one canonical spelling.
std::string Origin(CURLU* url) {
  return Lower(UrlPart(url, CURLUPART_SCHEME)) + "://" + Lower(UrlPart(url, CURLUPART_HOST)) + ":" +
         UrlPart(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

bool IsHttp(CURLU* url) {
  const std::string scheme = Lower(UrlPart(url, CURLUPART_SCHEME));
  return scheme == "http" || scheme == "https";
}

Status CheckUrl(const std::string& text) {
  const UrlHandle url(curl_url());
  const CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER);
  if (code == CURLUE_USER_NOT_ALLOWED) {
    return Err(ErrorCode::kInvalidArgument,
               "a URL with a user name or password in it is not accepted; use a token instead");
  }
  if (code != CURLUE_OK || !IsHttp(url.get())) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is not an http or https URL",
               UrlForMessages(text));
  }
  return {};
}

// A line break in a header would let its owner write headers of their own.
Status CheckHeaderValue(std::string_view what, std::string_view value) {
  const bool clean = std::ranges::all_of(
      value, [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7f); });
  if (clean) return {};
  return Err(ErrorCode::kInvalidArgument, "{} holds a line break or another control character",
             what);
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && std::string_view(" \t\r\n").contains(text.back())) text.remove_suffix(1);
  return text;
}

// The state of one hop, filled by libcurl's callbacks.
struct HopState {
  const TransferRequest* request = nullptr;
  const std::stop_token* stop = nullptr;
  ReplySink* sink = nullptr;
  ReplyHead head = {};
  bool head_complete = false;
  std::optional<Hop> next = {};  // set when the reply is a redirect that is to be followed
  Status failure = {};           // set by our side; libcurl then reports a write error
  size_t header_bytes = 0;
  uint64_t received_bytes = 0;

  // Decides, once the header block is whole, whether this reply is the answer or a redirect.
  Status CompleteHead() {
    head_complete = true;
    if (const auto location = head.headers.Find("location"); location && IsRedirect(head.status)) {
      TANDEM_ASSIGN_OR_RETURN(Hop hop, ResolveRedirect(head.url, std::string(*location)));
      if (hop.same_origin || request->redirects == TransferRequest::Redirects::kAll) {
        next = std::move(hop);
        return {};
      }
    }
    return sink->OnHead(head);
  }

  Status TakeHeaderLine(std::string_view line) {
    received_bytes += line.size();
    if (head_complete) return {};  // trailers of a chunked body
    header_bytes += line.size();
    if (header_bytes > kMaxHeaderBytes) {
      return Err(ErrorCode::kCorrupt, "{} sent more than {} bytes of headers",
                 UrlForMessages(head.url), kMaxHeaderBytes);
    }
    if (line.starts_with("HTTP/")) {  // a new block: an interim reply (1xx) came before it
      head.headers = {};
      head.status = 0;
      if (const size_t space = line.find(' '); space != line.npos) {
        for (const char c : line.substr(space + 1, 3)) {
          if (c < '0' || c > '9') break;
          head.status = head.status * 10 + (c - '0');
        }
      }
      return {};
    }
    if (Trim(line).empty()) return head.status >= 200 ? CompleteHead() : Status();
    if (const size_t colon = line.find(':'); colon != line.npos) {
      head.headers.Add(Trim(line.substr(0, colon)), Trim(line.substr(colon + 1)));
    }
    return {};
  }

  static size_t OnHeaderLine(char* data, size_t size, size_t count, void* self) {
    auto* hop = static_cast<HopState*>(self);
    hop->failure = hop->TakeHeaderLine({data, size * count});
    return hop->failure ? size * count : 0;
  }

  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    auto* hop = static_cast<HopState*>(self);
    hop->received_bytes += size * count;
    if (hop->next) return 0;            // nobody reads a redirect's body: end the hop
    if (hop->stop->stop_requested()) {  // a fast sender may never let the loop in Drive turn
      hop->failure = Err(ErrorCode::kCancelled, "cancelled");
      return 0;
    }
    hop->failure = hop->sink->OnBody({data, size * count});
    return hop->failure ? size * count : 0;
  }
};

std::unexpected<Error> CurlError(CURLcode code, const std::string& url, const char* detail) {
  const std::string_view target = UrlForMessages(url);
  const std::string_view reason = *detail != '\0' ? detail : curl_easy_strerror(code);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return Err(ErrorCode::kUnavailable,
                 "cannot reach {}: {}; check the network connection (behind a proxy, set "
                 "https_proxy)",
                 target, reason);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return Err(ErrorCode::kInvalidArgument, "cannot open {}: {}", target, reason);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return Err(ErrorCode::kFailedPrecondition,
                 "the certificate of {} is not trusted: {}; if a proxy here inspects TLS, add its "
                 "certificate to the system's store",
                 target, reason);
    case CURLE_OUT_OF_MEMORY:
      return Err(ErrorCode::kResourceExhausted, "out of memory while reading {}", target);
    case CURLE_WEIRD_SERVER_REPLY:
      return Err(ErrorCode::kCorrupt, "{} does not answer in HTTP: {}", target, reason);
    default:
      // What is left is a connection that could not be made, was refused, reset or cut.
      return Err(ErrorCode::kUnavailable, "the connection to {} failed: {}", target, reason);
  }
}

// Gives up on a transfer that crawls.
class StallWatch {
 public:
  StallWatch(const TransferRequest& request, const Clock& clock)
      : request_(request), clock_(clock), window_start_(clock.Now()) {}

  // `held_up`: by the sink, which is not the server's fault.
  bool Stalled(uint64_t received_bytes, std::chrono::nanoseconds held_up) {
    const SteadyTime now = clock_.Now() - held_up;
    if (now - window_start_ < request_.stall_window) return false;
    if (received_bytes - window_received_ < request_.stall_bytes) return true;
    window_start_ = now;
    window_received_ = received_bytes;
    return false;
  }

 private:
  const TransferRequest& request_;
  const Clock& clock_;
  SteadyTime window_start_;
  uint64_t window_received_ = 0;
};

Result<HeaderList> RequestHeaders(const TransferRequest& request, bool send_token) {
  std::vector<std::string> lines = {"Accept-Encoding: identity"};
  for (const Headers::Field& header : request.headers) {
    TANDEM_RETURN_IF_ERROR(CheckHeaderValue("header " + header.name, header.value));
    lines.push_back(header.name + ": " + header.value);
  }
  TANDEM_RETURN_IF_ERROR(CheckHeaderValue("the access token", request.bearer_token));
  if (send_token) lines.push_back("Authorization: Bearer " + request.bearer_token);
  HeaderList list;
  for (const std::string& line : lines) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) return Err(ErrorCode::kResourceExhausted, "out of memory");
    if (!list) list.reset(longer);  // else it is the same list, one longer at its end
  }
  return list;
}

void Configure(CURL* easy, const TransferRequest& request, HopState& hop, char* error_text) {
  curl_easy_setopt(easy, CURLOPT_URL, hop.head.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);  // ResolveRedirect decides
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "tandem");
  const long buffer_bytes =
      request.max_bytes_at_once == 0
          ? kReceiveBufferBytes
          : static_cast<long>(std::clamp<uint64_t>(request.max_bytes_at_once,
                                                   kMinReceiveBufferBytes, kReceiveBufferBytes));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, buffer_bytes);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(request.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  if (request.method == TransferRequest::Method::kHead) curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &HopState::OnHeaderLine);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &hop);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &HopState::OnBody);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &hop);
}

// Drives `easy` until it is done, stalled or stopped.
Result<CURLcode> Drive(CURLM* multi, CURL* easy, const TransferRequest& request, const Clock& clock,
                       const std::stop_token& stop, const HopState& hop) {
  if (curl_multi_add_handle(multi, easy) != CURLM_OK) {
    return Err(ErrorCode::kResourceExhausted, "cannot start a transfer");
  }
  const std::unique_ptr<CURL, std::function<void(CURL*)>> removal(
      easy, [multi](CURL* handle) { curl_multi_remove_handle(multi, handle); });
  const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });
  StallWatch watch(request, clock);
  while (true) {
    int running = 0;
    if (curl_multi_perform(multi, &running) != CURLM_OK) {
      return Err(ErrorCode::kInternal, "libcurl's transfer loop failed");
    }
    if (running == 0) break;
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    if (watch.Stalled(hop.received_bytes, hop.sink->held_up())) {
      return Err(ErrorCode::kDeadlineExceeded, "{} sent fewer than {} bytes in {} seconds",
                 UrlForMessages(hop.head.url), request.stall_bytes,
                 request.stall_window.count() / 1000);
    }
    curl_multi_poll(multi, nullptr, 0, kPollMs, nullptr);
  }
  int left = 0;
  const CURLMsg* message = curl_multi_info_read(multi, &left);
  if (message == nullptr) return Err(ErrorCode::kInternal, "libcurl lost a transfer");
  return message->data.result;
}

// Runs one hop; `hop` then holds its head and, for a redirect that is to be followed, the next URL.
Status RunHop(CURLM* multi, const TransferRequest& request, const Clock& clock,
              const std::stop_token& stop, HopState& hop) {
  const bool send_token = !request.bearer_token.empty() && !hop.head.left_origin;
  TANDEM_ASSIGN_OR_RETURN(const HeaderList headers, RequestHeaders(request, send_token));
  const EasyHandle easy(curl_easy_init());
  if (!easy) return Err(ErrorCode::kResourceExhausted, "cannot start a transfer");
  char error_text[CURL_ERROR_SIZE] = {};
  Configure(easy.get(), request, hop, error_text);
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  TANDEM_ASSIGN_OR_RETURN(const CURLcode code, Drive(multi, easy.get(), request, clock, stop, hop));
  if (!hop.failure) return hop.failure;
  if (hop.next) return {};  // its body, if any, was cut by us
  if (code != CURLE_OK) return CurlError(code, hop.head.url, error_text);
  if (!hop.head_complete) {
    return Err(ErrorCode::kUnavailable, "{} closed the connection without an answer",
               UrlForMessages(hop.head.url));
  }
  return {};
}

}  // namespace

Result<Hop> ResolveRedirect(const std::string& from, const std::string& location) {
  const UrlHandle url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, from.c_str(), 0) != CURLUE_OK) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is not a URL", UrlForMessages(from));
  }
  const std::string old_origin = Origin(url.get());
  const bool was_https = old_origin.starts_with("https:");
  const CURLUcode code =
      curl_url_set(url.get(), CURLUPART_URL, location.c_str(), CURLU_DISALLOW_USER);
  if (code == CURLUE_UNSUPPORTED_SCHEME || code == CURLUE_USER_NOT_ALLOWED) {
    return Err(ErrorCode::kFailedPrecondition, "{} redirects to a URL with {}; refused",
               UrlForMessages(from),
               code == CURLUE_USER_NOT_ALLOWED ? "credentials in it" : "an unsupported scheme");
  }
  if (code != CURLUE_OK) {
    return Err(ErrorCode::kCorrupt, "{} redirects to what is not a URL: '{}'", UrlForMessages(from),
               UrlForMessages(location));
  }
  if (!IsHttp(url.get())) {
    return Err(ErrorCode::kFailedPrecondition,
               "{} redirects to a URL with an unsupported scheme; "
               "refused",
               UrlForMessages(from));
  }
  const std::string new_origin = Origin(url.get());
  if (was_https && !new_origin.starts_with("https:")) {
    return Err(ErrorCode::kFailedPrecondition,
               "{} redirects from https to http ({}); refused, anyone on the way could change the "
               "bytes",
               UrlForMessages(from), new_origin);
  }
  return Hop{.url = UrlPart(url.get(), CURLUPART_URL), .same_origin = new_origin == old_origin};
}

Result<ReplyHead> RunTransfer(const TransferRequest& request, const Clock& clock,
                              const std::stop_token& stop, ReplySink& sink) {
  InitialiseCurl();
  TANDEM_RETURN_IF_ERROR(CheckUrl(request.url));
  const MultiHandle multi(curl_multi_init());
  if (!multi) return Err(ErrorCode::kResourceExhausted, "cannot start a transfer");
  std::string url = request.url;
  bool left_origin = false;
  for (int redirects = 0; redirects <= request.max_redirects; ++redirects) {
    HopState hop{.request = &request, .stop = &stop, .sink = &sink};
    hop.head.url = url;
    hop.head.left_origin = left_origin;
    TANDEM_RETURN_IF_ERROR(RunHop(multi.get(), request, clock, stop, hop));
    if (!hop.next) return std::move(hop.head);
    url = hop.next->url;
    left_origin = left_origin || !hop.next->same_origin;
  }
  return Err(ErrorCode::kFailedPrecondition, "{} redirects more than {} times",
             UrlForMessages(request.url), request.max_redirects);
}

Result<TextReply> FetchText(const TransferRequest& request, const Clock& clock,
                            const std::stop_token& stop, size_t max_body_bytes) {
  class Collector final : public ReplySink {
   public:
    Collector(const TransferRequest& request, size_t max_bytes)
        : request_(request), max_bytes_(max_bytes) {}
    Status OnHead(const ReplyHead&) override { return {}; }
    Status OnBody(std::string_view bytes) override {
      if (bytes.size() > max_bytes_ - body.size()) {
        return Err(ErrorCode::kResourceExhausted, "{} answered with more than {} bytes",
                   UrlForMessages(request_.url), max_bytes_);
      }
      body.append(bytes);
      return {};
    }
    std::string body;

   private:
    const TransferRequest& request_;
    size_t max_bytes_;
  };
  Collector collector(request, max_body_bytes);
  TANDEM_ASSIGN_OR_RETURN(ReplyHead head, RunTransfer(request, clock, stop, collector));
  return TextReply{std::move(head), std::move(collector.body)};
}

std::string_view UrlForMessages(std::string_view url) {
  return url.substr(0, url.find_first_of("?#"));
}

std::string UrlEncode(std::string_view text) {
  constexpr std::string_view kUnreserved = "-._~";
  std::string encoded;
  for (const unsigned char c : text) {
    if (std::isalnum(c) != 0 || kUnreserved.contains(static_cast<char>(c))) {
      encoded.push_back(static_cast<char>(c));
    } else {
      encoded += fmt::format("%{:02X}", c);
    }
  }
  return encoded;
}

}  // namespace tandem::net
