#include "gateway/privacy/receipt.h"

#include <algorithm>
#include <charconv>
#include <concepts>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "crypto/digest.h"
#include "gateway/privacy/merkle.h"
#include "os/file.h"

namespace tandem::gateway::privacy {
namespace {

namespace json = boost::json;

constexpr size_t kMaxKeyFileBytes = 4096;
constexpr size_t kSignatureDigits = 2 * crypto::kSignatureBytes;
constexpr std::string_view kSignatureMember = ",\"signature\":\"";
// Of form 2. No value can hold it: inside a string its quotes would be escaped.
constexpr std::string_view kBatchMember = ",\"batch\":";

std::string Rfc3339(SystemTime time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time);
  const auto days = std::chrono::floor<std::chrono::days>(ms);
  const std::chrono::year_month_day day(days);
  const std::chrono::hh_mm_ss clock(ms - days);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

// `before` is ours: the braces, names and quotes that lead to the value.
void AppendText(std::string_view before, std::string_view value, std::string* out) {
  const auto plain = [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\';
  };
  *out += before;
  if (std::ranges::all_of(value, plain)) {
    *out += '"';
    *out += value;
    *out += '"';
  } else {
    *out += json::serialize(json::string_view(value.data(), value.size()));
  }
}

void AppendNumber(std::string_view before, std::integral auto value, std::string* out) {
  char digits[24];
  *out += before;
  out->append(digits, std::to_chars(digits, std::end(digits), value).ptr);
}

void AppendAttempt(const Attempt& attempt, std::string* out) {
  AppendText("{\"target\":", attempt.target, out);
  AppendText(",\"tier\":", TierName(attempt.tier), out);
  AppendText(",\"model\":", attempt.model, out);
  AppendText(",\"outcome\":", AttemptOutcomeName(attempt.outcome), out);
  AppendNumber(",\"text_begin\":", attempt.text_begin, out);
  AppendNumber(",\"text_end\":", attempt.text_end, out);
  AppendNumber(",\"prompt_tokens\":", attempt.usage.prompt_tokens, out);
  AppendNumber(",\"completion_tokens\":", attempt.usage.completion_tokens, out);
  AppendNumber(",\"cached_tokens\":", attempt.usage.cached_tokens, out);
  *out += attempt.usage_estimated ? ",\"tokens_estimated\":true" : ",\"tokens_estimated\":false";
  if (attempt.egress) {
    AppendText(",\"egress\":{\"destination\":", attempt.egress->destination, out);
    AppendNumber(",\"bytes\":", attempt.egress->n_bytes, out);
    AppendText(",\"sha256\":", attempt.egress->sha256, out);
    *out += "}}";
  } else {
    *out += ",\"egress\":null}";
  }
}

// What is signed of a receipt. The order of members is part of the form.
std::string Payload(const ReceiptFacts& facts, uint64_t sequence, std::string_view previous,
                    std::string_view key_id) {
  std::string out;
  out.reserve(768 + 512 * facts.attempts.size());
  AppendNumber("{\"version\":2,\"sequence\":", sequence, &out);
  AppendText(",\"previous\":", previous, &out);
  AppendText(",\"request_id\":", facts.request_id, &out);
  AppendText(",\"time\":", Rfc3339(facts.time), &out);
  AppendText(",\"policy_sha256\":", facts.policy_sha256, &out);
  AppendText(",\"privacy\":", PrivacyName(facts.privacy), &out);
  AppendText(",\"key_id\":", facts.key_id, &out);
  AppendText(",\"answer_sha256\":", facts.answer_sha256, &out);
  out += ",\"attempts\":[";
  for (const Attempt& attempt : facts.attempts) {
    if (&attempt != &facts.attempts.front()) out += ',';
    AppendAttempt(attempt, &out);
  }
  AppendText("],\"public_key\":", key_id, &out);
  out += '}';
  return out;
}

// The place of a receipt among those that were signed together.
struct Batch {
  uint64_t size = 0;
  uint64_t index = 0;
  std::vector<crypto::Digest> path;
};

std::string BatchMember(const Batch& batch) {
  std::string out(kBatchMember);
  AppendNumber("{\"size\":", batch.size, &out);
  AppendNumber(",\"index\":", batch.index, &out);
  out += ",\"path\":[";
  for (size_t i = 0; i < batch.path.size(); ++i) {
    AppendText(i == 0 ? "" : ",", crypto::Hex(batch.path[i]), &out);
  }
  out += "]}";
  return out;
}

// What the signature of a batch is over; no payload of form 1 begins like this.
std::string BatchStatement(uint64_t size, const crypto::Digest& root) {
  return fmt::format("tandem receipts 2\n{}\n{}\n", size, crypto::Hex(root));
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

// A receipt taken apart.
struct Parts {
  std::string payload;
  std::optional<Batch> batch;  // absent: form 1
  std::string signature;
};

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

std::optional<Batch> ReadBatch(std::string_view text) {
  json::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return std::nullopt;
  const auto size = NumberAt(*object, "size");
  const auto index = NumberAt(*object, "index");
  const json::value* path = object->if_contains("path");
  if (!size || !index || path == nullptr || !path->is_array()) return std::nullopt;
  Batch batch{*size, *index, {}};
  for (const json::value& node : path->get_array()) {
    if (!node.is_string()) return std::nullopt;
    const auto bytes = crypto::FromHex(std::string_view(node.get_string()));
    crypto::Digest digest;
    if (!bytes || bytes->size() != digest.size()) return std::nullopt;
    std::ranges::copy(*bytes, digest.begin());
    batch.path.push_back(digest);
  }
  return batch;
}

// Takes only the one form that Sign writes: no capitals, no spaces, nothing behind it.
Result<Parts> Split(std::string_view receipt) {
  const size_t tail = kSignatureMember.size() + kSignatureDigits + 2;
  if (receipt.size() <= tail) return NotAReceipt("it is too short");
  const std::string_view member = receipt.substr(receipt.size() - tail);
  if (!member.starts_with(kSignatureMember)) return NotAReceipt("it does not end in a signature");
  auto signature = crypto::FromHex(member.substr(kSignatureMember.size(), kSignatureDigits));
  if (!signature || SignatureMember(*signature) != member) {
    return NotAReceipt("its signature is not in hexadecimal");
  }
  std::string_view rest = receipt.substr(0, receipt.size() - tail);
  Parts parts;
  parts.signature = *std::move(signature);
  if (const size_t at = rest.rfind(kBatchMember); at != rest.npos) {
    parts.batch = ReadBatch(rest.substr(at + kBatchMember.size()));
    if (!parts.batch || BatchMember(*parts.batch) != rest.substr(at)) {
      return NotAReceipt("its batch is not in the documented form");
    }
    rest = rest.substr(0, at);
  }
  parts.payload = std::string(rest) + "}";
  return parts;
}

std::string DigestOf(const Parts& parts, std::string_view receipt) {
  return parts.batch ? crypto::Hex(MerkleLeaf(parts.payload)) : crypto::Sha256Hex(receipt);
}

Result<VerifiedReceipt> Read(const Parts& parts) {
  json::error_code error;
  const json::value value = json::parse(parts.payload, error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return NotAReceipt("it is not JSON");
  if (NumberAt(*object, "version") != (parts.batch ? 2U : 1U)) {
    return NotAReceipt("its version is not the one of its form, 1 or 2");
  }
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

std::string ReceiptDigest(std::string_view receipt) {
  const auto parts = Split(receipt);
  return parts ? DigestOf(*parts, receipt) : crypto::Sha256Hex(receipt);
}

Result<VerifiedReceipt> VerifyReceipt(std::string_view receipt, const crypto::PublicKey& key) {
  TANDEM_ASSIGN_OR_RETURN(const Parts parts, Split(receipt));
  bool valid = false;
  if (!parts.batch) {
    valid = key.Verify(parts.payload, parts.signature);
  } else if (const auto root = MerkleRoot(MerkleLeaf(parts.payload), parts.batch->index,
                                          parts.batch->size, parts.batch->path)) {
    valid = key.Verify(BatchStatement(parts.batch->size, *root), parts.signature);
  }
  if (!valid) {
    return Err(
        ErrorCode::kPermissionDenied,
        "the signature does not fit: the receipt was changed, or signed with another key than "
        "{}",
        key.Id());
  }
  return Read(parts);
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
    const auto parts = Split(last_receipt);
    const Result<VerifiedReceipt> last =
        parts ? Read(*parts) : Result<VerifiedReceipt>(std::unexpected(parts.error()));
    if (!last) {
      return Err(ErrorCode::kCorrupt, "the last receipt that was kept cannot be continued: {}",
                 last.error().message);
    }
    sequence = last->sequence;
    previous = DigestOf(*parts, last_receipt);
  }
  return std::unique_ptr<ReceiptSigner>(
      new ReceiptSigner(std::move(key), sequence, std::move(previous)));
}

std::vector<std::string> ReceiptSigner::Sign(std::span<const ReceiptFacts> batch) {
  std::vector<std::string> receipts;
  if (batch.empty()) return receipts;
  receipts.reserve(batch.size());
  std::vector<crypto::Digest> leaves;
  leaves.reserve(batch.size());
  std::lock_guard lock(mutex_);
  for (const ReceiptFacts& facts : batch) {
    receipts.push_back(Payload(facts, ++sequence_, previous_, key_id_));
    leaves.push_back(MerkleLeaf(receipts.back()));
    previous_ = crypto::Hex(leaves.back());
  }
  const MerkleTree tree(std::move(leaves));
  const std::string signature =
      SignatureMember(key_.Sign(BatchStatement(receipts.size(), tree.root())));
  for (size_t i = 0; i < receipts.size(); ++i) {
    receipts[i].pop_back();  // the brace: members follow
    receipts[i] += BatchMember({receipts.size(), i, tree.Path(i)});
    receipts[i] += signature;
  }
  return receipts;
}

Result<crypto::PublicKey> ReadReceiptKey(const std::filesystem::path& key_file) {
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey key, ReadSigningKey(key_file));
  return key.Public();
}

}  // namespace tandem::gateway::privacy
