#include "gateway/gateway.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <random>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/log.h"
#include "gateway/answer.h"
#include "gateway/openai/error_table.h"
#include "gateway/openai/json_text.h"
#include "gateway/openai/object_reader.h"
#include "gateway/router/record.h"

namespace tandem::gateway {
namespace {

constexpr std::string_view kModelPath = "/v1/models/";
constexpr std::string_view kReceiptPath = "/v1/receipts/";
constexpr std::string_view kAdminPath = "/v1/admin/";
constexpr size_t kMaxRequestIdBytes = 128;
constexpr std::chrono::seconds kFlushTimeout{2};

void AppendHex(uint64_t value, std::string* out) {
  for (int shift = 60; shift >= 0; shift -= 4) *out += "0123456789abcdef"[(value >> shift) & 15];
}

// 128 bits in hexadecimal: names, not secrets. The first 48 are the time in milliseconds, so that
// records of one time lie side by side in the store's index, the others are random.
std::string NewId(std::string_view prefix, SystemTime now) {
  // Made once a thread: each random_device asks the processor what it is, which under a hypervisor
  // costs more than the rest of a request.
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  std::string id(prefix);
  id.reserve(prefix.size() + 32);
  AppendHex(static_cast<uint64_t>(ms.count()) << 16 | engine() >> 48, &id);
  AppendHex(engine(), &id);
  return id;
}

// A request id from outside goes into logs and headers, so it must be plain.
bool IsSaneRequestId(std::string_view id) {
  return !id.empty() && id.size() <= kMaxRequestIdBytes && std::ranges::all_of(id, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '_' || c == '.' || c == ':';
  });
}

// The credentials of "Bearer <key>"; empty where the header is missing or another scheme.
std::string_view BearerKey(const net::Headers& headers) {
  constexpr std::string_view kScheme = "Bearer ";
  std::string_view value = headers.Find("Authorization").value_or("");
  if (!net::EqualsIgnoreCase(value.substr(0, kScheme.size()), kScheme)) return {};
  value.remove_prefix(kScheme.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  while (value.ends_with(' ')) value.remove_suffix(1);
  return value;
}

void AppendModel(const ModelDirectory::Model& model, std::string* out) {
  *out += "{\"id\":";
  openai::AppendJsonString(model.id, out);
  fmt::format_to(std::back_inserter(*out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":", model.created);
  openai::AppendJsonString(model.owned_by, out);
  *out += '}';
}

// This server as the client calls it: by the Host header, and the scheme that a proxy in front says
// it was called with. Empty where that is no host; URLs are then paths.
std::string BaseUrl(const net::Headers& headers) {
  const std::string_view host = headers.Find("Host").value_or("");
  const bool plain = std::ranges::all_of(host, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '_' || c == '.' || c == ':' || c == '[' || c == ']';
  });
  if (host.empty() || !plain) return {};
  const bool https = headers.Find("X-Forwarded-Proto") == "https";
  return fmt::format("{}://{}", https ? "https" : "http", host);
}

double Mebibytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

// One request on its way through the door.
struct Gateway::Call {
  net::HttpRequest request;
  std::shared_ptr<net::HttpResponse> response;
  net::Headers headers;  // of the response
  std::string request_id;
  std::string client_request_id;  // empty: none, or not a sane one
  auth::Principal principal;
};

Gateway::Gateway(GatewayOptions options, GatewayParts parts)
    : options_(std::move(options)),
      parts_(parts),
      in_flight_(std::make_shared<std::atomic<int>>(0)) {}

void Gateway::Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
  Call call{std::move(request), std::move(response), {}, {}, {}, {}};
  // Records and receipts go by an id of our own: two clients may send the same.
  call.request_id = NewId("req-", parts_.clock->SystemNow());
  const std::string_view given = call.request.headers.Find("x-request-id").value_or("");
  if (IsSaneRequestId(given)) call.client_request_id = given;
  call.headers.Set("x-request-id",
                   call.client_request_id.empty() ? call.request_id : call.client_request_id);
  call.headers.Set("x-tandem-request-id", call.request_id);
  if (!options_.cors_allow_origin.empty()) {
    call.headers.Set("Access-Control-Allow-Origin", options_.cors_allow_origin);
    call.headers.Set("Access-Control-Expose-Headers",
                     "x-request-id, x-tandem-request-id, x-tandem-tier, x-tandem-model, "
                     "x-tandem-route-reason, x-should-retry, retry-after");
  }
  Route(call);
}

void Gateway::Route(Call& call) {
  const std::string_view path = call.request.path;
  if (call.request.method == "OPTIONS" && !options_.cors_allow_origin.empty()) {
    return Preflight(call);
  }
  if (path == "/healthz") {
    if (RequireMethod(call, "GET")) SendJson(call, 200, R"({"status":"ok"})");
    return;
  }
  if (path == "/readyz") {
    if (!RequireMethod(call, "GET")) return;
    return draining_ ? SendJson(call, 503, R"({"status":"draining"})")
                     : SendJson(call, 200, R"({"status":"ready"})");
  }
  if (path == "/version") {
    if (!RequireMethod(call, "GET")) return;
    std::string body = "{\"version\":";
    openai::AppendJsonString(options_.version, &body);
    return SendJson(call, 200, body + "}");
  }
  if (path == "/metrics") {
    if (RequireMethod(call, "GET") && Authenticate(call) && RequireAdmin(call)) ShowMetrics(call);
    return;
  }
  if (path.starts_with("/v1/")) {
    if (Authenticate(call)) RouteV1(call);
    return;
  }
  SendFailure(call, {FailureCode::kNotFound,
                     fmt::format("there is no '{}' here; the API's paths begin with /v1/", path)});
}

void Gateway::RouteV1(Call& call) {
  const std::string_view path = call.request.path;
  if (path.starts_with(kAdminPath)) {
    if (RequireAdmin(call)) Administer(call, path.substr(kAdminPath.size()));
    return;
  }
  if (!call.principal.policy.chat) {
    return SendFailure(call, {FailureCode::kPermissionDenied,
                              "this key is for the admin API only; make one with the scope chat"});
  }
  if (path == "/v1/chat/completions" || path == "/v1/chat/streaming") {
    if (RequireMethod(call, "POST")) Chat(call, path == "/v1/chat/streaming");
  } else if (path == "/v1/route/explain") {
    if (RequireMethod(call, "POST")) ExplainRoute(call);
  } else if (path == "/v1/events") {
    if (RequireMethod(call, "POST")) RecordEvent(call);
  } else if (path.starts_with(kReceiptPath)) {
    if (RequireMethod(call, "GET")) ShowReceipt(call, path.substr(kReceiptPath.size()));
  } else if (path == "/v1/models/compatibility-check" || path == "/v1/models/npu-compatibility") {
    if (RequireMethod(call, "POST")) AdviseDevice(call, path == "/v1/models/npu-compatibility");
  } else if (path == "/v1/models/download") {
    if (RequireMethod(call, "POST")) DescribeDownload(call);
  } else if (path == "/v1/models") {
    if (RequireMethod(call, "GET")) ListModels(call);
  } else if (path == "/v1/models/deploy") {
    if (RequireMethod(call, "POST")) Deploy(call);
  } else if (path == "/v1/models/npu-reset") {
    if (RequireMethod(call, "POST")) ResetAccelerators(call);
  } else if (path.starts_with(kModelPath)) {
    if (RequireMethod(call, "GET")) ShowModel(call, path.substr(kModelPath.size()));
  } else if (path == "/v1/device/memory-status") {
    if (RequireMethod(call, "GET")) MemoryStatus(call);
  } else {
    SendFailure(call, {FailureCode::kNotFound, fmt::format("there is no '{}' here", path)});
  }
}

// The body of a chat as the dispatcher takes it. `generate` is empty afterwards.
std::expected<dispatch::Incoming, Failure> Gateway::ToIncoming(const Call& call,
                                                               openai::ChatRequest& parsed) const {
  dispatch::Incoming incoming;
  if (!parsed.mode.empty()) {
    const Result<Mode> mode = ParseMode(parsed.mode);
    if (!mode) {
      return std::unexpected(Failure{FailureCode::kInvalidRequest, mode.error().message, "mode"});
    }
    incoming.mode = *mode;
  }
  incoming.request = std::move(parsed.generate);
  incoming.request.request_id = call.request_id;
  incoming.client_request_id = call.client_request_id;
  incoming.model = parsed.model;
  incoming.user = std::move(parsed.user);
  incoming.conversation_id = std::move(parsed.conversation_id);
  if (incoming.conversation_id.empty()) {
    incoming.conversation_id = call.request.headers.Find("x-tandem-conversation").value_or("");
  }
  incoming.may_fall_back = parsed.may_fall_back;
  incoming.streamed = parsed.stream;
  incoming.max_ttft_ms = parsed.max_ttft_ms;
  incoming.max_latency_ms = parsed.max_latency_ms;
  incoming.max_cost_usd = parsed.max_cost_usd;
  incoming.key_id = call.principal.key_id;
  incoming.account = call.principal.account;
  const auth::KeyPolicy& policy = call.principal.policy;
  incoming.key.models = policy.models;
  incoming.key.device = policy.device;
  incoming.key.cloud = policy.cloud;
  // What is stored was checked; a name that this version does not know is as strict as can be.
  incoming.key.privacy = ParsePrivacy(policy.privacy).value_or(Privacy::kOnDevice);
  if (policy.budget && parts_.budgets != nullptr) {
    incoming.key.budget_left_usd =
        static_cast<double>(parts_.budgets->Left(call.principal.account, *policy.budget)) / 1e9;
  }
  return incoming;
}

void Gateway::Chat(Call& call, bool lines) {
  auto parsed = openai::ParseChatRequest(call.request.body, options_.body);
  if (!parsed) return SendFailure(call, parsed.error());
  parsed->stream |= lines;
  AnswerPlan plan;
  plan.wants_calls = !parsed->generate.tools_json.empty();
  plan.wants_logprobs = parsed->generate.top_logprobs.has_value();
  plan.quality_check = parsed->generate.quality_check;
  auto incoming = ToIncoming(call, *parsed);
  if (!incoming) return SendFailure(call, incoming.error());
  if (draining_) {
    const Failure failure{FailureCode::kShuttingDown,
                          "the server is shutting down; send the request again"};
    parts_.dispatcher->RecordRefusal(*incoming, failure);
    return SendFailure(call, failure);
  }
  auto slot = InFlightSlot::TryTake(in_flight_, options_.max_in_flight);
  if (!slot) {
    const Failure failure{
        FailureCode::kRateLimited,
        fmt::format("{} answers are running already; try again shortly", options_.max_in_flight)};
    parts_.dispatcher->RecordRefusal(*incoming, failure);
    return SendFailure(call, failure);
  }
  auto routed = parts_.dispatcher->Route(*std::move(incoming));
  if (routed && !ReserveBudget(call, **routed)) return;
  if (!routed) {
    if (routed.error().param.empty()) routed.error().param = "model";
    return SendFailure(call, routed.error());
  }

  plan.form = lines            ? AnswerForm::kLines
              : parsed->stream ? AnswerForm::kChunks
                               : AnswerForm::kWhole;
  const SystemTime now = parts_.clock->SystemNow();
  plan.head = {NewId("chatcmpl-", now), UnixSeconds(now), parsed->model};
  plan.route.request_id = call.request_id;
  plan.route.requested_model = std::move(parsed->model);
  plan.route.privacy = (*routed)->privacy();
  plan.include_usage = parsed->include_usage;
  plan.include_route = parsed->include_tandem;
  plan.parallel_tool_calls = parsed->parallel_tool_calls;
  plan.headers = std::move(call.headers);
  plan.key_id = call.principal.key_id;
  plan.max_pending_bytes = options_.max_pending_bytes;
  plan.clock = parts_.clock;
  plan.timers = parts_.timers;
  Answer::Run(std::move(plan), *routed, std::move(call.response), *std::move(slot));
}

void Gateway::ExplainRoute(Call& call) {
  auto parsed = openai::ParseChatRequest(call.request.body, options_.body);
  if (!parsed) return SendFailure(call, parsed.error());
  auto incoming = ToIncoming(call, *parsed);
  if (!incoming) return SendFailure(call, incoming.error());
  const auto record = parts_.dispatcher->Explain(*incoming);
  if (!record) return SendFailure(call, record.error());
  SendJson(call, 200, DecisionRecordJson(*record));
}

// Puts aside what the dearest candidate will probably cost; false where the key has not that much,
// and the call is answered.
bool Gateway::ReserveBudget(Call& call, dispatch::RoutedRequest& routed) {
  if (parts_.budgets == nullptr || parts_.books == nullptr) return true;
  double dearest = 0;
  for (const Candidate& candidate : routed.record().decision.candidates) {
    dearest = std::max(dearest, candidate.predicted_cost_usd);
  }
  auto reservation = parts_.budgets->Reserve(call.principal.account, call.principal.policy.budget,
                                             static_cast<usage::NanoUsd>(dearest * 1e9));
  if (reservation) {
    parts_.books->Reserve(call.request_id, *std::move(reservation));
    return true;
  }
  // A shared database that is lost does not open the budgets of those who share it.
  const bool exceeded = reservation.error().code == ErrorCode::kResourceExhausted;
  const Failure failure{exceeded ? FailureCode::kBudgetExceeded : FailureCode::kUnavailable,
                        reservation.error().message};
  routed.Refuse(failure);
  SendFailure(call, failure);
  return false;
}

// {"request_id":"req-...","event":"..."}: the user made use of an answer.
void Gateway::RecordEvent(Call& call) {
  boost::system::error_code error;
  const boost::json::value body = boost::json::parse(call.request.body, error);
  const boost::json::object* object = body.if_object();
  if (error || object == nullptr) {
    return SendFailure(call, {FailureCode::kInvalidRequest, "the body must be a JSON object"});
  }
  const openai::ObjectReader reader(*object, "");
  const auto id = reader.String("request_id");
  const auto event = reader.String("event");
  if (!id || !event) return SendFailure(call, !id ? id.error() : event.error());
  if (!*id || !*event) {
    return SendFailure(
        call, {FailureCode::kInvalidRequest, "is required", !*id ? "request_id" : "event"});
  }
  // Answers outside a roll-out have no arm to compare; that is no mistake of the application.
  const bool counted = parts_.dispatcher->Engage(**id).has_value();
  SendJson(call, 202, counted ? R"({"status":"counted"})" : R"({"status":"not_in_a_rollout"})");
}

void Gateway::ShowReceipt(Call& call, std::string_view request_id) {
  // An answer reaches the client a moment before its books are closed.
  Failure none{FailureCode::kNotFound, "there is no receipt of a request by that id (yet)"};
  none.retry_after = std::chrono::seconds(1);
  if (parts_.usage == nullptr || parts_.books == nullptr) return SendFailure(call, none);
  parts_.books->Flush(kFlushTimeout);
  auto record = parts_.usage->Find(request_id);
  if (!record) return SendFailure(call, FailureFromError(std::move(record).error()));
  const bool theirs =
      *record && ((*record)->key_id == call.principal.key_id || call.principal.policy.admin);
  if (!theirs || (*record)->receipt_json.empty()) return SendFailure(call, none);
  SendJson(call, 200, std::move((*record)->receipt_json));
}

bool Gateway::RequireAdmin(Call& call) {
  if (call.principal.policy.admin) return true;
  SendFailure(call, {FailureCode::kPermissionDenied,
                     "this needs a key with the scope admin; 'tandem keys create NAME --scope "
                     "admin' makes one"});
  return false;
}

void Gateway::Administer(Call& call, std::string_view path) {
  if (parts_.admin == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server has no admin API"});
  }
  admin::AdminRequest request{.method = call.request.method,
                              .path = path,
                              .query = net::ParseQuery(call.request.query),
                              .body = call.request.body,
                              .if_match = call.request.headers.Find("If-Match").value_or(""),
                              .who = "key:" + call.principal.key_id};
  if (request.if_match.size() >= 2 && request.if_match.starts_with('"')) {
    request.if_match = request.if_match.substr(1, request.if_match.size() - 2);
  }
  admin::AdminReply reply = parts_.admin->Handle(request);
  SendJson(call, reply.status, std::move(reply.body));
}

void Gateway::ShowMetrics(Call& call) {
  if (parts_.metrics == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server keeps no figures"});
  }
  call.headers.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  call.response->SendFull(200, std::move(call.headers), parts_.metrics->PrometheusText());
}

void Gateway::AdviseDevice(Call& call, bool npu) {
  if (parts_.devices == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server knows no devices"});
  }
  auto answer = npu ? AnswerNpuCompatibility(*parts_.devices, call.request.body)
                    : AnswerCompatibilityCheck(*parts_.devices, call.request.body);
  if (!answer) return SendFailure(call, answer.error());
  SendJson(call, 200, *std::move(answer));
}

void Gateway::DescribeDownload(Call& call) {
  if (parts_.packages == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server is no depot"});
  }
  auto question = ParseDownload(call.request.body);
  if (!question) return SendFailure(call, question.error());
  const auth::KeyPolicy& policy = call.principal.policy;
  if (!policy.models.empty() &&
      std::ranges::find(policy.models, question->model) == policy.models.end()) {
    return SendFailure(call, {FailureCode::kModelNotFound,
                              fmt::format("this key may not use '{}'", question->model), "model"});
  }
  std::string base_url = BaseUrl(call.request.headers);
  auto kept = std::make_shared<Call>(std::move(call));
  parts_.packages->Describe(*question, [kept, question = *question, base_url = std::move(base_url)](
                                           Result<PackageDepot::Package> package) {
    if (!package) return SendFailure(*kept, DownloadFailure(package.error()));
    SendJson(*kept, 200, DownloadBody(question, *package, base_url));
  });
}

void Gateway::ListModels(Call& call) {
  std::string body = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  for (const ModelDirectory::Model& model : parts_.models->List()) {
    if (!std::exchange(first, false)) body += ',';
    AppendModel(model, &body);
  }
  SendJson(call, 200, body + "]}");
}

void Gateway::ShowModel(Call& call, std::string_view encoded_id) {
  const std::optional<std::string> id = net::PercentDecode(encoded_id);
  for (const ModelDirectory::Model& model : parts_.models->List()) {
    if (model.id != id) continue;
    std::string body;
    AppendModel(model, &body);
    return SendJson(call, 200, std::move(body));
  }
  SendFailure(call, {FailureCode::kModelNotFound,
                     fmt::format("there is no model '{}'; GET /v1/models lists what there is",
                                 id.value_or(std::string(encoded_id))),
                     "model"});
}

void Gateway::MemoryStatus(Call& call) {
  const Result<ModelDirectory::Memory> memory = parts_.models->ReadMemory();
  if (!memory) return SendFailure(call, FailureFromError(memory.error()));
  // "mb" is 2^20 bytes, as the operating systems of devices count.
  SendJson(call, 200,
           fmt::format("{{\"available_mb\":{:.1f},\"total_mb\":{:.1f},\"limit_mb\":{:.1f},"
                       "\"weights_mb\":{:.1f},\"kv_cache_mb\":{:.1f}}}",
                       Mebibytes(memory->available_bytes), Mebibytes(memory->total_bytes),
                       Mebibytes(memory->limit_bytes), Mebibytes(memory->weights_bytes),
                       Mebibytes(memory->kv_cache_bytes)));
}

void Gateway::Deploy(Call& call) {
  if (parts_.deployments == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server deploys no models"});
  }
  auto order = ParseDeployOrder(call.request.body);
  if (!order) return SendFailure(call, order.error());
  const auth::KeyPolicy& policy = call.principal.policy;
  const bool known = policy.models.empty() ||
                     std::ranges::find(policy.models, order->model) != policy.models.end();
  if (!policy.device || !known) {
    return SendFailure(call,
                       {FailureCode::kPermissionDenied,
                        fmt::format("this key may not deploy '{}'", order->model), "model_id"});
  }
  parts_.deployments->Deploy(*std::move(order),
                             [later = std::make_shared<Call>(std::move(call))](
                                 std::expected<DeploymentDesk::Deployed, Failure> deployed) {
                               if (!deployed) return SendFailure(*later, deployed.error());
                               SendJson(*later, 200, RenderDeployed(*deployed));
                             });
}

void Gateway::ResetAccelerators(Call& call) {
  if (parts_.deployments == nullptr) {
    return SendFailure(call, {FailureCode::kNotFound, "this server has no accelerators"});
  }
  auto device_id = ParseResetOrder(call.request.body);
  if (!device_id) return SendFailure(call, device_id.error());
  if (!call.principal.policy.device) {
    return SendFailure(call, {FailureCode::kPermissionDenied, "this key may not use the device"});
  }
  parts_.deployments->ResetAccelerators(
      [later = std::make_shared<Call>(std::move(call)),
       device_id = *std::move(device_id)](std::expected<int, Failure> n) {
        if (!n) return SendFailure(*later, n.error());
        SendJson(*later, 200, RenderReset(device_id, *n));
      });
}

bool Gateway::Authenticate(Call& call) {
  auto principal = parts_.keys->Verify(BearerKey(call.request.headers));
  if (principal) {
    call.principal = *std::move(principal);
    return true;
  }
  if (principal.error().code == ErrorCode::kUnauthenticated) {
    call.headers.Set("WWW-Authenticate", "Bearer realm=\"tandem\"");
  } else {
    log::Error("{} keys cannot be checked: {}", call.request_id, principal.error().message);
  }
  SendFailure(call, FailureFromError(std::move(principal.error())));
  return false;
}

void Gateway::Preflight(Call& call) {
  call.headers.Set("Access-Control-Allow-Methods", "GET, POST");
  call.headers.Set("Access-Control-Allow-Headers", "authorization, content-type, x-request-id");
  call.headers.Set("Access-Control-Max-Age", "600");
  call.response->SendFull(204, std::move(call.headers), "");
}

void Gateway::SendJson(Call& call, int status, std::string body) {
  call.headers.Set("Content-Type", "application/json");
  call.response->SendFull(status, std::move(call.headers), std::move(body));
}

void Gateway::SendFailure(Call& call, const Failure& failure) {
  AddRetryHeaders(failure, &call.headers);
  SendJson(call, openai::WireErrorOf(failure.code).http_status, openai::ErrorBody(failure));
}

bool Gateway::RequireMethod(Call& call, std::string_view method) {
  const bool get = method == "GET";
  // net/ leaves the body of an answer to HEAD out.
  if (call.request.method == method || (get && call.request.method == "HEAD")) return true;
  call.headers.Set("Allow", get ? "GET, HEAD" : method);
  SendFailure(call, {FailureCode::kMethodNotAllowed,
                     fmt::format("'{}' takes {} only", call.request.path, method)});
  return false;
}

net::HttpServerOptions::ErrorBody RenderHttpError(int status, const Error& error) {
  FailureCode code = FailureCode::kInvalidRequest;
  if (status == 413) code = FailureCode::kPayloadTooLarge;
  if (status == 500) code = FailureCode::kInternal;
  if (status == 503) code = FailureCode::kUnavailable;
  return {"application/json", openai::ErrorBody({code, error.message, error.param})};
}

}  // namespace tandem::gateway
