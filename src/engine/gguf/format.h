// The constants of the GGUF container, shared by reader and writer. All numbers in a file are
// little-endian; docs/formats/gguf.md has the layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tandem::gguf {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;  // version 2 has the same layout

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// "uint32", "string", ...; empty for an id that the format does not have.
std::string_view ValueTypeName(ValueType type);

// Bytes of a number or bool; 0 for strings, arrays and unknown ids.
size_t ScalarBytes(ValueType type);

// Limits of the format (key, tensor name) and of every reader in use (the others are llama.cpp's).
inline constexpr uint64_t kMaxKeyBytes = 65535;
inline constexpr uint64_t kMaxTensorNameBytes = 63;
inline constexpr uint32_t kMaxDimensions = 4;
inline constexpr uint64_t kMaxStringBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxArrayElements = uint64_t{1} << 30;

inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr uint64_t kMaxAlignment = uint64_t{1}
                                          << 31;  // the largest power of two in a uint32

inline constexpr std::string_view kSplitNumberKey = "split.no";
inline constexpr std::string_view kSplitCountKey = "split.count";
inline constexpr std::string_view kSplitTensorsKey = "split.tensors.count";

}  // namespace tandem::gguf
