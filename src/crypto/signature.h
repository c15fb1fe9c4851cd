// Ed25519 signatures (RFC 8032), keys as PEM text. Thin over OpenSSL.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace tandem::crypto {

inline constexpr size_t kSignatureBytes = 64;

// Immutable; thread: any. Copies share the key.
class PublicKey {
 public:
  // "-----BEGIN PUBLIC KEY-----" (RFC 8410). Errors: kInvalidArgument for anything else.
  static Result<PublicKey> FromPem(std::string_view pem);

  std::string ToPem() const;
  // SHA-256 of the 32 bytes of the key, hexadecimal: names a key without being one.
  std::string Id() const;
  // Whether the key's owner signed exactly these bytes. A signature of another length is wrong.
  // Cost: about 100 us.
  bool Verify(std::string_view message, std::string_view signature) const;

 private:
  friend class SigningKey;
  struct Key;
  explicit PublicKey(std::shared_ptr<const Key> key) : key_(std::move(key)) {}
  std::shared_ptr<const Key> key_;
};

// Immutable; thread: any.
class SigningKey {
 public:
  static SigningKey Generate();
  // "-----BEGIN PRIVATE KEY-----" (PKCS #8, not encrypted).
  // Errors: kInvalidArgument for anything else; the text is never repeated.
  static Result<SigningKey> FromPem(std::string_view pem);

  // Whoever stores it keeps others from reading it.
  std::string ToPem() const;
  PublicKey Public() const;
  // kSignatureBytes bytes, the same for the same message. Cost: about 40 us.
  std::string Sign(std::string_view message) const;

 private:
  explicit SigningKey(std::shared_ptr<const PublicKey::Key> key) : key_(std::move(key)) {}
  std::shared_ptr<const PublicKey::Key> key_;
};

}  // namespace tandem::crypto
