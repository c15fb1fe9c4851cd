// Whose signatures are believed: a file of public keys, and how one key hands over to the next.
// docs/formats/manifest.md describes the file and the statement of rotation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "crypto/signature.h"
#include "fleet/catalogue/package_manifest.h"

namespace tandem::fleet {

struct TrustedKey {
  std::string id;    // crypto::PublicKey::Id()
  std::string name;  // for people: "release 2026"
  crypto::PublicKey key;
  int64_t added_at_s = 0;
  // From then on nothing that it signed is accepted any more; empty: no end is set.
  std::optional<int64_t> not_after_s = {};

  bool InForce(int64_t now_s) const { return !not_after_s || now_s < *not_after_s; }
};

// "NEW takes over from OLD", signed by both: by the old key, which is trusted, and by the new one,
// which shows that somebody has it.
struct RotationStatement {
  std::string old_id;
  crypto::PublicKey new_key;
  std::string new_name;
  int64_t old_not_after_s = 0;  // until when the old key is believed beside the new one
};
std::string MakeRotation(const crypto::SigningKey& old_key, const crypto::SigningKey& new_key,
                         std::string_view new_name, int64_t old_not_after_s);

// A value: it is read, changed and written as a whole.
class TrustStore {
 public:
  TrustStore() = default;
  // Errors: kCorrupt, naming the field; also for a key whose id is another's.
  static Result<TrustStore> Parse(std::string_view text);
  // An absent file is a store without keys. Errors: as Parse, naming the file; kIo.
  static Result<TrustStore> Read(const std::filesystem::path& file);
  std::string Format() const;
  // Replaces the file at once or not at all; makes its directory.
  Status Write(const std::filesystem::path& file) const;

  const std::vector<TrustedKey>& keys() const { return keys_; }
  const TrustedKey* Find(std::string_view id) const;

  // Errors: kAlreadyExists.
  Status Add(const crypto::PublicKey& key, std::string name, int64_t now_s);
  // Ends a key's trust at `not_after_s`. Errors: kNotFound for an id (or its first letters) that no
  // key or more than one has.
  Result<TrustedKey> Retire(std::string_view id, int64_t not_after_s);
  // Takes a statement of MakeRotation: adds the new key and sets the old one's end, which never
  // moves later. Errors: kCorrupt; kPermissionDenied where the old key is not trusted now or a
  // signature does not fit; kAlreadyExists.
  Result<TrustedKey> AcceptRotation(std::string_view statement, int64_t now_s);

  // The key that vouches for a manifest. Errors (kPermissionDenied, saying what to do): no
  // signature at all, only keys that are unknown, only ones whose trust has ended, or a signature
  // that does not fit the bytes: that one is fatal even beside a good one, since it means that
  // something was changed.
  Result<TrustedKey> Check(const SignedManifest& manifest, int64_t now_s) const;

 private:
  std::vector<TrustedKey> keys_;
};

}  // namespace tandem::fleet
