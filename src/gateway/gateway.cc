#include "gateway/gateway.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "gateway/answer.h"
#include "gateway/openai/error_table.h"
#include "gateway/openai/json_text.h"
#include "gateway/router/egress_policy.h"

namespace tandem::gateway {
namespace {

constexpr std::string_view kModelPath = "/v1/models/";
constexpr size_t kMaxRequestIdBytes = 128;

// 128 random bits in hexadecimal: names, not secrets.
std::string RandomHex() {
  // Made once a thread: each random_device asks the processor what it is, which under a hypervisor
  // costs more than the rest of a request.
  thread_local std::mt19937_64 engine = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(),
                       device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  const uint64_t high = engine();
  return fmt::format("{:016x}{:016x}", high, engine());
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

double Mebibytes(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

// One request on its way through the door.
struct Gateway::Call {
  net::HttpRequest request;
  std::shared_ptr<net::HttpResponse> response;
  net::Headers headers;  // of the response
  std::string request_id;
  auth::Principal principal;
};

Gateway::Gateway(GatewayOptions options, ModelDirectory* models, auth::KeyRing* keys,
                 const Clock* clock)
    : options_(std::move(options)),
      models_(models),
      keys_(keys),
      clock_(clock),
      in_flight_(std::make_shared<std::atomic<int>>(0)) {}

void Gateway::Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response) {
  Call call{std::move(request), std::move(response), {}, {}, {}};
  const std::string_view given = call.request.headers.Find("x-request-id").value_or("");
  call.request_id = IsSaneRequestId(given) ? std::string(given) : "req-" + RandomHex();
  call.headers.Set("x-request-id", call.request_id);
  if (!options_.cors_allow_origin.empty()) {
    call.headers.Set("Access-Control-Allow-Origin", options_.cors_allow_origin);
    call.headers.Set("Access-Control-Expose-Headers",
                     "x-request-id, x-tandem-tier, x-tandem-model, x-tandem-route-reason");
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
  if (path.starts_with("/v1/")) {
    if (Authenticate(call)) RouteV1(call);
    return;
  }
  SendFailure(call, {FailureCode::kNotFound,
                     fmt::format("there is no '{}' here; the API's paths begin with /v1/", path)});
}

void Gateway::RouteV1(Call& call) {
  const std::string_view path = call.request.path;
  if (path == "/v1/chat/completions" || path == "/v1/chat/streaming") {
    if (RequireMethod(call, "POST")) Chat(call, path == "/v1/chat/streaming");
  } else if (path == "/v1/models") {
    if (RequireMethod(call, "GET")) ListModels(call);
  } else if (path.starts_with(kModelPath)) {
    if (RequireMethod(call, "GET")) ShowModel(call, path.substr(kModelPath.size()));
  } else if (path == "/v1/device/memory-status") {
    if (RequireMethod(call, "GET")) MemoryStatus(call);
  } else {
    SendFailure(call, {FailureCode::kNotFound, fmt::format("there is no '{}' here", path)});
  }
}

void Gateway::Chat(Call& call, bool lines) {
  auto parsed = openai::ParseChatRequest(call.request.body, options_.body);
  if (!parsed) return SendFailure(call, parsed.error());
  if (draining_) {
    return SendFailure(
        call, {FailureCode::kShuttingDown, "the server is shutting down; send the request again"});
  }
  auto resolved = models_->Resolve(parsed->model);
  if (!resolved) {
    if (resolved.error().param.empty()) resolved.error().param = "model";
    return SendFailure(call, resolved.error());
  }
  Provider& provider = *resolved->provider;

  AnswerPlan plan;
  plan.route = {call.request_id, parsed->model, std::string(provider.model()), provider.tier(),
                resolved->reason};
  call.headers.Set("x-tandem-tier", TierName(provider.tier()));
  call.headers.Set("x-tandem-model", provider.model());
  call.headers.Set("x-tandem-route-reason", resolved->reason);
  parsed->generate.request_id = call.request_id;
  if (provider.tier() == Tier::kCloud) {
    // What the key and the conversation demand comes with the strategy; the request's own demands
    // are looked at here already.
    auto permit = EgressPolicy::Permit(parsed->generate, Privacy::kAny, Mode::kPreferOnDevice);
    if (!permit) {
      permit.error().param = "model";
      return SendFailure(call, permit.error());
    }
    parsed->generate.egress = *std::move(permit);
  }
  auto slot = InFlightSlot::TryTake(in_flight_, options_.max_in_flight);
  if (!slot) {
    return SendFailure(call, {FailureCode::kRateLimited,
                              fmt::format("{} answers are running already; try again shortly",
                                          options_.max_in_flight)});
  }

  plan.request = std::move(parsed->generate);
  plan.form = lines            ? AnswerForm::kLines
              : parsed->stream ? AnswerForm::kChunks
                               : AnswerForm::kWhole;
  plan.head = {"chatcmpl-" + RandomHex(), UnixSeconds(clock_->SystemNow()), plan.route.model};
  plan.include_usage = parsed->include_usage;
  plan.include_route = parsed->include_tandem;
  plan.parallel_tool_calls = parsed->parallel_tool_calls;
  plan.headers = std::move(call.headers);
  plan.key_id = call.principal.key_id;
  plan.max_pending_bytes = options_.max_pending_bytes;
  Answer::Run(std::move(plan), resolved->provider, std::move(call.response), *std::move(slot));
}

void Gateway::ListModels(Call& call) {
  std::string body = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  for (const ModelDirectory::Model& model : models_->List()) {
    if (!std::exchange(first, false)) body += ',';
    AppendModel(model, &body);
  }
  SendJson(call, 200, body + "]}");
}

void Gateway::ShowModel(Call& call, std::string_view encoded_id) {
  const std::optional<std::string> id = net::PercentDecode(encoded_id);
  for (const ModelDirectory::Model& model : models_->List()) {
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
  const Result<ModelDirectory::Memory> memory = models_->ReadMemory();
  if (!memory) return SendFailure(call, FailureFromError(memory.error()));
  // "mb" is 2^20 bytes, as the operating systems of devices count.
  SendJson(call, 200,
           fmt::format("{{\"available_mb\":{:.1f},\"total_mb\":{:.1f},\"limit_mb\":{:.1f},"
                       "\"weights_mb\":{:.1f},\"kv_cache_mb\":{:.1f}}}",
                       Mebibytes(memory->available_bytes), Mebibytes(memory->total_bytes),
                       Mebibytes(memory->limit_bytes), Mebibytes(memory->weights_bytes),
                       Mebibytes(memory->kv_cache_bytes)));
}

bool Gateway::Authenticate(Call& call) {
  auto principal = keys_->Verify(BearerKey(call.request.headers));
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
  AddRetryAfter(failure, &call.headers);
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
