#include "crypto/signature.h"

#include <array>
#include <cstdint>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/check.h"
#include "crypto/digest.h"

namespace tandem::crypto {

// One half or both halves of a pair.
struct PublicKey::Key {
  explicit Key(EVP_PKEY* key) : pkey(key) {}
  ~Key() { EVP_PKEY_free(pkey); }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;

  std::array<uint8_t, 32> PublicBytes() const {
    std::array<uint8_t, 32> bytes;
    size_t size = bytes.size();
    TANDEM_CHECK(EVP_PKEY_get_raw_public_key(pkey, bytes.data(), &size) == 1 &&
                 size == bytes.size());
    return bytes;
  }

  EVP_PKEY* pkey;
};

namespace {

struct BioDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using BioPtr = std::unique_ptr<BIO, BioDeleter>;

struct ContextDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using ContextPtr = std::unique_ptr<EVP_MD_CTX, ContextDeleter>;

// Longer texts hold no key.
constexpr size_t kMaxPemBytes = 64 << 10;

BioPtr Reading(std::string_view text) {
  if (text.size() > kMaxPemBytes || text.empty()) text = "-";  // a null pointer is no empty text
  BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  TANDEM_CHECK(bio != nullptr);
  return bio;
}

BioPtr Writing() {
  BioPtr bio(BIO_new(BIO_s_mem()));
  TANDEM_CHECK(bio != nullptr);
  return bio;
}

std::string Written(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);  // NOLINT(google-runtime-int): OpenSSL's type
  return {data, static_cast<size_t>(size)};
}

// Never asks on the terminal: a key with a password is none of ours.
int NoPassword(char*, int, int, void*) { return -1; }

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

Result<PublicKey> PublicKey::FromPem(std::string_view pem) {
  const BioPtr bio = Reading(pem);
  EVP_PKEY* pkey = PEM_read_bio_PUBKEY(bio.get(), nullptr, NoPassword, nullptr);
  ERR_clear_error();
  if (pkey == nullptr) {
    return Err(ErrorCode::kInvalidArgument,
               "this is not a public key in PEM; it begins with -----BEGIN PUBLIC KEY-----");
  }
  auto key = std::make_shared<const Key>(pkey);
  if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_ED25519) {
    return Err(ErrorCode::kInvalidArgument, "this public key is not an Ed25519 key");
  }
  return PublicKey(std::move(key));
}

std::string PublicKey::ToPem() const {
  const BioPtr bio = Writing();
  TANDEM_CHECK(PEM_write_bio_PUBKEY(bio.get(), key_->pkey) == 1);
  return Written(bio.get());
}

std::string PublicKey::Id() const {
  const std::array<uint8_t, 32> bytes = key_->PublicBytes();
  return Sha256Hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

bool PublicKey::Verify(std::string_view message, std::string_view signature) const {
  if (signature.size() != kSignatureBytes) return false;
  const ContextPtr context(EVP_MD_CTX_new());
  TANDEM_CHECK(context != nullptr &&
               EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_->pkey) == 1);
  const bool valid = EVP_DigestVerify(context.get(), Bytes(signature), signature.size(),
                                      Bytes(message), message.size()) == 1;
  ERR_clear_error();
  return valid;
}

SigningKey SigningKey::Generate() {
  EVP_PKEY* pkey = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  TANDEM_CHECK(pkey != nullptr);  // no randomness or no memory: nothing can go on
  return SigningKey(std::make_shared<const PublicKey::Key>(pkey));
}

Result<SigningKey> SigningKey::FromPem(std::string_view pem) {
  const BioPtr bio = Reading(pem);
  EVP_PKEY* pkey = PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr);
  ERR_clear_error();
  if (pkey == nullptr) {
    return Err(ErrorCode::kInvalidArgument,
               "this is not a private key in PEM without a password; it begins with "
               "-----BEGIN PRIVATE KEY-----");
  }
  auto key = std::make_shared<const PublicKey::Key>(pkey);
  if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_ED25519) {
    return Err(ErrorCode::kInvalidArgument, "this private key is not an Ed25519 key");
  }
  return SigningKey(std::move(key));
}

std::string SigningKey::ToPem() const {
  const BioPtr bio = Writing();
  TANDEM_CHECK(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_->pkey, nullptr, nullptr, 0, nullptr,
                                             nullptr) == 1);
  return Written(bio.get());
}

PublicKey SigningKey::Public() const {
  const std::array<uint8_t, 32> bytes = key_->PublicBytes();
  EVP_PKEY* pkey =
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes.data(), bytes.size());
  TANDEM_CHECK(pkey != nullptr);
  return PublicKey(std::make_shared<const PublicKey::Key>(pkey));
}

std::string SigningKey::Sign(std::string_view message) const {
  std::string signature(kSignatureBytes, '\0');
  size_t size = signature.size();
  const ContextPtr context(EVP_MD_CTX_new());
  TANDEM_CHECK(context != nullptr &&
               EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_->pkey) == 1);
  TANDEM_CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()),
                              &size, Bytes(message), message.size()) == 1);
  TANDEM_CHECK(size == kSignatureBytes);
  return signature;
}

}  // namespace tandem::crypto
