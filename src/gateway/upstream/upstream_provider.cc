#include "gateway/upstream/upstream_provider.h"

#include <optional>
#include <utility>
#include <variant>

#include <fmt/format.h>
#include <boost/url.hpp>

#include "crypto/digest.h"
#include "gateway/upstream/completion_reader.h"
#include "gateway/upstream/request_body.h"
#include "gateway/upstream/upstream_error.h"

namespace tandem::gateway::upstream {
namespace {

constexpr size_t kMaxErrorBytes = size_t{64} << 10;

std::string HostOf(const UpstreamOptions& options) {
  const auto url = boost::urls::parse_uri(options.base_url);
  return url ? url->host() : std::string();
}

// "api.deepseek.com:443"
std::string DestinationOf(const UpstreamOptions& options) {
  const auto url = boost::urls::parse_uri(options.base_url);
  if (!url) return "";
  const std::string_view port = url->scheme() == "https" ? "443" : "80";
  return fmt::format("{}:{}", url->host(), url->has_port() ? std::string_view(url->port()) : port);
}

// An address of the loopback, not a name that looks like one ("127.example.com").
bool IsThisMachine(const boost::urls::url_view& url) {
  switch (url.host_type()) {
    case boost::urls::host_type::ipv4:
      return url.host_ipv4_address().is_loopback();
    case boost::urls::host_type::ipv6:
      return url.host_ipv6_address().is_loopback();
    default:
      return url.host() == "localhost";
  }
}

// Adds to the reader's events what only the call knows: when the first token came, and how the
// connection ended.
class CallHandler final : public net::ResponseHandler {
 public:
  CallHandler(std::string name, Egress egress, EventSink sink, const Clock* clock)
      : name_(std::move(name)),
        egress_(std::move(egress)),
        sink_(std::move(sink)),
        clock_(clock),
        started_(clock->Now()) {
    measured_ = [this](GenerateEvent event) {
      if (std::holds_alternative<TextDelta>(event)) {
        if (!first_token_) first_token_ = clock_->Now();
      } else if (auto* finished = std::get_if<Finished>(&event)) {
        finished->e2e_ms = MillisecondsBetween(started_, clock_->Now());
        if (first_token_) finished->ttft_ms = MillisecondsBetween(started_, *first_token_);
        if (was_sent_) finished->egress = std::move(egress_);
      } else if (was_sent_) {
        std::get<Failed>(event).egress = std::move(egress_);
      }
      sink_(std::move(event));
    };
  }

  void OnHead(net::ClientResponseHead head) override {
    was_sent_ = true;
    status_ = head.status;
    if (status_ != 200) {
      error_headers_ = std::move(head.headers);
      return;
    }
    const std::string_view type = head.headers.Find("Content-Type").value_or("");
    const bool whole = type.starts_with("application/json");
    reader_.emplace(whole ? CompletionReader::Form::kWhole : CompletionReader::Form::kStream,
                    &measured_);
  }

  void OnBody(std::string_view bytes) override {
    if (reader_) {
      reader_->Push(bytes);
    } else if (error_body_.size() < kMaxErrorBytes) {
      error_body_.append(bytes.substr(0, kMaxErrorBytes - error_body_.size()));
    }
  }

  bool MadeProgress() override {
    // An error's body is short and counts as it comes.
    if (!reader_) return true;
    return std::exchange(n_pieces_, reader_->n_pieces()) != reader_->n_pieces();
  }

  void OnDone(net::CallOutcome outcome) override {
    if (reader_ && reader_->ended()) return;
    was_sent_ = outcome.stage != net::CallStage::kConnect;
    if (!outcome.status && outcome.status.error().code == ErrorCode::kCancelled) {
      measured_(Finished{.reason = FinishReason::kCancelled});
    } else if (!outcome.status) {
      Error error = std::move(outcome.status).error();
      // Why a connection failed is this server's affair, not the client's mistake.
      const FailureCode code = error.code == ErrorCode::kDeadlineExceeded
                                   ? FailureCode::kDeadlineExceeded
                                   : FailureCode::kUnavailable;
      measured_(Failed{{code, fmt::format("{}: {}", name_, error.message)}});
    } else if (reader_) {
      reader_->End();
    } else {
      measured_(Failed{
          FailureFromStatus(status_, error_headers_, error_body_, name_, clock_->SystemNow())});
    }
  }

