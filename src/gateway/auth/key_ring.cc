#include "gateway/auth/key_ring.h"

#include <algorithm>
#include <array>
#include <span>
#include <system_error>
#include <utility>

#include <boost/json.hpp>

#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/random.h"
#include "os/file.h"

namespace tandem::gateway::auth {
namespace {

namespace json = boost::json;

constexpr std::string_view kPrefix = "tdm_live_";
constexpr size_t kIdLength = 8;
constexpr size_t kSecretLength = 43;   // 62^43 > 2^256
constexpr size_t kChecksumLength = 6;  // 62^6 > 2^32
constexpr size_t kKeyLength = kPrefix.size() + kIdLength + 1 + kSecretLength + kChecksumLength;
constexpr std::string_view kBase62 =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr size_t kPepperBytes = 32;
constexpr std::string_view kPepperProof = "tandem key pepper";  // what the proof is an HMAC of
constexpr size_t kMaxNameBytes = 64;
constexpr std::chrono::seconds kMaxOverlap = std::chrono::days(366);

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool IsBase62(std::string_view text) { return std::ranges::all_of(text, IsAlphanumeric); }

// CRC-32 of IEEE 802.3, the one of gzip and PNG.
uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

std::string Checksum(std::string_view text) {
  uint32_t rest = Crc32(text);
  std::string digits(kChecksumLength, '0');
  for (size_t i = kChecksumLength; i-- > 0; rest /= 62) digits[i] = kBase62[rest % 62];
  return digits;
}

// Uniform over base62: bytes from 248 = 4 * 62 up are thrown away.
std::string RandomBase62(size_t length) {
  std::string text;
  while (text.size() < length) {
    std::array<uint8_t, 64> bytes;
    crypto::RandomBytes(bytes);
    for (const uint8_t byte : bytes) {
      if (byte < 248 && text.size() < length) text += kBase62[byte % 62];
    }
  }
  return text;
}

Result<std::string> ReadPepper(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  using std::filesystem::perms;
  if (!error && (status.permissions() & (perms::group_all | perms::others_all)) != perms::none) {
    return Err(ErrorCode::kFailedPrecondition,
               "others may read '{}', which protects the keys; run: chmod 600 '{}'", path.string(),
               path.string());
  }
  TANDEM_ASSIGN_OR_RETURN(std::string text, os::ReadFile(path, 1024));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const Result<std::string> pepper = crypto::FromHex(text);
  if (!pepper || pepper->size() != kPepperBytes) {
    return Err(ErrorCode::kCorrupt,
               "'{}' must hold {} hexadecimal digits; restore it from a backup, or remove it and "
               "every key",
               path.string(), 2 * kPepperBytes);
  }
  return *pepper;
}

Result<std::string> ReadOrMakePepper(const std::filesystem::path& path, bool has_keys) {
  // Two processes that start together must not each make one.
  std::filesystem::path lock_file = path;
  lock_file += ".lock";
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(lock_file));
  std::error_code error;
  if (std::filesystem::exists(path, error) || error) return ReadPepper(path);
  if (has_keys) {
    return Err(ErrorCode::kFailedPrecondition,
               "'{}' is missing, so that no key can be verified; restore it from a backup, or "
               "copy it from another node that shares the database",
               path.string());
  }
  std::array<uint8_t, kPepperBytes> pepper;
  crypto::RandomBytes(pepper);
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(path, crypto::Hex(pepper) + "\n", 0600));
  return std::string(pepper.begin(), pepper.end());
}

std::unexpected<Error> NotAKey() {
  return Err(ErrorCode::kUnauthenticated,
             "this is not a valid API key; 'tandem keys create NAME' makes one, and it is sent as "
             "'Authorization: Bearer <key>'");
}

std::unexpected<Error> NoLongerAKey() {
  return Err(ErrorCode::kUnauthenticated,
             "this API key has expired or was replaced by a newer one; use that, or make one with "
             "'tandem keys create NAME'");
}

bool IsCurrent(const KeyRecord& key) { return !key.revoked_at && key.superseded_by.empty(); }

AuditEvent CreationEvent(const KeyRecord& key, std::string_view who) {
  const KeyPolicy& policy = key.policy;
  json::object detail{{"prefix", KeyPrefix(key.id)}, {"models", json::value_from(policy.models)},
                      {"device", policy.device},     {"cloud", policy.cloud},
                      {"privacy", policy.privacy},   {"chat", policy.chat},
                      {"admin", policy.admin}};
  if (policy.budget) {
    detail["budget_nano_usd"] = policy.budget->limit_nano_usd;
    detail["budget_period"] = BudgetPeriodName(policy.budget->period);
  }
  if (policy.expires_at) detail["expires_at"] = *policy.expires_at;
  return {"KEY_CREATE", std::string(who), key.name, json::serialize(detail)};
}

