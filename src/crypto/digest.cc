#include "crypto/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "base/check.h"

namespace tandem::crypto {

namespace {

// Fetched once for the whole process, which OpenSSL 3 otherwise does under a lock at each use and
// which costs as much as hashing a few hundred bytes.
const EVP_MD* Algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  TANDEM_CHECK(algorithm != nullptr);  // no memory, or the library is broken
  return algorithm;
}

// One for each thread: with a digest that is set already, a new key is all that a message needs.
class HmacContext {
 public:
  HmacContext() {
    EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    TANDEM_CHECK(mac != nullptr);
    context_ = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);  // the context holds it
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    TANDEM_CHECK(context_ != nullptr && EVP_MAC_CTX_set_params(context_, parameters) == 1);
  }
  ~HmacContext() { EVP_MAC_CTX_free(context_); }
  HmacContext(const HmacContext&) = delete;
  HmacContext& operator=(const HmacContext&) = delete;

  EVP_MAC_CTX* get() { return context_; }

 private:
  EVP_MAC_CTX* context_ = nullptr;
};

const unsigned char* Bytes(std::string_view text) {
  // A null pointer would mean "the same key as before".
  return reinterpret_cast<const unsigned char*>(text.data() == nullptr ? "" : text.data());
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool started = false;
  ~State() { EVP_MD_CTX_free(context); }
  void Start() {
    if (started) return;
    // Fails only when memory is gone or the library is broken.
    TANDEM_CHECK(context != nullptr && EVP_DigestInit_ex(context, Algorithm(), nullptr) == 1);
    started = true;
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Update(std::span<const std::byte> bytes) {
  state_->Start();
  TANDEM_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

void Sha256::Update(std::string_view bytes) { Update(std::as_bytes(std::span(bytes))); }

Digest Sha256::Finish() {
  state_->Start();  // of nothing
  Digest digest;
  unsigned length = 0;
  TANDEM_CHECK(EVP_DigestFinal_ex(state_->context, digest.data(), &length) == 1);
  TANDEM_CHECK(length == digest.size());
  state_->started = false;
  return digest;
}

Digest Sha256Of(std::string_view bytes) {
  thread_local Sha256 sha;  // Finish starts it anew
  sha.Update(bytes);
  return sha.Finish();
}

std::string Sha256Hex(std::string_view bytes) { return Hex(Sha256Of(bytes)); }

Digest HmacSha256(std::string_view key, std::string_view message) {
  thread_local HmacContext context;
  Digest digest;
  size_t length = 0;
  TANDEM_CHECK(EVP_MAC_init(context.get(), Bytes(key), key.size(), nullptr) == 1 &&
               EVP_MAC_update(context.get(), Bytes(message), message.size()) == 1 &&
               EVP_MAC_final(context.get(), digest.data(), &length, digest.size()) == 1);
  TANDEM_CHECK(length == digest.size());
  return digest;
}

std::string Hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(bytes.size() * 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    hex[2 * i] = kDigits[bytes[i] >> 4];
    hex[2 * i + 1] = kDigits[bytes[i] & 15];
  }
  return hex;
}

Result<std::string> FromHex(std::string_view hex) {
  const auto value = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (hex.size() % 2 != 0) {
    return Err(ErrorCode::kInvalidArgument, "hexadecimal text of odd length {}", hex.size());
  }
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = value(hex[i]);
    const int low = value(hex[i + 1]);
    if (high < 0 || low < 0) {
      return Err(ErrorCode::kInvalidArgument, "no hexadecimal digit at character {}",
                 high < 0 ? i : i + 1);
    }
    bytes.push_back(static_cast<char>(high << 4 | low));
  }
  return bytes;
}

}  // namespace tandem::crypto
