#include "fleet/catalogue/trust_store.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "crypto/digest.h"
#include "fleet/json/canonical.h"
#include "fleet/json/fields.h"
#include "os/file.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr uint64_t kSchema = 1;
constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMinIdLetters = 8;
constexpr std::string_view kRotationHead = "tandem-key-rotation-v1\n";

std::string HexOf(std::string_view bytes) {
  return crypto::Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

Result<TrustedKey> ParseKey(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  std::string name = fields.Text("name");
  auto key = crypto::PublicKey::FromPem(fields.Text("public_key", JsonFields::kRequired));
  if (!key) fields.Fail("public_key", "must be an Ed25519 public key in PEM");
  const auto added = fields.Number("added_at_s");
  const auto not_after = fields.Number("not_after_s");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TrustedKey trusted{.id = key->Id(),
                     .name = std::move(name),
                     .key = *key,
                     .added_at_s = static_cast<int64_t>(added.value_or(0))};
  if (not_after) trusted.not_after_s = static_cast<int64_t>(*not_after);
  return trusted;
}

std::string RotationText(std::string_view old_id, const crypto::PublicKey& new_key,
                         std::string_view new_name, int64_t old_not_after_s) {
  const json::object object = {{"schema", kSchema},
                               {"old_key_id", old_id},
                               {"new_public_key", new_key.ToPem()},
                               {"new_name", new_name},
                               {"old_not_after_s", old_not_after_s}};
  // Whole numbers and ASCII names, so it has a canonical form.
  return CanonicalJson(object).value_or("");
}

struct SignedRotation {
  RotationStatement statement;
  std::string text;
  std::string old_signature;
  std::string new_signature;
};

Result<SignedRotation> ParseRotation(std::string_view text) {
  const std::string where = "the statement of rotation";
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, where));
  JsonFields file(value, where);
  const json::value* body = file.Object("rotation", JsonFields::kRequired);
  const auto old_signature = crypto::FromHex(file.Text("old_ed25519", JsonFields::kRequired));
  const auto new_signature = crypto::FromHex(file.Text("new_ed25519", JsonFields::kRequired));
  if (!old_signature) file.Fail("old_ed25519", "must be hexadecimal");
  if (!new_signature) file.Fail("new_ed25519", "must be hexadecimal");
  TANDEM_RETURN_IF_ERROR(file.Done());
  JsonFields fields(*body, where);
  const auto schema = fields.Number("schema", JsonFields::kRequired);
  if (schema && *schema != kSchema) fields.Fail("schema", "is unknown to this version of Tandem");
  std::string old_id = fields.Text("old_key_id", JsonFields::kRequired);
  std::string new_name = fields.Text("new_name");
  const auto not_after = fields.Number("old_not_after_s", JsonFields::kRequired);
  auto key = crypto::PublicKey::FromPem(fields.Text("new_public_key", JsonFields::kRequired));
  if (!key) fields.Fail("new_public_key", "must be an Ed25519 public key in PEM");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TANDEM_ASSIGN_OR_RETURN(std::string canonical, CanonicalJson(*body));
  return SignedRotation{.statement = {.old_id = std::move(old_id),
                                      .new_key = *key,
                                      .new_name = std::move(new_name),
                                      .old_not_after_s = static_cast<int64_t>(*not_after)},
                        .text = std::string(kRotationHead) + canonical,
                        .old_signature = *old_signature,
                        .new_signature = *new_signature};
}

std::string Short(std::string_view id) { return std::string(id.substr(0, 16)); }

}  // namespace

std::string MakeRotation(const crypto::SigningKey& old_key, const crypto::SigningKey& new_key,
                         std::string_view new_name, int64_t old_not_after_s) {
  const std::string body =
      RotationText(old_key.Public().Id(), new_key.Public(), new_name, old_not_after_s);
  const std::string text = std::string(kRotationHead) + body;
  return fmt::format(R"({{"rotation":{},"old_ed25519":"{}","new_ed25519":"{}"}})"
                     "\n",
                     body, HexOf(old_key.Sign(text)), HexOf(new_key.Sign(text)));
}

Result<TrustStore> TrustStore::Parse(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, "the trust store"));
  JsonFields fields(value, "the trust store");
  const auto schema = fields.Number("schema", JsonFields::kRequired);
  if (schema && *schema != kSchema) fields.Fail("schema", "is unknown to this version of Tandem");
  const auto keys = fields.List("keys", JsonFields::kRequired);
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TrustStore store;
  for (size_t i = 0; i < keys.size(); ++i) {
    const std::string where = fmt::format("the trust store's keys[{}]", i);
    TANDEM_ASSIGN_OR_RETURN(TrustedKey key, ParseKey(*keys[i], where));
    if (store.Find(key.id) != nullptr) {
      return Err(ErrorCode::kCorrupt, "{}: the key {} is there twice", where, Short(key.id));
    }
    store.keys_.push_back(std::move(key));
  }
  return store;
}

