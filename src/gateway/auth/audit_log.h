// Who changed what, in a chain: each record's digest covers the one before it, so that a record
// that was changed, removed or put in between is found.
//
// The chain alone cannot convict somebody who may write to the whole database and computes every
// digest anew. Against that, keep the head that Verify returns somewhere else from time to time,
// and give it to a later Verify.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "store/database.h"

namespace tandem::gateway::auth {

// KEY_CREATE, KEY_ROTATION, KEY_REVOKE, CONFIG_CHANGE, CANARY_START, CANARY_PROMOTE, ...
struct AuditEvent {
  std::string action;
  std::string who;      // "local:ann", "key:<id of an admin key>", "canary"
  std::string subject;  // what it was done to: a key's name, a configuration's digest
  std::string detail;   // a JSON object; never a key, never text of a conversation

  friend bool operator==(const AuditEvent&, const AuditEvent&) = default;
};

struct AuditRecord {
  int64_t number = 0;  // 1, 2, ... without gaps
  int64_t at_ms = 0;   // since 1970
  AuditEvent event;
  std::string digest;  // SHA-256 of the one before and all above, hexadecimal

  friend bool operator==(const AuditRecord&, const AuditRecord&) = default;
};

// The end of the chain.
struct AuditHead {
  int64_t number = 0;  // 0: there is no record
  std::string digest;

  friend bool operator==(const AuditHead&, const AuditHead&) = default;
};

// "17:9f86d0...": what `tandem audit verify` prints and takes. Errors: kInvalidArgument.
std::string FormatAuditHead(const AuditHead& head);
Result<AuditHead> ParseAuditHead(std::string_view text);

// Thread: any. Errors of every call: the database's.
class AuditLog {
 public:
  // Makes or upgrades the tables. Both must outlive this object.
  static Result<std::unique_ptr<AuditLog>> Open(store::Database* database, const Clock* clock);

  // Durable when it returns. To be called before the change takes effect, so that no change goes
  // without its record. Errors: kInvalidArgument without an action.
  Status Append(const AuditEvent& event);

  // The same as part of a transaction that makes the change itself. Only for writes that were begun
  // with Database::BeginWrite.
  static Status AppendTo(store::Transaction* transaction, int64_t at_ms, const AuditEvent& event);

  // Newest first, at most `limit`; with `before` > 0 only those with a lower number.
  Result<std::vector<AuditRecord>> List(int limit, int64_t before = 0);

  // Walks the whole chain and returns its end. `known`: an end that was seen earlier and must still
  // be in it. Errors: kCorrupt, naming the first record that is wrong and what that means.
  Result<AuditHead> Verify(const std::optional<AuditHead>& known = std::nullopt);

 private:
  AuditLog(store::Database* database, const Clock* clock) : database_(database), clock_(clock) {}
  store::Database* const database_;
  const Clock* const clock_;
};

}  // namespace tandem::gateway::auth
