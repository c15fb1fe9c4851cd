// A signed manifest: which bytes are one variant of one model, said by somebody who is trusted.
// docs/formats/manifest.md is the format. (depot/manifest.h is another thing: what a model's name
// stands for on this machine.)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/error.h"
#include "crypto/signature.h"
#include "fleet/catalogue/variant.h"

namespace tandem::fleet {

struct PackageFile {
  std::string name;  // a plain file name
  uint64_t size_bytes = 0;
  std::string sha256;  // lower-case hexadecimal
};

struct PackageManifest {
  std::string model;  // "phi-4-mini"
  std::vector<std::string> aliases = {};
  std::string title = {};
  std::string license = {};
  std::optional<ModelShape> shape = {};
  uint32_t min_kept_accuracy_ppm = 0;        // what a certificate must show; 0: nothing is asked
  Variant variant;                           // with the certificate
  std::vector<PackageFile> files;            // the first is the one to open
  std::vector<std::string> built_from = {};  // public sources: "hf.co/USER/REPO@COMMIT file"
  int64_t created_at_s = 0;

  uint64_t size_bytes() const;
};

// The document that is signed, not yet in canonical form.
boost::json::value PackageManifestJson(const PackageManifest& manifest);

struct ManifestSignature {
  std::string key_id;     // crypto::PublicKey::Id()
  std::string signature;  // kSignatureBytes bytes
};

// A manifest with the bytes that were signed. Immutable.
class SignedManifest {
 public:
  // Without any signature. Errors: as Parse.
  static Result<SignedManifest> Unsigned(const PackageManifest& manifest);
  // Reads a file of {"manifest", "signatures"}; nothing is verified. Fields that are not known here
  // are kept among the signed bytes. Errors: kCorrupt naming the field; kUnsupported for another
  // schema; kInvalidArgument for values that have no canonical form.
  static Result<SignedManifest> Parse(std::string_view text);

  // Adds a signature; a second one of the same key changes nothing.
  void Sign(const crypto::SigningKey& key);
  // Whether `key` signed these bytes.
  bool IsSignedBy(const crypto::PublicKey& key) const;

  const PackageManifest& manifest() const { return manifest_; }
  // RFC 8785 text of the manifest: what is stored, served and hashed.
  const std::string& canonical() const { return canonical_; }
  // SHA-256 of canonical(), hexadecimal: names the manifest.
  std::string digest() const;
  const std::vector<ManifestSignature>& signatures() const { return signatures_; }
  // The file: one line, the manifest in canonical form.
  std::string Format() const;

 private:
  SignedManifest(PackageManifest manifest, std::string canonical)
      : manifest_(std::move(manifest)), canonical_(std::move(canonical)) {}
  static Result<SignedManifest> FromJson(const boost::json::value& value);
  // canonical() behind a line that says what is signed, so that no other text of ours is mistaken
  // for it.
  std::string SignedBytes() const;

  PackageManifest manifest_;
  std::string canonical_;
  std::vector<ManifestSignature> signatures_;
};

}  // namespace tandem::fleet
