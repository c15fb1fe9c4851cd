#include "app/admin_client.h"

#include <future>
#include <memory>
#include <utility>

#include <boost/json.hpp>

#include "net/http_client.h"

namespace tandem::app {
namespace {

namespace json = boost::json;

constexpr size_t kMaxReplyBytes = size_t{16} << 20;
constexpr std::chrono::seconds kTimeout{30};

struct Reply {
  net::CallOutcome outcome;
  int status = 0;
  std::string body;
};

class Collector final : public net::ResponseHandler {
 public:
  explicit Collector(std::promise<Reply> done) : done_(std::move(done)) {}
  void OnHead(net::ClientResponseHead head) override { reply_.status = head.status; }
  void OnBody(std::string_view bytes) override {
    if (reply_.body.size() + bytes.size() <= kMaxReplyBytes) reply_.body += bytes;
  }
  void OnDone(net::CallOutcome outcome) override {
    reply_.outcome = std::move(outcome);
    done_.set_value(std::move(reply_));
  }

 private:
  Reply reply_;
  std::promise<Reply> done_;
};

std::string MessageOf(const std::string& body) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  if (!error && value.is_object()) {
    const json::value* details = value.get_object().if_contains("error");
    const json::value* message =
        details && details->is_object() ? details->get_object().if_contains("message") : nullptr;
    if (message && message->is_string()) return std::string(message->get_string());
  }
  return "it did not say why";
}

}  // namespace

Result<std::string> CallAdmin(const AdminAddress& address, std::string_view method,
                              std::string_view path, std::string body) {
  if (address.key.empty()) {
    return Err(ErrorCode::kUnauthenticated,
               "this needs a key with the scope admin: put it into TANDEM_ADMIN_KEY; 'tandem keys "
               "create NAME --scope admin' makes one");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto client, net::HttpClient::Create({}));
  net::ClientRequest request{.method = std::string(method),
                             .url = fmt::format("{}/v1/admin/{}", address.url, path),
                             .body = std::move(body),
                             .total_timeout = kTimeout};
  request.headers.Set("Authorization", "Bearer " + address.key);
  request.headers.Set("Content-Type", "application/json");
  std::promise<Reply> promise;
  auto future = promise.get_future();
  client->Send(std::move(request), std::make_unique<Collector>(std::move(promise)));
  Reply reply = future.get();
  if (!reply.outcome.status) return Wrap(std::move(reply.outcome.status).error(), address.url);
  if (reply.status >= 200 && reply.status < 300) return std::move(reply.body);
  const ErrorCode code = reply.status == 401   ? ErrorCode::kUnauthenticated
                         : reply.status == 403 ? ErrorCode::kPermissionDenied
                         : reply.status == 404 ? ErrorCode::kNotFound
                         : reply.status == 409 ? ErrorCode::kFailedPrecondition
                         : reply.status < 500  ? ErrorCode::kInvalidArgument
                                               : ErrorCode::kUnavailable;
  return Err(code, "the server refuses: {}", MessageOf(reply.body));
}

}  // namespace tandem::app
