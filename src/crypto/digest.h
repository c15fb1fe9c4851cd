// Charter of crypto/: digests, signatures, randomness, constant-time comparison, each a thin layer
// over OpenSSL 3; never an algorithm of our own. It may include base.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::crypto {

using Digest = std::array<uint8_t, 32>;

// SHA-256 (FIPS 180-4) over a stream. Move-only; one thread at a time.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view bytes);
  // Ends this stream and starts the next one.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest Sha256Of(std::string_view bytes);
std::string Sha256Hex(std::string_view bytes);

// HMAC-SHA-256 (RFC 2104).
Digest HmacSha256(std::string_view key, std::string_view message);

// Lower-case hexadecimal.
std::string Hex(std::span<const uint8_t> bytes);
// Errors: kInvalidArgument for an odd length or a character that is no hexadecimal digit.
Result<std::string> FromHex(std::string_view hex);

}  // namespace tandem::crypto