 private:
  const std::string name_;
  Egress egress_;  // moved into the terminal event
  bool was_sent_ = false;
  EventSink sink_;
  EventSink measured_;  // sink_ with times
  const Clock* const clock_;
  const SteadyTime started_;
  std::optional<SteadyTime> first_token_;
  uint64_t n_pieces_ = 0;  // of the reader, when MadeProgress was asked
  int status_ = 0;
  net::Headers error_headers_;
  std::string error_body_;  // at most kMaxErrorBytes
  std::optional<CompletionReader> reader_;
};

class UpstreamGeneration final : public Generation {
 public:
  explicit UpstreamGeneration(std::shared_ptr<net::HttpCall> call) : call_(std::move(call)) {}
  ~UpstreamGeneration() override { call_->Cancel(); }
  void Cancel() override { call_->Cancel(); }

 private:
  const std::shared_ptr<net::HttpCall> call_;
};

// Of a request that was refused before anything was started.
class NoGeneration final : public Generation {
 public:
  void Cancel() override {}
};

}  // namespace

Status Validate(const UpstreamOptions& options) {
  const auto wrong = [&](std::string_view what) {
    return std::unexpected(Error{
        ErrorCode::kInvalidArgument,
        fmt::format("upstream {}={}: {}", options.model, options.base_url, what), "base_url"});
  };
  if (options.model.empty()) return wrong("write MODEL=BASE_URL");
  const auto url = boost::urls::parse_uri(options.base_url);
  if (!url || url->host().empty()) {
    return wrong("write a URL such as https://api.deepseek.com/v1");
  }
  if (url->scheme() != "http" && url->scheme() != "https") return wrong("use http:// or https://");
  if (url->has_userinfo()) return wrong("give the key in the environment, not in the URL");
  if (url->has_query() || url->has_fragment()) return wrong("a base URL has no query or fragment");
  if (url->scheme() == "http" && !IsThisMachine(*url)) {
    return wrong("http:// would send the key and every text in the clear; use https://");
  }
  return {};
}

UpstreamProvider::UpstreamProvider(UpstreamOptions options, net::HttpClient* client,
                                   const Clock* clock)
    : options_(std::move(options)),
      quirks_(QuirksOf(options_.kind ? *options_.kind : KindOfHost(HostOf(options_)))),
      destination_(DestinationOf(options_)),
      client_(client),
      clock_(clock) {}

std::unique_ptr<Generation> UpstreamProvider::Start(GenerateRequest request, EventSink sink) {
  if (!request.egress || !request.egress->Covers(request.request_id) || request.local_only) {
    sink(Failed{{FailureCode::kPrivacyRefused,
                 "this request has no permit to leave the device, so it was not sent"}});
    return std::make_unique<NoGeneration>();
  }
  if (auto servable = CheckServable(quirks_, request); !servable) {
    sink(Failed{std::move(servable).error()});
    return std::make_unique<NoGeneration>();
  }
  net::ClientRequest call;
  call.method = "POST";
  call.url = ChatCompletionUrl(quirks_, options_.base_url, !request.assistant_prefix.empty());
  call.headers = {{"Content-Type", "application/json"}, {"Accept", "text/event-stream"}};
  if (!options_.api_key.empty()) call.headers.Add("Authorization", "Bearer " + options_.api_key);
  call.body = ChatCompletionBody(
      request, options_.upstream_model.empty() ? options_.model : options_.upstream_model, quirks_);
  call.connect_timeout = options_.connect_timeout;
  call.first_byte_timeout = options_.first_token_timeout;
  call.idle_timeout = options_.between_tokens_timeout;
  call.total_timeout = options_.total_timeout;
  Egress egress{.destination = destination_,
                .n_bytes = call.body.size(),
                .sha256 = crypto::Sha256Hex(call.body)};
  return std::make_unique<UpstreamGeneration>(client_->Send(
      std::move(call), std::make_unique<CallHandler>("the upstream of " + options_.model,
                                                     std::move(egress), std::move(sink), clock_)));
}

}  // namespace tandem::gateway::upstream
