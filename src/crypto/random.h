// Randomness fit for keys, and comparison that does not tell where two secrets differ.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tandem::crypto {

// Fills `out` from the operating system's generator through OpenSSL. Aborts if that fails: there is
// no safe way to go on.
void RandomBytes(std::span<uint8_t> out);
uint64_t RandomUint64();

// Time depends on the lengths only, not on the content.
bool ConstantTimeEqual(std::string_view a, std::string_view b);

}  // namespace tandem::crypto