Result<TrustStore> TrustStore::Read(const std::filesystem::path& file) {
  const auto text = os::ReadFile(file, kMaxFileBytes);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return TrustStore();
    return std::unexpected(text.error());
  }
  auto store = Parse(*text);
  if (!store) return Wrap(std::move(store).error(), file.string());
  return store;
}

std::string TrustStore::Format() const {
  json::array keys;
  for (const TrustedKey& key : keys_) {
    json::object object = {{"id", key.id},
                           {"name", key.name},
                           {"public_key", key.key.ToPem()},
                           {"added_at_s", key.added_at_s}};
    if (key.not_after_s) object["not_after_s"] = *key.not_after_s;
    keys.push_back(std::move(object));
  }
  return json::serialize(json::object{{"schema", kSchema}, {"keys", std::move(keys)}}) + "\n";
}

Status TrustStore::Write(const std::filesystem::path& file) const {
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(file.parent_path()));
  return os::WriteFileAtomic(file, Format());
}

const TrustedKey* TrustStore::Find(std::string_view id) const {
  const auto found = std::ranges::find(keys_, id, &TrustedKey::id);
  return found == keys_.end() ? nullptr : &*found;
}

Status TrustStore::Add(const crypto::PublicKey& key, std::string name, int64_t now_s) {
  const std::string id = key.Id();
  if (const TrustedKey* known = Find(id)) {
    return Err(ErrorCode::kAlreadyExists, "the key {} is in the trust store already, as '{}'",
               Short(id), known->name);
  }
  keys_.push_back({.id = id, .name = std::move(name), .key = key, .added_at_s = now_s});
  return {};
}

Result<TrustedKey> TrustStore::Retire(std::string_view id, int64_t not_after_s) {
  TrustedKey* found = nullptr;
  for (TrustedKey& key : keys_) {
    if (!key.id.starts_with(id)) continue;
    if (found != nullptr || id.size() < kMinIdLetters) {
      return Err(ErrorCode::kNotFound,
                 "'{}' is not enough to name a key: give at least {} digits, and as many as it "
                 "takes to tell keys apart",
                 id, kMinIdLetters);
    }
    found = &key;
  }
  if (found == nullptr) {
    return Err(ErrorCode::kNotFound, "no trusted key {}; 'tandem catalogue trust list' shows them",
               id);
  }
  if (!found->not_after_s || not_after_s < *found->not_after_s) found->not_after_s = not_after_s;
  return *found;
}

Result<TrustedKey> TrustStore::AcceptRotation(std::string_view text, int64_t now_s) {
  TANDEM_ASSIGN_OR_RETURN(const SignedRotation rotation, ParseRotation(text));
  const RotationStatement& statement = rotation.statement;
  const TrustedKey* old_key = Find(statement.old_id);
  if (old_key == nullptr || !old_key->InForce(now_s)) {
    return Err(ErrorCode::kPermissionDenied,
               "the key {} that hands over is {}; add the new key itself, from a place that you "
               "trust",
               Short(statement.old_id),
               old_key == nullptr ? "not in the trust store" : "not trusted any more");
  }
  if (!old_key->key.Verify(rotation.text, rotation.old_signature) ||
      !statement.new_key.Verify(rotation.text, rotation.new_signature)) {
    return Err(ErrorCode::kPermissionDenied,
               "the statement of rotation is not what the two keys signed: it was changed, or "
               "another key signed it");
  }
  TANDEM_RETURN_IF_ERROR(Add(statement.new_key, statement.new_name, now_s));
  TANDEM_RETURN_IF_ERROR(Retire(statement.old_id, statement.old_not_after_s));
  return keys_.back();
}

Result<TrustedKey> TrustStore::Check(const SignedManifest& manifest, int64_t now_s) const {
  const std::string what =
      fmt::format("{} of {}", manifest.manifest().variant.name, manifest.manifest().model);
  if (manifest.signatures().empty()) {
    return Err(ErrorCode::kPermissionDenied,
               "the manifest of {} is not signed: sign it with 'tandem catalogue sign', or say "
               "--allow-unsigned",
               what);
  }
  const TrustedKey* good = nullptr;
  const TrustedKey* ended = nullptr;
  for (const ManifestSignature& signature : manifest.signatures()) {
    const TrustedKey* key = Find(signature.key_id);
    if (key == nullptr) continue;
    if (!manifest.IsSignedBy(key->key)) {
      return Err(ErrorCode::kPermissionDenied,
                 "the manifest of {} is not what {} ('{}') signed: something in it was changed; "
                 "get it again from where it is published",
                 what, Short(key->id), key->name);
    }
    (key->InForce(now_s) ? good : ended) = key;
  }
  if (good != nullptr) return *good;
  if (ended != nullptr) {
    return Err(ErrorCode::kPermissionDenied,
               "the manifest of {} is signed by {} ('{}') only, which is not trusted any more: "
               "have it signed with a key that is",
               what, Short(ended->id), ended->name);
  }
  return Err(ErrorCode::kPermissionDenied,
             "the manifest of {} is signed by {}, which is not in the trust store: where that is "
             "the key you expect, 'tandem catalogue trust add' adds it",
             what, Short(manifest.signatures().front().key_id));
}

}  // namespace tandem::fleet
