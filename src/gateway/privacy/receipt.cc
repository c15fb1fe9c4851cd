#include "gateway/privacy/receipt.h"

#include <span>
#include <utility>

#include <fmt/chrono.h>
#include <boost/json.hpp>

#include "crypto/digest.h"
#include "os/file.h"

namespace tandem::gateway::privacy {
namespace {

namespace json = boost::json;

constexpr int64_t kVersion = 1;
constexpr size_t kMaxKeyFileBytes = 4096;
constexpr size_t kSignatureDigits = 2 * crypto::kSignatureBytes;
constexpr std::string_view kSignatureMember = ",\"signature\":\"";

std::string Rfc3339(SystemTime time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const int64_t seconds = ms >= 0 ? ms / 1000 : (ms - 999) / 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds)),
                     ms - seconds * 1000);
}

json::value EgressJson(const std::optional<Egress>& egress) {
  if (!egress) return nullptr;
  return {
      {"destination", egress->destination}, {"bytes", egress->n_bytes}, {"sha256", egress->sha256}};
}

json::object AttemptJson(const Attempt& attempt) {
  return {{"target", attempt.target},
          {"tier", TierName(attempt.tier)},
          {"model", attempt.model},
          {"outcome", AttemptOutcomeName(attempt.outcome)},
          {"text_begin", attempt.text_begin},
          {"text_end", attempt.text_end},
          {"prompt_tokens", attempt.usage.prompt_tokens},
          {"completion_tokens", attempt.usage.completion_tokens},
          {"cached_tokens", attempt.usage.cached_tokens},
          {"tokens_estimated", attempt.usage_estimated},
          {"egress", EgressJson(attempt.egress)}};
}

std::string SignatureMember(std::string_view signature) {
  const std::span bytes(reinterpret_cast<const uint8_t*>(signature.data()), signature.size());
  return std::string(kSignatureMember) + crypto::Hex(bytes) + "\"}";
}

std::unexpected<Error> NotAReceipt(std::string_view why) {
  return Err(ErrorCode::kInvalidArgument,
             "this is not a receipt ({}); it is one line of JSON as GET /v1/receipts/ID gives it",
             why);
}

// The signed part of a receipt and its signature.
struct Parts {
  std::string payload;
  std::string signature;
};

Result<Parts> Split(std::string_view receipt) {
  const size_t tail = kSignatureMember.size() + kSignatureDigits + 2;
  if (receipt.size() <= tail) return NotAReceipt("it is too short");
  const std::string_view member = receipt.substr(receipt.size() - tail);
  if (!member.starts_with(kSignatureMember)) return NotAReceipt("it does not end in a signature");
  const auto signature = crypto::FromHex(member.substr(kSignatureMember.size(), kSignatureDigits));
  // Only the one form that Sign writes: no capitals, nothing behind it.
  if (!signature || SignatureMember(*signature) != member) {
    return NotAReceipt("its signature is not in hexadecimal");
  }
  return Parts{std::string(receipt.substr(0, receipt.size() - tail)) + "}", *signature};
}

std::optional<std::string> TextAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

std::optional<uint64_t> NumberAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64() && value->get_int64() >= 0) return value->get_int64();
  if (value->is_uint64()) return value->get_uint64();
  return std::nullopt;
}

Result<VerifiedReceipt> Read(std::string_view payload) {
  json::error_code error;
  const json::value value = json::parse(payload, error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return NotAReceipt("it is not JSON");
  if (NumberAt(*object, "version") != kVersion) return NotAReceipt("its version is not 1");
  const auto request_id = TextAt(*object, "request_id");
  const auto sequence = NumberAt(*object, "sequence");
  const auto previous = TextAt(*object, "previous");
  const auto answer = TextAt(*object, "answer_sha256");
  const json::value* attempts = object->if_contains("attempts");
  if (!request_id || !sequence || !previous || !answer || attempts == nullptr ||
      !attempts->is_array()) {
    return NotAReceipt("a member is missing");
  }
  VerifiedReceipt receipt{*request_id, *sequence, *previous, *answer, {}};
  for (const json::value& attempt : attempts->get_array()) {
    const json::value* egress =
        attempt.is_object() ? attempt.get_object().if_contains("egress") : nullptr;
    if (egress == nullptr) return NotAReceipt("an attempt says nothing about what left");
    if (egress->is_null()) continue;
    if (!egress->is_object()) return NotAReceipt("an attempt says nothing about what left");
    const auto destination = TextAt(egress->get_object(), "destination");
    const auto n_bytes = NumberAt(egress->get_object(), "bytes");
    const auto sha256 = TextAt(egress->get_object(), "sha256");
    if (!destination || !n_bytes || !sha256) {
      return NotAReceipt("an attempt does not say all about what left");
    }
    receipt.egress.push_back({*destination, *n_bytes, *sha256});
  }
  return receipt;
}

Result<crypto::SigningKey> ReadSigningKey(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  using std::filesystem::perms;
  if (!error && (status.permissions() & (perms::group_all | perms::others_all)) != perms::none) {
    return Err(ErrorCode::kFailedPrecondition,
               "others may read '{}', which signs receipts; run: chmod 600 '{}'", path.string(),
               path.string());
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string pem, os::ReadFile(path, kMaxKeyFileBytes));
  auto key = crypto::SigningKey::FromPem(pem);
  if (!key) {
    return Err(
        ErrorCode::kCorrupt,
        "'{}' holds no signing key ({}); restore it from a backup, or remove it to sign with "
        "a new one",
        path.string(), key.error().message);
  }
  return key;
}

Result<crypto::SigningKey> ReadOrMakeSigningKey(const std::filesystem::path& path) {
  // Two processes that start together must not each make one.
  std::filesystem::path lock_file = path;
  lock_file += ".lock";
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(lock_file));
  std::error_code error;
  if (std::filesystem::exists(path, error) || error) return ReadSigningKey(path);
  crypto::SigningKey key = crypto::SigningKey::Generate();
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(path, key.ToPem(), 0600));
  return key;
}

}  // namespace

