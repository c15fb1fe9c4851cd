// Virtual keys: who may call, and for what. Charter of gateway/auth: keys with their policies and
// rotation, budgets, and the audit log of changes; it includes base/, os/, crypto/ and store/.
// Deliberately absent: HTTP and its headers, prices (gateway/usage).
//
// A key is tdm_live_<8 base62: id>_<43 base62: secret><6 base62: CRC-32 of all before>. The
// checksum is no secret: it turns typing errors away before any look-up and lets scanners of leaked
// secrets be sure. Only an HMAC-SHA-256 of the key is stored, under a pepper that lies in a file
// beside the database, so that neither of the two alone lets anyone try keys.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/key_store.h"

namespace tandem::gateway::auth {

// The parts of a key whose form and checksum are right; nothing is said yet about whether it was
// ever issued. Views into the text.
struct KeyParts {
  std::string_view id;
  std::string_view secret;
};

// Errors: kUnauthenticated. The message never repeats any of the text.
// Cost: linear, no look-up.
Result<KeyParts> ParseKey(std::string_view text);

// Assembles a key from its id (8 base62 characters) and secret (43).
std::string FormatKey(std::string_view id, std::string_view secret);

// Errors: kInvalidArgument unless 1 to 64 of a-z A-Z 0-9 . _ - @, the first a letter or digit.
Status CheckKeyName(std::string_view name);

// What of a key may be shown and kept: "tdm_live_<id>".
std::string KeyPrefix(std::string_view id);

// Who makes a call, and what that key allows.
struct Principal {
  std::string key_id;
  std::string key_name;
  std::string account;  // under which its spending is summed; rotation does not change it
  KeyPolicy policy;
};

struct CreatedKey {
  std::string text;  // shown once, kept nowhere
  KeyRecord record;
};

struct RotatedKey {
  CreatedKey created;
  KeyRecord old;  // as it is now
};

// Every change is in the audit log together with `who` made it ("local:ann", "key:<id>").
// Thread: any. The store is used under this object's lock only.
class KeyRing {
 public:
  // Reads the pepper, or makes it (mode 0600) where there is neither a pepper nor a key. `store`
  // and `clock` must outlive this object. Errors: kFailedPrecondition where there are keys but no
  // pepper (none of them could be verified)
  //   or where others may read the pepper; kCorrupt; the store's and the file's.
  static Result<std::unique_ptr<KeyRing>> Open(KeyStore* store,
                                               const std::filesystem::path& pepper_file,
                                               const Clock* clock);

  // Errors: kInvalidArgument for the name or the policy, or where it expires in the past;
  // kAlreadyExists where a key that is neither revoked nor superseded has the name.
  Result<CreatedKey> Create(std::string_view name, const KeyPolicy& policy = {},
                            std::string_view who = "");

  // Makes a new key with the name, policy and account of the one given (by id, or by name of the
  // current one), which stays valid until the overlap ends (zero: it is refused at once).
  // Errors: kNotFound; kInvalidArgument for a negative overlap or one above 366 days;
  // kFailedPrecondition where the key is revoked, expired, or was rotated already.
  Result<RotatedKey> Rotate(std::string_view id_or_name, std::chrono::seconds overlap,
                            std::string_view who = "");

  // Who the key belongs to. Keys are kept in memory; a key that another process made counts at
  // once, one that it revoked is refused after at most kRefreshInterval; an expiry or the end of an
  // overlap counts when the clock reaches it.
  // Errors: kUnauthenticated, alike for an unknown, a wrong and a revoked key; one that expired is
  //   told so; the store's, but while it is kUnavailable (a shared database that is lost) known
  //   keys are taken as they were last seen: what is revoked meanwhile is refused only afterwards.
  // Cost: one HMAC; a read of the store's version once in kRefreshInterval and for an unknown id.
  Result<Principal> Verify(std::string_view key_text);

  // All keys, revoked ones too, oldest first.
  Result<std::vector<KeyRecord>> List();

  // One key by its id; or by its name the current one and those that still overlap with it. Counts
  // at once in this process. Returns them as they are now.
  // Errors: kNotFound; kFailedPrecondition where it is revoked already.
  Result<std::vector<KeyRecord>> Revoke(std::string_view id_or_name, std::string_view who = "");

  static constexpr std::chrono::milliseconds kRefreshInterval{500};

 private:
  KeyRing(KeyStore* store, const Clock* clock, std::string pepper);
  Status RefreshLocked(std::chrono::milliseconds max_age);
  Status ReloadLocked();
  CreatedKey MakeKey(std::string_view name, const KeyPolicy& policy) const;

  KeyStore* const store_;
  const Clock* const clock_;
  const std::string pepper_;  // 32 bytes

  std::mutex mutex_;                                   // guards all below, and the store
  std::unordered_map<std::string, KeyRecord> active_;  // by id; those not revoked
  std::optional<int64_t> version_;                     // of the store when active_ was read
  SteadyTime checked_{};                               // when version_ was last compared
  bool store_lost_ = false;                            // at the last comparison
};

}  // namespace tandem::gateway::auth
