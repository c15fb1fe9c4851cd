#include "fleet/catalogue/package_manifest.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "crypto/digest.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/json/canonical.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr uint64_t kSchema = 1;
constexpr std::string_view kSignedHead = "tandem-package-manifest-v1\n";
constexpr int32_t kMillion = 1000000;
constexpr size_t kMaxFiles = 1000;
constexpr size_t kMaxSignatures = 64;

json::array TextsJson(const std::vector<std::string>& texts) {
  json::array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return array;
}

Result<PackageFile> ParseFile(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  PackageFile file{.name = fields.Text("name", JsonFields::kRequired),
                   .size_bytes = fields.Number("size_bytes", JsonFields::kRequired).value_or(0),
                   .sha256 = fields.Text("sha256", JsonFields::kRequired)};
  if (!IsSafeFileName(file.name)) fields.Fail("name", "must be a plain file name");
  if (!IsSha256Hex(file.sha256)) fields.Fail("sha256", "must be 64 lower-case hexadecimal digits");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return file;
}

bool IsModelName(std::string_view name) { return IsSafeFileName(name) && !name.ends_with(".gguf"); }

Result<PackageManifest> ParseManifest(const json::value& value) {
  const std::string where = "the manifest";
  JsonFields fields(value, where);
  const auto schema = fields.Number("schema", JsonFields::kRequired);
  if (schema && *schema != kSchema) {
    return Err(ErrorCode::kUnsupported, "a manifest of schema {}; this version of Tandem knows {}",
               *schema, kSchema);
  }
  PackageManifest manifest{
      .model = fields.Text("model", JsonFields::kRequired),
      .aliases = fields.Texts("aliases"),
      .title = fields.Text("title"),
      .license = fields.Text("license"),
      .shape = {},
      .min_kept_accuracy_ppm =
          static_cast<uint32_t>(fields.Count("min_kept_accuracy_ppm", kMillion)),
      .variant = {},
      .files = {},
      .built_from = fields.Texts("built_from"),
      .created_at_s =
          static_cast<int64_t>(fields.Number("created_at_s", JsonFields::kRequired).value_or(0))};
  if (!IsModelName(manifest.model)) fields.Fail("model", "cannot be a model's name");
  if (!std::ranges::all_of(manifest.aliases, IsModelName)) {
    fields.Fail("aliases", "cannot be a model's names");
  }
  const json::value* variant = fields.Object("variant", JsonFields::kRequired);
  const auto files = fields.List("files", JsonFields::kRequired);
  if (files.empty() || files.size() > kMaxFiles) fields.Fail("files", "must be 1 to 1000");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  if (const json::value* shape = fields.Object("shape")) {
    TANDEM_ASSIGN_OR_RETURN(manifest.shape, ParseShape(*shape, where + ".shape"));
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TANDEM_ASSIGN_OR_RETURN(manifest.variant, ParseVariant(*variant, where + ".variant"));
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string place = fmt::format("{}.files[{}]", where, i);
    TANDEM_ASSIGN_OR_RETURN(PackageFile file, ParseFile(*files[i], place));
    if (std::ranges::find(manifest.files, file.name, &PackageFile::name) != manifest.files.end()) {
      return Err(ErrorCode::kCorrupt, "{}: name is another file's too", place);
    }
    manifest.files.push_back(std::move(file));
  }
  // A certificate is for these bytes or for none of them.
  if (manifest.variant.certificate &&
      manifest.variant.certificate->package_sha256 != manifest.files.front().sha256) {
    return Err(ErrorCode::kCorrupt,
               "{}.variant.certificate: package_sha256 is not the digest of the first file, so it "
               "certifies another package",
               where);
  }
  return manifest;
}