uint64_t ReceiptSequence(std::string_view receipt) {
  json::error_code error;
  const json::value value = json::parse(receipt, error);
  const json::object* object = error ? nullptr : value.if_object();
  return object == nullptr ? 0 : NumberAt(*object, "sequence").value_or(0);
}

std::string ReceiptDigest(std::string_view receipt) { return crypto::Sha256Hex(receipt); }

Result<VerifiedReceipt> VerifyReceipt(std::string_view receipt, const crypto::PublicKey& key) {
  TANDEM_ASSIGN_OR_RETURN(const Parts parts, Split(receipt));
  if (!key.Verify(parts.payload, parts.signature)) {
    return Err(
        ErrorCode::kPermissionDenied,
        "the signature does not fit: the receipt was changed, or signed with another key than "
        "{}",
        key.Id());
  }
  return Read(parts.payload);
}

ReceiptSigner::ReceiptSigner(crypto::SigningKey key, uint64_t sequence, std::string previous)
    : key_(std::move(key)),
      key_id_(key_.Public().Id()),
      sequence_(sequence),
      previous_(std::move(previous)) {}

Result<std::unique_ptr<ReceiptSigner>> ReceiptSigner::Open(const std::filesystem::path& key_file,
                                                           std::string_view last_receipt) {
  TANDEM_ASSIGN_OR_RETURN(crypto::SigningKey key, ReadOrMakeSigningKey(key_file));
  uint64_t sequence = 0;
  std::string previous;
  if (!last_receipt.empty()) {
    // Whoever signed it: the key may have been replaced since.
    Result<VerifiedReceipt> last = NotAReceipt("");
    if (const auto parts = Split(last_receipt)) last = Read(parts->payload);
    if (!last) {
      return Err(ErrorCode::kCorrupt, "the last receipt that was kept cannot be continued: {}",
                 last.error().message);
    }
    sequence = last->sequence;
    previous = ReceiptDigest(last_receipt);
  }
  return std::unique_ptr<ReceiptSigner>(
      new ReceiptSigner(std::move(key), sequence, std::move(previous)));
}

std::string ReceiptSigner::Sign(const ReceiptFacts& facts) {
  json::array attempts;
  for (const Attempt& attempt : facts.attempts) attempts.push_back(AttemptJson(attempt));
  std::lock_guard lock(mutex_);
  // The order of members is part of the form.
  const json::object payload{{"version", kVersion},
                             {"sequence", sequence_ + 1},
                             {"previous", previous_},
                             {"request_id", facts.request_id},
                             {"time", Rfc3339(facts.time)},
                             {"policy_sha256", facts.policy_sha256},
                             {"privacy", PrivacyName(facts.privacy)},
                             {"key_id", facts.key_id},
                             {"answer_sha256", facts.answer_sha256},
                             {"attempts", std::move(attempts)},
                             {"public_key", key_id_}};
  std::string receipt = json::serialize(payload);
  const std::string signature = key_.Sign(receipt);
  receipt.pop_back();
  receipt += SignatureMember(signature);
  ++sequence_;
  previous_ = ReceiptDigest(receipt);
  return receipt;
}

Result<crypto::PublicKey> ReadReceiptKey(const std::filesystem::path& key_file) {
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey key, ReadSigningKey(key_file));
  return key.Public();
}

}  // namespace tandem::gateway::privacy
