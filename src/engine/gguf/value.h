// One metadata entry of a file: a view into the file's bytes, decoded when asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/gguf/format.h"

namespace tandem::gguf {

// A view of an array of integers of any width, or of bools, which need not be aligned in the file.
class IntArray {
 public:
  IntArray() = default;
  // `data` holds `size` elements of `type`, one of the integer types or kBool.
  IntArray(const std::byte* data, size_t size, ValueType type)
      : data_(data), size_(size), type_(type) {}

  size_t size() const { return size_; }
  int64_t operator[](size_t i) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  ValueType type_ = ValueType::kUint8;
};

// The same for float32 and float64.
class FloatArray {
 public:
  FloatArray() = default;
  FloatArray(const std::byte* data, size_t size, ValueType type)
      : data_(data), size_(size), type_(type) {}

  size_t size() const { return size_; }
  double operator[](size_t i) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  ValueType type_ = ValueType::kFloat32;
};

// A key and its value. The parser has checked that the bytes hold a whole value of this type.
// Decoding is lenient in width and strict in meaning: any integer width may stand for any other as
// long as the number fits, 0 and 1 may stand for a bool.
// Errors of all Get functions: kCorrupt, naming the key, the type found and the type expected.
// Thread: any. The bytes must outlive it: they are the File's.
struct KeyValue {
  std::string_view key;
  ValueType type = ValueType::kUint8;
  ValueType element_type = ValueType::kUint8;  // of an array
  uint64_t count = 1;                          // elements of an array
  uint64_t offset = 0;                         // of `bytes` within its file
  std::span<const std::byte> bytes;            // as in the file: a string with its length, an array
                                               // with its element type and count

  // Valid UTF-8 is guaranteed.
  Result<std::string_view> GetString() const;
  Result<uint64_t> GetUint(uint64_t max = UINT64_MAX) const;
  Result<int64_t> GetInt() const;
  // float32, float64 or any integer; must be finite.
  Result<double> GetFloat() const;
  Result<bool> GetBool() const;
  // Any bytes may stand in the strings: tokens of some vocabularies are not UTF-8. The strings are
  // not copied. Cost: linear in the number of elements.
  Result<std::vector<std::string_view>> GetStringArray() const;
  // Cost: linear for uint64 (each must fit int64), constant for others.
  Result<IntArray> GetIntArray() const;
  Result<FloatArray> GetFloatArray() const;

  // For people: 32, true, "text", [1, 2, 3, ... 512 in all]. Arrays show at most max_elements,
  // strings at most 16 times as many bytes, without line breaks and never in broken UTF-8.
  std::string Text(size_t max_elements = 8) const;
};

}  // namespace tandem::gguf