Result<ManifestSignature> ParseSignature(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  ManifestSignature signature{.key_id = fields.Text("key_id", JsonFields::kRequired)};
  const auto bytes = crypto::FromHex(fields.Text("ed25519", JsonFields::kRequired));
  if (!IsSha256Hex(signature.key_id)) {
    fields.Fail("key_id", "must be 64 lower-case hexadecimal digits");
  }
  if (!bytes || bytes->size() != crypto::kSignatureBytes) {
    fields.Fail("ed25519", "must be 128 hexadecimal digits");
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  signature.signature = *bytes;
  return signature;
}

std::string HexOf(std::string_view bytes) {
  return crypto::Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

}  // namespace

uint64_t PackageManifest::size_bytes() const {
  uint64_t sum = 0;
  for (const PackageFile& file : files) sum += file.size_bytes;
  return sum;
}

json::value PackageManifestJson(const PackageManifest& manifest) {
  json::array files;
  for (const PackageFile& file : manifest.files) {
    files.push_back(json::object{
        {"name", file.name}, {"size_bytes", file.size_bytes}, {"sha256", file.sha256}});
  }
  json::object object = {{"schema", kSchema},
                         {"model", manifest.model},
                         {"variant", VariantJson(manifest.variant)},
                         {"files", std::move(files)},
                         {"created_at_s", manifest.created_at_s}};
  if (!manifest.aliases.empty()) object["aliases"] = TextsJson(manifest.aliases);
  if (!manifest.title.empty()) object["title"] = manifest.title;
  if (!manifest.license.empty()) object["license"] = manifest.license;
  if (manifest.shape) object["shape"] = ShapeJson(*manifest.shape);
  if (manifest.min_kept_accuracy_ppm != 0) {
    object["min_kept_accuracy_ppm"] = manifest.min_kept_accuracy_ppm;
  }
  if (!manifest.built_from.empty()) object["built_from"] = TextsJson(manifest.built_from);
  return object;
}

Result<SignedManifest> SignedManifest::FromJson(const json::value& value) {
  TANDEM_ASSIGN_OR_RETURN(PackageManifest manifest, ParseManifest(value));
  TANDEM_ASSIGN_OR_RETURN(std::string canonical, CanonicalJson(value));
  SignedManifest result(std::move(manifest), std::move(canonical));
  result.manifest_.variant.manifest_digest = result.digest();
  return result;
}

Result<SignedManifest> SignedManifest::Unsigned(const PackageManifest& manifest) {
  return FromJson(PackageManifestJson(manifest));
}

Result<SignedManifest> SignedManifest::Parse(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, "the manifest's file"));
  JsonFields fields(value, "the manifest's file");
  const json::value* manifest = fields.Object("manifest", JsonFields::kRequired);
  const auto signatures = fields.List("signatures");
  if (signatures.size() > kMaxSignatures) fields.Fail("signatures", "are too many");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TANDEM_ASSIGN_OR_RETURN(SignedManifest result, FromJson(*manifest));
  for (size_t i = 0; i < signatures.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(ManifestSignature signature,
                            ParseSignature(*signatures[i], fmt::format("signatures[{}]", i)));
    result.signatures_.push_back(std::move(signature));
  }
  return result;
}

std::string SignedManifest::SignedBytes() const { return std::string(kSignedHead) + canonical_; }

void SignedManifest::Sign(const crypto::SigningKey& key) {
  std::string id = key.Public().Id();
  if (std::ranges::find(signatures_, id, &ManifestSignature::key_id) != signatures_.end()) return;
  signatures_.push_back({.key_id = std::move(id), .signature = key.Sign(SignedBytes())});
}

bool SignedManifest::IsSignedBy(const crypto::PublicKey& key) const {
  const std::string id = key.Id();
  const auto found = std::ranges::find(signatures_, id, &ManifestSignature::key_id);
  return found != signatures_.end() && key.Verify(SignedBytes(), found->signature);
}

std::string SignedManifest::digest() const { return crypto::Sha256Hex(canonical_); }

std::string SignedManifest::Format() const {
  std::string text = "{\"manifest\":" + canonical_ + ",\"signatures\":[";
  for (const ManifestSignature& signature : signatures_) {
    if (!text.ends_with('[')) text += ',';
    text += fmt::format(R"({{"key_id":"{}","ed25519":"{}"}})", signature.key_id,
                        HexOf(signature.signature));
  }
  return text + "]}\n";
}

}  // namespace tandem::fleet
