// Where keys are kept: the interface, so that the rules of key_ring.h are tested without SQL.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/audit_log.h"
#include "gateway/auth/key_policy.h"

namespace tandem::gateway::auth {

struct KeyRecord {
  std::string id;                     // 8 base62 characters, unique
  std::string name;                   // unique among the keys neither revoked nor superseded
  std::array<uint8_t, 32> digest{};   // HMAC-SHA-256(pepper, key text)
  int64_t created_at = 0;             // seconds since 1970, here and below
  std::optional<int64_t> revoked_at;  // absent: not revoked
  KeyPolicy policy;
  // Under which spending is summed: the id of the first key, which its successors take over.
  std::string account;
  std::string superseded_by;               // the id of the key that replaced it; empty: none
  std::optional<int64_t> overlap_ends_at;  // of one that was replaced: refused from then on

  friend bool operator==(const KeyRecord&, const KeyRecord&) = default;
};

// Whether a call with it is accepted at this time.
bool InForce(const KeyRecord& record, int64_t now);

// Each change comes with the record that the audit log gets for it; both happen, or neither.
// Thread: one at a time. Several processes may use one store.
class KeyStore {
 public:
  virtual ~KeyStore() = default;
  // Errors: kAlreadyExists for the id, or for the name of a key neither revoked nor superseded.
  virtual Status Add(const KeyRecord& record, const AuditEvent& event) = 0;
  // Adds `next`, by which the key `id` is superseded. Errors: kNotFound where no key that is
  // neither revoked nor superseded has that id; kAlreadyExists for next's id.
  virtual Status Replace(std::string_view id, int64_t overlap_ends_at, const KeyRecord& next,
                         const AuditEvent& event) = 0;
  // Oldest first.
  virtual Result<std::vector<KeyRecord>> List() = 0;
  // All of them or none; `events` has one for each. Errors: kNotFound where one is revoked or
  // unknown.
  virtual Status Revoke(std::span<const std::string> ids, int64_t revoked_at,
                        std::span<const AuditEvent> events) = 0;
  // Keeps `proof` where none is kept yet; gives the one that is.
  virtual Result<std::string> KeepPepperProof(std::string_view proof) = 0;
  // A number that changes with every change of any process; cheap to read.
  virtual Result<int64_t> Version() = 0;
};

}  // namespace tandem::gateway::auth
