// Spells out the bytes of a GGUF file by hand, independently of Writer, so that tests can make
// files that no writer would make.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/gguf/format.h"

namespace tandem::gguf {

class GgufBytes {
 public:
  template <typename T>
  GgufBytes& Number(T value) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    return *this;
  }
  GgufBytes& U32(uint32_t value) { return Number(value); }
  GgufBytes& U64(uint64_t value) { return Number(value); }
  GgufBytes& Raw(std::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  GgufBytes& String(std::string_view text) { return U64(text.size()).Raw(text); }

  GgufBytes& Header(uint64_t n_tensors, uint64_t n_key_values, uint32_t version = 3) {
    return Raw("GGUF").U32(version).U64(n_tensors).U64(n_key_values);
  }
  GgufBytes& Key(std::string_view key, ValueType type) {
    return String(key).U32(static_cast<uint32_t>(type));
  }
  // An array's header behind Key(key, ValueType::kArray).
  GgufBytes& Array(ValueType element_type, uint64_t count) {
    return U32(static_cast<uint32_t>(element_type)).U64(count);
  }
  GgufBytes& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                    uint64_t offset) {
    String(name).U32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) U64(dim);
    return U32(type).U64(offset);
  }
  GgufBytes& PadTo(size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  GgufBytes& Zeros(size_t n) {
    bytes_.resize(bytes_.size() + n);
    return *this;
  }

  size_t size() const { return bytes_.size(); }
  // Memory from operator new: aligned to 16.
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace tandem::gguf
