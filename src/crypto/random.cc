#include "crypto/random.h"

#include <array>
#include <bit>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/check.h"

namespace tandem::crypto {

void RandomBytes(std::span<uint8_t> out) {
  TANDEM_CHECK(RAND_bytes(out.data(), static_cast<int>(out.size())) == 1);
}

uint64_t RandomUint64() {
  std::array<uint8_t, sizeof(uint64_t)> bytes;
  RandomBytes(bytes);
  return std::bit_cast<uint64_t>(bytes);
}

bool ConstantTimeEqual(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace tandem::crypto
