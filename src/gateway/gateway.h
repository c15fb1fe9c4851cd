// The gateway's door: a request in, a metered stream out. Charter of gateway/: HTTP requests of the
// public API, from the key to the last byte of the answer; it includes base/, net/ and the
// gateway's rooms. Deliberately absent: sockets (net/ calls Handle), models and their loading (app/
// gives a ModelDirectory), who answers (gateway/dispatch), configuration files.
//
//   POST /v1/chat/completions, /v1/chat/streaming    GET /v1/models, /v1/models/{id}
//   POST /v1/route/explain                           GET /v1/device/memory-status
//   POST /v1/models/deploy                           POST /v1/models/npu-reset
//   POST /v1/events                                  GET /v1/receipts/{request id}
//   POST /v1/models/compatibility-check, /v1/models/npu-compatibility
//   POST /v1/models/download
//   /v1/admin/... (scope admin; gateway/admin)       GET /metrics (scope admin)
//   GET /healthz, /readyz, /version (no key)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "gateway/admin/admin.h"
#include "gateway/auth/budget.h"
#include "gateway/auth/key_ring.h"
#include "gateway/bookkeeper.h"
#include "gateway/deployment_desk.h"
#include "gateway/device_advisor.h"
#include "gateway/dispatch/dispatcher.h"
#include "gateway/openai/chat_request.h"
#include "gateway/package_depot.h"
#include "gateway/provider/provider.h"
#include "gateway/usage/usage_reader.h"
#include "metrics/registry.h"
#include "net/http_server.h"

namespace tandem::gateway {

// What the gateway asks about models; app/ implements it over the engine and the fleet.
// Thread: any. Called on I/O threads: no call may wait for a model to load.
class ModelDirectory {
 public:
  virtual ~ModelDirectory() = default;

  struct Model {
    std::string id;
    int64_t created = 0;              // seconds since 1970
    std::string owned_by = "tandem";  // OpenAI's field
  };
  // Every name of a model that is answered to, aliases too, in the order to show them in.
  virtual std::vector<Model> List() = 0;

  struct Memory {
    uint64_t available_bytes = 0;
    uint64_t total_bytes = 0;
    uint64_t limit_bytes = 0;     // what this process may use
    uint64_t weights_bytes = 0;   // of the loaded models
    uint64_t kv_cache_bytes = 0;  // of the running sessions
  };
  virtual Result<Memory> ReadMemory() = 0;
};

struct GatewayOptions {
  std::string version;  // for /version
  openai::BodyLimits body;
  // Chat answers running at the same time; beyond: 429 with Retry-After.
  int max_in_flight = 64;
  // Of one answer, beyond what net/ buffers for a client that reads too slowly; beyond: the
  // generation is cancelled and the connection cut.
  size_t max_pending_bytes = size_t{1} << 20;
  // An origin ("https://app.example") or "*" for browsers; empty: no CORS headers at all.
  std::string cors_allow_origin;
};

// What the gateway works with. All of it outlives the gateway and every answer.
struct GatewayParts {
  ModelDirectory* models = nullptr;
  dispatch::Dispatcher* dispatcher = nullptr;
  auth::KeyRing* keys = nullptr;
  const Clock* clock = nullptr;
  // Null, each: what needs it answers 404.
  Bookkeeper* books = nullptr;            // receipts; keys have no budgets without
  auth::BudgetLedger* budgets = nullptr;  // null: keys have no budgets
  usage::UsageReader* usage = nullptr;    // receipts
  admin::Admin* admin = nullptr;          // /v1/admin/
  DeploymentDesk* deployments = nullptr;  // /v1/models/deploy, /v1/models/npu-reset
  metrics::Registry* metrics = nullptr;   // /metrics
  relay::Timers* timers = nullptr;        // heartbeats of streams; null: none
  DeviceAdvisor* devices = nullptr;       // /v1/models/compatibility-check, npu-compatibility
  PackageDepot* packages = nullptr;       // /v1/models/download
};

// Thread: any.
class Gateway {
 public:
  Gateway(GatewayOptions options, GatewayParts parts);

  // Answers every request exactly once, now or later from a provider's thread. Never waits.
  // Errors are OpenAI's error object with the status of gateway/openai/error_table.h.
  void Handle(net::HttpRequest request, std::shared_ptr<net::HttpResponse> response);

  // From now on new chats get 503 and /readyz says so; running answers go on.
  void Drain() { draining_ = true; }

  // Chat answers that run now.
  int n_in_flight() const { return *in_flight_; }

 private:
  struct Call;
  void Route(Call& call);
  void RouteV1(Call& call);
  std::expected<dispatch::Incoming, Failure> ToIncoming(const Call& call,
                                                        openai::ChatRequest& parsed) const;
  void Chat(Call& call, bool lines);
  void ExplainRoute(Call& call);
  bool ReserveBudget(Call& call, dispatch::RoutedRequest& routed);
  void RecordEvent(Call& call);
  void ShowReceipt(Call& call, std::string_view request_id);
  void Administer(Call& call, std::string_view path);
  void ShowMetrics(Call& call);
  bool RequireAdmin(Call& call);
  void AdviseDevice(Call& call, bool npu);
  void DescribeDownload(Call& call);
  void ListModels(Call& call);
  void ShowModel(Call& call, std::string_view encoded_id);
  void MemoryStatus(Call& call);
  void Deploy(Call& call);
  void ResetAccelerators(Call& call);
  bool Authenticate(Call& call);
  void Preflight(Call& call);
  static void SendJson(Call& call, int status, std::string body);
  static void SendFailure(Call& call, const Failure& failure);
  static bool RequireMethod(Call& call, std::string_view method);

  const GatewayOptions options_;
  const GatewayParts parts_;
  std::atomic<bool> draining_ = false;
  // Shared with the answers, which may outlive this object.
  const std::shared_ptr<std::atomic<int>> in_flight_;
};

// The body of an error that net/ itself answers: for HttpServerOptions::render_error.
net::HttpServerOptions::ErrorBody RenderHttpError(int status, const Error& error);

}  // namespace tandem::gateway