AuditEvent RotationEvent(const KeyRecord& old, const KeyRecord& next, std::string_view who) {
  const json::object detail{{"old_prefix", KeyPrefix(old.id)},
                            {"new_prefix", KeyPrefix(next.id)},
                            {"overlap_ends_at", old.overlap_ends_at.value_or(next.created_at)}};
  return {"KEY_ROTATION", std::string(who), next.name, json::serialize(detail)};
}

AuditEvent RevocationEvent(const KeyRecord& key, std::string_view who) {
  const json::object detail{{"prefix", KeyPrefix(key.id)}};
  return {"KEY_REVOKE", std::string(who), key.name, json::serialize(detail)};
}

std::string_view AsView(const crypto::Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace

Result<KeyParts> ParseKey(std::string_view text) {
  if (text.size() != kKeyLength || !text.starts_with(kPrefix)) return NotAKey();
  const std::string_view id = text.substr(kPrefix.size(), kIdLength);
  const size_t secret_start = kPrefix.size() + kIdLength + 1;
  const std::string_view secret = text.substr(secret_start, kSecretLength);
  const std::string_view checked = text.substr(0, secret_start + kSecretLength);
  if (text[secret_start - 1] != '_' || !IsBase62(id) || !IsBase62(secret) ||
      Checksum(checked) != text.substr(checked.size())) {
    return NotAKey();
  }
  return KeyParts{id, secret};
}

std::string FormatKey(std::string_view id, std::string_view secret) {
  std::string text = fmt::format("{}{}_{}", kPrefix, id, secret);
  text += Checksum(text);
  return text;
}

Status CheckKeyName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && IsAlphanumeric(name[0]) &&
                    std::ranges::all_of(name, [](char c) {
                      return IsAlphanumeric(c) || c == '.' || c == '_' || c == '-' || c == '@';
                    });
  if (good) return {};
  return Err(ErrorCode::kInvalidArgument,
             "a key's name is 1 to {} of a-z, A-Z, 0-9, '.', '_', '-' and '@', and begins with a "
             "letter or a digit",
             kMaxNameBytes);
}

std::string KeyPrefix(std::string_view id) { return fmt::format("{}{}", kPrefix, id); }

KeyRing::KeyRing(KeyStore* store, const Clock* clock, std::string pepper)
    : store_(store), clock_(clock), pepper_(std::move(pepper)) {}

Result<std::unique_ptr<KeyRing>> KeyRing::Open(KeyStore* store,
                                               const std::filesystem::path& pepper_file,
                                               const Clock* clock) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<KeyRecord> keys, store->List());
  TANDEM_ASSIGN_OR_RETURN(std::string pepper, ReadOrMakePepper(pepper_file, !keys.empty()));
  const std::string proof = crypto::Hex(crypto::HmacSha256(pepper, kPepperProof));
  TANDEM_ASSIGN_OR_RETURN(const std::string kept, store->KeepPepperProof(proof));
  if (kept != proof) {
    return Err(ErrorCode::kFailedPrecondition,
               "the keys in this database are protected with another pepper than '{}'; copy the "
               "key-pepper of the node that began it there, so that every node verifies them",
               pepper_file.string());
  }
  return std::unique_ptr<KeyRing>(new KeyRing(store, clock, std::move(pepper)));
}

CreatedKey KeyRing::MakeKey(std::string_view name, const KeyPolicy& policy) const {
  CreatedKey created;
  const std::string id = RandomBase62(kIdLength);
  created.text = FormatKey(id, RandomBase62(kSecretLength));
  created.record.id = id;
  created.record.name = name;
  created.record.digest = crypto::HmacSha256(pepper_, created.text);
  created.record.created_at = UnixSeconds(clock_->SystemNow());
  created.record.policy = policy;
  created.record.account = id;
  return created;
}

Result<CreatedKey> KeyRing::Create(std::string_view name, const KeyPolicy& policy,
                                   std::string_view who) {
  TANDEM_RETURN_IF_ERROR(CheckKeyName(name));
  TANDEM_RETURN_IF_ERROR(CheckKeyPolicy(policy));
  CreatedKey created = MakeKey(name, policy);
  if (policy.expires_at && *policy.expires_at <= created.record.created_at) {
    return Err(ErrorCode::kInvalidArgument, "a key must expire in the future");
  }
  std::lock_guard lock(mutex_);
  TANDEM_RETURN_IF_ERROR(store_->Add(created.record, CreationEvent(created.record, who)));
  version_.reset();
  return created;
}

