// Charter of gateway/admin: read models and commands for people who run Tandem: configuration,
// targets and breakers, the roll-out, usage, the audit log, replay of a decision. It may include
// every room of the gateway. Deliberately absent: HTTP and who may call (gateway/ checks the
// scope), where the configuration lives (app/ implements ConfigurationDoor).
//
//   GET  config                  the configuration in force        PUT  config            another
//   one POST config/reload           reads its file again              GET  targets GET  canary
//   POST canary/start|promote|hold|rollback GET  usage?since_ms=&by=     GET  usage/{request id}
//   GET  replay/{request id} GET  audit?limit=&before=
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/audit_log.h"
#include "gateway/dispatch/dispatcher.h"
#include "gateway/usage/usage_reader.h"

namespace tandem::gateway::admin {

// "closed", "half_open", "open".
std::string_view BreakerName(Breaker::State state);

// The configuration as the admin API sees it. Thread: any.
class ConfigurationDoor {
 public:
  virtual ~ConfigurationDoor() = default;
  struct Version {
    uint64_t number = 0;
    std::string sha256;
    std::string file;  // empty: there is none
    std::string text;  // with where each value came from; never a secret
  };
  virtual Version Current() = 0;
  // Errors: what is wrong with it, by line and field; the version in force then stays.
  virtual Status Reload() = 0;
  // `expected_sha256`: of the version that the caller has seen, or empty. Errors: as Reload;
  // kFailedPrecondition where another one is in force.
  virtual Status Replace(std::string_view text, std::string_view expected_sha256) = 0;
};

struct AdminRequest {
  std::string_view method;
  std::string_view path;  // behind "/v1/admin/"
  std::map<std::string, std::string, std::less<>> query;
  std::string_view body;
  std::string_view if_match;  // the header of that name, without quotes
  std::string who;            // "key:<id>": for the audit log
};
struct AdminReply {
  int status = 200;
  std::string body;  // JSON
};

// Thread: any. Waits for the database: not for a thread that streams.
class Admin {
 public:
  // All of it outlives the object.
  struct Parts {
    dispatch::Dispatcher* dispatcher = nullptr;
    ConfigurationDoor* configuration = nullptr;
    usage::UsageReader* usage = nullptr;
    auth::AuditLog* audit = nullptr;
    const Clock* clock = nullptr;
    // Brings what waits into the store, so that a request that just ended is found.
    std::function<void()> flush;
  };
  explicit Admin(Parts parts) : parts_(std::move(parts)) {}

  // Errors become OpenAI's error object with their status.
  AdminReply Handle(const AdminRequest& request);

  // For the audit log: a change of the roll-out. Logs where it cannot be written.
  static dispatch::CanaryControl::Audit AuditOf(auth::AuditLog* audit);

 private:
  Result<AdminReply> Route(const AdminRequest& request);
  Result<AdminReply> Configuration(const AdminRequest& request);
  Result<AdminReply> Canary(const AdminRequest& request, std::string_view verb);
  Result<AdminReply> Usage(const AdminRequest& request);
  Result<AdminReply> UsageOf(std::string_view request_id);
  Result<AdminReply> Replay(std::string_view request_id);
  Result<AdminReply> Audit(const AdminRequest& request);
  AdminReply Targets();

  const Parts parts_;
};

}  // namespace tandem::gateway::admin
