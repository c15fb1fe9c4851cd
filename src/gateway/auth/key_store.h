// Where keys are kept: the interface, so that the rules of key_ring.h are tested without SQL.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"

namespace tandem::gateway::auth {

struct KeyRecord {
  std::string id;                     // 8 base62 characters, unique
  std::string name;                   // unique among the keys that are not revoked
  std::array<uint8_t, 32> digest{};   // HMAC-SHA-256(pepper, key text)
  int64_t created_at = 0;             // seconds since 1970
  std::optional<int64_t> revoked_at;  // absent: in force

  friend bool operator==(const KeyRecord&, const KeyRecord&) = default;
};

// Thread: one at a time. Several processes may use one store.
class KeyStore {
 public:
  virtual ~KeyStore() = default;
  // Errors: kAlreadyExists for the id, or for the name of a key in force.
  virtual Status Add(const KeyRecord& record) = 0;
  // Oldest first.
  virtual Result<std::vector<KeyRecord>> List() = 0;
  // Errors: kNotFound where no key in force has that id.
  virtual Status Revoke(std::string_view id, int64_t revoked_at) = 0;
  // A number that changes with every Add and Revoke of any process; cheap to read.
  virtual Result<int64_t> Version() = 0;
};

}  // namespace tandem::gateway::auth