Result<RotatedKey> KeyRing::Rotate(std::string_view id_or_name, std::chrono::seconds overlap,
                                   std::string_view who) {
  if (overlap < std::chrono::seconds::zero() || overlap > kMaxOverlap) {
    return Err(ErrorCode::kInvalidArgument, "an overlap lasts 0 to {} seconds, not {}",
               kMaxOverlap.count(), overlap.count());
  }
  std::lock_guard lock(mutex_);
  TANDEM_ASSIGN_OR_RETURN(const std::vector<KeyRecord> keys, store_->List());
  auto found = std::ranges::find(keys, id_or_name, &KeyRecord::id);
  if (found == keys.end()) {
    found = std::ranges::find_if(
        keys, [&](const KeyRecord& key) { return key.name == id_or_name && IsCurrent(key); });
  }
  if (found == keys.end()) {
    return Err(ErrorCode::kNotFound,
               "no key in force has the id or name '{}'; see 'tandem keys list'", id_or_name);
  }
  RotatedKey rotated{MakeKey(found->name, found->policy), *found};
  KeyRecord& next = rotated.created.record;
  if (!IsCurrent(*found) || !InForce(*found, next.created_at)) {
    return Err(ErrorCode::kFailedPrecondition,
               "the key '{}' is revoked, expired or was rotated already; see 'tandem keys list'",
               id_or_name);
  }
  next.account = found->account;
  rotated.old.superseded_by = next.id;
  rotated.old.overlap_ends_at = next.created_at + overlap.count();
  TANDEM_RETURN_IF_ERROR(store_->Replace(found->id, *rotated.old.overlap_ends_at, next,
                                         RotationEvent(rotated.old, next, who)));
  version_.reset();
  return rotated;
}

Result<Principal> KeyRing::Verify(std::string_view key_text) {
  TANDEM_ASSIGN_OR_RETURN(const KeyParts parts, ParseKey(key_text));
  const crypto::Digest digest = crypto::HmacSha256(pepper_, key_text);
  std::lock_guard lock(mutex_);
  TANDEM_RETURN_IF_ERROR(RefreshLocked(kRefreshInterval));
  const std::string id(parts.id);
  auto found = active_.find(id);
  if (found == active_.end()) {
    // Another process may have made it just now, and its user will try it at once.
    TANDEM_RETURN_IF_ERROR(RefreshLocked(std::chrono::milliseconds::zero()));
    found = active_.find(id);
  }
  if (found == active_.end()) return NotAKey();
  const KeyRecord& record = found->second;
  if (!crypto::ConstantTimeEqual(AsView(digest), AsView(record.digest))) return NotAKey();
  if (!InForce(record, UnixSeconds(clock_->SystemNow()))) return NoLongerAKey();
  return Principal{record.id, record.name, record.account, record.policy};
}

Result<std::vector<KeyRecord>> KeyRing::List() {
  std::lock_guard lock(mutex_);
  return store_->List();
}

Result<std::vector<KeyRecord>> KeyRing::Revoke(std::string_view id_or_name, std::string_view who) {
  std::lock_guard lock(mutex_);
  const int64_t now = UnixSeconds(clock_->SystemNow());
  TANDEM_ASSIGN_OR_RETURN(const std::vector<KeyRecord> keys, store_->List());
  const bool is_id = std::ranges::count(keys, id_or_name, &KeyRecord::id) > 0;
  bool known = false;
  std::vector<KeyRecord> revoked;
  for (const KeyRecord& key : keys) {
    if (id_or_name != (is_id ? key.id : key.name)) continue;
    known = true;
    if (key.revoked_at) continue;
    revoked.push_back(key);
    revoked.back().revoked_at = now;
  }
  if (!known) {
    return Err(ErrorCode::kNotFound, "no key has the id or name '{}'; see 'tandem keys list'",
               id_or_name);
  }
  if (revoked.empty()) {
    return Err(ErrorCode::kFailedPrecondition, "the key '{}' is revoked already", id_or_name);
  }
  std::vector<std::string> ids;
  std::vector<AuditEvent> events;
  for (const KeyRecord& key : revoked) {
    ids.push_back(key.id);
    events.push_back(RevocationEvent(key, who));
  }
  TANDEM_RETURN_IF_ERROR(store_->Revoke(ids, now, events));
  version_.reset();
  return revoked;
}

// Brings active_ up to date with the store, unless that was compared less than max_age ago.
Status KeyRing::RefreshLocked(std::chrono::milliseconds max_age) {
  const SteadyTime now = clock_->Now();
  if (version_ && now - checked_ < max_age) return {};
  // Read before the list: a change in between is then seen at the next comparison.
  const Result<int64_t> version = store_->Version();
  const bool lost = !version && version.error().code == ErrorCode::kUnavailable;
  if (lost && version_ && max_age > std::chrono::milliseconds::zero()) {
    if (!store_lost_) {
      log::Warning("keys are verified as they were last known: {}", version.error().message);
    }
    store_lost_ = true;
    checked_ = now;
    return {};
  }
  TANDEM_RETURN_IF_ERROR(version);
  if (std::exchange(store_lost_, false)) log::Info("keys are verified as they are again");
  if (version_ != *version) {
    TANDEM_RETURN_IF_ERROR(ReloadLocked());
    version_ = *version;
  }
  checked_ = now;
  return {};
}

Status KeyRing::ReloadLocked() {
  TANDEM_ASSIGN_OR_RETURN(std::vector<KeyRecord> keys, store_->List());
  active_.clear();
  for (KeyRecord& key : keys) {
    if (!key.revoked_at) active_.emplace(key.id, std::move(key));
  }
  return {};
}

}  // namespace tandem::gateway::auth
